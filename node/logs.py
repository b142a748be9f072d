"""Log lines for a collector: one JSON object each, with the event and its fields as keys.

Code logs `event key=value ...` as text; it is taken apart here, so that both forms say the same. Lines go to standard
error: systemd's journal and containers keep them, and a file of our own would need what those have.
"""

from __future__ import annotations

import ast
import json
import logging
import re
import warnings
from datetime import UTC, datetime

from config.settings import Settings

EVENT = re.compile(r"([a-z][a-z-]*(?:\.[a-z-]+)+):?(?: |$)")
FIELD = re.compile(r"([a-z_]+)=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s]*)(?: |$)")
OURS = ("at", "level", "process", "logger", "event", "message")


class JsonLines(logging.Formatter):
    """`process`: whose lines they are."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {"at": at, "level": record.levelname, "process": self._process, "logger": record.name}
        return json.dumps(said | fields(record.getMessage()))


def fields(text: str) -> dict[str, object]:
    """The event of a line, its fields, and what else it says as `message`. A field never takes the place of a key of
    the line itself."""
    event = EVENT.match(text)
    if not event:
        return {"message": text}
    said: dict[str, object] = {"event": event[1]}
    rest = text[event.end() :]
    while field := FIELD.match(rest):
        name = f"{field[1]}_" if field[1] in OURS else field[1]
        said[name] = _value(field[2].rstrip(":,"))
        rest = rest[field.end() :]
    return said | ({"message": rest} if rest else {})


def _value(written: str) -> object:
    if written[:1] in ("'", '"'):
        try:
            return ast.literal_eval(written)
        except (ValueError, SyntaxError):
            return written
    if re.fullmatch(r"[+-]?(0|[1-9]\d{0,14})", written):
        return int(written)
    if re.fullmatch(r"[+-]?\d{1,15}\.\d+", written):
        return float(written)
    return written


def set_up_logging(settings: Settings, process: str) -> None:
    """Events by name with hashed ids, to standard error; never patient data."""
    form = "%(asctime)s %(levelname)s %(name)s %(message)s"
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(process) if settings.log.form == "json" else logging.Formatter(form))
    logging.basicConfig(level=settings.log.level, handlers=[handler], force=True)
    chatty = (
        "pynetdicom pydicom apscheduler sqlalchemy PIL tensorflow absl h5py dicomweb_client requests urllib3 retrying "
        "uvicorn asyncio multipart python_multipart"
    )
    for name in chatty.split():
        logging.getLogger(name).setLevel(logging.CRITICAL)


def hush_pydicom() -> None:
    """pydicom quotes the values that it complains about, and those are patient data."""
    import pydicom.config

    warnings.simplefilter("ignore")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
