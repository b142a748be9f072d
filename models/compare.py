"""Do two DICOM files hold the same pixels? Asked of a child process, because decoders may crash, hang or devour memory.

`python -m models.compare` reads pairs of paths as JSON from standard input and answers one line for each pair. A pair
that ends or outlasts the process is one that cannot be compared; it never counts as equal. Never loads TensorFlow.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.decode import PARSER_ERRORS
from models.pixels import NotAnalysable, decoded_equal

Pair = tuple[Path, Path]

SECONDS = 60
"""For one pair: two files of the largest size that is read at all."""
START_SECONDS = 30
EQUAL, OTHER_PIXELS = "", "PixelData: the decoded pixels differ"
STOPPED = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
"""Whoever sends these stops the program: that says nothing about the files."""


def differences(pairs: Sequence[Pair], *, seconds: int = SECONDS) -> list[str]:
    """What keeps each pair from being the same picture: "" when nothing does, else a sentence without patient data.

    One child for all, as starting it costs more than most comparisons; another one for those after a crash. After a
    pair that took more than `seconds` the others are not tried: they could make the caller wait as long, each.

    Raises:
        OSError: no child can be started, or somebody stopped it. Nothing is known then; ask again later.
    """
    found: list[str] = []
    while len(found) < len(pairs):
        answers, code = _ask(pairs[len(found) :], seconds)
        found += answers
        if len(found) == len(pairs):
            break
        if code in STOPPED:
            raise InterruptedError(f"the comparison was stopped by signal {-code}")
        if code == -signal.SIGALRM:
            found.append(f"cannot be compared: it took more than {seconds} s")
            found += ["cannot be compared: not tried, as the comparison of another instance took too long"] * (
                len(pairs) - len(found)
            )
        else:
            found.append(f"cannot be compared: the decoder ended its process ({_name(code)})")
    return found


def _ask(pairs: Sequence[Pair], seconds: int) -> tuple[list[str], int]:
    """The answers of one child, as many as it came to give, and its exit code."""
    command = [sys.executable, "-m", "models.compare", str(seconds)]
    asked = json.dumps([[str(a), str(b)] for a, b in pairs]).encode()
    limit = START_SECONDS + seconds * len(pairs)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        try:
            said, _ = child.communicate(asked, timeout=limit)
        except subprocess.TimeoutExpired:
            # Its own alarm should have ended it; what it said so far is read at the second call
            child.kill()
            said, _ = child.communicate()
            return list(_answers(said)), -signal.SIGALRM
        return list(_answers(said)), child.returncode


def _answers(said: bytes) -> Iterator[str]:
    """Whole lines only: the last one may have been cut off."""
    for line in said.splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield str(json.loads(line))


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def difference(pair: Pair) -> str:
    """Compare here and now, in this process."""
    try:
        return EQUAL if decoded_equal(*pair) else OTHER_PIXELS
    except NotAnalysable as error:
        return f"cannot be compared: {error.reason}"
    except OSError as error:
        return f"cannot be compared: a file cannot be read: {error.strerror}"
    except PARSER_ERRORS as error:
        return f"cannot be compared: the decoder failed ({type(error).__name__})"


def main(seconds: int) -> None:
    """Answer until the pairs are done; one that takes too long ends this process, whoever may still listen."""
    # Decoders write to standard output, which is for answers
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        for a, b in json.loads(sys.stdin.buffer.read()):
            signal.alarm(seconds)
            out.write(json.dumps(difference((Path(a), Path(b)))) + "\n")
            out.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
