"""What is known of a period that the champion served, gathered part by part; no effect."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from bento import predictions
from data import drift
from data.contracts import KEY, to_columns
from data.drift import DriftReport
from data.features import Columns
from data.labels import known
from data.periods import Period, parse_as_of, span
from data.reference import Daily
from data.task import Task
from flows import shelf
from flows.project import Project
from models import slices, tally
from models.artifact import Artifact
from models.monitors import Judged
from models.version import Version


@dataclass(frozen=True)
class Evidence:
    """What is known of a period, each part gathered when it is first asked for."""

    project: Project
    period: Period
    champion: Version
    model: Artifact
    rows: pd.DataFrame
    family: tuple[str, ...] = ()

    @property
    def learned_until(self) -> Period:
        """The newest period that the champion was trained or judged on."""
        return Period.parse(self.model.training["holdout"][-1])

    @property
    def due(self) -> datetime:
        """When all labels of the period are known."""
        return parse_as_of(self.period.name, self.project.problem.label_delay)

    @cached_property
    def logged(self) -> pd.DataFrame:
        """The last answer to every event of the period: key, the answer, degraded, row."""
        wanted = [*self.answer, "degraded", "row"]
        return self._log(self.period.start, wanted, (self.champion.number,))

    @property
    def answer(self) -> tuple[str, ...]:
        """The log's columns that hold an answer."""
        return self.model.task.columns(self.model.task.answer)

    @cached_property
    def served(self) -> pd.DataFrame:
        """Rows of the partition that were answered, with their answers."""
        return self.rows.merge(self.logged, how="inner", on=KEY, validate="1:1")

    @cached_property
    def columns(self) -> Columns:
        return to_columns(self.served, self.project.problem.fields)

    @cached_property
    def matrix(self) -> np.ndarray:
        return self.model.matrix(self.columns)

    @cached_property
    def scores(self) -> np.ndarray:
        return self.model.task.take(self.served, self.model.task.answer)

    @cached_property
    def drift(self) -> DriftReport:
        params = self.project.params.monitor
        return drift.compare(
            self.model.reference,
            self.matrix,
            self.scores,
            params.minimum_rows,
            params.false_alarm_rate,
        )

    @cached_property
    def labels(self) -> pd.DataFrame | None:
        return matured(self.project, self.period, self.due)

    @cached_property
    def judged(self) -> Judged:
        given = (self.project, self.model.task, self.period)
        return judged(*given, self.served, self.labels)

    @cached_property
    def daily(self) -> Daily:
        """The champion's error on every labelled day since it learned, as known when this is due.

        What the same model answered at other levels counts, too. It is computed from the log each
        time, so that it can be told again at any time.
        """
        first = self.learned_until.next()
        versions, task = self.family or (self.champion.number,), self.model.task
        answers = self._log(first.start, ["event_time", *self.answer], versions)
        there = set(self.project.partitions.periods())
        parts = []
        for period in span(first, self.period):
            told = matured(self.project, period, self.due) if period in there else None
            if told is None:
                continue
            both = answers.merge(told[[KEY, "label"]].dropna(), on=KEY, validate="1:1")
            label, day = both["label"].to_numpy(dtype=task.dtype), both["event_time"].to_numpy()
            parts.append(tally.residuals(label, task.take(both, task.answer), day, task))
        return tally.joined(parts)

    @cached_property
    def folder(self) -> Path:
        """The serving folder, its closed log files archived."""
        folder = self.project.settings.serving.folder
        predictions.archive(folder)
        shelf.keep_predictions(self.project.settings)
        return folder

    @cached_property
    def unmatched(self) -> str:
        """Why too few are known: none was asked for, or nobody knows of which event they are."""
        if len(self.served) >= self.project.params.monitor.minimum_rows:
            return ""
        keys = self._answers(self.period.start, [], (self.champion.number,))[KEY].fillna("")
        strange = keys[(keys != "") & ~keys.isin(self.rows[KEY])]
        if not len(keys):
            return f"version {self.champion.number} was not asked in this period"
        said = []
        if nameless := int((keys == "").sum()):
            said.append(
                f"{nameless} answers name no event: send its `key` with each request, see "
                "docs/your-own-data.md"
            )
        if len(strange):
            said.append(
                f"{len(strange)} answers name events that {self.period} does not have, such as "
                f"{strange.iloc[0]!r}: send the `key` that the table's rows have"
            )
        return "; ".join(said)

    def _answers(
        self, start: datetime, columns: list[str], versions: Sequence[str]
    ) -> pd.DataFrame:
        wanted = ["logged_at", KEY, *columns]
        return predictions.table(self.folder, wanted, start, self.period.end, versions)

    def _log(self, start: datetime, columns: list[str], versions: Sequence[str]) -> pd.DataFrame:
        found = self._answers(start, columns, versions)
        told = found[found[KEY].fillna("") != ""].sort_values("logged_at", kind="stable")
        return told.drop_duplicates(KEY, keep="last")[[KEY, *columns]].astype({KEY: "str"})


def matured(project: Project, period: Period, due: datetime) -> pd.DataFrame | None:
    """The labels known at `due`, one for each event; None before any arrives."""
    if not project.partitions.has_labels(period):
        return None
    return known(project.partitions.labels(period), due)


def judged(
    project: Project, task: Task, period: Period, served: pd.DataFrame, told: pd.DataFrame | None
) -> Judged:
    """Served answers with their matured labels; `task` is the model's own."""
    if told is None:
        reason, nothing = f"no labels of {period} have arrived", np.empty(0)
        return Judged(task, nothing, nothing, nothing, len(served), why=reason)
    problem = project.problem
    every = served.merge(told, how="left", on=KEY, validate="1:1")
    every = every.sort_values([problem.event_time, KEY])
    found = every[every["label"].notna()]
    columns = to_columns(found, problem.fields)
    return Judged(
        task,
        found["label"].to_numpy(dtype=task.dtype),
        task.take(found, task.answer),
        found[problem.event_time].to_numpy().astype("datetime64[D]"),
        len(every) - int(every["excluded"].notna().sum()),
        {name: slices.values(problem, name, columns) for name in problem.slices},
    )
