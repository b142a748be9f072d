"""Servers on this machine that are told things: HTTP, SMTP and syslog over TLS, each with what it got."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from node.network.tls import Files


class Hook(ThreadingHTTPServer):
    """A webhook: what it was posted, and the status that it answers."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), HookHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?sig=secret"


class HookHandler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Silent."""


class Smtp(socketserver.ThreadingTCPServer):
    """A mail server that takes everything, or refuses everybody."""

    daemon_threads, allow_reuse_address = True, True

    def __init__(self) -> None:
        self.got: list[tuple[str, list[str], str]] = []
        self.refuses = False
        super().__init__(("127.0.0.1", 0), SmtpHandler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class SmtpHandler(socketserver.StreamRequestHandler):
    server: Smtp

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())

    def handle(self) -> None:
        self.say("220 here")
        sender, to = "", []
        while line := self.rfile.readline().decode().strip():
            verb = line.upper()
            if verb.startswith("MAIL"):
                sender = line.partition(":")[2].split()[0]
                self.say("250 ok")
            elif verb.startswith("RCPT"):
                to.append(line.partition(":")[2])
                self.say("550 nobody here" if self.server.refuses else "250 ok")
            elif verb == "DATA":
                self.say("354 go on")
                lines = []
                while (text := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                    lines.append(text)
                self.server.got.append((sender, to, "\n".join(lines)))
                self.say("250 taken")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")


class Syslog(socketserver.ThreadingTCPServer):
    """A syslog server with TLS that wants to see a certificate."""

    daemon_threads, allow_reuse_address = True, True

    def __init__(self, files: Files) -> None:
        self.got: list[str] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(files.certificate, files.key)
        self.context.load_verify_locations(files.authorities)
        self.context.verify_mode = ssl.CERT_REQUIRED
        super().__init__(("127.0.0.1", 0), SyslogHandler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class SyslogHandler(socketserver.BaseRequestHandler):
    server: Syslog

    def handle(self) -> None:
        try:
            secure = self.server.context.wrap_socket(self.request, server_side=True)
        except (ssl.SSLError, OSError):
            return
        data = b""
        while more := secure.recv(65536):
            data += more
        while data:
            length, _, data = data.partition(b" ")
            self.server.got.append(data[: int(length)].decode())
            data = data[int(length) :]
        try:
            secure.unwrap()
        except (ssl.SSLError, OSError):
            pass
        finally:
            secure.close()


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
