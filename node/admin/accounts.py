"""Who may use the dashboard: accounts, their passwords, the token that makes the first one, logging in and out.

A password is kept as its scrypt digest with the parameters beside it, a session by the digest of its token. What fails
is counted in rows, never waited for; a wrong name and a wrong password get the same answer after the same work.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import tempfile
import threading
from pathlib import Path

from node.errors import AccountError
from node.storage import accounts, roles
from node.storage.accounts import Account, Role, Session
from node.storage.store import Store

COST, BLOCK, PARALLEL = 2**15, 8, 3
"""scrypt's N, r and p: 32 MB and a fifth of a second, as OWASP recommends for logins."""
SHORTEST, LONGEST = 12, 256
WINDOW_SECONDS = 900.0
PER_ACCOUNT, PER_ADDRESS = 10, 30
"""Failed logins within the window, after which an address is shut out under that name, or altogether."""
LIMITS = accounts.Limits(here=PER_ACCOUNT, address=PER_ADDRESS, slow_from=2 * PER_ACCOUNT, slow_seconds=5.0)
"""Nobody is shut out by what others do elsewhere, who may know the name: after many failures tries only take turns."""
SEEN_SECONDS = 60.0
"""How exactly it is noted when a session was last used: a row for each click would be written for nothing."""
FIRST_FILE = "web.token"
MARK = "overread_"
"""How an API token begins, so that one that went astray is known for what it is."""

_hashing = threading.BoundedSemaphore(2)  # each one takes 32 MB


class Refused(AccountError):
    """The name or the password is wrong."""


class TooMany(AccountError):
    """Too many failed logins: try again in a quarter of an hour."""


class TooSoon(TooMany):
    """Somebody tries many passwords under this name: try again in a few seconds."""


def digest(password: str) -> str:
    """What is kept of a password.

    Raises:
        AccountError: it is too short or too long.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise AccountError(f"a password has {SHORTEST} to {LONGEST} characters; a sentence is easy to remember")
    salt = secrets.token_bytes(16)
    kept = (base64.b64encode(part).decode() for part in (salt, _scrypt(password, salt, COST, BLOCK, PARALLEL)))
    return "$".join(["scrypt", str(COST), str(BLOCK), str(PARALLEL), *kept])


def matches(password: str, kept: str) -> bool:
    _, cost, block, parallel, salt, wanted = kept.split("$")
    found = _scrypt(password[: LONGEST + 1], base64.b64decode(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(found, base64.b64decode(wanted))


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    with _hashing:
        memory = 2 * 128 * cost * block
        return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=memory, dklen=32)


NOBODY = "scrypt$" + "$".join([str(COST), str(BLOCK), str(PARALLEL), "AAAA", base64.b64encode(bytes(32)).decode()])
"""The digest of no password, so that an unknown name costs as much time as a known one."""


def add(store: Store, name: str, role: Role, password: str, *, first: bool = False, now: float) -> Account:
    """Make an account.

    Raises:
        AccountError: the name or the password is not usable, or the name is taken.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._@-]{0,63}", name):
        raise AccountError("an account's name is 1 to 64 of a-z 0-9 . _ @ - and starts with a letter or digit")
    return accounts.add(store, name, role, digest(password), first=first, now=now)


def set_password(store: Store, account: Account, password: str) -> None:
    """A new password; all sessions of the account end."""
    accounts.change(store, account, password=digest(password))


def log_in(store: Store, name: str, password: str, *, address: str, now: float) -> str:
    """Begin a session.

    Returns:
        Its token, which is kept nowhere else.

    Raises:
        Refused: no usable account has this name and password.
        TooMany: it was tried too often from this address.
        TooSoon: it was tried too often under this name, and was tried just now.
    """
    answer = accounts.attempt(store, name, address, LIMITS, since=now - WINDOW_SECONDS, now=now)
    if answer != "noted":
        raise TooMany if answer == "shut out" else TooSoon
    account = accounts.find(store, name)
    good = matches(password, account.password if account else NOBODY)
    token = secrets.token_urlsafe(32)
    if account and good and accounts.log_in(store, account, token_digest(token), address=address, now=now):
        return token
    raise Refused


def give_token(store: Store, account: Account, *, now: float) -> str:
    """A new API token of an account, in place of its former one; kept nowhere else.

    Raises:
        AccountError: the account is disabled.
    """
    if account.disabled:
        raise AccountError(f"{account.name} is disabled: `overread web account disable {account.name} --undo` first")
    token = f"{MARK}{secrets.token_urlsafe(32)}"
    accounts.give_token(store, account, token_digest(token), now=now)
    return token


def of_token(store: Store, token: str) -> Account | None:
    """Whose API token this is."""
    return accounts.of_token(store, token_digest(token))


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def session(store: Store, token: str, *, hours: float, idle_minutes: float, now: float, touch: bool) -> Session | None:
    """Who is logged in by a token; `touch`: this is a person's click, and the session is in use."""
    oldest, idle = now - 3600 * hours, now - 60 * idle_minutes
    found = accounts.session(store, token_digest(token), created_after=oldest, seen_after=idle)
    if found and touch and now - found.seen_at > min(SEEN_SECONDS, 30 * idle_minutes):
        accounts.seen(store, found, now=now)
    return found


def forget(store: Store, *, hours: float, idle_minutes: float, now: float) -> None:
    """Delete what ended by itself."""
    oldest, idle = now - 3600 * hours, now - 60 * idle_minutes
    accounts.forget(store, failed_before=now - WINDOW_SECONDS, created_before=oldest, seen_before=idle)


def first_token(store: Store, data_dir: Path) -> str | None:
    """The token that makes the first account, made when it is first asked for; None once there is an account."""
    if accounts.all_of(store):
        return None
    file = data_dir / roles.FOLDER / FIRST_FILE
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=file.parent, prefix=FIRST_FILE)  # with mode 0600
        with os.fdopen(handle, "w") as out:
            out.write(secrets.token_urlsafe(24))
        # Whoever comes first decides; linking fails where renaming would overwrite
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(part)
        Path(part).unlink()
    return file.read_text()


def add_first(store: Store, data_dir: Path, token: str, name: str, password: str, *, now: float) -> Account:
    """The first account, an admin, made by whoever can read the node's log or its folder.

    Raises:
        Refused: the token is wrong.
        AccountError: there is an account, or name or password are not usable.
    """
    wanted = first_token(store, data_dir)
    if wanted is None or not hmac.compare_digest(token.strip().encode(), wanted.encode()):
        raise Refused("this is not the token that the node wrote into its log, and that `overread web token` shows")
    made = add(store, name, Role.ADMIN, password, first=True, now=now)
    (data_dir / roles.FOLDER / FIRST_FILE).unlink(missing_ok=True)
    return made
