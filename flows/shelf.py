"""What a team keeps in S3 besides models: built bentos, and archives of the prediction log."""

import hashlib
import os
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bento import package
from bento.package import Package
from bento.prediction_log import ARCHIVED, closed_files
from data.digests import sha256_file
from data.errors import EvergreenError
from flows.bucket import Bucket
from flows.project import Project
from flows.settings import Settings
from models.version import Version

BENTOS, PREDICTIONS = "bentos", "predictions"


def build(project: Project, version: Version, artefact: Path) -> Package:
    """The bento of a version's artefact, built once for all hosts of a team.

    A bento that another host built is taken only if it is the one whose sha256 stands with the
    version in the registry, because its code will run here.
    """
    settings = project.settings
    store = settings.home / "bentos"
    name, checkout = project.problem.name, settings.checkout
    seconds = project.params.endpoint.model_seconds
    make = partial(
        package.build,
        artefact,
        name=name,
        version=version.number,
        store=store,
        checkout=checkout,
        seconds=seconds,
    )
    if settings.team is None:
        return make()
    bucket = Bucket(settings.team)
    order = package.ordered(artefact, name, version.number, checkout, seconds)
    path = package.archive_of(store, order.tag)
    key, known = f"{BENTOS}/{path.name}", f"bento.{order.code[:8]}"
    registry = project.registry
    sha256 = registry.get(version.number).tags.get(known)
    if sha256 and not path.exists() and bucket.fetch(key, path) and sha256_file(path) == sha256:
        package.keep(store, Package(order.tag, order.digest, version.number, path, sha256))
        print(f"{order.tag} comes from {settings.team.s3(key)}")
    built = make()
    if built.sha256 != sha256:
        bucket.put(built.path, key)
        registry.tag(version, {known: built.sha256})
    return built


def keep_predictions(settings: Settings) -> Sequence[str]:
    """Send the closed archives of this host that the bucket lacks; the keys that were sent.

    A bucket that is away is said and costs nothing: the next call sends what is missing.
    """
    if settings.team is None:
        return ()
    home = hashlib.sha256(os.fsencode(settings.home)).hexdigest()[:8]
    folder = f"{PREDICTIONS}/{settings.problem or 'main'}/{socket.gethostname()}-{home}"
    here = {
        f"{folder}/{slot.name}/{path.name}": path
        for slot in sorted((settings.serving.folder / "log").glob("*/"))
        for path in closed_files(slot)
        if path.suffix == ARCHIVED
    }
    bucket, sent = Bucket(settings.team), []
    try:
        there = bucket.keys(folder) if here else {}
        for key, path in here.items():
            if there.get(key) != path.stat().st_size:
                bucket.put(path, key)
                sent.append(key)
    except EvergreenError as error:
        print(f"archives of the prediction log stay here for now: {error}")
    return sent
