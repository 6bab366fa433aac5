"""Packages: names that follow from what is inside, and refusals before anything is built."""

import ast
import shutil
from pathlib import Path

import pytest

from bento import package
from bento.package import SOURCES, Order, build
from data.errors import EvergreenError

CHECKOUT = Path(__file__).resolve().parents[2]


def order(artefact: Path, version: str = "1", checkout: Path = CHECKOUT) -> Order:
    return package.ordered(artefact, "parcels", version, checkout, 2.0)


def test_the_tag_follows_from_model_version_and_code(artefact, second_artefact, tmp_path):
    base = order(artefact).tag
    assert order(artefact).tag == base
    assert order(artefact, version="2").tag != base, "the label can never be stale"
    assert order(second_artefact).tag != base
    for source in SOURCES:
        (tmp_path / source).parent.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / source, tmp_path / source)
    assert order(artefact, checkout=tmp_path).tag == base
    (tmp_path / "bento/endpoint.py").write_text("# other code")
    assert order(artefact, checkout=tmp_path).tag != base


@pytest.mark.parametrize("name", ["Parcels", "par cels", "", "-x", "a" * 64])
def test_a_name_that_fits_no_tag_is_refused(artefact, tmp_path, name):
    with pytest.raises(EvergreenError, match=r"tag|63"):
        build(artefact, name=name, version="1", store=tmp_path, checkout=CHECKOUT, seconds=2.0)


def test_a_changed_artefact_is_not_packed(artefact, tmp_path):
    shutil.copytree(artefact, tmp_path / "a")
    (tmp_path / "a/golden.json").write_text("{}")
    with pytest.raises(EvergreenError, match=r"golden\.json differs"):
        build(
            tmp_path / "a",
            name="p",
            version="1",
            store=tmp_path / "s",
            checkout=CHECKOUT,
            seconds=2.0,
        )


def test_everything_that_the_server_imports_is_packed():
    """Local imports of packed modules are packed, and none of them is a heavy one."""
    for source in SOURCES:
        for name in imports(CHECKOUT / source):
            first, _, rest = name.partition(".")
            assert first not in {"pandas", "sklearn", "xgboost", "mlflow", "prefect", "models"}
            if first in {"bento", "data"} and rest:
                assert f"{first}/{rest.split('.')[0]}.py" in SOURCES, f"{source} imports {name}"


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                node.module if "." in node.module else f"{node.module}.{alias.name}"
                for alias in node.names
            }
    return names


def test_a_killed_build_leaves_nothing_behind_for_long(artefact, tmp_path, monkeypatch):
    (tmp_path / "tmp" / "bentoml_bento_x").mkdir(parents=True)
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "x.part.bento").write_bytes(b"torn")

    def failing(*_):
        raise EvergreenError("stop here")

    monkeypatch.setattr(package, "_run", failing)
    with pytest.raises(EvergreenError, match="stop here"):
        build(artefact, name="p", version="1", store=tmp_path, checkout=CHECKOUT, seconds=2.0)
    assert not (tmp_path / "tmp").exists()
    assert list((tmp_path / "packages").iterdir()) == []
