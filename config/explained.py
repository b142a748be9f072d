"""What each setting means, in the words of the example file: its one home is `node.example.toml`."""

from __future__ import annotations

import re
from functools import cache

from config.settings import EXAMPLE


@cache
def explained() -> dict[tuple[str, str], str]:
    """The comment above each key of the example file, as one text, by section and key."""
    found: dict[tuple[str, str], str] = {}
    section, said = "", list[str]()
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if header := re.fullmatch(r"#?\[+(\w+)\]+", line):
            section, said = header[1], []
        elif pair := re.fullmatch(r"#?(\w+) = .+", line):
            # One comment may be for several keys below it
            if said:
                found.setdefault((section, pair[1]), " ".join(said))
        elif line.startswith("# "):
            said.append(line[2:].strip())
        else:
            said = []
    return found
