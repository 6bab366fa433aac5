"""`score` and `export-edge` take a version of the registry, verified, and the champion unasked."""

import json

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bento.predictor import Predictor
from data.errors import EvergreenError
from data.periods import Period
from flows.cli import app
from flows.edge import render as render_export
from flows.edge import run_export
from flows.project import Project
from flows.score import render, run_score
from models.registry import Registry
from tests.planted import PROBLEM


@pytest.fixture
def week(tmp_path):
    path = tmp_path / "week.parquet"
    PROBLEM.prepare(PROBLEM.read(Period.parse("2024-W09"))).to_parquet(path)
    return path


def asked(project, number, source, path):
    silent = {"strict": False, "overwrite": False, "progress": lambda done, rows: None}
    return run_score(project, number, source, path, **silent)


def test_a_week_is_scored_by_the_artefact_of_the_version(project, first, week, tmp_path):
    scored = asked(project, first.number, week, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    rows = pq.read_table(week).select([field.name for field in PROBLEM.fields]).to_pylist()
    predictor = Predictor.load(project.registry.folder(first))
    assert found["probability"].to_pylist() == predictor.scores(rows)
    assert set(found["digest"].to_pylist()) == {first.digest}
    assert scored.counts.rows == len(rows) == 500
    told = [str(line) for line in render(scored).renderables]
    assert told == [f"{scored.path}: 500 rows are scored"]
    again = asked(project, first.number, week, tmp_path / "out.parquet")
    assert "holds these answers already" in str(render(again).renderables[0])


def test_a_folder_of_partitions_is_scored_without_its_labels(project, first, week, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(EvergreenError, match="has no parquet file of rows"):
        asked(project, first.number, folder, tmp_path / "out")
    week.rename(folder / "2024-W09.parquet")
    for suffix in ("labels", "labels.2"):
        (folder / f"2024-W09.{suffix}.parquet").write_bytes(b"none of ours")
    scored = asked(project, first.number, folder, tmp_path / "out")
    assert (scored.files, scored.counts.rows) == (1, 500)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["2024-W09.parquet"]


def test_without_a_number_the_champion_scores(project, first, week, tmp_path, monkeypatch):
    with pytest.raises(EvergreenError, match="there is no champion yet"):
        asked(project, None, week, tmp_path / "out.parquet")
    monkeypatch.setattr(Registry, "alias", lambda self, alias: first)
    asked(project, None, week, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert set(found["model_version"].to_pylist()) == {first.number}


def test_a_version_that_was_changed_is_not_asked(project, first, week, tmp_path):
    contract = project.registry.folder(first) / "contract.json"
    before = contract.read_bytes()
    contract.write_bytes(before.replace(b"0.3", b"0.4", 1))
    try:
        with pytest.raises(EvergreenError):
            asked(project, first.number, week, tmp_path / "out.parquet")
    finally:
        contract.write_bytes(before)
    assert not (tmp_path / "out.parquet").exists()


def test_an_export_is_checked_and_measured_where_it_lies(project, first, tmp_path):
    exported = run_export(project, first.number, tmp_path / "edge")
    assert exported.fresh and exported.digest == first.digest
    assert set(exported.bytes_by_file) == {"edge.json", "model.onnx", "run.py"}
    assert 0 < exported.microseconds_in_batches < 10 * exported.microseconds_alone
    told = "\n".join(str(line) for line in render_export(exported).renderables)
    assert f"holds version {first.number}" in told
    assert "200 golden rows right" in told
    assert not run_export(project, first.number, tmp_path / "edge").fresh


def test_the_command_says_what_came_of_it_and_exits_with_3_for_refused_rows(
    project, first, week, tmp_path, monkeypatch
):
    monkeypatch.setattr(Project, "open", lambda settings: project)
    run = CliRunner()
    out = tmp_path / "out.parquet"
    command = ["score", str(week), str(out), "--version", first.number]
    done = run.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "500 rows are scored" in done.stdout
    table = pq.read_table(week)
    queue = pc.if_else(pc.equal(table["key"], "2024-W09-0007"), 101.0, table["queue"])
    pq.write_table(table.set_column(table.schema.get_field_index("queue"), "queue", queue), week)
    with pytest.raises(EvergreenError, match="was made from input_sha256"):
        run.invoke(app, command, catch_exceptions=False)
    done = run.invoke(app, [*command, "--overwrite", "--json"])
    assert done.exit_code == 3
    said = json.loads(done.stdout)
    assert said["path"] == str(out)
    assert said["counts"]["first"] == [7, "queue: expected at most 100"]
    with pytest.raises(EvergreenError, match=r"week.parquet, row 7 \(from 0\), queue"):
        run.invoke(app, [*command, "--strict"], catch_exceptions=False)
