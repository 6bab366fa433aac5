"""Files of a team in S3: put, fetched and counted; each failure is one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data.errors import EvergreenError
from flows.team import ENDPOINT, Team

MISSING = ("404", "NoSuchKey", "NoSuchBucket", "NotFound")


@dataclass(frozen=True)
class Bucket:
    """The part of a bucket that is the team's; keys are given below its prefix."""

    team: Team

    def ensure(self) -> None:
        """Make the bucket if it is not there.

        Raises:
            EvergreenError: if the store cannot be reached, or the bucket is somebody else's.
        """
        if not self.exists():
            with self._told():
                self._client.create_bucket(Bucket=self.team.bucket)

    def exists(self) -> bool:
        """Whether the bucket is there and may be used."""
        with self._told():
            return self._found(lambda: self._client.head_bucket(Bucket=self.team.bucket))

    def has(self, key: str) -> bool:
        place = {"Bucket": self.team.bucket, "Key": self.team.key(key)}
        with self._told():
            return self._found(lambda: self._client.head_object(**place))

    def put(self, path: Path, key: str) -> None:
        with self._told():
            self._client.upload_file(str(path), self.team.bucket, self.team.key(key))

    def fetch(self, key: str, path: Path) -> bool:
        """Bring an object to a file, as a whole; False if there is none."""
        if not self.has(key):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.part")
        with self._told():
            self._client.download_file(self.team.bucket, self.team.key(key), str(partial))
        partial.replace(path)
        return True

    def keys(self, folder: str) -> dict[str, int]:
        """Every object below a folder, by its key without the prefix, and its bytes."""
        start, found = self.team.key(folder) + "/", {}
        with self._told():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.team.bucket, Prefix=start):
                for each in page.get("Contents", []):
                    found[str(each["Key"]).removeprefix(start)] = int(each["Size"])
        return {f"{folder}/{name}": size for name, size in found.items() if name}

    @cached_property
    def _client(self) -> Any:
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]

        team = self.team
        return boto3.client(
            "s3",
            endpoint_url=team.endpoint or None,
            region_name=team.region,
            aws_access_key_id=team.access or None,
            aws_secret_access_key=team.secret or None,
            config=Config(
                connect_timeout=5,
                retries={"max_attempts": 2},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    @staticmethod
    def _found(ask: Any) -> bool:
        from botocore.exceptions import ClientError  # type: ignore[import-untyped]

        try:
            ask()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in MISSING:
                return False
            raise
        return True

    @contextmanager
    def _told(self) -> Iterator[None]:
        from boto3.exceptions import Boto3Error  # type: ignore[import-untyped]
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            where = self.team.endpoint or "AWS"
            said = " ".join(str(error).split())
            raise EvergreenError(
                f"S3 ({where}) refuses bucket {self.team.bucket!r}: {said}; bring it up "
                f"({ENDPOINT} names it, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY open it), "
                "then try again"
            ) from error
