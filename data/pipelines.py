"""A problem's dvc.yaml, made from that of the checkout; no table is read for it."""

import io
import re
from pathlib import Path

from ruamel.yaml import YAML

from data.digests import write_atomically
from data.errors import EvergreenError

READS = ("data/cells.py", "data/labels.py", "data/table_files.py", "data/tables.py")
NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


def stale(checkout: Path) -> dict[str, str]:
    """What the pipeline of each problem ought to be, by name, where it is something else."""
    default = (checkout / "dvc.yaml").read_text()
    found = {}
    for path in sorted((checkout / "problems").glob("*/dvc.yaml")):
        name = path.parent.name
        if path.read_text() != (text := pipeline(default, name)):
            found[name] = text
    return found


def refresh(checkout: Path, name: str) -> Path | None:
    """Write a problem's pipeline anew if it is another than the checkout's; where it is.

    Raises:
        EvergreenError: if there is no such problem.
    """
    path = checkout / "problems" / name / "dvc.yaml"
    if not NAME.fullmatch(name) or not path.parent.is_dir():
        raise EvergreenError(
            f"there is no {path.parent}: `evergreen new-problem {name} --from TABLE`"
        )
    path.touch()
    text = stale(checkout).get(name)
    if text is not None:
        write_atomically(path, text)
    return path if text is not None else None


def pipeline(text: str, name: str) -> str:
    """dvc.yaml for another problem: the same stages with its parameters, data and outputs.

    Args:
        text: dvc.yaml of the checkout.
    """
    yaml = YAML()
    yaml.width = 100
    content = yaml.load(text.replace("${problem}", f"data/{name}.py"))
    params, raw, home = f"problems/{name}/params.yaml", f"data/raw-{name}", f"var/problems/{name}"
    for stage, body in content["stages"].items():
        if f"data/{name}.py" in body["deps"]:
            body["deps"] += [own for own in READS if own not in body["deps"]]
        body["wdir"] = "../.."
        body["params"] = [{params: list(body["params"])}]
        given = f"--params {params}" + (f" --raw {raw}" if stage != "evaluate" else "")
        given += f" --quarantine {home}/quarantine" if stage == "ingest" else ""
        given += f" --studies {home}/tune" if stage == "train" else ""
        body["cmd"] = f"{body['cmd']} {given}"
    out = io.StringIO()
    yaml.dump(content, out)
    moved = out.getvalue().replace("var/repro", f"{home}/repro")
    return re.sub(r"(?<![\w/-])data/raw(?![\w-])", raw, moved)
