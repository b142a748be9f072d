"""The exception tree. A class's docstring is its default message.

OverreadError
├── SettingsError        a setting is wrong, or two settings contradict each other
├── ImportNameError      another distribution owns one of our import names
├── StoreError           the database cannot be used
│   └── DatabaseDamaged      its file is broken; it can be rebuilt from the spool
├── RoleTaken            another process has the role already
├── SpoolError           the spool cannot be used
├── NoSuchStudy          no study goes by that name
├── AmbiguousStudy       more than one study goes by that name
├── NoSuchPull           no pull has that number
├── PullError            a pull cannot be made, or not now
├── NoSuchResult         no result goes by that UID
├── CannotReplay         a result cannot be computed again
├── BackupError          a copy of the node cannot be made or put back
├── HeldError            a decision about a held study cannot be taken
├── DecisionError        a study is not in a state in which that can be decided
├── AccountError         an account of the dashboard cannot be made or changed
├── WebError             the dashboard cannot be served
├── PeerError            a peer cannot be reached, or refuses
│   ├── AssociationFailed    no association came about
│   │   └── Refused              a service on the web answers, and not with what it was asked for
│   ├── BrokenMessage        what a service sends does not keep to its form, or ends before its end
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


class SpoolError(OverreadError):
    """The spool is not usable."""


class RoleTaken(OverreadError):
    """Another process has this role in this data folder."""


class NoSuchStudy(OverreadError):
    """No study goes by that name."""


class AmbiguousStudy(OverreadError):
    """More than one study goes by that name."""


class NoSuchPull(OverreadError):
    """No pull has that number."""


class PullError(OverreadError):
    """This pull cannot be made, or cannot go on now."""


class NoSuchResult(OverreadError):
    """No result of this node has that SOP Instance UID."""


class CannotReplay(OverreadError):
    """This result cannot be computed again."""


class BackupError(OverreadError):
    """The copy cannot be made or put back."""


class HeldError(OverreadError):
    """This study is not held."""


class DecisionError(OverreadError):
    """This cannot be decided about the study as it is."""


class AccountError(OverreadError):
    """This account cannot be made or changed."""


class WebError(OverreadError):
    """The dashboard cannot be served."""


class PeerError(OverreadError):
    """The peer cannot be used."""


class AssociationFailed(PeerError):
    """No association with the peer came about."""

    def __init__(
        self,
        message: str | None = None,
        *,
        advice: str = "",
        permanent: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{message}: {advice}" if advice else message)
        self.said = message or str(self)
        self.advice = advice
        """What to change, and on which side; empty where nobody can tell."""
        self.permanent = permanent
        self.retry_after = retry_after
        """The seconds after which the peer wants to be asked again, where it says so."""


class Refused(AssociationFailed):
    """The service answers with another code than success."""

    def __init__(self, message: str, code: int, *, permanent: bool, retry_after: float | None = None) -> None:
        super().__init__(message, permanent=permanent, retry_after=retry_after)
        self.code = code


class BrokenMessage(PeerError):
    """A message that is not in the form that it should have."""


class ContextRefused(PeerError):
    """The peer accepted no presentation context for this SOP class and transfer syntax."""


class ResultError(OverreadError):
    """The result object cannot be built."""
