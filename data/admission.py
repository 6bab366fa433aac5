"""What stands between a delivered batch and its partition: form, row rules, batch rules."""

from dataclasses import dataclass

import pandas as pd

from data import contracts, rules
from data.batches import Batch, Finding
from data.contracts import KEY, Sifted, Typed
from data.errors import EvergreenError, RefusedError
from data.params import Contract
from data.partitions import Partitions
from data.periods import Period
from data.problem import Problem
from data.profiles import references


@dataclass(frozen=True)
class Terms:
    """The contract's parameters, and the batch rules that a person overrules."""

    contract: Contract
    despite: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Delivered:
    """A batch after its row rules.

    Attributes:
        what: names the batch in errors.
        prepared: key and fields as delivered, one row for each event; beside them what else the
            source's own form has.
        outcomes: key, label and excluded; None if the batch has none.
    """

    period: Period
    what: str
    prepared: pd.DataFrame
    typed: Typed
    sifted: Sifted
    outcomes: pd.DataFrame | None


def examine(
    problem: Problem,
    period: Period,
    batch: pd.DataFrame,
    what: str,
    contract: Contract | None = None,
) -> Delivered:
    """Bring a batch into the form of a partition and apply the row rules.

    Raises:
        RefusedError: if it is empty or not in a form that the problem knows.
    """
    if batch.empty:
        raise RefusedError(f"{what} is empty: deliver its rows, or leave the period out")
    batch, source = batch.reset_index(drop=True), None
    if _has_source_form(problem, batch):
        told = [name for name in map(str, batch.columns) if name not in problem.source_outcomes]
        _refuse(rules.columns(problem, [field.name for field in problem.source], told), what)
        source = contracts.typed_source(problem, batch)
        _refuse(rules.retyped(source, contract or Contract()), what)
    elif not _own_columns(problem) & set(batch.columns):
        _refuse(rules.columns(problem, sorted(_own_columns(problem)), list(batch.columns)), what)
    try:
        clean = batch if source is None else batch.assign(**source.rows)
        prepared = problem.prepare(clean).reset_index(drop=True)
        outcomes = problem.outcomes(clean)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(
            f"{what} is not as its source delivers it ({type(error).__name__}: {error})"
        ) from error
    except EvergreenError as error:
        raise RefusedError(f"{what}: {error}") from error
    expected = [KEY, *(field.name for field in problem.fields)]
    _refuse(rules.columns(problem, expected, list(prepared.columns)), what)
    typed = contracts.typed(problem, prepared)
    if source is None:
        return Delivered(period, what, prepared, typed, contracts.sift(problem, typed), outcomes)
    sifted = contracts.sift(problem, typed, contracts.sift_source(problem, source))
    for name in (field.name for field in problem.source):
        own = prepared[name] if name in prepared else batch[name]
        prepared[name] = own.where(~source.wrong[name], batch[name])
    return Delivered(period, what, prepared, typed, sifted, outcomes)


def _own_columns(problem: Problem) -> set[str]:
    return {KEY, *(field.name for field in problem.fields)}


def _has_source_form(problem: Problem, batch: pd.DataFrame) -> bool:
    """Whether a batch has more columns of the source's own form than of a partition's."""
    found, own = {str(name) for name in batch.columns}, _own_columns(problem)
    return len(own & found) <= len({field.name for field in problem.source} & found) > 0


def _refuse(finding: Finding | None, what: str) -> None:
    if finding:
        raise RefusedError(f"{what} is refused: {finding.rule}: {finding.reason}")


def admit(
    problem: Problem, partitions: Partitions, delivered: Delivered, terms: Terms, known: bool
) -> list[str]:
    """Apply the batch rules; the names of those that were skipped.

    Args:
        known: the partition holds these very rows: nothing is compared with the reference.

    Raises:
        RefusedError: naming every batch rule that is broken.
    """
    period, limit = delivered.period, 0 if known else terms.contract.reference_periods
    sketches = {} if known else partitions.sketches(period)
    batch = Batch(
        problem, terms.contract, period, delivered.typed, delivered.sifted,
        references(problem, partitions, period, limit), sketches,
        _label(delivered), lambda: _at_edge(problem, period),
    )  # fmt: skip
    found, skipped = rules.judge(batch)
    if left := [finding for finding in found if finding.rule not in terms.despite]:
        said = "; ".join(f"{finding.rule}: {finding.reason}" for finding in left)
        raise RefusedError(f"{delivered.what} is refused: {said}. No partition was changed")
    return [] if known else skipped


def check_leak(
    problem: Problem, contract: Contract, labels: pd.DataFrame, rows: pd.DataFrame, what: str
) -> None:
    """Labels that come alone are held against the rows of their partition.

    Raises:
        RefusedError: if a field alone tells them.
    """
    told = rows[KEY].map(labels.set_index(KEY)["label"])
    _refuse(rules.leak(problem, rows, told, contract.leak), what)


def _label(delivered: Delivered) -> pd.Series | None:
    """The label of each row of the batch, missing where it is not known."""
    if delivered.outcomes is None:
        return None
    return delivered.typed.rows[KEY].map(_told(delivered))


def _told(delivered: Delivered) -> pd.Series:
    assert delivered.outcomes is not None
    return delivered.outcomes.drop_duplicates(KEY).set_index(KEY)["label"]


def _at_edge(problem: Problem, period: Period) -> bool:
    """Whether the source begins or ends in this period."""
    available = problem.periods()
    return period.name in (available[0], available[-1])
