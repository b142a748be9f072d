"""Where a node keeps its rows and its files, as the settings say."""

from __future__ import annotations

import logging
import time

from config.settings import Settings
from node.errors import SpoolError, StoreError
from node.network.secret import read_secret
from node.storage import roles
from node.storage.shelf import Shelf
from node.storage.spool import Spool
from node.storage.store import Store

log = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0


def spool_of(settings: Settings) -> Spool:
    """The files, not yet opened."""
    return Spool(settings.spool_dir, durable=_durable(settings), host=host_of(settings), shelf=shelf_of(settings))


def shelf_of(settings: Settings) -> Shelf:
    """Where kept files are.

    Raises:
        SpoolError: what a bucket needs is not installed.
    """
    rules = settings.spool
    if rules.bucket is None:
        return Shelf(settings.spool_dir, scratch=rules.scratch_dir)
    try:
        from node.storage.bucket import Bucket
        from node.storage.objects import Objects
    except ImportError:
        raise SpoolError("spool.bucket: what it needs is not installed: pip install 'overread[s3]'") from None
    objects = Objects(rules.bucket, endpoint=rules.endpoint, region=rules.region, timeout=rules.timeout_seconds)
    return Bucket(settings.spool_dir, objects, prefix=rules.prefix, cache_bytes=rules.cache_mb * 1024**2)


def host_of(settings: Settings) -> str:
    """Which of the hosts that share a database we are; "" where nobody shares it."""
    return roles.host_id(settings.node.data_dir) if settings.is_shared else ""


def store_of(settings: Settings) -> Store:
    """The rows, not yet opened.

    Raises:
        SettingsError: the file with the password cannot be read.
        StoreError: the database's driver is not installed.
        SpoolError: what a bucket needs is not installed.
    """
    secret = settings.database.password_file
    return Store(
        settings.database_at,
        settings.spool_dir,
        durable=_durable(settings),
        host=host_of(settings),
        password=read_secret(secret) if secret else "",
        shelf=shelf_of(settings),
    )


def wait_for(store: Store, seconds: float) -> None:
    """Wait for a database server that is not there yet, or is just starting; a file is there or not.

    Raises:
        StoreError: it was not there in time.
    """
    until = time.monotonic() + seconds
    while store.database.shared:
        began = time.monotonic()
        try:
            with store.read():
                return
        except StoreError as error:
            if time.monotonic() + AGAIN_SECONDS > until:
                raise
            log.warning("database.waiting %s", error)
        time.sleep(max(AGAIN_SECONDS - (time.monotonic() - began), 0.0))


def _durable(settings: Settings) -> bool:
    return settings.listener.fsync == "instance"
