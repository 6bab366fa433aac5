"""Files in and out: a table scored, a version taken elsewhere, a backup of everything, a move."""

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from flows.settings import Settings

app = typer.Typer()
console = Console(soft_wrap=True)
REFUSED = 3


@app.command()
def score(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Rows, as parquet; or a folder.")],
    path: Annotated[Path, typer.Argument(metavar="OUT", help="Answers, as parquet; or a folder.")],
    version: Annotated[
        str | None, typer.Option(help="Its number in the registry; default: the champion.")
    ] = None,
    strict: Annotated[
        bool, typer.Option(help="Stop at the first row that breaks the contract.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Replace an OUT of another input or version.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Answer every row of a file, or of each in a folder; killed, it goes on where it was."""
    from flows.project import Project
    from flows.score import render, run_score

    project = Project.open(Settings.read(os.environ))
    with _progress() as shown:
        task = shown.add_task("scoring", total=None)
        scored = run_score(
            project,
            version,
            source,
            path,
            strict=strict,
            overwrite=overwrite,
            progress=lambda done, rows: shown.update(task, completed=done, total=rows),
        )
    if as_json:
        print(json.dumps({**asdict(scored), "path": str(scored.path)}))
    else:
        console.print(render(scored), highlight=False)
    if scored.counts.refused:
        raise typer.Exit(REFUSED)


@app.command("export-edge")
def export_edge(
    version: Annotated[str, typer.Argument(help="Its number in the registry.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Write a version with a script that needs only numpy and onnxruntime."""
    from flows.edge import render, run_export
    from flows.project import Project

    exported = run_export(Project.open(Settings.read(os.environ)), version, folder)
    if as_json:
        print(json.dumps(exported.to_json()))
    else:
        console.print(render(exported), highlight=False)


@app.command()
def backup(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="Such as ../backup.tar, or .tar.gz.")
    ],
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="The private signing key goes along.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Write everything that is state into one file; the stack may be running."""
    from flows.backup import run_backup

    settings = Settings.read(os.environ)
    done = run_backup(settings, path.absolute(), datetime.now(UTC), secrets=with_secrets)
    if as_json:
        print(json.dumps({**asdict(done), "path": str(path)}))
        return
    console.print(
        f"{path}: {done.files} files of {_megabytes(done.content)}, {_megabytes(done.size)} on "
        f"disk\nsha256 {done.sha256}",
        highlight=False,
    )


@app.command()
def restore(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What `evergreen backup` wrote.")],
    replaces: Annotated[
        bool, typer.Option("--replace", help="Move the state that is here aside.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Verify a backup and put all of it in place, on this machine or an empty one."""
    from flows.restore import run_restore

    done = run_restore(Settings.read(os.environ), path.absolute(), replaces=replaces)
    if as_json:
        print(json.dumps(asdict(done)))
        return
    console.print(
        f"{done.files} files of {_megabytes(done.content)}, as of {done.created}, verified and in "
        f"place after {done.seconds:.1f} s",
        *(f"note: {note}" for note in done.notes),
        "now: evergreen verify --offline; evergreen up; evergreen verify",
        sep="\n",
        highlight=False,
    )


@app.command()
def migrate(
    to: Annotated[str, typer.Option(help="team or laptop.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Bring a laptop's runs, versions, snapshots and ledger to the team's stores, or back."""
    from flows.migrate import run_migrate

    done = run_migrate(
        Settings.read(os.environ), to, lambda said: console.print(said, highlight=False)
    )
    if as_json:
        print(json.dumps(asdict(done)))
    else:
        console.print(
            f"moved to the {done.to}, and verified: {done.runs} runs, {done.versions} versions, "
            f"{done.lines} lines of the ledger, {done.snapshots} snapshots, {done.files} files "
            f"(digest of MLflow's rows {done.digest[:16]})",
            highlight=False,
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _progress() -> Progress:
    """On stderr, so that what is printed can be piped."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
