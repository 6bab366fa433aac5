"""`evergreen data …`: versions of the partitions, from the terminal.

What takes seconds to import comes inside the commands.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from data.diff import Diff, Distribution, Summary
    from data.snapshots import Snapshots
    from data.versions import Version
    from flows.project import Project

app = typer.Typer(no_args_is_help=True, help="Versions of data/raw: look, compare, mend, share.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Reference = Annotated[
    str, typer.Argument(help="A tag, an md5, or the beginning of either.", metavar="SNAPSHOT")
]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show every snapshot: when, what changed, periods, rows; * is what data/raw holds."""
    from data.versions import entries

    found = entries(_snapshots())
    if as_json:
        rows = [{**asdict(e.snapshot), **asdict(e)} for e in found]
        _print_json([{k: v for k, v in row.items() if k != "snapshot"} for row in rows])
        return
    if not found:
        print("no snapshot yet: `evergreen ingest PERIOD` records one")
        return
    table = [("", "snapshot", "recorded", "periods", "rows", "md5", "what changed")]
    for e in found:
        counts = ("?", "?") if e.rows is None else (str(e.periods), f"{e.rows:,}")
        when = e.snapshot.when[:16].replace("T", " ")
        mark = "*" if e.current else ""
        table.append((mark, e.snapshot.tag, when, *counts, e.snapshot.md5[:12], e.change))
    _print_table(table)


