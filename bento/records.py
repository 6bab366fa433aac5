"""One answered row, as its readers have it and as an archive keeps it.

The columns of an answer are those of its task: `probability` and `decision` of two outcomes,
`probability.<class>` and `class` of several, `prediction` of a number.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from bento import answers
from bento.prediction_log import KEY, Entry, row_ids
from data.task import BINARY, REGRESSION, Task, multiclass

BEFORE = (
    ("logged_at", pa.timestamp("us", tz="UTC")),
    ("request_id", pa.string()),
    ("key", pa.string()),
    ("event_time", pa.timestamp("us")),
    ("model_version", pa.string()),
    ("digest", pa.string()),
)
AFTER = (("degraded", pa.bool_()), ("probe", pa.bool_()), ("row", pa.string()))  # JSON
DECISION, CLASS = "decision", "class"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One answered row.

    Attributes:
        score: a probability, a number, or the probabilities of `task.classes`.
        decision: whether, the number, or the likeliest class.
        row: the raw fields as they were sent, timestamps as text.
    """

    logged_at: datetime
    request_id: str
    key: str | None
    event_time: datetime
    model_version: str
    digest: str
    task: Task
    score: Any
    decision: Any
    degraded: bool
    probe: bool
    row: dict[str, Any]

    def said(self) -> dict[str, Any]:
        """As a mapping: the columns of the score in place of task and score."""
        found = {name: getattr(self, name) for name, _ in BEFORE}
        found |= zip(answers.columns(self.task), self._scores(), strict=True)
        found[DECISION] = self.decision
        return found | {name: getattr(self, name) for name, _ in AFTER}

    def stored(self) -> dict[str, Any]:
        """As a row of an archive; nobody has to decide again between numbers."""
        found = {**self.said(), "row": msgspec.json.encode(self.row).decode()}
        if self.task.kind == "binary":
            return found
        del found[DECISION]
        return {**found, CLASS: self.decision} if self.task.classes else found

    def _scores(self) -> Any:
        return self.score if self.task.classes else [self.score]


def scores(task: Task, said: pd.DataFrame | Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The scores of records or of a table of them, shape (n,), or (n, classes).

    A class that an answer does not know has no probability there.
    """
    names = answers.columns(task)
    if isinstance(said, pd.DataFrame):
        table = {each: said[each].to_numpy(dtype=float) for each in names}
    else:
        table = {each: np.array([one.get(each, 0.0) for one in said]) for each in names}
    return task.take(table, task.answer)


def schema(task: Task) -> pa.Schema:
    """The columns of an archive."""
    said = [(name, pa.float64()) for name in answers.columns(task)]
    if task.kind == "binary":
        said.append((DECISION, pa.bool_()))
    elif task.classes:
        said.append((CLASS, pa.string()))
    return pa.schema([*BEFORE, *said, *AFTER])


def of_archive(row: dict[str, Any]) -> Record:
    """The record of a row of an archive."""
    prefix, there = f"{answers.PROBABILITY}.", {k for k, v in row.items() if v is not None}
    if row.get(CLASS) is not None:
        names = [k.removeprefix(prefix) for k in row if k in there and k.startswith(prefix)]
        task, score, decision = multiclass(names), [row[prefix + k] for k in names], row[CLASS]
    elif answers.PREDICTION in there:
        task, score, decision = REGRESSION, row[answers.PREDICTION], row[answers.PREDICTION]
    else:
        task, score, decision = BINARY, row[answers.PROBABILITY], row[DECISION]
    own = {name: row[name] for name, _ in (*BEFORE, *AFTER)}
    own["row"] = msgspec.json.decode(row["row"])
    return Record(**own, task=task, score=score, decision=decision)


def of_entry(entry: Entry) -> Iterator[Record]:
    """The records of an answered request."""
    ids, task, scores = (
        row_ids(entry.request_id, entry.many, len(entry.rows)),
        entry.task,
        entry.scores,
    )
    decided = answers.decisions(task, entry.threshold, scores)
    for own_id, row, score, decision in zip(ids, entry.rows, scores, decided, strict=True):
        key = row.pop(KEY)
        yield Record(
            logged_at=entry.logged_at,
            request_id=own_id,
            key=key,
            event_time=msgspec.convert(row[entry.event_time], datetime),
            model_version=entry.model_version,
            digest=entry.digest,
            task=task,
            score=score,
            decision=decision,
            degraded=entry.degraded,
            probe=entry.probe,
            row=row,
        )
