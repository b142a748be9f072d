"""A DICOM object as a PNG picture for people, made by a child process: decoders may crash, hang or devour memory.

`python -m models.render SECONDS EDGE PATH` writes the picture to standard output, at most EDGE pixels on a side.
A grey image is shown as its window says, a coloured one (our own captures) as it is; of several frames the middle one.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models import decode, grey, header, multiframe
from models.refusal import NotAnalysable

SECONDS = 20
BUDGET_BYTES = 256 * 1024**2
MEMORY_BYTES = 3 * 1024**3
"""Of the child's address space: a film of the budget's size, its floats, and the libraries."""
START_SECONDS = 20
NO_PICTURE = 3
"""Exit code of a child that says on standard error why there is no picture."""


def png(path: Path, *, edge: int, seconds: int = SECONDS) -> bytes:
    """The picture of a DICOM file.

    Raises:
        NotAnalysable: there is none; the sentence holds no patient data.
        OSError: no child can be started.
    """
    command = [sys.executable, "-m", "models.render", str(seconds), str(edge), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=START_SECONDS + seconds, check=False)
    except subprocess.TimeoutExpired:
        raise NotAnalysable("undecodable", f"The picture took more than {seconds} s.") from None
    if done.returncode == 0 and done.stdout:
        return done.stdout
    if done.returncode == NO_PICTURE:
        raise NotAnalysable("undecodable", done.stderr.decode(errors="replace").strip().splitlines()[-1][:200])
    if done.returncode == -signal.SIGALRM:
        raise NotAnalysable("undecodable", f"The picture took more than {seconds} s.")
    raise NotAnalysable("undecodable", "The decoder failed on this object.")


def picture(path: Path, *, edge: int) -> Image.Image:
    """Decode here and now, in this process.

    Raises:
        NotAnalysable, OSError: there is no picture.
    """
    file = multiframe.opened(path, budget_bytes=BUDGET_BYTES)
    ds = file.alone(header.of_dataset(file.head).frames // 2)
    stored = decode.stored_values(ds, 0, budget_bytes=BUDGET_BYTES)
    shown = Image.fromarray(_bytes(stored if stored.ndim == 3 else grey.of_dataset(stored, ds)))
    shown.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    return shown


def _bytes(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    if values.ndim == 2:  # grey in [0, 1]
        return np.asarray(np.rint(np.asarray(values, np.float32) * 255), np.uint8)
    if values.dtype != np.uint8:
        raise NotAnalysable("unsupported", "Colour of more than 8 bits is not shown.")
    return np.asarray(values[..., :3], np.uint8)


def main(seconds: int, edge: int, path: Path) -> int:
    """Write the picture, or why there is none."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.alarm(seconds)
    # Decoders write to standard output, which is for the picture
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        try:
            data = io.BytesIO()
            picture(path, edge=edge).save(data, "PNG")
        except NotAnalysable as error:
            sys.stderr.write(f"\n{error.reason}\n")
            return NO_PICTURE
        except OSError:
            sys.stderr.write("\nThe file cannot be read.\n")
            return NO_PICTURE
        except (MemoryError, *decode.PARSER_ERRORS):
            sys.stderr.write("\nThe object cannot be decoded.\n")
            return NO_PICTURE
        out.write(data.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
