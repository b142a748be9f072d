"""`python -m tests.bench.accept [--rounds 30]`: what an association costs before anything is sent.

Ours and pynetdicom accept all storage classes in all of their transfer syntaxes, as a node that refuses nobody must.
One request proposes a single context, the other as many storage classes as fit (128) in all transfer syntaxes; both are
encoded beforehand, so that only the acceptor is timed: from the connection to the A-ASSOCIATE-AC. All run side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from pynetdicom import ALL_TRANSFER_SYNTAXES, PYNETDICOM_IMPLEMENTATION_UID, StoragePresentationContexts, build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.sop_class import CTImageStorage

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measured import rounds, table
from bench.receivers import naive, ours, started, storescp

# PS3.8 9.3: the types of the PDUs, and an A-RELEASE-RQ
ACCEPTED, RELEASED = 0x02, 0x06
RELEASE = bytes.fromhex("0500 0000 0004 0000 0000")


def request(*, everything: bool) -> bytes:
    """An A-ASSOCIATE-RQ from MODALITY to OVERREAD."""
    asked = A_ASSOCIATE()
    asked.application_context_name = "1.2.840.10008.3.1.1.1"
    asked.calling_ae_title, asked.called_ae_title = "MODALITY", "OVERREAD"
    contexts = [build_context(CTImageStorage)]
    if everything:
        contexts = [build_context(c.abstract_syntax, ALL_TRANSFER_SYNTAXES) for c in StoragePresentationContexts[:128]]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    asked.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    asked.user_information = [length, implementation]
    encoded: bytes = A_ASSOCIATE_RQ(asked).encode()
    return encoded


def accepted(port: int, encoded: bytes) -> float:
    """Seconds until the association is accepted; it is then released."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as sock, sock.makefile("rb") as answers:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for sends, wanted in ((encoded, ACCEPTED), (RELEASE, RELEASED)):
            sock.sendall(sends)
            head = answers.read(6)
            if not head or head[0] != wanted:
                raise SystemExit(f"wanted a PDU of type {wanted}, got {head!r}")
            answers.read(int.from_bytes(head[2:], "big"))
            if wanted == ACCEPTED:
                seconds = time.perf_counter() - began
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as running:
        peers = [naive(everything=True), storescp("+xa"), ours("instance")]
        ports = {p.name: running.enter_context(started(p, Path(temporary))).port for p in peers}
        for title, encoded in (
            ("Accepting one presentation context", request(everything=False)),
            ("Accepting 128 storage classes in all transfer syntaxes", request(everything=True)),
        ):
            ways = {name: partial(accepted, port, encoded) for name, port in ports.items()}
            for way in ways.values():
                way()
            table(title, "ms an association", rounds(given.rounds, ways), times=1000)


if __name__ == "__main__":
    main()
