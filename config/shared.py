"""What several hosts share: the rows and the files of one node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

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
    return url


class Database(Section):
    url: Annotated[str, AfterValidator(_server)] | None = None
    password_file: Path | None = None


class SharedSpool(Section):
    dir: Path | None = None
