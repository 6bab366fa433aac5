"""Digests of files and folders: sha256 is the check that stands before every read."""

import hashlib
import json
from pathlib import Path
from typing import Any

from data.errors import EvergreenError

MANIFEST = "manifest.json"


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_file(path: Path) -> str:
    """The name that DVC gives to a file's content; nothing is trusted because of it alone."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def write_atomically(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Replace `path` as a whole: a reader sees the old content or the new, never a part.

    Args:
        mode: of the file, less what the umask takes away.
    """
    import os

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def seal(folder: Path) -> str:
    """Write the folder's manifest and return its digest (sha256 over all names and contents)."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    entries = {str(path.relative_to(folder)): sha256_file(path) for path in files}
    digest = digest_of(entries)
    write_atomically(folder / MANIFEST, canonical_json({"digest": digest, "files": entries}))
    return digest


def verify(folder: Path) -> str:
    """Check every file of a sealed folder against its manifest and return the digest.

    Raises:
        EvergreenError: naming the file that is missing, changed or too many.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        entries, digest = dict(manifest["files"]), manifest["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvergreenError(f"{folder}: no readable {MANIFEST} ({error})") from error
    for name, expected in entries.items():
        path = folder / name
        if not path.is_file():
            raise EvergreenError(f"{path} is missing; the artefact is not whole: restore it")
        if sha256_file(path) != expected:
            raise EvergreenError(f"{path} differs from its manifest: restore the artefact")
    present = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    if extra := present - set(entries) - {MANIFEST}:
        raise EvergreenError(f"{folder} holds {sorted(extra)[0]}, which its manifest does not name")
    if digest_of(entries) != digest:
        raise EvergreenError(f"{folder / MANIFEST}: its digest does not fit its entries")
    return str(digest)
