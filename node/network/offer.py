"""What is offered to a peer: one object in several forms, of which it takes the first that it can.

Whoever sends asks for the forms when the object's turn comes, and has only the one made that goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID

from node.domain import Pair
from node.errors import ResultError
from node.network.statuses import Outcome

SOP_CLASS_NOT_SUPPORTED = 0x0122
"""PS3.7 C.5.6."""


def pair_of(path: Path) -> Pair:
    """The only form of a file that goes as it is.

    Raises:
        OSError, InvalidDicomError, AttributeError: it cannot be read, or has no file meta information.
    """
    meta = read_file_meta_info(path)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)


@dataclass(frozen=True)
class Offers:
    """`of(path)` gives an object's forms, most wanted first; `make(path, form)` the file of one of them, or None when
    the object is not to go any more; `told` hears what the peer said to which forms."""

    of: Callable[[Path], Sequence[Pair]] = lambda path: (pair_of(path),)
    make: Callable[[Path, Pair], Path | None] = lambda path, _form: path
    told: Callable[[Mapping[Pair, bool]], None] = lambda _answers: None


AS_THEY_ARE = Offers()


def forms_of(offers: Offers, path: Path) -> Sequence[Pair] | Outcome:
    """An object's forms, or why there are none."""
    try:
        return offers.of(path)
    except (OSError, InvalidDicomError, AttributeError) as error:
        return unreadable(error)


def unreadable(error: Exception) -> Outcome:
    """A stored file that cannot be sent, as an outcome."""
    if isinstance(error, FileNotFoundError):
        return Outcome(None, "the stored file is missing", "permanent")
    if isinstance(error, OSError):
        return Outcome(None, f"the stored file cannot be read: {error.strerror}", "retry")
    return Outcome(None, "the stored file is not a DICOM file with file meta information", "permanent")


def send_first_taken(
    offers: Offers, path: Path, forms: Iterable[Pair], store: Callable[[Path, Pair], Outcome]
) -> Outcome | None:
    """Send an object in the first of these forms that the peer does not answer with "SOP class not supported".

    Returns:
        What became of it; of an object that no form was left of, what was said to the last one. None: it is not to go
        any more, or there was no form.
    """
    last = None
    for form in forms:
        try:
            file = offers.make(path, form)
        except ResultError as error:
            last = Outcome(None, str(error), "permanent")
            continue
        except OSError as error:
            return unreadable(error)
        if file is None:
            return None
        last = replace(store(file, form), form=form)
        if last.status != SOP_CLASS_NOT_SUPPORTED:
            return last
        offers.told({form: False})
    return last


def refusal(peer: object, forms: Sequence[Pair]) -> Outcome:
    """The peer takes an object in none of its forms."""
    classes = " or ".join(dict.fromkeys(UID(sop_class).name for sop_class, _ in forms))
    syntaxes = " or ".join(dict.fromkeys(UID(syntax).name for _, syntax in forms))
    return Outcome(None, f"{peer} accepts no {classes} in {syntaxes}", "permanent", untaken=True)