@app.command("diff")
def diff_(
    a: Annotated[str, typer.Argument(help="A snapshot.")],
    b: Annotated[str | None, typer.Argument(help="Another; default: the work tree.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two versions: periods, files, keys, schema, and each column's distribution."""
    from data.diff import diff

    snapshots = _snapshots()
    with snapshots.objects() as objects:
        found = diff(_version(snapshots, objects, a), _version(snapshots, objects, b))
    if as_json:
        _print_json(asdict(found))
    else:
        _print_diff(found)


@app.command("open")
def open_(
    snapshot: Reference,
    period: Annotated[str, typer.Argument(help="Such as 2013-W05.")],
    out: Annotated[
        Path | None, typer.Option(help="Write it here, .parquet or .csv.", show_default=False)
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="Its labels, not its rows.")] = False,
    head: Annotated[int, typer.Option(help="How many rows to print.", min=0)] = 5,
) -> None:
    """Read a period as it was; verified before it is parsed, the work tree stays as it is."""
    from data.periods import Period

    chosen = Period.parse(period)
    _check_out(out)
    snapshots = _snapshots()
    with snapshots.objects() as objects:
        version = _version(snapshots, objects, snapshot)
        frame = version.read(chosen, labels=labels)
    what = f"{chosen} of {version.name}: {len(frame):,} rows, {len(frame.columns)} columns"
    if out:
        _write(frame, out)
        print(f"{what}, written to {out}")
    else:
        print(f"{what}, sha256 as in its manifest")
        if head:
            print(frame.head(head).to_string(index=False))


@app.command()
def labels(
    as_of: Annotated[
        str | None, typer.Option(help="What was known then: a period or a timestamp.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show per period how far its labels have come: coverage, missing, corrected, watermark."""
    from data.periods import parse_as_of
    from data.watermarks import watermark

    project = _project()
    moment = parse_as_of(as_of, project.problem.label_delay) if as_of else None
    parts = (project.problem, project.partitions, project.quarantine)
    found = [watermark(*parts, period, moment) for period in project.partitions.periods()]
    if as_json:
        _print_json([json.loads(json.dumps(asdict(w), default=str)) for w in found])
        return
    if not found:
        print("no period yet: run `evergreen ingest PERIOD`")
        return
    counts = ("rows", "labelled", "excluded", "missing", "corrected", "quarantined")
    table: list[tuple[str, ...]] = [("period", *counts, "coverage", "matured until", "state")]
    for w in found:
        cells = (f"{getattr(w, name):,}" for name in counts)
        until = f"{w.matured_until:%Y-%m-%d %H:%M}"
        table.append((w.period, *cells, f"{w.coverage:.3f}", until, f"{w.state}: {w.reason}"))
    _print_table(table)


@app.command()
def repair(
    period: Annotated[str | None, typer.Argument(help="Default: all, and the cache.")] = None,
    as_json: Json = False,
) -> None:
    """Hash every partition and object; replace what is damaged or lost by a sound copy."""
    from data.periods import Period
    from data.repair import repair as mend

    found = mend(_snapshots(), Period.parse(period) if period else None)
    if as_json:
        _print_json(asdict(found))
        return
    for each in found.mended:
        print(f"{each.name} was {each.was}: restored from the {each.source}")
    print(f"{found.checked} files hashed, {len(found.mended)} mended")


@app.command()
def push(
    check: Annotated[
        bool, typer.Option("--check", help="Hash what the remote has; replace what is damaged.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy every snapshot's data to DVC's default remote."""
    from data.repair import push as send

    done = send(_snapshots(), check=check)
    if as_json:
        _print_json(asdict(done))
        return
    print(
        f"{done.snapshots} snapshots: {done.written} objects pushed, {done.present} were there; "
        "their tags go with `git push REMOTE 'refs/tags/data-*'`"
    )


@app.command()
def pull(
    snapshot: Annotated[str | None, typer.Argument(help="Default: the newest.")] = None,
    as_json: Json = False,
) -> None:
    """Bring a snapshot's partitions into data/raw where they are missing or damaged."""
    from data.repair import pull as fetch

    done = fetch(_snapshots(), snapshot)
    if as_json:
        _print_json(asdict(done))
        return
    print(
        f"{done.snapshot.tag}: {len(done.written)} files came into data/raw, "
        f"{done.present} were there"
    )


def _project() -> "Project":
    from flows.project import Project
    from flows.settings import Settings

    return Project.open(Settings.read(os.environ))


def _snapshots() -> "Snapshots":
    return _project().snapshots


def _version(snapshots: "Snapshots", objects: Any, reference: str | None) -> "Version":
    from data.versions import of_snapshot, work_tree

    return of_snapshot(snapshots.find(reference), objects) if reference else work_tree(snapshots)


def _check_out(out: Path | None) -> None:
    from data.errors import EvergreenError

    if out and out.suffix not in (".parquet", ".csv"):
        raise EvergreenError(f"{out}: write .parquet or .csv, not {out.suffix!r}")
    if out and out.exists():
        raise EvergreenError(f"{out} is there already: choose another name")


def _write(frame: "pd.DataFrame", out: Path) -> None:
    from data.errors import EvergreenError

    try:
        if out.suffix == ".csv":
            frame.to_csv(out, index=False)
        else:
            frame.to_parquet(out, index=False, compression="zstd")
    except OSError as error:
        raise EvergreenError(f"{out} cannot be written: {error}") from error


def _print_json(value: Any) -> None:
    print(json.dumps(value, allow_nan=False))


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as their widest cell; the last one is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def _print_diff(found: "Diff") -> None:
    print(f"{found.a} -> {found.b}: {found.rows[0]:,} -> {found.rows[1]:,} rows")
    if not found.files:
        print("identical")
        return
    for sign, periods in (("+", found.periods_added), ("-", found.periods_removed)):
        if periods:
            print(f"periods {sign} {', '.join(periods)}")
    for file in found.files:
        before, after = ("-" if n is None else f"{n:,}" for n in file.rows)
        print(f"{file.change:8} {file.name}: {before} -> {after} rows")
    for kind, keys in found.keys.items():
        word = "restated" if kind == "labels" else "changed"
        counts = f"{keys.added:,} added, {keys.removed:,} removed, {keys.changed:,} {word}"
        print(f"keys of {kind}: {counts}")
        for change, examples in keys.examples.items():
            more = " …" if len(examples) < getattr(keys, change) else ""
            print(f"  {change}: {', '.join(examples)}{more}")
    for column in found.schema:
        was, now = column.before or "absent", column.after or "absent"
        print(f"schema of {column.file_kind}: {column.name} {was} -> {now}")
    print()
    table = [("column", "PSI", "missing", "mean, or most frequent", "5, 50, 95 %")]
    _print_table([*table, *(_line(d) for d in found.distributions)])


def _line(d: "Distribution") -> tuple[str, ...]:
    psi = "" if d.psi is None else f"{d.psi:.4f}"
    sides = [_cells(d.before), _cells(d.after)]
    joined = (x if x == y else f"{x} -> {y}" for x, y in zip(*sides, strict=True))
    return (f"{d.file_kind}.{d.name}", psi, *joined)


def _cells(summary: "Summary | None") -> tuple[str, str, str]:
    """Share of missing values, the centre, and the quantiles, as text."""
    if summary is None:
        return ("absent", "", "")
    top = ", ".join(f"{name} {share:.1%}" for name, share in summary.top)
    centre = top if summary.mean is None else f"{summary.mean:.4g}"
    return (f"{summary.nulls:.1%}", centre, " ".join(summary.quantiles))
