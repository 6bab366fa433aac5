"""Whether a team's stores answer this host, and take what it would write."""

from data.errors import EvergreenError
from data.postgres import Postgres
from flows.bucket import Bucket
from flows.finding import Finding, fail, ok, warn
from flows.settings import Settings


def database(settings: Settings) -> Finding:
    """Whether PostgreSQL answers and has what `up` makes."""
    team = settings.team
    if team is None:
        return ok("database", "SQLite in the home: this is a laptop")
    try:
        (known,) = Postgres(team.database, team.password).rows(
            "evergreen doctor",
            "SELECT to_regclass('evergreen_ledger') IS NOT NULL, array_agg(datname::text), "
            "current_setting('server_version') FROM pg_database",
        )
    except EvergreenError as error:
        return fail("database", str(error), "as said; what serves goes on without it")
    ledger, names, release = known
    if not ledger or not {team.mlflow, team.prefect(settings.problem)} <= set(names):
        return warn("database", f"{team.database} answers, but is empty", "`evergreen up`")
    return ok("database", f"PostgreSQL {release} at {team.database}")


def bucket(settings: Settings) -> Finding:
    """Whether the S3 store answers and the bucket is there."""
    team = settings.team
    if team is None:
        return ok("bucket", "files lie in the home: this is a laptop")
    try:
        there = Bucket(team).exists()
    except EvergreenError as error:
        return fail("bucket", str(error), "as said; what serves goes on without it")
    if not there:
        return warn("bucket", f"{team.s3()} is not there yet", "`evergreen up` makes it")
    return ok("bucket", f"{team.s3()} at {team.endpoint or 'AWS'}")
