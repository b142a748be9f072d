"""What several hosts share: the rows and the files of one node."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, model_validator

from config.peer import Section

SCHEMES = ("postgresql",)


def _server(url: str) -> str:
    """The address of a PostgreSQL database, without a password."""
    try:
        parts = urlsplit(url)
        port_is_wrong = parts.port == 0
    except ValueError:
        raise ValueError("not a URL: postgresql://USER@HOST/DATABASE is one") from None
    if parts.scheme not in SCHEMES or port_is_wrong or not parts.path.strip("/"):
        raise ValueError(
            "only postgresql://USER@HOST/DATABASE is allowed (without url the rows are in a SQLite file in data_dir)"
        )
    if parts.password is not None or "password=" in parts.query:
        raise ValueError("holds no password: put it into a file and name that as password_file, or use PGPASSFILE")
    # SQLAlchemy would take it, and libpq, by which hosts listen, only the last one
    if any(len(values) > 1 for values in parse_qs(parts.query).values()):
        raise ValueError("names a parameter twice; several servers are host=ONE,TWO&port=5432,5432")
    return url


class Database(Section):
    url: Annotated[str, AfterValidator(_server)] | None = None
    password_file: Path | None = None


BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""How buckets may be named, everywhere."""


def _named(bucket: str) -> str:
    if not BUCKET.fullmatch(bucket):
        raise ValueError("a bucket's name alone, without s3:// and prefix: 3 to 63 of a-z, 0-9, dots and hyphens")
    return bucket


def _within(prefix: str) -> str:
    """A prefix as keys begin with it: nothing, or with one slash at its end."""
    text = prefix.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*|", text):
        raise ValueError("letters, digits and _ . = - only, in parts with one slash between them")
    return f"{text}/" if text else ""


def _endpoint(url: str) -> str:
    """The address of a service that speaks S3, without a user."""
    try:
        parts = urlsplit(url)
        port_is_wrong = parts.port == 0
    except ValueError:
        raise ValueError("not a URL: https://HOST:PORT is one") from None
    rest = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or port_is_wrong or rest:
        raise ValueError("only https://HOST:PORT or http://HOST:PORT is allowed")
    if parts.username is not None:
        raise ValueError("holds no user and password: they come from AWS_ACCESS_KEY_ID and the like (config/README.md)")
    return url.rstrip("/")


class SharedSpool(Section):
    dir: Path | None = None
    scratch_dir: Path | None = None
    bucket: Annotated[str, AfterValidator(_named)] | None = None
    prefix: Annotated[str, AfterValidator(_within)] = ""
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")
    cache_mb: int = Field(default=10_240, ge=256)
    timeout_seconds: float = Field(default=10, ge=1, le=300)

    @model_validator(mode="after")
    def _of_a_bucket_or_of_a_folder(self) -> SharedSpool:
        if self.bucket and self.scratch_dir:
            raise ValueError("scratch_dir: not with bucket, whose files are read from the copies in dir")
        if not self.bucket:
            of_buckets = ("prefix", "endpoint", "region", "cache_mb", "timeout_seconds")
            fields = type(self).model_fields
            if wrong := [key for key in of_buckets if getattr(self, key) != fields[key].default]:
                raise ValueError(f"{wrong[0]}: needs bucket")
        return self
