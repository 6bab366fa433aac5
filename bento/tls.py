"""The certificate that the gateway shows: whether it can be used, and how a client knows it."""

import hashlib
import re
import ssl
from datetime import datetime
from pathlib import Path

from data.errors import EvergreenError

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def check(path: Path, at: datetime) -> None:
    """Whether a PEM file holds a certificate that is valid now, and its key.

    Raises:
        EvergreenError: naming what is wrong with it.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read(path)
    try:
        certificate = x509.load_pem_x509_certificates(content)[0]
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise EvergreenError(
            f"{path} (EVERGREEN_TLS_CERTIFICATE) is not a PEM with a certificate, its chain and an "
            f"unencrypted private key ({str(error).splitlines()[0]})"
        ) from error
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= at < last:
        raise EvergreenError(
            f"the certificate in {path} is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}, which "
            "is not now: renew it"
        )
    if key.public_key() != certificate.public_key():
        raise EvergreenError(
            f"the private key in {path} does not belong to its first certificate: put the server's "
            "own certificate first, and its key into the same file"
        )


def fingerprint(path: Path) -> str:
    """The sha256 of the server's own certificate, the first of the file.

    Raises:
        EvergreenError: if there is none.
    """
    found = _CERTIFICATE.search(_read(path).decode(errors="replace"))
    if found is None:
        raise EvergreenError(f"{path} (EVERGREEN_TLS_CERTIFICATE) holds no certificate")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found.group())).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EvergreenError(
            f"the certificate {path} (EVERGREEN_TLS_CERTIFICATE) cannot be read "
            f"({error.strerror}): name a PEM file with certificate, chain and private key"
        ) from error
