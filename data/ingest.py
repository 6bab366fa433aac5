"""A period's batch becomes an immutable partition, or is refused whole."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data import contracts
from data.contracts import KEY
from data.errors import EvergreenError, stop_on_error
from data.params import load_params
from data.partitions import LABELS, ROWS, Partitions
from data.periods import Period, parse_as_of, span
from data.problem import Problem, load_problem
from data.windows import last_complete


@dataclass(frozen=True)
class Ingested:
    """What came in: rows, and labels if the batch had any; `changed` names the new files."""

    period: Period
    rows: int
    labelled: int | None
    excluded: int | None
    changed: tuple[str, ...]

    @property
    def message(self) -> str:
        labels = "no labels yet"
        if self.labelled is not None:
            labels = f"{self.labelled} labels, {self.excluded} excluded"
        state = f"new: {', '.join(self.changed)}" if self.changed else "already there"
        return f"{self.period}: {self.rows} rows, {labels} ({state})"


def read_file(path: Path, problem: Problem) -> pd.DataFrame:
    """A batch that came as parquet or CSV; in CSV, text fields stay text ("007", "NA").

    Raises:
        EvergreenError: if it is neither, or cannot be read.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise EvergreenError(f"{path}: a batch comes as .parquet or .csv, not {path.suffix!r}")
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path, problem)
    except FileNotFoundError as error:
        raise EvergreenError(f"{path} is not there") from error
    except (OSError, ValueError) as error:
        raise EvergreenError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from error


def _read_csv(path: Path, problem: Problem) -> pd.DataFrame:
    text = {KEY, *(field.name for field in problem.fields if field.kind == "text")}
    columns = pd.read_csv(path, nrows=0).columns
    missing = {name: [""] if name in text else ["", "NA", "NaN", "nan"] for name in columns}
    types = {name: "str" for name in columns if name in text}
    return pd.read_csv(path, dtype=types, na_values=missing, keep_default_na=False)


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
) -> Ingested:
    """Check a batch against the contract and add its rows, its labels, or both.

    Raises:
        EvergreenError: if anything breaks the contract; then nothing is written.
    """
    what = f"{source} for {period}"
    prepared = _prepare(problem, batch, what)
    checked = contracts.check(contracts.rows_schema(problem.fields), prepared, what)
    _check_period(checked, problem, period, what)
    outcomes = _outcomes(problem, batch, checked, what) if labels else None
    changed = []
    with partitions.lock():
        if not rows:
            _check_same_events(partitions.rows(period), checked, period, what)
        if rows and partitions.write(period, checked, ROWS):
            changed.append("rows")
        if outcomes is not None and partitions.write(period, outcomes, LABELS):
            changed.append("labels")
    labelled = None if outcomes is None else int(outcomes["label"].notna().sum())
    excluded = None if outcomes is None else int(outcomes["excluded"].notna().sum())
    return Ingested(period, len(checked), labelled, excluded, tuple(changed))


def _prepare(problem: Problem, batch: pd.DataFrame, what: str) -> pd.DataFrame:
    if batch.empty:
        raise EvergreenError(f"{what} is empty: deliver its rows, or leave the period out")
    try:
        return problem.prepare(batch)
    except (KeyError, TypeError, ValueError) as error:
        raise EvergreenError(
            f"{what} is not as its source delivers it ({type(error).__name__}: {error})"
        ) from error


def _check_period(rows: pd.DataFrame, problem: Problem, period: Period, what: str) -> None:
    moments = rows[problem.event_time]
    outside = rows[(moments < period.start) | (moments >= period.end)]
    if len(outside):
        first = outside.iloc[0]
        raise EvergreenError(
            f"{what}: {len(outside)} rows are of another period, first {first[KEY]!r} at "
            f"{first[problem.event_time]} (expected {period.start} up to {period.end})"
        )


def _check_same_events(known: pd.DataFrame, rows: pd.DataFrame, period: Period, what: str) -> None:
    """Labels that came alone belong to the events of the partition, all of them and no others."""
    if other := set(known[KEY]) ^ set(rows[KEY]):
        raise EvergreenError(
            f"{what}: its events are not those of partition {period}; {len(other)} are in only "
            f"one of them, such as {min(other)!r}: deliver the labels of the whole period"
        )


def _outcomes(
    problem: Problem, batch: pd.DataFrame, rows: pd.DataFrame, what: str
) -> pd.DataFrame | None:
    """The batch's labels with the moment each is known: event time plus the label delay."""
    outcomes = problem.outcomes(batch)
    if outcomes is None:
        return None
    moment = rows.set_index(KEY)[problem.event_time] + problem.label_delay
    labels = outcomes.assign(labelled_at=outcomes[KEY].map(moment))
    return contracts.check(contracts.LABELS, labels, f"labels of {what}")


def main() -> None:
    """The DVC stage: every period up to params.yaml's `train.as_of` is there and whole."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    arguments = parser.parse_args()
    params = load_params(arguments.params)
    problem, partitions = load_problem(params.problem), Partitions(arguments.raw)
    last = last_complete(problem, parse_as_of(params.train.as_of, problem.label_delay))
    for period in span(Period.parse(params.train.first_period), last):
        print(ingest(problem, partitions, period, deliver(problem, period)).message)


if __name__ == "__main__":
    stop_on_error(main)
