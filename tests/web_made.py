"""A DICOMweb service on this machine whose answers a test decides, over real HTTP and TLS."""

from __future__ import annotations

import io
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydicom import dcmread

from node.network.tls import Files

DICOM_JSON = "application/dicom+json"


@dataclass
class Reply:
    code: int = 200
    body: bytes = b""
    media_type: str = DICOM_JSON
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    """The connection ends after so many bytes of the body."""
    stall: tuple[int, threading.Event] | None = None
    """After so many bytes of the body nothing comes until this happens."""
    told: bool = True
    """Whether the length of the body is told; otherwise the end of the connection is its end."""


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def part(self) -> bytes:
        """The one part of a multipart message."""
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        (part,) = message_from_bytes(head + self.body, policy=HTTP).iter_parts()
        assert part["Content-Type"] == "application/dicom"
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        return data


class Web:
    """A DICOMweb service on 127.0.0.1 that answers what it is told to."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.reply: Callable[[Request], Reply | None] = lambda request: stored(request)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.scheme = "http"
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/dicom-web"

    def secure(self, files: Files) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "https"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(web: Web) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                web.connections += 1
                super().setup()

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers["Content-Length"])))

            def do_GET(self) -> None:
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                request = Request(self.command, self.path, dict(self.headers), body)
                web.requests.append(request)
                reply = web.reply(request)
                if reply is None:
                    self.close_connection = True
                    return
                self.send_response(reply.code)
                if reply.media_type:
                    self.send_header("Content-Type", reply.media_type)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.told:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if reply.stall:
                    at, event = reply.stall
                    self.wfile.write(reply.body[:at])
                    event.wait(60)
                    reply = replace(reply, body=reply.body[at:])
                self.wfile.write(reply.body[: reply.cut])
                self.close_connection = self.close_connection or reply.cut is not None or not reply.told

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def uid_in(request: Request) -> str:
    return str(dcmread(io.BytesIO(request.part)).file_meta.MediaStorageSOPInstanceUID)


def module(sequence: str, uid: str, **reason: int) -> bytes:
    """A Store Instances Response Module with one instance in one of its sequences."""
    item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
    for tag, value in reason.items():
        item[tag.strip("_")] = {"vr": "US", "Value": [value]}
    return json.dumps({sequence: {"vr": "SQ", "Value": [item]}}).encode()


def stored(request: Request) -> Reply:
    if request.method == "GET":
        return Reply(200, b"[]")
    return Reply(200, module("00081199", uid_in(request)))


def failed(reason: int, code: int = 409) -> Callable[[Request], Reply]:
    return lambda request: Reply(code, module("00081198", uid_in(request), _00081197=reason))
