"""How people are told: a webhook by HTTP POST, and mail by SMTP. The caller keeps what is to be told, and tries again.

It takes nothing from the environment and follows no redirect. A webhook's url is a secret itself, so no error holds it.
"""

from __future__ import annotations

import http.client
import json
import smtplib
import socket
import ssl
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any
from urllib.parse import urlsplit

from config.watch import Mail
from node.errors import PeerError
from node.network.secret import read_secret

TIMEOUT_SECONDS = 20.0
ANSWER_BYTES = 65536


def post(url: str, body: Mapping[str, Any], *, token: str = "", timeout: float = TIMEOUT_SECONDS) -> None:
    """Send a JSON object.

    Raises:
        PeerError: there was no answer of success.
    """
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json", "User-Agent": "overread", "Connection": "close"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("POST", path, json.dumps(body).encode(), headers)
        answer = connection.getresponse()
        answer.read(ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise PeerError(f"the webhook at {parts.hostname} cannot be reached: {_words(error)}") from None
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise PeerError(f"the webhook at {parts.hostname} answered {answer.status} {answer.reason}")


def mail(rules: Mail, *, subject: str, text: str, now: float, timeout: float = TIMEOUT_SECONDS) -> None:
    """Send one mail to everybody who is to get it.

    Raises:
        PeerError: the server did not take it, for whomever.
        SettingsError: the password's file cannot be used.
    """
    message = EmailMessage()
    message["From"], message["To"] = rules.sender, ", ".join(rules.to)
    message["Subject"] = " ".join(subject.split())
    message["Date"] = formatdate(now)
    message["Message-ID"] = make_msgid(domain=rules.sender.rpartition("@")[2])
    # RFC 3834: nobody's holiday reply is to answer
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    password = read_secret(rules.password_file) if rules.password_file else ""
    context = ssl.create_default_context()
    name = socket.gethostname()
    try:
        if rules.tls == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(rules.host, rules.port, name, timeout=timeout, context=context)
        else:
            server = smtplib.SMTP(rules.host, rules.port, name, timeout=timeout)
        with server:
            if rules.tls == "starttls":
                server.starttls(context=context)
            if rules.user:
                server.login(rules.user, password)
            refused = server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise PeerError(f"the mail server {rules.host}:{rules.port} did not take it: {_words(error)}") from None
    if refused:
        raise PeerError(f"the mail server {rules.host}:{rules.port} refused {', '.join(sorted(refused))}")


def _words(error: Exception) -> str:
    """What an error says, without what a server may quote of our password or url."""
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{type(error).__name__} {error.smtp_code}"
    if isinstance(error, OSError):
        return str(error.strerror or getattr(error, "reason", "") or type(error).__name__)
    return type(error).__name__
