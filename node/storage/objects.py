"""Objects in a bucket, of Amazon S3 or of whatever speaks its protocol. The one place that knows boto3.

Who we are comes from the environment, the shared files of AWS, or the machine's role; never from the settings.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from node.storage.shelf import Away

TRIES = 3
CONNECT_SECONDS = 3
CONNECTIONS = 32
CHUNK = 1 << 20
BROKEN_OFF = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
"""What an answer that ends too soon raises; boto3 tries only again what does not begin."""


@dataclass(frozen=True)
class Object:
    """What is known of an object: `digest` and `mtime_ns` as they were given with it, if they were."""

    key: str
    size: int
    at: float
    digest: str = ""
    mtime_ns: int = 0


class Objects:
    """One bucket. Safe to use from many threads; each process makes its own connections, when it first needs one."""

    def __init__(self, bucket: str, *, endpoint: str | None, region: str | None, timeout: float) -> None:
        self.bucket = bucket
        self.name = f"s3://{bucket}"
        self._endpoint = endpoint
        # A service of one's own mostly has no name for each bucket, and often knows no checksums but MD5
        self._config = Config(
            region_name=region or ("us-east-1" if endpoint else None),
            connect_timeout=min(CONNECT_SECONDS, timeout),
            read_timeout=timeout,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": "path" if endpoint else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self._made: Any = None
        self._lock = threading.Lock()

    def put(self, key: str, file: IO[bytes], *, md5: str, digest: str, mtime_ns: int, anew: bool) -> bool:
        """Store an object, whole or not at all. `md5` (base64) is what the service holds the bytes against.

        Returns:
            False: there is one of that key, and `anew` does not say to replace it.

        Raises:
            Away: it may be stored or not.
        """
        said = {"blake3": digest, "mtime-ns": str(mtime_ns)}
        only = {} if anew else {"IfNoneMatch": "*"}
        try:
            with self._translated():
                self._client.put_object(Bucket=self.bucket, Key=key, Body=file, ContentMD5=md5, Metadata=said, **only)
        except FileExistsError:
            return False
        return True

    def get(self, key: str, into: IO[bytes]) -> Object:
        """Write an object's bytes.

        Raises:
            FileNotFoundError: there is none.
            Away: the service cannot be reached, refuses, or ended before the object did.
        """
        for left in reversed(range(TRIES)):
            into.seek(0)
            into.truncate()
            with self._translated(), contextlib.suppress(*BROKEN_OFF) if left else contextlib.nullcontext():
                answer = self._client.get_object(Bucket=self.bucket, Key=key)
                with contextlib.closing(answer["Body"]) as body:
                    for piece in body.iter_chunks(CHUNK):
                        into.write(piece)
                return _object(key, answer)
        raise AssertionError("the last try gives or raises")

    def head(self, key: str) -> Object | None:
        """What is known of an object; None where there is none.

        Raises:
            Away: nobody can tell.
        """
        try:
            with self._translated():
                return _object(key, self._client.head_object(Bucket=self.bucket, Key=key))
        except FileNotFoundError:
            # The same answer as for a bucket that is not there, and that must not pass for lost files
            with self._translated():
                self._client.list_objects_v2(Bucket=self.bucket, Prefix=key, MaxKeys=1)
            return None

    def delete(self, key: str) -> None:
        """Delete an object, if there is one.

        Raises:
            Away: it may be there still.
        """
        with self._translated():
            self._client.delete_object(Bucket=self.bucket, Key=key)

    def list(self, prefix: str) -> Iterator[Object]:
        """All objects whose keys begin so, by key.

        Raises:
            Away: the service cannot be reached, or refuses.
        """
        more: dict[str, str] = {}
        while True:
            with self._translated():
                page = self._client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, **more)
            for one in page.get("Contents", ()):
                yield Object(one["Key"], one["Size"], one["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def clock(self) -> float:
        """The service's time, in seconds since the epoch, to the second.

        Raises:
            Away: it cannot be reached, or refuses.
        """
        with self._translated():
            answer = self._client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
            return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                session = boto3.session.Session()
                self._made = session.client("s3", endpoint_url=self._endpoint, config=self._config)
            return self._made

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the library in words of ours; none holds a key or a credential."""
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "?"))
            if code in ("NoSuchKey", "404", "NotFound"):
                raise FileNotFoundError(errno.ENOENT, f"no such object in {self.name}") from None
            if code in ("PreconditionFailed", "412"):
                raise FileExistsError(errno.EEXIST, f"there is such an object in {self.name}") from None
            raise Away(errno.EIO, f"{self.name} refuses: {code}") from None
        except (BotoCoreError, ValueError) as error:
            raise Away(errno.EIO, f"{self.name}: {type(error).__name__}") from error


def _object(key: str, answer: Any) -> Object:
    said: dict[str, str] = answer.get("Metadata", {})
    at: datetime = answer["LastModified"]
    number = said.get("mtime-ns", "")
    return Object(
        key, answer["ContentLength"], at.timestamp(), said.get("blake3", ""), int(number) if number.isdecimal() else 0
    )
