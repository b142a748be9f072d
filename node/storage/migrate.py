"""Tables of another version: brought to this one's, or taken back to an earlier one's, after a copy was made.

Alembic's one home, with `migrations`. It is loaded only where there is something to change.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect

from node.errors import StoreError
from node.storage import schema

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER = Path(__file__).with_name("migrations")
BEFORE_ALEMBIC = {"2": "0001"}
"""What a database says of itself that is older than this module, and which revision that is."""


def revision(connection: Connection) -> str:
    """Which revision the tables are of; "" where there are none yet.

    Raises:
        StoreError: they are of a version that nothing leads on from.
    """
    if _has(connection, "alembic_version"):
        return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())
    if not _has(connection, "meta"):
        return ""
    said = str(connection.exec_driver_sql("SELECT value FROM meta WHERE name = 'schema'").scalar_one())
    if said not in BEFORE_ALEMBIC:
        raise StoreError(f"its tables are of version {said}, and none of this Overread's changes leads on from there")
    return BEFORE_ALEMBIC[said]


def fits(connection: Connection, found: str) -> bool:
    """Whether this program may work with tables of that revision: its own, or later ones that say they only add to it,
    so that hosts can be brought up to date one after the other."""
    return found == schema.REVISION or (found > schema.REVISION and _floor(connection) <= schema.REVISION)


def adds(found: str) -> bool:
    """Whether what has changed since that revision only adds to the tables: its programs can go on meanwhile."""
    return schema.FLOOR <= found <= schema.REVISION


def _floor(connection: Connection) -> str:
    return str(connection.exec_driver_sql("SELECT value FROM meta WHERE name = 'floor'").scalar() or "none")


def _say_floor(connection: Connection, floor: str) -> None:
    connection.exec_driver_sql("DELETE FROM meta WHERE name = 'floor'")
    if floor:
        connection.exec_driver_sql(f"INSERT INTO meta VALUES ('floor', '{floor}')")  # noqa: S608 ours


def _has(connection: Connection, table: str) -> bool:
    return inspect(connection).has_table(table)


def stamp(connection: Connection) -> None:
    """Say of tables that were just made that they are this version's."""
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{schema.REVISION}')")  # noqa: S608 ours
    _say_floor(connection, schema.FLOOR)


def foreign(found: str) -> str:
    """What to do with tables that are not this version's, in words."""
    chain = revisions()
    if found in chain:
        return (
            f"made by an earlier version of Overread (tables {found}, this is {schema.REVISION}): `overread serve` "
            "copies it and brings it up to date; so does `overread database upgrade`"
        )
    return (
        f"made by a later version of Overread (tables {found}, this knows {chain[0]} to {chain[-1]}): install that "
        "version, which can take the tables back, or put back the copy from before"
    )


def revisions() -> list[str]:
    """All revisions that this version knows, the first one first."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(FOLDER))
    return [found.revision for found in script.walk_revisions()][::-1]


def bring(connection: Connection, to: str) -> None:
    """Change the tables from their revision to another one, inside the transaction that was begun.

    Raises:
        StoreError: one of the two is not known here.
    """
    from alembic import command

    now = revision(connection)
    chain = revisions()
    for name in (now, to):
        if name not in chain:
            raise StoreError(f"revision {name}: not known to this version (knows {', '.join(chain)})")
    config = _config(connection)
    if not _has(connection, "alembic_version"):
        command.stamp(config, now)
    if chain.index(to) >= chain.index(now):
        command.upgrade(config, to)
    else:
        command.downgrade(config, to)
    _say_floor(connection, schema.FLOOR if to == schema.REVISION else "")


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    return config
