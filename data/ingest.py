"""The one door: a batch becomes an immutable partition; what breaks a rule goes to quarantine.

A batch is in memory as a whole, because its rules look at all of its rows; other periods are not,
but for the profiles of the nearest. Memory follows the largest period, not how many there are.
"""

import argparse
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from data import admission
from data.admission import Delivered, Terms, admit, check_leak
from data.contracts import KEY, check, rows_schema, typed
from data.errors import EvergreenError, RefusedError, stop_on_error
from data.labels import LABELLED_AT, alone, coverage, told
from data.late_labels import Told, check_keys, only_labels, tell
from data.params import Contract, load_params
from data.partitions import ROWS, Partitions
from data.periods import Period, parse_as_of, span
from data.problem import Problem, load_problem
from data.quarantine import RELEASED, Origin, Quarantine, batch_digest, from_json, lines
from data.windows import last_complete


@dataclass(frozen=True)
class Ingested:
    """What came in: rows, and labels if the batch had any; `changed` names what is new.

    Attributes:
        labelled, excluded, missing: of the partition's events, with this delivery.
        corrected: labels that this delivery corrects.
        quarantined: rows of the batch that wait in quarantine or were dropped from it.
        skipped: batch rules that found no reference to compare with.
    """

    period: Period
    rows: int
    labelled: int | None
    excluded: int | None
    changed: tuple[str, ...]
    quarantined: int = 0
    skipped: tuple[str, ...] = ()
    missing: int = 0
    corrected: int = 0

    @property
    def message(self) -> str:
        labels = "no labels yet"
        if self.labelled is not None:
            labels = f"{self.labelled} labels, {self.excluded} excluded"
        for count, what in ((self.missing, "missing"), (self.corrected, "corrected")):
            labels += f", {count} {what}" if count else ""
        state = f"new: {', '.join(self.changed)}" if self.changed else "already there"
        said = f"{self.period}: {self.rows} rows, {labels} ({state})"
        if self.quarantined:
            said += (
                f"; {self.quarantined} in quarantine (`evergreen quarantine show {self.period}`)"
            )
        if self.skipped:
            said += f"; too few periods to check {', '.join(self.skipped)}"
        return said


