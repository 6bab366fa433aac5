"""Release from quarantine: rows join their partition through the door that they did not pass."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from data import held_labels
from data.contracts import KEY, Typed, check, rows_schema, sift, typed
from data.errors import EvergreenError
from data.partitions import ROWS, Partitions
from data.periods import Period
from data.problem import Problem
from data.quarantine import Quarantine, from_json, to_json


@dataclass(frozen=True)
class Released:
    """Keys that joined the partition, and why the others stay."""

    period: Period
    keys: tuple[str, ...]
    still: Mapping[str, str]

    @property
    def message(self) -> str:
        said = f"{self.period}: {len(self.keys)} rows released"
        if self.still:
            first, why = next(iter(self.still.items()))
            said += f", {len(self.still)} stay, such as {first!r}: {why}"
        return said


def release(
    problem: Problem,
    partitions: Partitions,
    quarantine: Quarantine,
    period: Period,
    *,
    key: str | None = None,
    changes: Mapping[str, str] | None = None,
    corrected: pd.DataFrame | None = None,
) -> Released:
    """Check waiting rows again, and rewrite the partition with those that hold now.

    Their labels are appended if the partition has labels. Its rows are a new version; what still
    breaks a rule stays.

    Args:
        key: only the row with this key or id.
        changes: column -> value as text, empty for missing; set in every chosen row.
        corrected: rows in a partition's form, which replace chosen ones of the same key.

    Raises:
        EvergreenError: if nothing waits, the partition is not there, or a column is not known.
    """
    waiting = quarantine.waiting(period, key).reset_index(drop=True)
    frame = from_json(list(waiting["content"]))
    if corrected is not None:
        frame = _replaced(problem, frame, corrected)
    frame = _changed(problem, frame, changes or {})
    found = typed(problem, frame)
    with partitions.lock():
        partition = partitions.rows(period)
        why = _why_not(problem, period, found, partition)
        free = [row for row in range(len(frame)) if row not in why]
        joined = found.rows.loc[free]
        new = joined[~joined[KEY].isin(partition[KEY])]
        whole = pd.concat([partition, new], ignore_index=True)
        whole = check(rows_schema(problem.fields, problem.row_rules), whole, f"rows of {period}")
        if len(new):
            partitions.restate(period, whole, ROWS)
        lines = waiting.loc[joined.index].assign(**{KEY: joined[KEY]})
        _append_labels(problem, partitions, period, whole, lines)
        ids = list(waiting["id"].loc[free])
        contents = [to_json(frame.iloc[row]) for row in free]
        keys = [str(value) for value in joined[KEY]]
        quarantine.release(
            period, dict(zip(ids, contents, strict=True)), dict(zip(ids, keys, strict=True))
        )
    names = waiting[KEY].where(waiting[KEY].notna(), waiting["id"])
    return Released(period, tuple(keys), {str(names[row]): said for row, said in why.items()})


def _append_labels(
    problem: Problem,
    partitions: Partitions,
    period: Period,
    whole: pd.DataFrame,
    lines: pd.DataFrame,
) -> None:
    """The labels that waited with released lines, unless a release before was cut off."""
    if partitions.has_labels(period):
        left = lines[~lines[KEY].isin(partitions.labels(period)[KEY])]
        for append in held_labels.appends(problem, whole, left, str(period)):
            partitions.write(period, append, partitions.next_append(period))


def _why_not(
    problem: Problem, period: Period, found: Typed, partition: pd.DataFrame
) -> dict[int, str]:
    """Row -> the rule that it still breaks."""
    why: dict[int, str] = {}
    known = partition.set_index(KEY)
    for row, key in enumerate(found.rows[KEY]):
        if found.rows[KEY].eq(key).sum() > 1:
            why[row] = "another released row has the same key"
        elif key in known.index and not found.rows.drop(columns=KEY).loc[row].equals(
            known.loc[key].rename(row)
        ):
            why[row] = f"the partition has another row with key {key!r}"
    moments = found.rows[problem.event_time]
    outside = (moments < period.start) | (moments >= period.end)
    why |= {int(row): "its event is in another period" for row in outside.index[outside]}
    broken = sift(problem, found).broken
    for line in broken.itertuples():
        why[int(str(line.row))] = f"{line.column}: {line.rule}"
    return why


def _changed(problem: Problem, frame: pd.DataFrame, changes: Mapping[str, str]) -> pd.DataFrame:
    kinds = {KEY: "text", **{field.name: field.kind for field in problem.fields}}
    for name, text in changes.items():
        if name not in kinds:
            raise EvergreenError(f"no column {name!r}: the contract has {', '.join(kinds)}")
        value: object = text or None
        if text and kinds[name] in ("number", "integer"):
            try:
                value = float(text)
            except ValueError as error:
                raise EvergreenError(f"{name}={text}: {name} is a number") from error
        frame = frame.assign(**{name: pd.Series([value] * len(frame), dtype=object)})
    return frame


def _replaced(problem: Problem, frame: pd.DataFrame, corrected: pd.DataFrame) -> pd.DataFrame:
    """The chosen rows, with those of the corrected batch in the place of the same keys."""
    rows = problem.prepare(corrected)
    names = [KEY, *(field.name for field in problem.fields)]
    if set(rows.columns) != set(names):
        raise EvergreenError(f"corrected rows have the columns {', '.join(names)}")
    other = rows.astype(object).drop_duplicates(KEY).set_index(KEY)
    for row, key in enumerate(frame[KEY]):
        if key in other.index:
            for name, value in other.loc[key].items():
                frame.at[row, str(name)] = value
    return frame
