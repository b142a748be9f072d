"""The exception tree. A class's docstring is its default message.

OverreadError
├── SettingsError        a setting is wrong, or two settings contradict each other
├── ImportNameError      another distribution owns one of our import names
├── StoreError           the database cannot be used
│   └── DatabaseDamaged      its file is broken; it can be rebuilt from the spool
├── RoleTaken            another process has the role already
├── NotRunning           no node runs there that could be told something
├── SpoolError           the spool cannot be used
├── NoSuchStudy          no study goes by that name
├── AmbiguousStudy       more than one study goes by that name
├── NoSuchResult         no result goes by that UID
├── CannotReplay         a result cannot be computed again
├── HeldError            a decision about a held study cannot be taken
├── PeerError            a peer cannot be reached, or refuses
│   ├── AssociationFailed    no association came about
│   └── ContextRefused       the peer took none of our presentation contexts for an object
└── ResultError          a result object cannot be built
"""

from __future__ import annotations


class OverreadError(Exception):
    """Overread cannot do this."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class SettingsError(OverreadError):
    """The settings are not usable."""


class ImportNameError(OverreadError):
    """Another distribution owns one of the import names node, models, training, config."""


class StoreError(OverreadError):
    """The database is not usable."""


class DatabaseDamaged(StoreError):
    """The database file is damaged."""


class NotRunning(OverreadError):
    """No node runs in this data folder."""


class SpoolError(OverreadError):
    """The spool is not usable."""


class RoleTaken(OverreadError):
    """Another process has this role in this data folder."""


class NoSuchStudy(OverreadError):
    """No study goes by that name."""


class AmbiguousStudy(OverreadError):
    """More than one study goes by that name."""


class NoSuchResult(OverreadError):
    """No result of this node has that SOP Instance UID."""


class CannotReplay(OverreadError):
    """This result cannot be computed again."""


class HeldError(OverreadError):
    """This study is not held."""


class PeerError(OverreadError):
    """The peer cannot be used."""


class AssociationFailed(PeerError):
    """No association with the peer came about."""

    def __init__(self, message: str | None = None, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class ContextRefused(PeerError):
    """The peer accepted no presentation context for this SOP class and transfer syntax."""


class ResultError(OverreadError):
    """The result object cannot be built."""
