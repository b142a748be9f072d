"""The forms in which results go to a destination: made when one is needed, kept before it leaves, sent as it was kept.

A delivery that has a form keeps it for as long as its peer takes it; a new one begins with the form most wanted.
"""

from __future__ import annotations

from pathlib import Path

from pydicom.uid import UID, ExplicitVRLittleEndian

from node.domain import Delivery, Form, Pair, Result
from node.errors import ResultError
from node.failpoint import failpoint
from node.results import form
from node.storage import forms
from node.storage.shelf import Away
from node.storage.spool import Spool, digest_of
from node.storage.store import Store

AS_STORED = str(ExplicitVRLittleEndian)
"""The transfer syntax in which every result is written."""


def of(delivery: Delivery) -> tuple[Pair, ...]:
    """The forms in which a delivery may go, most wanted first."""
    possible = form.pairs(delivery.sop_class_uid)
    return tuple(dict.fromkeys([_own(delivery), *possible])) if delivery.form_id else possible


def can_go(store: Store, delivery: Delivery) -> bool:
    """Whether its bytes are there, or can be made again from the result's; also where nobody can tell just now."""
    try:
        return _is_there(store, delivery.path) or (
            delivery.form_id is not None and _is_there(store, forms.origin(store, delivery).path)
        )
    except Away:  # which whoever sends it will find, and try again
        return True


def take(store: Store, spool: Spool, delivery: Delivery, wanted: Pair, *, now: float) -> Path | None:
    """The file of a delivery in this form, at hand and remembered as the one that goes; None when its lease was lost.

    Raises:
        ResultError: the result cannot be told in this form.
        OSError: a file cannot be read or kept.
    """
    shelf = store.spool.shelf
    if wanted == _own(delivery) and _is_there(store, delivery.path):
        return shelf.at_hand(delivery.path)
    result = forms.origin(store, delivery)
    if wanted == (result.sop_class_uid, AS_STORED):
        path, made, words = result.path, None, ""
    else:
        made = _made(store, spool, result, wanted, peer=delivery.peer)
        path, words = made.path, " in ".join(UID(uid).name for uid in wanted)
    taken = forms.take(store, delivery, made, words=words, now=now)
    failpoint("deliver.formed")
    return shelf.at_hand(path) if taken else None


def adopt(store: Store, spool: Spool) -> int:
    """After the database was lost: files of forms are rows again, as a peer may have what they hold.

    Returns:
        The number of forms adopted.
    """
    strays = {spool.relative(kept.path) for kept in spool.shelf.files(spool.forms)} - forms.paths(store)
    adopted = 0
    for result in forms.origins(store) if strays else []:
        for wanted in form.pairs(result.sop_class_uid):
            uid, path = _name(spool, result, wanted)
            if spool.relative(path) in strays:
                here = spool.shelf.at_hand(path)
                forms.adopt(store, result.id, Form(*wanted, uid, path, digest_of(here), here.stat().st_size))
                adopted += 1
    return adopted


def _name(spool: Spool, result: Result, wanted: Pair) -> tuple[str, Path]:
    """The SOP Instance UID of a result in a form, and the form's file."""
    sop_class, syntax = wanted
    uid = form.instance_uid(result.sop_instance_uid, original_class=result.sop_class_uid, sop_class_uid=sop_class)
    return uid, spool.form_path(uid, syntax)


def _is_there(store: Store, path: Path) -> bool:
    return path.is_file() or store.spool.shelf.holds(path)


def _own(delivery: Delivery) -> Pair:
    return delivery.sop_class_uid, delivery.transfer_syntax_uid or AS_STORED


def _made(store: Store, spool: Spool, result: Result, wanted: Pair, *, peer: str) -> Form:
    """A form of a result, its file kept."""
    sop_class, syntax = wanted
    known = [f for f in forms.of_result(store, result.id) if (f.sop_class_uid, f.transfer_syntax_uid) == wanted]
    if known and _is_there(store, known[0].path):
        return known[0]
    uid, path = _name(spool, result, wanted)
    if not _is_there(store, path):
        # By peer, as two destinations may need it at the same moment; both write the same bytes
        spool.write(f"form-{uid}-{peer}", form.make(spool.shelf.at_hand(result.path), sop_class, syntax), path)
    here = spool.shelf.at_hand(path)
    digest = digest_of(here)
    if known and known[0].digest != digest:
        raise ResultError("the form that went before is gone, and cannot be made again as it was")
    return Form(sop_class, syntax, uid, path, digest, here.stat().st_size)
