"""`evergreen quarantine`: look at what broke a rule, let it in, or drop it with a reason."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from data.errors import EvergreenError
from data.periods import Period
from flows.settings import Settings

if TYPE_CHECKING:
    from flows.project import Project

app = typer.Typer(no_args_is_help=True, help="Rows and batches that broke a rule of the contract.")
console = Console(soft_wrap=True)
Key = Annotated[str | None, typer.Option(help="Only the row with this key or id.")]
Name = Annotated[str, typer.Argument(metavar="PERIOD", help="Such as 2013-W05.")]
Batch = Annotated[
    str | None, typer.Option(help="A batch that was refused whole: how its sha256 begins.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Per period, state and rule: how many rows; and the batches that were refused whole."""
    quarantine = _project().quarantine
    found: list[dict[str, Any]] = []
    for period in quarantine.periods():
        rows = quarantine.rows(period)
        for (state, rule, column), group in rows.groupby(["state", "rule", "column"]):
            said = {"state": state, "rule": rule, "column": column, "rows": len(group)}
            found.append({"period": period.name, **said})
        for batch in quarantine.refused(period):
            said = {
                "state": f"refused, {batch.state}",
                "rule": batch.cause,
                "column": "",
                "rows": batch.rows,
            }
            found.append({"period": period.name, **said})
    _print(found, as_json, "nothing is in quarantine")


@app.command()
def show(period: Name, as_json: Json = False) -> None:
    """Every quarantined row of a period, with its rule and its content as delivered."""
    quarantine, chosen = _project().quarantine, Period.parse(period)
    rows, refused = quarantine.rows(chosen), quarantine.refused(chosen)
    if as_json:
        print(rows.to_json(orient="records", date_format="iso"))
        return
    said = []
    for row in rows.to_dict("records"):
        why = f" ({row['why']})" if isinstance(row["why"], str) else ""
        said.append(
            f"{row['id']}  {row['key']}  {row['state']}{why}  {row['column']}: {row['rule']}"
        )
        said.append(f"    {row['source']}, row {row['row']}: {row['content']}")
    for batch in refused:
        said.append(f"batch {batch.batch[:16]}  {batch.rows} rows  refused, {batch.state}")
        said.append(f"    {batch.reason}")
    text = "\n".join(said) or f"nothing of {chosen} is in quarantine"
    console.print(text, markup=False, highlight=False)


@app.command()
def release(
    period: Name,
    key: Key = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="column=value, before the check.")
    ] = None,
    corrected: Annotated[
        Path | None, typer.Option("--from", help="Corrected rows, found by key.")
    ] = None,
    batch: Batch = None,
    despite: Annotated[
        list[str] | None, typer.Option(help="A batch rule to overrule, such as volume.")
    ] = None,
) -> None:
    """Check waiting rows again; those that hold join the partition, as a new snapshot.

    With --batch it is a batch that was refused whole; --despite names the rules to overrule.
    """
    from data.ingest import read_file
    from data.restate import release as let_in

    project, chosen = _project(), Period.parse(period)
    if batch is not None:
        _release_batch(project, chosen, batch, despite or [])
        return
    done = let_in(
        project.problem,
        project.partitions,
        project.quarantine,
        chosen,
        key=key,
        changes=dict(_pair(change) for change in changes or []),
        corrected=read_file(corrected, project.problem) if corrected else None,
    )
    console.print(done.message, markup=False, highlight=False)
    if done.keys:
        snapshot = project.record(f"{chosen}-released")
        console.print(f"snapshot {snapshot.tag}", highlight=False)


def _release_batch(project: "Project", period: Period, digest: str, despite: list[str]) -> None:
    """The whole batch through the door again; what is overruled stays on record with it."""
    from data.ingest import ingest
    from data.quarantine import RELEASED

    kept, frame = project.quarantine.batch(period, digest)
    done = ingest(
        project.problem,
        project.partitions,
        period,
        frame,
        source=kept.source,
        quarantine=project.quarantine,
        contract=project.params.contract,
        despite=despite,
    )
    project.quarantine.settle(kept, RELEASED, f"despite {', '.join(despite) or 'nothing'}")
    console.print(done.message, markup=False, highlight=False)
    snapshot = project.record(f"{period}-released")
    console.print(f"snapshot {snapshot.tag}", highlight=False)


@app.command()
def drop(
    period: Name,
    reason: Annotated[str, typer.Option(help="Why; kept with the rows.")],
    key: Key = None,
    batch: Batch = None,
) -> None:
    """Give up waiting rows, or a refused batch; they stay on record as dropped, with the reason."""
    from data.quarantine import DROPPED

    quarantine, chosen = _project().quarantine, Period.parse(period)
    if batch is not None:
        kept, _ = quarantine.batch(chosen, batch)
        quarantine.settle(kept, DROPPED, reason)
        count = kept.rows
    else:
        count = quarantine.drop(chosen, key, reason)
    console.print(f"{period}: {count} rows dropped", highlight=False)


def _project() -> "Project":
    from flows.project import Project

    return Project.open(Settings.read(os.environ))


def _pair(change: str) -> tuple[str, str]:
    name, separator, value = change.partition("=")
    if not separator:
        raise EvergreenError(f"--set {change!r} is not understood: write --set column=value")
    return name, value


def _print(found: list[dict[str, Any]], as_json: bool, nothing: str) -> None:
    if as_json:
        print(json.dumps(found))
    elif not found:
        console.print(nothing)
    else:
        table = Table(*found[0])
        for row in found:
            table.add_row(*("" if cell is None else str(cell) for cell in row.values()))
        console.print(table, markup=False)
