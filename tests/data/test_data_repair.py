"""Damage of every kind is found by hashing and replaced; clones get the same bytes."""

import hashlib
import json
import os

import pytest

from data.digests import sha256_file
from data.errors import EvergreenError
from data.objects import UnsoundError
from data.partitions import Partitions
from data.periods import Period
from data.repair import pull, push, repair
from data.versions import entries, of_snapshot
from tests.planted import NOON

WEEK = Period.parse("2024-W02")
NAME = "2024-W02.parquet"


def truncate(path):
    writable(path).write_bytes(path.read_bytes()[:-100])


def flip(path):
    """One bit; size, time and mode as before."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    writable(path).write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(before.st_mode)
    assert path.stat().st_size == before.st_size


def lose(path):
    path.unlink()


def writable(path):
    path.chmod(0o644)
    return path


HARM = pytest.mark.parametrize(("harm", "was"), [(truncate, "damaged"), (flip, "damaged"),
                                                 (lose, "missing")])  # fmt: skip


def md5_of(store, name) -> str:
    with store.objects() as objects:
        return of_snapshot(store.latest(), objects).files[name]


def cached(store, md5):
    return store.checkout / "var" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def remote(store, md5):
    return store.checkout / "var" / "remote" / "files" / "md5" / md5[:2] / md5[2:]


@HARM
def test_a_partition_is_restored_from_the_cache(harm, was, store, contents):
    before = contents(store.raw)
    harm(store.raw / NAME)
    with pytest.raises(
        EvergreenError, match=r"ingest 2024-W02` or `evergreen data repair 2024-W02`"
    ):
        Partitions(store.raw).rows(WEEK)
    done = repair(store, WEEK)
    assert [(m.name, m.was, m.source) for m in done.mended] == [(NAME, was, "cache")]
    assert contents(store.raw) == before
    assert repair(store).mended == ()


@HARM
def test_a_partition_and_its_object_are_restored_from_the_remote(harm, was, store, contents):
    before, md5 = contents(store.raw), md5_of(store, NAME)
    harm(store.raw / NAME)
    harm(cached(store, md5))
    done = repair(store)
    assert {(m.name, m.was, m.source) for m in done.mended} == {
        (f"cache object {md5}", was, "remote"),
        (NAME, was, "remote"),
    }
    assert contents(store.raw) == before
    assert cached(store, md5).read_bytes() == before[NAME]
    assert repair(store).mended == ()


@HARM
def test_an_object_alone_is_found_and_replaced(harm, was, store):
    md5 = md5_of(store, NAME)
    harm(cached(store, md5))
    (found,) = repair(store, WEEK).mended
    assert (found.name, found.was, found.source) == (f"cache object {md5}", was, "remote")
    harm(cached(store, md5))
    remote(store, md5).unlink()
    assert repair(store).mended[0].source == "work tree"
    assert repair(store).mended == ()


@HARM
def test_no_sound_copy_is_refused_by_name_and_the_rest_is_mended(harm, was, store):
    md5 = md5_of(store, NAME)
    for path in (store.raw / NAME, cached(store, md5), remote(store, md5)):
        harm(path)
    lose(store.raw / "2024-W03.parquet")
    said = (
        rf"{NAME} is {was}; .*{md5[2:]} is {was}, and remote 'local' \(.*\) is {was}.*"
        r"`evergreen ingest 2024-W02`; mended: 2024-W03\.parquet"
    )
    with pytest.raises(EvergreenError, match=said):
        repair(store)
    assert (store.raw / "2024-W03.parquet").exists()
    with pytest.raises(EvergreenError, match=r"2024-W02\.parquet"):
        Partitions(store.raw).rows(WEEK)


def test_a_damaged_remote_is_found_and_replaced_when_it_is_checked(store):
    md5, listing = md5_of(store, NAME), f"{store.latest().md5}.dir"
    flip(remote(store, md5))
    truncate(remote(store, listing))
    assert push(store).written == 0
    assert push(store, check=True).written == 2
    for oid in (md5, listing):
        assert remote(store, oid).read_bytes() == cached(store, oid).read_bytes()
    assert push(store, check=True).written == 0


def test_a_damaged_listing_is_mended_when_it_is_read(store):
    first, second = store.list()
    listing, manifest = f"{second.md5}.dir", md5_of(store, "manifest.json")
    flip(cached(store, f"{first.md5}.dir"))
    truncate(cached(store, listing))
    flip(cached(store, manifest))
    found = {m.name for m in repair(store).mended}
    assert found == {f"cache object {name}" for name in (f"{first.md5}.dir", listing, manifest)}
    lose(cached(store, f"{first.md5}.dir"))
    lose(remote(store, f"{first.md5}.dir"))
    listed = entries(store)
    assert [entry.rows for entry in listed] == [None, 1500]
    assert "not readable" in listed[0].change and listed[1].current
    # A tag without its data is no damage here, but neither can it be sent.
    lose(store.raw / NAME)
    assert [m.name for m in repair(store).mended] == [NAME]
    lost = md5_of(store, "2024-W03.parquet")
    lose(remote(store, lost))
    with pytest.raises(EvergreenError, match=f"^1 objects pushed, but no sound copy: {first.tag}"):
        push(store)
    assert remote(store, lost).exists()


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_the_manifest_is_restored_from_the_newest_snapshot(text, store, contents):
    before = contents(store.raw)
    lose(store.raw / "manifest.json")
    if text:
        (store.raw / "manifest.json").write_text(text)
        with pytest.raises(EvergreenError, match="`evergreen data repair` restores it"):
            Partitions(store.raw).periods()
    assert [m.name for m in repair(store).mended] == ["manifest.json"]
    assert contents(store.raw) == before


def test_what_cannot_be_repaired_says_what_to_do(store, checkout, opened, filled):
    with pytest.raises(
        EvergreenError, match=r"does not have 2024-W09: .*evergreen ingest 2024-W09"
    ):
        repair(store, Period.parse("2024-W09"))
    filled(store.raw, "2024-W04", "2024-W04")
    truncate(store.raw / "2024-W04.parquet")
    with pytest.raises(
        EvergreenError, match="no snapshot at hand has it: run `evergreen ingest 2024-W04`"
    ):
        repair(store)
    with pytest.raises(EvergreenError, match="evergreen data pull"):
        repair(opened(checkout))


def test_a_second_clone_pulls_the_same_bytes(store, tmp_path, git, opened, contents):
    (store.checkout / "var" / "remote").rename(tmp_path / "shared")
    here = f"['remote \"local\"']\n    url = {tmp_path / 'shared'}\n"
    (store.checkout / ".dvc" / "config.local").write_text(here)
    lost = remote(store, md5_of(store, NAME))
    lost = tmp_path / "shared" / lost.relative_to(store.checkout / "var" / "remote")
    lost.unlink()
    pushed = push(store)
    assert (pushed.snapshots, pushed.written) == (2, 1) and lost.exists()
    assert push(store).written == 0

    git(tmp_path, "clone", "-q", str(store.checkout), "second")
    (tmp_path / "second" / ".dvc" / "config.local").write_text(here)
    second = opened(tmp_path / "second")
    assert second.list() == store.list()
    first = pull(second, "2024-W02")
    assert (len(first.written), first.present) == (4, 0)
    assert [entry.current for entry in entries(second)] == [True, False]
    newest = pull(second)
    assert (len(newest.written), newest.present) == (2, 4)
    assert contents(second.raw) == contents(store.raw)
    assert git(second.checkout, "status", "--porcelain").split() == ["??", ".dvc/config.local"]
    assert second.record("2024-W03", NOON) == store.latest()


def test_pull_mends_but_never_overwrites_other_content(store, filled, contents):
    before = contents(store.raw)
    flip(store.raw / NAME)
    lose(store.raw / "2024-W01.labels.parquet")
    assert set(pull(store).written) == {NAME, "2024-W01.labels.parquet"}
    assert contents(store.raw) == before
    filled(store.raw, "2024-W04", "2024-W04")
    with_more = contents(store.raw)
    assert pull(store, "2024-W02").written == ()
    assert contents(store.raw) == with_more, "a newer partition stays"

    frame = Partitions(store.raw).rows(WEEK).assign(queue=1.0)
    forget(store, NAME)
    Partitions(store.raw).write(WEEK, frame, ".parquet")
    other = contents(store.raw)
    with pytest.raises(EvergreenError, match=r"has 2024-W02\.parquet with other content"):
        pull(store)
    assert contents(store.raw) == other
    forget(store, NAME, file=False)
    with pytest.raises(EvergreenError, match="nothing was written"):
        pull(store)


def forget(store, name, file=True):
    """Take a partition out of the manifest, as a person would who has to correct it by hand."""
    path = store.raw / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[name]
    path.write_text(json.dumps(manifest))
    if file:
        (store.raw / name).unlink()


def test_an_old_partition_opens_as_it_was(store, contents):
    first, digest = store.list()[0], sha256_file(store.raw / NAME)
    was = Partitions(store.raw).rows(WEEK)
    flip(cached(store, md5_of(store, NAME)))
    forget(store, NAME)
    Partitions(store.raw).write(WEEK, was.assign(queue=1.0), ".parquet")
    before = contents(store.raw)
    with store.objects() as objects:
        version = of_snapshot(first, objects)
        assert version.read(WEEK).equals(was)
        assert sha256_file(version.path(NAME)) == digest
        assert len(version.read(WEEK, labels=True)) == len(was)
        with pytest.raises(EvergreenError, match="has no 2024-W03"):
            version.read(Period.parse("2024-W03"))
        for where in (cached, remote):
            truncate(where(store, md5_of(store, NAME)))
        with pytest.raises(UnsoundError, match=r"is damaged, and remote 'local' .* is damaged"):
            version.read(WEEK)
    assert contents(store.raw) == before


def test_the_sha256_counts_and_not_the_md5_alone(store):
    with store.objects() as objects:
        version = of_snapshot(store.latest(), objects)
        version.files[NAME] = version.files["2024-W01.parquet"]
        with pytest.raises(EvergreenError, match="its manifest and its data disagree"):
            version.read(WEEK)


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"[]",
        b"[1",
        b'[{"relpath": "manifest.json"}]',
        b'[{"relpath": "manifest.json", "md5": "../../x"}]',
        None,
    ],
)
def test_a_foreign_snapshot_never_writes_outside(content, store, git, tmp_path):
    """Content that fits its md5 is not content that is meant well."""
    outside = b"payload"
    manifest = {"../../outside": {"rows": 1, "sha256": hashlib.sha256(outside).hexdigest()}}
    files = {"../../outside": outside, "manifest.json": json.dumps(manifest).encode()}
    listing = [{"relpath": n, "md5": put_object(store, b, "")} for n, b in files.items()]
    md5 = put_object(store, json.dumps(listing).encode() if content is None else content, ".dir")
    tree = git(store.checkout, "rev-parse", "HEAD^{tree}").strip()
    message = f"theirs: data/raw {md5}"
    commit = git(store.checkout, "commit-tree", tree, "-m", message).strip()
    git(store.checkout, "tag", "data-theirs", commit)
    with pytest.raises(EvergreenError, match="data-theirs"):
        pull(store, "theirs")
    assert not (store.checkout / "outside").exists()
    assert len(entries(store)) == 3


def put_object(store, content, suffix) -> str:
    md5 = hashlib.md5(content).hexdigest()
    path = cached(store, md5 + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5
