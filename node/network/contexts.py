"""What is accepted: every storage SOP class that pynetdicom knows, in the transfer syntaxes that the node can decode.

The order is the order of preference as an acceptor. Deflated, big endian, video and JPIP are never negotiated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AllStoragePresentationContexts, sop_class
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

LOSSLESS = (
    JPEGLSLossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    RLELossless,
)
# Explicit first: Implicit VR loses the VRs of private attributes.
UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
LOSSY = (JPEGExtended12Bit, JPEGBaseline8Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)
# Lossy last, so that no sender loses information to please us.
COMPRESSED_FIRST = (*LOSSLESS, *UNCOMPRESSED, *LOSSY)
# For a sender that offers what it cannot encode (DCMTK's storescu +C).
UNCOMPRESSED_FIRST = (*UNCOMPRESSED, *LOSSLESS, *LOSSY)

STORAGE = tuple(context.abstract_syntax for context in AllStoragePresentationContexts)


KEYWORDS = {str(uid): keyword for keyword, uid in vars(sop_class).items() if isinstance(uid, UID)}
WORDS = re.compile(r"[A-Z0-9]+(?![a-z])|[A-Z][a-z]+")


class Shared(list[Any]):
    """Presentation contexts that are not copied for each association.

    pynetdicom deep-copies the list for every connection, a tenth of a second with all storage classes; negotiation
    only reads it.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


def acceptable(transfer_syntaxes: Iterable[str]) -> Shared:
    """Verification, storage commitment, and every storage SOP class in these transfer syntaxes, most wanted first."""
    wanted = list(transfer_syntaxes)
    commitment = build_context(StorageCommitmentPushModel, list(UNCOMPRESSED))
    # PS3.4 J.3.3: who reports on an association of its own asks for the role of SCP (PS3.7 D.3.3.4)
    commitment.scu_role = commitment.scp_role = True
    # The abstract and transfer syntaxes are fixed, so that one context object may serve all associations.
    storage = (build_context(uid, wanted) for uid in STORAGE)
    return Shared([build_context(Verification, list(UNCOMPRESSED)), *storage, commitment])


def name_of(uid: str) -> str:
    """What the Standard calls a SOP class or a transfer syntax; pynetdicom knows newer ones than pydicom."""
    named = UID(uid).name
    keyword = KEYWORDS.get(uid) if named == uid else None
    return " ".join(WORDS.findall(keyword)) if keyword else named


def proposal(pairs: Iterable[tuple[str, str]]) -> list[PresentationContext]:
    """One context for each (SOP class, transfer syntax): what is accepted is then known for each of them alone."""
    return [build_context(sop_class, [transfer_syntax]) for sop_class, transfer_syntax in pairs]
