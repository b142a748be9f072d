"""What a peer takes: everything is proposed to it, and nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from node.domain import Pair
from node.errors import ContextRefused
from node.network import commitment, echo, query, suboperations
from node.network.link import MAXIMUM_CONTEXTS, Target, open_link

SERVICES: Mapping[str, tuple[Pair, ...]] = {
    "Verification (C-ECHO)": (echo.ECHO,),
    "Storage Commitment": commitment.PAIRS,
    "Query (C-FIND, Study Root)": query.PAIRS,
    "Retrieve (C-MOVE, Study Root)": suboperations.MOVE_PAIRS,
    "Retrieve (C-GET, Study Root)": suboperations.GET_PAIRS,
}
"""What we may ask of a peer beside taking objects, by name."""


def survey(target: Target, pairs: Sequence[Pair]) -> dict[Pair, bool]:
    """Whether a peer accepts each pair, asked on as many associations as that needs.

    Raises:
        AssociationFailed: it does not associate.
    """
    said: dict[Pair, bool] = {}
    for start in range(0, len(pairs), MAXIMUM_CONTEXTS):
        some = pairs[start : start + MAXIMUM_CONTEXTS]
        said |= dict.fromkeys(some, False)
        try:
            link = open_link(target, some)
        except ContextRefused:
            continue
        said |= dict.fromkeys(link.accepted, True)
        link.close()
    return said