def read_file(path: Path, problem: Problem) -> pd.DataFrame:
    """A batch that came as parquet or CSV; in CSV, text fields stay text ("007", "NA").

    Raises:
        EvergreenError: if it is neither, or cannot be read.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise EvergreenError(f"{path}: a batch comes as .parquet or .csv, not {path.suffix!r}")
    try:
        if problem.read_file and path.exists():
            return problem.read_file(path)
        return pd.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path, problem)
    except FileNotFoundError as error:
        raise EvergreenError(f"{path} is not there") from error
    except (OSError, ValueError) as error:
        raise EvergreenError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from error


def _read_csv(path: Path, problem: Problem) -> pd.DataFrame:
    fields = {field.name: field for field in (*problem.source, *problem.fields)}.values()
    text = {KEY, *(field.name for field in fields if field.kind == "text")}
    columns = pd.read_csv(path, nrows=0).columns
    missing = {name: [""] if name in text else ["", "NA", "NaN", "nan"] for name in columns}
    types = {name: "str" for name in columns if name in text}
    frame = pd.read_csv(path, dtype=types, na_values=missing, keep_default_na=False)
    numbers = [field.name for field in fields if field.kind in ("number", "integer")]
    return frame.assign(**{n: _numbers(frame[n]) for n in numbers if n in frame})


def _numbers(column: pd.Series) -> pd.Series:
    """One cell that is no number leaves the others numbers."""
    if column.dtype.kind in "iuf":
        return column
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers.astype(object).where(numbers.notna() | column.isna(), column)


def deliver(problem: Problem, period: Period) -> pd.DataFrame:
    """The batch of a period from the problem's own source.

    Raises:
        EvergreenError: if the source does not have that period.
    """
    available = problem.periods()
    if period.name not in available:
        raise EvergreenError(
            f"{problem.name} has no {period}: its source delivers {available[0]} to {available[-1]}"
        )
    return problem.read(period)


def ingest(
    problem: Problem,
    partitions: Partitions,
    period: Period,
    batch: pd.DataFrame,
    *,
    rows: bool = True,
    labels: bool = True,
    source: str = "the batch",
    quarantine: Quarantine | None = None,
    contract: Contract | None = None,
    despite: Collection[str] = (),
) -> Ingested:
    """Check a batch against the contract and add its rows, its labels, or both.

    Rows that break a row rule go to quarantine, a batch that breaks a batch rule goes there whole.

    Args:
        source: names the batch in errors and in quarantine.
        quarantine: default: `quarantine` beside the partitions' folder.
        contract: default: that of `data.params`.
        despite: batch rules that a person has looked into and overrules.

    Raises:
        RefusedError: if the batch breaks a batch rule; then no partition changes.
        EvergreenError: if its labels or the partitions are not in order.
    """
    quarantine = quarantine or Quarantine(partitions.folder.with_name("quarantine"))
    what = f"{source} for {period}"

    def origin() -> Origin:
        return Origin(source, batch_digest(batch))

    try:
        if alone(batch):
            found = only_labels(problem.task, batch, rows and not labels, what)
            return _add_labels(problem, partitions, quarantine, period, found, what, contract)
        delivered = _examine(problem, period, batch, what, contract)
        if not rows:
            outcomes = delivered.outcomes
            return _add_labels(problem, partitions, quarantine, period, outcomes, what, contract)
        chosen = Terms(contract or Contract(), frozenset(despite))
        return _add(problem, partitions, quarantine, delivered, chosen, origin, labels)
    except RefusedError as error:
        if not len(batch):
            raise
        quarantine.refuse(period, batch, origin(), str(error))
        waits = f"it waits in quarantine: `evergreen quarantine show {period}`"
        raise RefusedError(f"{error}; {waits}") from error


def _examine(
    problem: Problem, period: Period, batch: pd.DataFrame, what: str, contract: Contract | None
) -> Delivered:
    """The batch after its row rules; `labelled_at` belongs to its outcomes."""
    moments = batch.get(LABELLED_AT)
    delivered = admission.examine(
        problem, period, batch.drop(columns=LABELLED_AT, errors="ignore"), what, contract
    )
    if delivered.outcomes is None:
        return delivered
    return replace(delivered, outcomes=told(problem.task, delivered.outcomes, moments, what))


def _add(
    problem: Problem,
    partitions: Partitions,
    quarantine: Quarantine,
    delivered: Delivered,
    terms: Terms,
    origin: Callable[[], Origin],
    labels: bool,
) -> Ingested:
    """Rows, and their labels if wanted and there; the rest goes to quarantine first."""
    period, outcomes = delivered.period, delivered.outcomes if labels else None

    def bad() -> pd.DataFrame:
        return lines(period, delivered.prepared, delivered.sifted, delivered.outcomes, origin())

    with partitions.lock():
        rows = _with_released(problem, quarantine, period, delivered.sifted.rows, bad)
        known = partitions.holds(period, rows, ROWS)
        skipped = admit(problem, partitions, delivered, terms, known)
        partitions.refuse_other(period, rows, ROWS)
        found = None
        if outcomes is not None:
            mine, events = (set(f[KEY].dropna()) for f in (outcomes, delivered.prepared))
            check_keys(mine - events, period, delivered.what)
            found = tell(problem, partitions, quarantine, rows, outcomes, period, delivered.what)
        if not delivered.sifted.broken.empty:
            quarantine.add(period, bad())
        changed = ["rows"] if partitions.write(period, rows, ROWS) else []
        if found is not None:
            changed += found.write(partitions, quarantine, period)
    held = len(delivered.prepared) - len(rows)
    return _ingested(period, rows, found, changed, held, skipped)


def _add_labels(
    problem: Problem,
    partitions: Partitions,
    quarantine: Quarantine,
    period: Period,
    outcomes: pd.DataFrame | None,
    what: str,
    contract: Contract | None,
) -> Ingested:
    """Labels of a partition that is there, all or some; those of quarantined rows wait with them.

    Raises:
        RefusedError: if there are none, or one belongs to no event of the period.
    """
    if outcomes is None or outcomes.empty:
        raise RefusedError(f"{what} has no label: deliver key, label and labelled_at")
    with partitions.lock():
        rows = partitions.rows(period)
        here, mine = set(rows[KEY]), set(outcomes[KEY].dropna())
        check_keys(mine - here - set(quarantine.rows(period)[KEY].dropna()), period, what)
        found = tell(problem, partitions, quarantine, rows, outcomes, period, what)
        check_leak(problem, contract or Contract(), found.after, rows, what)
        changed = found.write(partitions, quarantine, period)
    return _ingested(period, rows, found, changed, len(mine - here), ())


def _with_released(
    problem: Problem,
    quarantine: Quarantine,
    period: Period,
    rows: pd.DataFrame,
    bad: Callable[[], pd.DataFrame],
) -> pd.DataFrame:
    """Good rows, then those of this batch that were released from quarantine, as released."""
    released = quarantine.rows(period, RELEASED)
    if not released.empty:
        released = released[released["id"].isin(bad()["id"])]
    if released.empty:
        return rows
    again = typed(problem, from_json(list(released["content"]))).rows
    whole = pd.concat([rows, again], ignore_index=True)
    return check(rows_schema(problem.fields, problem.row_rules), whole, f"rows of {period}")


def _ingested(
    period: Period,
    rows: pd.DataFrame,
    found: Told | None,
    changed: list[str],
    held: int,
    skipped: Iterable[str],
) -> Ingested:
    if found is None:
        return Ingested(period, len(rows), None, None, tuple(changed), held, tuple(skipped))
    known = coverage(found.after, len(rows))
    return Ingested(
        period, len(rows), known.labelled, known.excluded, tuple(changed), held, tuple(skipped),
        known.missing, found.corrected,
    )  # fmt: skip


def main() -> None:
    """The DVC stage: every period up to params.yaml's `train.as_of` is there and whole."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    parser.add_argument("--quarantine", type=Path, default=Path("var/quarantine"))
    arguments = parser.parse_args()
    params = load_params(arguments.params)
    problem, partitions = load_problem(params.problem), Partitions(arguments.raw)
    quarantine = Quarantine(arguments.quarantine)
    last = last_complete(problem, parse_as_of(params.train.as_of, problem.label_delay))
    for period in span(Period.parse(params.train.first_period), last):
        batch = deliver(problem, period)
        done = ingest(
            problem, partitions, period, batch, quarantine=quarantine, contract=params.contract
        )
        print(done.message)


if __name__ == "__main__":
    stop_on_error(main)
