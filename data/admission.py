"""What stands between a delivered batch and its partition: form, row rules, batch rules."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data import contracts, rules
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
        prepared: key and fields as delivered, one row for each event.
        outcomes: key, label and excluded; None if the batch has none.
    """

    period: Period
    what: str
    prepared: pd.DataFrame
    typed: Typed
    sifted: Sifted
    outcomes: pd.DataFrame | None


def examine(problem: Problem, period: Period, batch: pd.DataFrame, what: str) -> Delivered:
    """Bring a batch into the form of a partition and apply the row rules.

    Raises:
        RefusedError: if it is empty or not in a form that the problem knows.
    """
    if batch.empty:
        raise RefusedError(f"{what} is empty: deliver its rows, or leave the period out")
    _check_source(problem, batch, what)
    try:
        prepared = problem.prepare(batch).reset_index(drop=True)
        outcomes = problem.outcomes(batch)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(
            f"{what} is not as its source delivers it ({type(error).__name__}: {error})"
        ) from error
    except EvergreenError as error:
        raise RefusedError(f"{what}: {error}") from error
    expected = [KEY, *(field.name for field in problem.fields)]
    _refuse(rules.columns(problem, expected, list(prepared.columns)), what)
    typed = contracts.typed(problem, prepared)
    sifted = contracts.sift(problem, typed)
    return Delivered(period, what, prepared, typed, sifted, outcomes)


def _check_source(problem: Problem, batch: pd.DataFrame, what: str) -> None:
    """Missing, renamed and extra columns of the source's own form, where a problem declares it."""
    own = {KEY, *(field.name for field in problem.fields)}
    found = [str(name) for name in batch.columns]
    if not problem.source or len(own & set(found)) > len(set(problem.source) & set(found)):
        return
    told = [name for name in found if name not in problem.source_outcomes]
    _refuse(rules.columns(problem, problem.source, told), what)


def _refuse(finding: rules.Finding | None, what: str) -> None:
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
    batch = rules.Batch(
        problem, terms.contract, period, delivered.typed,
        references(problem, partitions, period, limit),
        _label(delivered), lambda: _at_edge(problem, period),
    )  # fmt: skip
    found, skipped = rules.judge(batch)
    if flood := _flood(problem, delivered, terms.contract):
        found.append(flood)
    if left := [finding for finding in found if finding.rule not in terms.despite]:
        said = "; ".join(f"{finding.rule}: {finding.reason}" for finding in left)
        raise RefusedError(f"{delivered.what} is refused: {said}. No partition was changed")
    return [] if known else skipped


def check_leak(problem: Problem, labels: pd.DataFrame, rows: pd.DataFrame, what: str) -> None:
    """Labels that come alone are held against the rows of their partition.

    Raises:
        RefusedError: if a field alone tells them.
    """
    told = rows[KEY].map(labels.set_index(KEY)["label"])
    _refuse(rules.leak(problem, rows, told), what)


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


def _flood(problem: Problem, delivered: Delivered, contract: Contract) -> rules.Finding | None:
    """Too many rows that break a row rule, with what would mend most of them."""
    broken, rows = delivered.sifted.broken, len(delivered.prepared)
    bad = broken["row"].nunique()
    if bad <= contract.quarantine_share * rows:
        return None
    counts = Counter(zip(broken["column"], broken["rule"], strict=True))
    said = [f"{column}: {rule} in {count} rows" for (column, rule), count in counts.items()]
    hints = [
        f"{rule.columns[0]!r} and {rule.columns[1]!r} look swapped"
        for rule in problem.row_rules
        if (rule.name in set(broken["rule"])) and _crossed(rule.columns, rule.holds, delivered)
    ]
    reason = f"{bad} of {rows} rows break a row rule ({'; '.join([*said, *hints])})"
    return rules.Finding("swapped columns" if hints else "too many bad rows", reason)


def _crossed(
    columns: Sequence[str], holds: Callable[[pd.DataFrame], pd.Series], delivered: Delivered
) -> bool:
    """Whether a rule over two columns holds nearly everywhere once they are exchanged."""
    if len(columns) != 2:
        return False
    rows, (a, b) = delivered.typed.rows, columns
    try:
        share = float(holds(rows.assign(**{a: rows[b], b: rows[a]})).mean())
    except (TypeError, ValueError):
        return False
    return bool(share > max(0.95, float(holds(rows).mean()))) and not np.isnan(share)
