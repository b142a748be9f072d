"""Which presentation contexts are accepted and proposed, and how pynetdicom is set up."""

from __future__ import annotations

import copy
import logging

from pydicom.uid import UID
from pynetdicom import _config

from node.network import contexts, stack
from node.results import uids


def test_lossy_syntaxes_come_last_and_all_can_be_decoded_in_principle() -> None:
    for order in (contexts.COMPRESSED_FIRST, contexts.UNCOMPRESSED_FIRST):
        assert order[-len(contexts.LOSSY) :] == contexts.LOSSY
        assert len(set(order)) == len(order) == 14
        assert not any(UID(uid).is_deflated or not UID(uid).is_little_endian for uid in order)


def test_every_storage_class_is_accepted_in_every_syntax() -> None:
    accepted = contexts.acceptable(contexts.COMPRESSED_FIRST)
    assert len(accepted) == len(contexts.STORAGE) + 2
    assert tuple(accepted[1].transfer_syntax) == contexts.COMPRESSED_FIRST
    assert accepted[0].abstract_syntax == "1.2.840.10008.1.1"


def test_the_accepted_contexts_are_not_copied_for_each_association() -> None:
    accepted = contexts.acceptable(contexts.COMPRESSED_FIRST)
    assert copy.deepcopy(accepted) is accepted


def test_a_proposal_has_one_context_for_each_pair() -> None:
    pairs = [("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.1.2"), ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.1.2.1")]
    assert [(c.abstract_syntax, *c.transfer_syntax) for c in contexts.proposal(pairs)] == pairs


def test_pynetdicom_logs_no_identifiers_and_keeps_bytes_unparsed() -> None:
    assert not _config.LOG_REQUEST_IDENTIFIERS
    assert not _config.LOG_RESPONSE_IDENTIFIERS
    assert _config.STORE_RECV_CHUNKED_DATASET
    assert _config.STORE_SEND_CHUNKED_DATASET
    assert logging.getLogger("pynetdicom").level == logging.CRITICAL


def test_the_network_and_the_results_name_the_same_implementation() -> None:
    assert stack.entity("X").implementation_class_uid == uids.IMPLEMENTATION_CLASS_UID
    assert stack.entity("X").maximum_pdu_size == 131072


def test_who_reports_on_commitment_may_be_the_scp_on_its_own_association() -> None:
    (context,) = [c for c in contexts.acceptable(()) if c.abstract_syntax == "1.2.840.10008.1.20.1"]
    assert (context.scu_role, context.scp_role) == (True, True)
