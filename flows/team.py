"""Team mode: where PostgreSQL and S3 are, read from the environment; nothing set is a laptop."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from data import keepalive
from data.errors import EvergreenError

DATABASE, S3, ENDPOINT = "EVERGREEN_DATABASE_URL", "EVERGREEN_S3_URL", "EVERGREEN_S3_ENDPOINT"
SITE = "EVERGREEN_SITE"
ACCESS, SECRET, REGION = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"
PASSWORD = "PGPASSWORD"  # libpq and asyncpg read it, so that no address has to hold it
SECRETS = (PASSWORD, ACCESS, SECRET)
SHAPE = "postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE"
_SLUG = re.compile(r"[a-z0-9][a-z0-9_]{0,30}")


@dataclass(frozen=True)
class Team:
    """The stores that several hosts share. No address holds a password.

    Attributes:
        database: `postgresql://USER@HOST:PORT/NAME`; it holds ledgers and the promotion lock,
            `NAME_mlflow` and `NAME_prefect` beside it the rest.
        bucket, prefix: where files are kept.
        endpoint: of the S3 store; empty for AWS.
        site: a host whose checkout lies elsewhere has a Prefect database of its own.
    """

    database: str
    bucket: str
    prefix: str
    endpoint: str = ""
    site: str = ""
    region: str = "us-east-1"
    password: str = field(default="", repr=False)
    access: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Team | None":
        """The team's stores; None where nothing is set.

        Raises:
            EvergreenError: if one is set without the other, or an address is none.
        """
        given = {name: environment.get(name, "").strip() for name in (DATABASE, S3, ENDPOINT, SITE)}
        if not given[DATABASE] and not given[S3]:
            return None
        for name, other in ((DATABASE, S3), (S3, DATABASE)):
            if not given[name]:
                raise EvergreenError(
                    f"{other} is set, but {name} is not: a team needs both, a laptop neither"
                )
        database, password = _database(given[DATABASE])
        if given[SITE] and not _SLUG.fullmatch(given[SITE]):
            raise EvergreenError(f"{SITE}={given[SITE]!r} is no name: use a-z, 0-9 and _")
        return cls(
            database,
            *_place(given[S3]),
            _endpoint(given[ENDPOINT]),
            given[SITE],
            environment.get(REGION) or "us-east-1",
            password or environment.get(PASSWORD, ""),
            environment.get(ACCESS, ""),
            environment.get(SECRET, ""),
        )

    @property
    def name(self) -> str:
        """Of the database."""
        return self.database.rpartition("/")[2]

    def beside(self, name: str) -> str:
        """The address of another database of this server."""
        return f"{self.database.rpartition('/')[0]}/{name}"

    @property
    def mlflow(self) -> str:
        return f"{self.name}_mlflow"

    def prefect(self, problem: str) -> str:
        """Prefect's database: deployments of two problems have the same names."""
        parts = [self.name, "prefect", *filter(None, (problem.replace("-", "_"), self.site))]
        return "_".join(parts)

    @property
    def tracking_uri(self) -> str:
        patience = "&".join(f"{name}={value}" for name, value in keepalive.client().items())
        return f"{_driver('psycopg2', self.beside(self.mlflow))}?{patience}"

    def s3(self, *parts: str) -> str:
        """An address in the bucket, such as `s3://bucket/prefix/mlflow`."""
        return f"s3://{self.bucket}/{self.key(*parts)}"

    def key(self, *parts: str) -> str:
        return "/".join(filter(None, (self.prefix, *parts)))

    def child_environment(self, problem: str) -> dict[str, str]:
        """What child processes are told: the libraries read passwords and keys from here."""
        told = {
            DATABASE: self.database,
            S3: self.s3(),
            ENDPOINT: self.endpoint,
            SITE: self.site,
            PASSWORD: self.password,
            ACCESS: self.access,
            SECRET: self.secret,
            REGION: self.region,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": _driver(
                "asyncpg", self.beside(self.prefect(problem))
            ),
            "MLFLOW_BACKEND_STORE_URI": self.tracking_uri,
            "MLFLOW_ARTIFACTS_DESTINATION": self.s3("mlflow"),
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        }
        if self.endpoint:
            told |= {
                "AWS_ENDPOINT_URL_S3": self.endpoint,
                "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
                # Stores that are not AWS do not all know the newer checksums.
                "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
                "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            }
        return {name: value for name, value in told.items() if value or name not in SECRETS}


def _database(address: str) -> tuple[str, str]:
    """An address without its password, and the password."""
    try:
        parts = urlsplit(address)
        name, port = parts.path.removeprefix("/"), parts.port or 5432
    except ValueError:
        name, port = "", 0
    wrong = parts.scheme not in ("postgresql", "postgres") or not parts.username if name else True
    if wrong or not parts.hostname or not _SLUG.fullmatch(name) or parts.query:
        raise EvergreenError(
            f"{DATABASE} is no {SHAPE} (what it is is not shown: it may be secret)"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    user = quote(unquote(parts.username or ""), safe="")
    return f"postgresql://{user}@{host}:{port}/{name}", unquote(parts.password or "")


def _place(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    if parts.scheme != "s3" or not parts.netloc or parts.query or "@" in parts.netloc:
        raise EvergreenError(f"{S3}={address!r} is no s3://BUCKET[/PREFIX]")
    return parts.netloc, parts.path.strip("/")


def _endpoint(address: str) -> str:
    if address and (urlsplit(address).scheme not in ("http", "https") or "@" in address):
        raise EvergreenError(f"{ENDPOINT}={address!r} is no http://HOST:PORT of an S3 store")
    return address.rstrip("/")


def _driver(name: str, address: str) -> str:
    return address.replace("postgresql://", f"postgresql+{name}://", 1)
