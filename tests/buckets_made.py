"""A service that speaks S3, moto's own server, in this process; it can go away, refuse and break off.

With `$OVERREAD_TEST_S3` (the URL of another service; its keys are in the environment) what needs no fault is tested
there.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from node.storage.bucket import Bucket
from node.storage.objects import Objects

OTHER = os.environ.get("OVERREAD_TEST_S3", "")
KEYS = {"AWS_ACCESS_KEY_ID": "overread", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}


class Service:
    """`refuses`: the code of HTTP that all is answered with; `cuts`: so many answers to GET end at their half."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server: Any = None
        self.port = 0
        self.refuses = 0
        self.cuts = 0
        self.asked: Counter[str] = Counter()
        self.bucket = f"overread-{uuid.uuid4().hex[:8]}"
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self.start()
        self.s3.create_bucket(Bucket=self.bucket)

    @property
    def url(self) -> str:
        return OTHER or f"http://127.0.0.1:{self.port}"

    @property
    def s3(self) -> Any:
        """A client of somebody else's."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", KEYS["AWS_ACCESS_KEY_ID"]),
            aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", KEYS["AWS_SECRET_ACCESS_KEY"]),
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """What it holds is there again when it starts."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        self.asked[method] += 1
        if self.refuses:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start(f"{self.refuses} No", [("Content-Length", "0")])
            return [b""]
        body = self._app(environ, start)
        if method == "GET" and self.cuts and "list-type" not in environ["QUERY_STRING"]:
            self.cuts -= 1
            return _half(body)
        return body

    def shelf(self, root: Path, *, prefix: str = "", cache_bytes: int = 1 << 30) -> Bucket:
        """The bucket as one host has it."""
        objects = Objects(self.bucket, endpoint=self.url, region=None, timeout=2)
        return Bucket(root, objects, prefix=prefix, cache_bytes=cache_bytes)

    def names(self) -> list[str]:
        return [one["Key"] for one in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ())]

    def body(self, key: str) -> bytes:
        data: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return data


def _half(body: Iterable[bytes]) -> Iterator[bytes]:
    whole = b"".join(body)
    yield whole[: len(whole) // 2]
