"""Gates on the slices of a problem, the rows that lack a field, and the whole."""

from collections.abc import Callable, Sequence

from models.bootstrap import Interval
from models.evidence import Case
from models.slices import SliceFinding
from models.verdict import Verdict, of_interval, step


def slice_bias(case: Case) -> Verdict:
    """On training rows no slice's answers may be further off than the yardstick's are there.

    The value is the step of log odds (of the worst of several classes; of a number: in units of its
    scale), without its sign, beyond the yardstick's; it must be at most the margin and what chance
    does to that slice in a retrain. Rows that lack a field are a slice.
    """
    name, chance = "slice_bias", case.retrain_noise.bias
    known = [
        (f.excess, case.params.slice_bias_margin + chance.get(f.place, 0.0), f, f.bias)
        for f in case.slices if f.bias
    ]  # fmt: skip
    if not known:
        reason = f"no slice has {case.params.slice_past_rows} training rows on two days"
        return Verdict(name, None, None, case.params.slice_bias_margin, 0, None, reason)
    value, allowed, finding, bias = max(known, key=lambda item: item[0] - item[1])
    reason = (
        f"{finding.slice}={finding.value}: {step(case.task, finding.outcome)} {bias.value:+.3f} "
        f"too high [{bias.low:+.3f}, {bias.high:+.3f}], the yardstick "
        f"{finding.yardstick_bias:+.3f}; {allowed:.3f} more is allowed{_of(known)}"
    )
    bounds = (bias.low, bias.high)
    return Verdict(name, value <= allowed, value, allowed, finding.past_rows, bounds, reason)


def slice_fit(case: Case) -> Verdict:
    """On training rows no slice, nor the whole, may have more loss than the yardstick has.

    It fails where a slice's value lies above the margin with its whole interval above zero, or
    above three margins: the model did not learn these rows, or learned other labels than they have.
    To the margin comes what the yardstick fits in training and cannot hold, and the challenger does
    not, in all rows (more where such rows are, as the largest counts) or surely in those of the
    slice: a plainer model that does as well on unseen rows is no fault.
    """
    margin = case.params.slice_fit_margin
    known = [
        (f, f.fit, margin + max(case.optimism * f.times, f.optimism)) for f in case.slices if f.fit
    ]
    needed = case.params.slice_past_rows

    def beyond(fit: Interval) -> float:
        return fit.value if fit.low > 0 else fit.value / 3

    return _worst("slice_fit", known, beyond, f"{case.task.loss} in training", needed, margin)


def slice_regression(case: Case) -> Verdict:
    """No slice may have more loss, by the margin, than with the champion, else the yardstick.

    It fails where a slice's whole interval lies above the margin, or its value above three.
    """
    margin = case.params.slice_loss_margin + case.retrain_noise.slice_loss
    known = [(f, f.regression, margin) for f in case.slices if f.regression]
    unit = f"{case.task.loss} against the {case.compared[0]}"

    def beyond(regression: Interval) -> float:
        return max(regression.low, regression.value / 3)

    needed = case.params.slice_rows
    return _worst("slice_regression", known, beyond, unit, needed, margin)


def _worst(
    name: str,
    known: list[tuple[SliceFinding, Interval, float]],
    beyond: Callable[[Interval], float],
    unit: str,
    needed: int,
    margin: float,
) -> Verdict:
    """The slice that is furthest beyond its own margin.

    Args:
        margin: what is said where there is no slice.
    """
    if not known:
        reason = f"no slice has {needed} rows on two days"
        return Verdict(name, None, None, margin, 0, None, reason)
    finding, interval, allowed = max(known, key=lambda item: beyond(item[1]) - item[2])
    where = f"{finding.slice}={finding.value}"
    found = of_interval(name, f"{where}: {unit}", interval, allowed, len(known),
                     beyond(interval) <= allowed)  # fmt: skip
    return found.because(f"{found.reason}{_of(known)}")


def _of(known: Sequence[object]) -> str:
    """How many slices the worst was taken from."""
    return f", the worst of {len(known)} slices" if len(known) > 1 else ", all there is to judge"
