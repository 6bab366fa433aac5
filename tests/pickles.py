"""Finds pickles by what they are, not by what they are called."""

import io
import pickletools
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path


def pickles(folder: Path) -> list[str]:
    """Files below a folder, also in archives, that are pickles whatever their name."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [str(path) for path in paths if any(map(is_pickle, contents(path.read_bytes())))]


def contents(data: bytes) -> Iterator[bytes]:
    """The bytes themselves, and those of every member if they are an archive."""
    yield data
    file = io.BytesIO(data)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    else:
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                members = (archive.extractfile(member) for member in archive)
                yield from (member.read() for member in members if member)
        except tarfile.TarError:
            pass


def is_pickle(data: bytes) -> bool:
    """Whether the bytes begin as a program of the pickle machine that comes to its end."""
    try:
        return len(list(pickletools.genops(data))) > 2
    except Exception:
        return False
