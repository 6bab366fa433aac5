"""The monitor judges on matured labels only, and says how many are missing."""

from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from data import field_history
from data.contracts import to_columns
from data.ingest import ingest
from data.labels import LABELLED_AT
from data.partitions import Partitions
from data.periods import Period, parse_as_of
from data.reference import Reference
from data.task import BINARY
from data.verdicts import Verdict
from flows import watch, watched
from models import monitors, tally
from tests import planted

PROBLEM, WEEK = planted.PROBLEM, Period.parse("2024-W06")
DUE = parse_as_of(WEEK.name, PROBLEM.label_delay)


@pytest.fixture
def project(tmp_path, params):
    partitions = Partitions(tmp_path / "raw")
    ingest(PROBLEM, partitions, WEEK, planted.read(WEEK), labels=False)
    return SimpleNamespace(params=params, problem=PROBLEM, partitions=partitions)


def past():
    """Two weeks of a model that says 0.3 of everything, and their fields."""
    weeks = [planted.read(Period.parse(name)) for name in ("2024-W04", "2024-W05")]
    told = [planted.outcomes(week)["label"].dropna().to_numpy() for week in weeks]
    tallies = [tally.tally(label, np.full(len(label), 0.3), {}, BINARY) for label in told]
    columns = [to_columns(planted.prepare(week), PROBLEM.fields) for week in weeks]
    fields = field_history.build(PROBLEM.fields, columns)
    return Reference(("a", "b"), (), fields, tally.history(tallies, [0.5, 0.5]))


def judged(project):
    served = project.partitions.rows(WEEK).assign(probability=0.3)
    judged = watched.judged(project, BINARY, WEEK, served, watched.matured(project, WEEK, DUE))
    model = SimpleNamespace(reference=past(), task=BINARY)
    seen = watched.Evidence(project, WEEK, None, model, project.partitions.rows(WEEK))
    said = monitors.quality(judged, model.reference, project.params, None)
    return said, watch.contract(seen, None)


def test_quality_waits_until_enough_labels_have_matured(project):
    batch = planted.read(WEEK)
    told = planted.outcomes(batch).assign(labelled_at=batch["sent_at"] + PROBLEM.label_delay)
    found, excluded = judged(project)
    assert found.verdict is excluded.verdict is Verdict.UNKNOWN
    assert found.evidence["missing"] == 500
    ingest(PROBLEM, project.partitions, WEEK, told.head(400))
    found, _ = judged(project)
    part = int(told["label"].head(400).notna().sum())
    lost = int(told["excluded"].head(400).notna().sum())
    assert found.verdict is Verdict.UNKNOWN and found.evidence["missing"] == 500 - part - lost
    assert f"{found.evidence['missing']} are missing" in found.reason
    assert 0.7 < found.evidence["coverage"] < 0.9
    late = told[400:].assign(**{LABELLED_AT: DUE + timedelta(days=1)})
    ingest(PROBLEM, project.partitions, WEEK, late[:50])
    assert judged(project)[0] == found, "labels that are known later have not matured"
    ingest(PROBLEM, project.partitions, WEEK, told[450:490])
    ingest(PROBLEM, project.partitions, WEEK, told[490:])
    assert judged(project)[0].verdict is Verdict.UNKNOWN
    whole = Partitions(project.partitions.folder.with_name("whole"))
    ingest(PROBLEM, whole, WEEK, batch)
    project.partitions = whole
    found, excluded = judged(project)
    assert found.verdict is not Verdict.UNKNOWN
    assert (found.evidence["missing"], found.evidence["coverage"]) == (0, 1.0)
    lost = np.mean(batch["fate"] == "lost")
    assert excluded.evidence["excluded"] == pytest.approx(lost)
