"""What differs between two versions is named: periods, keys, schema, distributions."""

import json
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from data.diff import diff
from data.errors import EvergreenError
from data.ingest import ingest
from data.partitions import ROWS, Partitions
from data.periods import Period
from data.versions import of_snapshot, work_tree
from flows.cli import app
from flows.settings import Settings
from tests.planted import PROBLEM

WEEK = Period.parse("2024-W02")


@pytest.fixture
def changed(store, filled):
    """The work tree: W02 is other than in the snapshots, W04 is new."""
    frame = Partitions(store.raw).rows(WEEK)
    frame.loc[3, "kilos"] = 39.5
    frame.loc[7, "route"] = None
    frame.loc[499, "key"] = "2024-W02-new"
    frame = frame.assign(stops=frame["stops"].astype(float), colour="red").drop(columns="queue")
    path = store.raw / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["2024-W02.parquet"]
    path.write_text(json.dumps(manifest))
    Partitions(store.raw).write(WEEK, frame, ROWS)
    filled(store.raw, "2024-W04", "2024-W04")
    return store


def compare(store, a, b=None):
    with store.objects() as objects:
        one, other = (
            of_snapshot(store.find(r), objects) if r else work_tree(store) for r in (a, b)
        )
        return diff(one, other)


def test_an_added_period_between_two_snapshots(store):
    found = compare(store, "2024-W02", "2024-W03")
    assert found.periods_added == ("2024-W03",) and found.periods_removed == ()
    assert [(f.name, f.change, f.rows) for f in found.files] == [
        ("2024-W03.labels.parquet", "added", (None, 500)),
        ("2024-W03.parquet", "added", (None, 500)),
    ]
    assert found.rows == (1000, 1500)
    assert found.keys["rows"].added == 500 and not found.keys["rows"].changed
    assert not found.schema
    by_name = {d.name: d for d in found.distributions}
    assert 0 < by_name["kilos"].psi < 0.05
    assert by_name["kilos"].before.nulls == pytest.approx(0.1, abs=0.03)
    assert by_name["route"].psi < 0.05 and len(by_name["route"].after.top) == 3
    assert by_name["sent_at"].psi is None
    back = compare(store, "2024-W03", "2024-W02")
    assert back.periods_removed == ("2024-W03",) and back.keys["rows"].removed == 500
    assert not compare(store, "2024-W03").files


def test_a_changed_partition_says_which_keys_and_columns(changed):
    found = compare(changed, "2024-W03")
    keys = found.keys["rows"]
    assert (keys.added, keys.removed, keys.changed) == (501, 1, 2)
    assert keys.examples["changed"] == ["2024-W02-0003", "2024-W02-0007"]
    assert keys.examples["removed"] == ["2024-W02-0499"]
    assert keys.examples["added"][0] == "2024-W02-new"
    assert found.keys["labels"].changed == 0
    types = {c.name: (c.before, c.after) for c in found.schema}
    assert types["stops"] == ("int64", "double or int64")
    assert types["colour"][0] is None and types["colour"][1]
    assert "queue" not in types, "other periods still have it"
    by_name = {d.name: d for d in found.distributions if d.file_kind == "rows"}
    assert by_name["colour"].before is None and by_name["colour"].after.rows == 500
    assert by_name["queue"].after.rows == 1500 and by_name["queue"].before.rows == 1500


def test_a_shift_leads_the_list(store, filled):
    """From W13 on the queue is longer than ever before: the planted change."""
    filled(store.raw, "2024-W13", "2024-W16")
    found = compare(store, "2024-W03")
    assert found.distributions[0].name == "queue" and found.distributions[0].psi > 1
    assert found.distributions[0].after.mean > found.distributions[0].before.mean + 10


def test_damage_is_not_compared(changed):
    """Neither where a file differs by its manifest nor where it does not."""
    for week in ("2024-W04", "2024-W01"):
        path = changed.raw / f"{week}.parquet"
        sound = path.read_bytes()
        path.write_bytes(b"PAR1")
        with pytest.raises(
            EvergreenError, match=rf"{week}\.parquet .*`evergreen data repair {week}`"
        ):
            compare(changed, "2024-W03")
        path.write_bytes(sound)


@pytest.fixture
def run(changed, root, monkeypatch):
    """`evergreen data …` in the planted checkout."""
    (changed.checkout / "params.yaml").write_bytes((root / "params.yaml").read_bytes())
    settings = Settings.read({"EVERGREEN_HOME": str(changed.checkout / "var")})
    there = Settings(changed.checkout, settings.home, settings.ports)
    monkeypatch.setattr(Settings, "read", lambda _: there)
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    for name, value in there.child_environment().items():
        monkeypatch.setenv(name, value)  # as the callback does, but taken back

    def call(*arguments):
        done = CliRunner().invoke(app, ["data", *arguments])
        if isinstance(done.exception, EvergreenError):
            raise done.exception
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    return call


def test_the_commands_say_what_they_did(run, changed, tmp_path):
    first, second = changed.list()
    assert first.tag in run("list") and "+2024-W01 … 2024-W02 (2)" in run("list")
    listed = json.loads(run("list", "--json"))
    assert [(e["tag"], e["md5"], e["rows"]) for e in listed] == [
        (first.tag, first.md5, 1000),
        (second.tag, second.md5, 1500),
    ]
    said = run("diff", "2024-W03")
    assert "changed  2024-W02.parquet: 500 -> 500 rows" in said
    assert "schema of rows: colour absent ->" in said
    assert json.loads(run("diff", first.md5[:6], second.tag, "--json"))["periods_added"]
    assert "500 rows" in run("open", second.tag, "2024-W02", "--head", "2")
    out = tmp_path / "old.csv"
    run("open", second.tag, "2024-W02", "--labels", "--out", str(out))
    assert out.read_text().startswith("key,label,excluded,labelled_at\n")
    with pytest.raises(EvergreenError, match="is there already"):
        run("open", second.tag, "2024-W02", "--out", str(out))
    (changed.raw / "2024-W03.parquet").unlink()
    assert "2024-W03.parquet was missing: restored from the cache" in run("repair", "2024-W03")
    assert json.loads(run("repair", "--json"))["mended"] == []
    assert "0 objects pushed" in run("push")


def test_a_restated_label_is_counted_and_its_old_value_no_more(store):
    """A correction is an append: one label restated, and as many labels as before."""
    partitions = Partitions(store.raw)
    told = partitions.labels(WEEK).dropna(subset="label").head(2)
    moment = told["labelled_at"].max() + timedelta(days=1)
    fixed = told.assign(label=1 - told["label"], labelled_at=moment)
    assert ingest(PROBLEM, partitions, WEEK, fixed).corrected == 2
    found = compare(store, "2024-W03")
    assert [(f.name, f.change) for f in found.files] == [("2024-W02.labels.2.parquet", "added")]
    keys = found.keys["labels"]
    assert (keys.added, keys.removed, keys.changed) == (0, 0, 2)
    label = next(d for d in found.distributions if d.name == "label")
    assert label.before.rows == label.after.rows == 1500
