"""A version as a container image: which one is it? `python -m flows.image VERSION [REFERENCE]`.

Without a reference the bento is built, and where it lies is said; `deploy/image` makes an image of
it. With one, the version is told which image it is; a release in a cluster takes no other.
"""

import argparse
import os
import re

from bento.package import Package
from bento.target import Image
from data.errors import EvergreenError, stop_on_error
from flows import shelf
from flows.project import Project
from flows.settings import Settings
from models.version import Version

TAG = "image"
REFERENCE = re.compile(r"[a-z0-9][\w.:/-]*@sha256:[0-9a-f]{64}")


def of(version: Version, package: Package) -> Image:
    """The image that a version was told to be.

    Raises:
        EvergreenError: if it was told none.
    """
    number, reference = version.number, version.tags.get(TAG)
    if reference is None:
        raise EvergreenError(
            f"version {number} has no image: build one of {package.path}, push it, and say "
            f"`python -m flows.image {number} NAME@sha256:…`"
        )
    return Image(package.tag, package.digest, package.version, check(reference))


def check(reference: str) -> str:
    """A reference by digest.

    Raises:
        EvergreenError: if it is another one.
    """
    if not REFERENCE.fullmatch(reference):
        raise EvergreenError(
            f"{reference!r} names no image by digest: write NAME@sha256: and 64 hex digits"
        )
    return reference


def run_image(project: Project, number: str, reference: str | None) -> str:
    """Build a version's bento, or keep which image it is; what to say of it."""
    version = project.registry.get(number)
    if reference is None:
        package = shelf.build(project, version, project.registry.folder(version))
        return f"{package.path} is {package.tag}"
    project.registry.tag(version, {TAG: check(reference)})
    return f"version {number} is {reference}"


def main() -> None:
    parser = argparse.ArgumentParser(description="The container image of a version.")
    parser.add_argument("version", help="its number in the registry")
    parser.add_argument("reference", nargs="?", help="NAME@sha256:…, as it was pushed")
    given = parser.parse_args()
    print(run_image(Project.open(Settings.read(os.environ)), given.version, given.reference))


if __name__ == "__main__":
    stop_on_error(main)
