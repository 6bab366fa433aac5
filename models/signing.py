"""Signatures over folders: ECDSA on P-256, as a Sigstore bundle that `model_signing verify` reads.

A manifest says whether a folder is whole; its signature says who made it. An artefact whose bytes
and manifest were both changed is refused here, before anything in it is parsed.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from data.errors import EvergreenError

if TYPE_CHECKING:
    from model_signing.hashing import Config

SIGNATURE = "signature.json"


@dataclass(frozen=True)
class Keys:
    """A key pair on disk; `private` is read by nobody but its owner, the public key lies beside."""

    private: Path

    @property
    def public(self) -> Path:
        return self.private.with_suffix(".pub")

    def ensure(self) -> "Keys":
        """The pair, made where neither half is there.

        Raises:
            EvergreenError: if half of it is missing, or others may read the private key.
        """
        self.private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(self.private.with_suffix(".lock")):
            if not self.private.exists() and not self.public.exists():
                self._make()
        self.check()
        return self

    def check(self) -> None:
        """Whether the pair is as `ensure` leaves it.

        Raises:
            EvergreenError: as for `ensure`.
        """
        for half in (self.private, self.public):
            if not half.is_file():
                raise EvergreenError(
                    f"{half} is missing: restore it from a backup, or name another key with "
                    "EVERGREEN_SIGNING_KEY (what the lost key signed is not accepted then)"
                )
        if mode := stat.S_IMODE(self.private.stat().st_mode) & 0o077:
            raise EvergreenError(
                f"{self.private} may be read by others (mode bits {mode:03o}): chmod 600 it"
            )

    def _make(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
            PublicFormat,
        )

        key = ec.generate_private_key(ec.SECP256R1())
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        shown = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        descriptor = os.open(self.private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
        self.public.write_bytes(shown)


def sign(folder: Path, keys: Keys) -> None:
    """Sign every file of a folder; the signature lies in it and is no part of what is signed.

    Raises:
        EvergreenError: if the key is missing or is none.
    """
    from model_signing import signing

    keys.ensure()
    try:
        signer = signing.Config()  # type: ignore[no-untyped-call]
        signer.use_elliptic_key_signer(private_key=keys.private)
        signer.set_hashing_config(_hashing(folder)).sign(folder, folder / SIGNATURE)
    except Exception as error:
        raise EvergreenError(
            f"{folder} cannot be signed with {keys.private} ({_said(error)}): name an unencrypted "
            "EC key in PEM with EVERGREEN_SIGNING_KEY"
        ) from error


def verify(folder: Path, public: Path) -> None:
    """Check that a folder holds exactly the files that were signed.

    Raises:
        EvergreenError: if a file was changed, added or removed, or there is no signature by the
            private half of `public`.
    """
    if not public.is_file():
        raise EvergreenError(
            f"{public} is missing, so that no model can be trusted: restore it from a backup, or "
            "name another key with EVERGREEN_SIGNING_KEY"
        )
    if not (folder / SIGNATURE).is_file():
        raise EvergreenError(
            f"{folder} is not signed ({SIGNATURE} is missing): restore it from a backup, or train "
            "again"
        )
    from model_signing import verifying

    try:
        verifier = verifying.Config()  # type: ignore[no-untyped-call]
        verifier.use_elliptic_key_verifier(public_key=public)
        verifier.set_hashing_config(_hashing(folder)).verify(folder, folder / SIGNATURE)
    except Exception as error:
        raise EvergreenError(
            f"{folder} is not as it was signed with the key of {public} ({_said(error)}): restore "
            "it from a backup, or train again"
        ) from error


def _hashing(folder: Path) -> "Config":
    """Every file counts but the signature: nothing is left out for its name."""
    from model_signing.hashing import Config

    hashing = Config()  # type: ignore[no-untyped-call]
    return hashing.set_ignored_paths(paths=[folder / SIGNATURE], ignore_git_paths=False)


def _said(error: Exception) -> str:
    """The cause without the bytes of any hash."""
    text = str(error).split(": Expected", 1)[0].replace("\n", " ").strip()
    return text[:200] or type(error).__name__
