"""One output for one input and version, however often the run was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bento.score import score
from bento.score_folder import score_files
from bento.scorer import Scorer
from data.errors import EvergreenError
from tests.conftest import ROOT

ANSWER = ["key", "probability", "returned", "model_version", "digest"]


def test_a_finished_output_is_not_made_again(
    scorer, second_artefact, source, table_rows, tmp_path, monkeypatch
):
    path = tmp_path / "out.parquet"
    first = score(scorer, source, path)
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(scorer, "answer", None)
    again = score(scorer, source, path)
    assert (again.counts, again.resumed) == (first.counts, 3000)
    assert path.stat().st_mtime_ns == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]
    monkeypatch.undo()
    other = Scorer.load(second_artefact, "8")
    with pytest.raises(
        EvergreenError, match=r"model_version 7 instead of 8, digest .* --overwrite"
    ):
        score(other, source, path)
    score(other, source, path, overwrite=True)
    assert set(pq.read_table(path)["model_version"].to_pylist()) == {"8"}
    table_rows.iloc[1:].to_parquet(source)
    with pytest.raises(EvergreenError, match="was made from input_sha256"):
        score(other, source, path)
    table_rows.to_parquet(path)
    with pytest.raises(EvergreenError, match="is no output of `score`"):
        score(other, source, path)


def test_a_place_that_cannot_be_written_is_named_in_a_sentence(scorer, source, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EvergreenError, match=r"file.*: Not a directory; make room there, or name"):
        score(scorer, source, tmp_path / "file" / "out.parquet")


KILLED = """
import os, signal, sys
from pathlib import Path
from bento import score as job
from bento.score_folder import score_files
from bento.scorer import Scorer
job.PART_ROWS = 500
def progress(done, rows):
    if done >= 1500:
        os.kill(os.getpid(), signal.SIGKILL)
artefact, source, path = map(Path, sys.argv[1:])
job.score(Scorer.load(artefact, "7"), source, path, progress=progress)
"""


def killed(artefact: Path, source: Path, path: Path) -> Path:
    """A run that was killed after half of the rows; where its parts lie."""
    command = [sys.executable, "-c", KILLED, str(artefact), str(source), str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=ROOT, env=environment)
    assert done.returncode == -signal.SIGKILL
    return path.with_name(f".{path.name}.parts")


def test_a_killed_run_goes_on_to_the_same_file(artefact, scorer, source, tmp_path, monkeypatch):
    score(scorer, source, tmp_path / "whole.parquet")
    path = tmp_path / "out.parquet"
    parts = killed(artefact, source, path)
    finished = list(parts.glob("*.arrow"))
    assert len(finished) >= 3 and not path.exists()
    asked: dict[int, int] = {}
    real = scorer.answer

    def noted(rows, first):
        asked[first] = len(rows)
        return real(rows, first)

    monkeypatch.setattr(scorer, "answer", noted)
    scored = score(scorer, source, path)
    assert not {int(part.stem) for part in finished} & set(asked)
    assert scored.resumed == 3000 - sum(asked.values()) >= 1500
    assert path.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not parts.exists()


def test_parts_of_another_job_are_not_taken_for_ours(
    artefact, scorer, second_artefact, source, tmp_path
):
    path = tmp_path / "out.parquet"
    killed(artefact, source, path)
    other = Scorer.load(second_artefact, "8")
    with pytest.raises(EvergreenError, match="was begun from model_version 7 instead of 8"):
        score(other, source, path)
    assert score(other, source, path, overwrite=True).resumed == 0
    assert set(pq.read_table(path)["model_version"].to_pylist()) == {"8"}


def test_an_input_that_changes_while_it_is_read_is_not_answered(
    scorer, source, table_rows, tmp_path
):
    def change(done, total):
        if done == total:
            table_rows.iloc[::-1].to_parquet(source, row_group_size=800)

    with pytest.raises(EvergreenError, match="changed while it was read"):
        score(scorer, source, tmp_path / "out.parquet", progress=change)
    assert list(tmp_path.iterdir()) == [source]


def test_two_runs_do_not_write_one_output(scorer, source, tmp_path):
    seen = []

    def progress(done, rows):
        with pytest.raises(EvergreenError, match="another run is writing"):
            score(scorer, source, tmp_path / "out.parquet")
        seen.append(done)

    score(scorer, source, tmp_path / "out.parquet", progress=progress)
    assert seen[-1] == 3000


def test_a_folder_is_scored_file_by_file_and_goes_on_where_it_stopped(
    scorer, source, table_rows, tmp_path, monkeypatch
):
    folder, out, seen = tmp_path / "in", tmp_path / "out", []
    folder.mkdir()
    weeks = [folder / f"2024-W{number:02}.parquet" for number in (10, 11, 12)]
    for number, path in enumerate(weeks):
        table_rows.iloc[1000 * number : 1000 * (number + 1)].to_parquet(path)
    real = scorer.answer

    def fails(rows, first):
        if first >= 500 and (out / weeks[0].name).exists():
            raise EvergreenError("planted")
        return real(rows, first)

    monkeypatch.setattr(scorer, "answer", fails)
    with pytest.raises(EvergreenError, match="planted"):
        score_files(scorer, weeks, out, workers=1)
    assert [path.name for path in sorted(out.glob("*.parquet"))] == [weeks[0].name]
    monkeypatch.setattr(scorer, "answer", real)
    scored = score_files(scorer, weeks, out, progress=lambda *at: seen.append(at))
    assert (scored.files, scored.counts.rows, scored.resumed) == (3, 3000, 1500)
    assert seen[-1] == (3000, 3000) and seen == sorted(seen)
    whole = score(scorer, source, tmp_path / "whole.parquet")
    parts = [pq.read_table(out / path.name) for path in weeks]
    assert pa.concat_tables(parts).to_pydict() == pq.read_table(whole.path).to_pydict()
    assert score_files(scorer, weeks, out).resumed == 3000


def test_a_folder_with_a_file_of_other_columns_is_refused_before_it_is_begun(
    scorer, source, table_rows, tmp_path
):
    other = tmp_path / "other.parquet"
    table_rows.drop(columns="price").to_parquet(other)
    with pytest.raises(EvergreenError, match=r"other\.parquet has no column 'price'"):
        score_files(scorer, [source, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    table_rows.assign(price=999.0).to_parquet(other)
    scored = score_files(scorer, [source, other], tmp_path / "out")
    row, fault = scored.counts.first
    assert (row, fault) == (0, "price: expected at most 500 (other.parquet)")
