"""A backup's one file: a tar whose every content is named by its sha256.

The first member says what it is, the last one is the manifest; between them lie the files under
plain names, so that `tar` opens it, too. Content that is there twice is stored once, as a link.
Nothing in an archive is used before all of it has been read and fits the manifest.
"""

import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

from data.digests import MANIFEST, canonical_json, digest_of
from data.errors import EvergreenError

FORMAT = 1
HEADER = "evergreen-backup.json"
CHUNK = 1 << 20
LARGEST_HEADER = 1 << 20
DAMAGED = (tarfile.TarError, OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class Kept:
    """One file of an archive; `mode` is its permissions."""

    sha256: str
    size: int
    mode: int


@dataclass(frozen=True)
class Written:
    """What was written: how many files of how many bytes, and the archive's own size and sha256."""

    files: int
    content: int
    size: int
    sha256: str


class _Hashed:
    """The first `size` bytes of a file, hashed while they are read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.left, self.hash = file, size, hashlib.sha256()

    def read(self, size: int) -> bytes:
        chunk = self.file.read(min(size, self.left))
        self.left -= len(chunk)
        self.hash.update(chunk)
        return chunk

    def digest(self) -> str:
        while self.read(CHUNK):
            pass
        return self.hash.hexdigest()


def write(path: Path, header: Mapping[str, Any], files: Iterable[tuple[str, Path]]) -> Written:
    """Write an archive; it has its name only when it is whole and on disk.

    Args:
        header: what it is of; the format is added.
        files: names in the archive with the files; one that is gone by now is left out.

    Raises:
        EvergreenError: if `path` is there, or a file changes while it is read.
    """
    if path.exists():
        raise EvergreenError(f"{path} is there already: name another file")
    part = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w+b") as file:
            kept = _write(file, path.name, {**header, "format": FORMAT}, files)
            os.fsync(file.fileno())
            size = file.tell()
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        part.rename(path)
    except OSError as error:
        raise EvergreenError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return Written(len(kept), sum(each.size for each in kept.values()), size, digest)


def _write(
    file: IO[bytes], name: str, header: Mapping[str, Any], files: Iterable[tuple[str, Path]]
) -> dict[str, Kept]:
    kept: dict[str, Kept] = {}
    first: dict[tuple[str, int], str] = {}  # of each content, where it lies
    mode = "w:gz" if name.endswith("gz") else "w:"
    with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        _add_text(archive, HEADER, canonical_json(header))
        for each, path in files:
            try:
                kept[each] = _add(archive, each, path, first)
            except FileNotFoundError:
                continue
        entries = {each: asdict(entry) for each, entry in kept.items()}
        digest = digest_of({"header": header, "files": entries})
        _add_text(archive, MANIFEST, canonical_json({"digest": digest, "files": entries}))
    return kept


def _add(
    archive: tarfile.TarFile, name: str, path: Path, first: dict[tuple[str, int], str]
) -> Kept:
    """Add a file as long as it is now: what is appended meanwhile belongs to the next backup."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        digest = _Hashed(file, status.st_size).digest()
        info = tarfile.TarInfo(name)
        info.mode, info.mtime = status.st_mode & 0o777, int(status.st_mtime)
        known = first.setdefault((digest, info.mode), name)
        if known != name:
            info.type, info.linkname = tarfile.LNKTYPE, known
            archive.addfile(info)
        else:
            file.seek(0)
            info.size = status.st_size
            again = _Hashed(file, status.st_size)
            archive.addfile(info, again)  # type: ignore[arg-type]
            if again.hash.hexdigest() != digest:
                raise EvergreenError(f"{path} changed while it was read: try again")
    return Kept(digest, status.st_size, info.mode)


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(text.encode()), 0o600
    archive.addfile(info, BytesIO(text.encode()))


def unpack(path: Path, folder: Path) -> tuple[Mapping[str, Any], dict[str, Kept]]:
    """Write an archive's files below an empty folder, every one checked; its header, its files.

    Raises:
        EvergreenError: if it is no backup, of another format, not whole, or a file differs.
    """
    last = HEADER
    found: dict[str, Kept] = {}
    try:
        with tarfile.open(path) as archive:
            header = _header(path, archive)
            while (member := archive.next()) is not None and member.name != MANIFEST:
                last = member.name
                found[last] = _extract(archive, member, folder, found)
            if member is None:
                raise EvergreenError(
                    f"{path} ends after {last} without its manifest: it is cut off or damaged; "
                    "take another backup, nothing was restored"
                )
            last = MANIFEST
            manifest = json.loads(_read(archive, member))
    except (*DAMAGED, ValueError) as error:
        raise EvergreenError(
            f"{path} is damaged at {last} ({error}): take another backup, nothing was restored"
        ) from error
    _compare(path, header, manifest, found)
    return header, found


def _header(path: Path, archive: tarfile.TarFile) -> Mapping[str, Any]:
    member = archive.next()
    if member is None or member.name != HEADER or member.size > LARGEST_HEADER:
        raise EvergreenError(f"{path} is no backup of Evergreen: its first file is not {HEADER}")
    header: Mapping[str, Any] = json.loads(_read(archive, member))
    if header.get("format") != FORMAT:
        raise EvergreenError(
            f"{path} has format {header.get('format')!r}, and this version restores format "
            f"{FORMAT}: use the version of Evergreen that wrote it"
        )
    return header


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    if file is None:
        raise tarfile.ReadError(f"{member.name} is no file")
    return file.read()


def _extract(
    archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, found: Mapping[str, Kept]
) -> Kept:
    """Write one member; a link becomes a file of its own."""
    place = PurePosixPath(member.name)
    if place.is_absolute() or ".." in place.parts or member.name in found:
        raise tarfile.ReadError(f"{member.name!r} is not the name of a file in a backup")
    target = folder / place
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.islnk() and member.linkname in found:
        source: IO[bytes] | None = (folder / member.linkname).open("rb")
        size = found[member.linkname].size
    else:
        source, size = (archive.extractfile(member) if member.isreg() else None), member.size
    if source is None:
        raise tarfile.ReadError("it is neither a file nor a link to one before it")
    mode = member.mode & 0o777
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o700)
    with source, os.fdopen(descriptor, "wb") as file:
        hashed = _Hashed(source, size)
        while chunk := hashed.read(CHUNK):
            file.write(chunk)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.utime(file.fileno(), (member.mtime, member.mtime))
    return Kept(hashed.hash.hexdigest(), size - hashed.left, mode)


def _compare(
    path: Path, header: Mapping[str, Any], manifest: Any, found: Mapping[str, Kept]
) -> None:
    """What was read against the manifest, and the manifest against its own digest."""
    try:
        entries, digest = manifest["files"], manifest["digest"]
        expected = {name: Kept(**entry) for name, entry in entries.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise EvergreenError(f"{path}: its manifest cannot be read ({error!r})") from error
    if digest_of({"header": header, "files": entries}) != digest:
        raise EvergreenError(f"{path}: its manifest is not as it was written; nothing was restored")
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise EvergreenError(
                f"{path}: {name} differs from the manifest; take another backup, nothing was "
                "restored"
            )
