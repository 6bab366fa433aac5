"""An artefact as a bento: one archive that holds the model, the serving code and their versions.

A bento's version is made of all that goes into it: the artefact's digest, the version in the
registry, and a digest of the serving code with its requirements. The same inputs give the same tag
and are built once; an artefact that is registered again under another version is another bento, so
an answer never names a version that it was not released as.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from data.digests import canonical_json, digest_of, sha256_file, verify, write_atomically
from data.errors import EvergreenError, stop_on_error

ARTEFACT = "artefact"
BUILD_TIMEOUT = 300
SOURCES = (
    "bento/__init__.py",
    "bento/access_log.py",
    "bento/answerer.py",
    "bento/answers.py",
    "bento/breaker.py",
    "bento/contract.py",
    "bento/endpoint.py",
    "bento/engines.py",
    "bento/explain.py",
    "bento/metrics.py",
    "bento/one_row.py",
    "bento/prediction_log.py",
    "bento/predictor.py",
    "bento/schemas.py",
    "bento/server.py",
    "bento/service.py",
    "bento/watchdog.py",
    "bento/wire.py",
    "data/__init__.py",
    "data/digests.py",
    "data/errors.py",
    "data/features.py",
    "data/fields.py",
    "data/task.py",
)
REQUIREMENTS = (
    *("bentoml", "httptools", "msgspec", "numpy", "onnx", "onnxruntime", "orjson"),
    *("prometheus-client", "pydantic", "starlette", "uvicorn"),
)
# What makes the server faster where there is a build of it.
OPTIONAL = ("scikit-learn-intelex", "uvloop")
_SLUG = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9])?")


@dataclass(frozen=True)
class Package:
    """A built bento.

    Attributes:
        tag: `name:version` of the bento.
        digest: of the artefact inside.
        version: of the model in the registry.
        path: the archive.
        sha256: of the archive.
    """

    tag: str
    digest: str
    version: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class Order:
    """What the build's subprocess is told.

    Attributes:
        code: digest of the packed sources, the requirements and the settings.
    """

    artefact: str
    digest: str
    name: str
    version: str
    checkout: str
    requirements: tuple[str, ...]
    code: str
    seconds: float

    @property
    def tag(self) -> str:
        return f"{self.name}:{self.digest[:16]}-{self.version}-{self.code[:8]}"

    @property
    def model(self) -> str:
        return f"{self.name}:{self.digest[:16]}"


def build(
    artefact: Path, *, name: str, version: str, store: Path, checkout: Path, seconds: float
) -> Package:
    """The package of an artefact, built in a fresh process unless the store has it already.

    Args:
        artefact: a sealed folder.
        name: of the bento, a slug.
        version: of the model in the registry.
        store: BentoML's home; the archive lies in it.
        checkout: the folder that holds `bento/` and `data/`.
        seconds: a call of the model may take, see `data.params.Endpoint`.

    Raises:
        EvergreenError: if the artefact is not whole, a name does not fit, or the build fails.
    """
    order = ordered(artefact, name, version, checkout, seconds)
    store.mkdir(parents=True, exist_ok=True)
    with FileLock(store / "build.lock"):
        if package := _stored(store, order.tag):
            return package
        _clean(store)
        archive = _run(order, store)
        package = Package(order.tag, order.digest, version, archive, sha256_file(archive))
        keep(store, package)
    return package


def keep(store: Path, package: Package) -> None:
    """Note a package whose archive lies in the store: it is not built again."""
    write_atomically(_record(store, package.tag), canonical_json(_to_json(package)))


def check(package: Package) -> None:
    """Stand before every use of the archive.

    Raises:
        EvergreenError: if the archive is gone or is not the one that was built.
    """
    if not package.path.is_file():
        raise EvergreenError(f"{package.path} is missing: release the version again to build it")
    if sha256_file(package.path) != package.sha256:
        raise EvergreenError(f"{package.path} differs from what was built: delete it and release")


def ordered(artefact: Path, name: str, version: str, checkout: Path, seconds: float) -> Order:
    """What would be built."""
    for what, value in (("name", name), ("version", version)):
        if not _SLUG.fullmatch(value):
            raise EvergreenError(
                f"{what} {value!r} does not fit a bento's tag: use a-z, 0-9, '_', '.', '-'"
            )
    packages = (*REQUIREMENTS, *filter(_is_installed, OPTIONAL))
    requirements = tuple(f"{package}=={metadata.version(package)}" for package in packages)
    files = {source: sha256_file(checkout / source) for source in SOURCES}
    code = digest_of({"files": files, "requirements": requirements, "seconds": seconds})
    folder, here = str(artefact.resolve()), str(checkout.resolve())
    order = Order(folder, verify(artefact), name, version, here, requirements, code, seconds)
    if len(order.tag) - len(name) - 1 > 63 or len(name) > 63:
        raise EvergreenError(f"{order.tag} is longer than 63 characters: shorten {version!r}")
    return order


def _is_installed(package: str) -> bool:
    return next(iter(metadata.distributions(name=package)), None) is not None


def _record(store: Path, tag: str) -> Path:
    return store / "packages" / f"{tag.replace(':', '-')}.json"


def archive_of(store: Path, tag: str) -> Path:
    """Where a package lies in a store."""
    return store / "packages" / f"{tag.replace(':', '-')}.bento"


def _to_json(package: Package) -> dict[str, Any]:
    return {**asdict(package), "path": package.path.name}


def _stored(store: Path, tag: str) -> Package | None:
    """The package in the store; None if it was never built, not to the end, or is damaged."""
    try:
        value = json.loads(_record(store, tag).read_bytes())
        package = Package(**{**value, "path": _record(store, tag).parent / value["path"]})
        check(package)
    except (OSError, ValueError, TypeError, KeyError, EvergreenError):
        return None
    return package


def _clean(store: Path) -> None:
    """Remove what killed builds left; the lock says that nobody is building."""
    shutil.rmtree(store / "tmp", ignore_errors=True)
    for left in (store / "packages").glob("*.part.bento"):
        left.unlink()


def _run(order: Order, store: Path) -> Path:
    """Build in a fresh process: a second build in one records the first one's model."""
    target = archive_of(store.resolve(), order.tag)
    target.parent.mkdir(parents=True, exist_ok=True)
    quiet = {"BENTOML_DO_NOT_TRACK": "true", "DO_NOT_TRACK": "1"}
    environment = {**os.environ, "BENTOML_HOME": str(store.resolve()), **quiet}
    command = [sys.executable, "-m", "bento.package", canonical_json(asdict(order)), str(target)]
    try:
        done = subprocess.run(
            command,
            cwd=order.checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise EvergreenError(
            f"building {order.tag} took over {BUILD_TIMEOUT} s: try again"
        ) from error
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise EvergreenError(f"building {order.tag} failed: {tail}")
    return target


def build_here(order: Order, target: Path) -> None:
    """Build the bento of `order` in this process and export it to `target`."""
    import bentoml
    from bentoml.exceptions import NotFound

    _store_model(order)
    name, _, version = order.tag.partition(":")
    with suppress(NotFound):
        bentoml.delete(order.tag)  # its archive is missing or damaged
    bento = bentoml.bentos.build(
        "bento.service:Evergreen",
        name=name,
        version=version,
        labels={"digest": order.digest, "model_version": order.version},
        description=f"{order.name} {order.version}, artefact {order.digest}",
        include=list(SOURCES),
        build_ctx=order.checkout,
        models=[order.model],
        python={"packages": list(order.requirements), "lock_packages": False},
        args={
            "model": order.model,
            "model_version": order.version,
            "bento": order.tag,
            "digest": order.digest,
            "model_seconds": order.seconds,
        },
    )
    partial = target.with_name(f"{target.stem}.part.bento")
    partial.unlink(missing_ok=True)
    bento.export(str(partial.absolute()))  # a relative path would be taken from the root
    partial.replace(target)


def _store_model(order: Order) -> None:
    """The artefact in BentoML's model store, as plain files beside BentoML's own model.yaml."""
    import bentoml
    from bentoml.exceptions import NotFound

    with suppress(NotFound, EvergreenError):
        if verify(Path(bentoml.models.get(order.model).path) / ARTEFACT) == order.digest:
            return
    with suppress(NotFound):
        bentoml.models.delete(order.model)
    with bentoml.models.create(order.model, labels={"digest": order.digest}) as model:
        copy = Path(shutil.copytree(order.artefact, Path(model.path) / ARTEFACT))
        if verify(copy) != order.digest:
            raise EvergreenError(f"{order.artefact} changed while it was packed: release it again")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build one bento (called by bento.package.build).")
    parser.add_argument("order", help="the order as JSON")
    parser.add_argument("target", type=Path, help="where to put the archive")
    arguments = parser.parse_args()
    values = json.loads(arguments.order)
    values["requirements"] = tuple(values["requirements"])
    build_here(Order(**values), arguments.target)


if __name__ == "__main__":
    stop_on_error(main)
