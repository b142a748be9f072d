"""Where a node keeps its rows and its files, as the settings say."""

from __future__ import annotations

from config.settings import Settings
from node.network.secret import read_secret
from node.storage import roles
from node.storage.spool import Spool
from node.storage.store import Store


def spool_of(settings: Settings) -> Spool:
    """The files, not yet opened."""
    return Spool(settings.spool_dir, durable=_durable(settings))


def store_of(settings: Settings) -> Store:
    """The rows, not yet opened.

    Raises:
        SettingsError: the file with the password cannot be read.
        StoreError: the database's driver is not installed.
    """
    secret = settings.database.password_file
    return Store(
        settings.database_at,
        settings.spool_dir,
        durable=_durable(settings),
        host=roles.host_id(settings.node.data_dir) if settings.is_shared else "",
        password=read_secret(secret) if secret else "",
    )


def _durable(settings: Settings) -> bool:
    return settings.listener.fsync == "instance"
