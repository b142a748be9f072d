"""Comparisons in a child process: whatever a file does to the decoder, the answer is a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from films_made import film
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless

from models import compare
from models.compare import differences

Writer = Callable[..., Path]
FATAL = """
import os, signal
import models.pixels

def fatal(a, b):
    if b.name == "fatal.dcm":
        os.kill(os.getpid(), signal.{signal})
    return True

models.pixels.decoded_equal = fatal
"""


@pytest.fixture
def fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A file whose decoding sends this signal to the process that does it."""

    def make(name: str) -> Path:
        (tmp_path / "sitecustomize.py").write_text(FATAL.format(signal=name))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return tmp_path / "fatal.dcm"

    return make


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """A file that never ends: opening it waits for somebody who writes."""
    path = tmp_path / "silent.dcm"
    os.mkfifo(path)
    return path


def test_a_re_encoding_is_equal_and_other_pixels_are_not(dicom: Writer, tmp_path: Path) -> None:
    plain = dicom(film())
    ds = dcmread(plain)
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    packed = tmp_path / "packed.dcm"
    ds.save_as(packed)
    assert differences([(plain, packed), (plain, dicom(film(32)))]) == ["", "PixelData: the decoded pixels differ"]


def test_nothing_to_compare_starts_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert differences([]) == []
    with pytest.raises(OSError, match="nowhere"):
        differences([(Path("a"), Path("b"))])


def test_what_cannot_be_decoded_or_read_is_told_and_the_next_pair_has_its_turn(dicom: Writer, tmp_path: Path) -> None:
    whole, broken = dicom(film()), dicom(film(), Rows=65)
    said = differences([(whole, broken), (whole, tmp_path / "gone.dcm"), (whole, whole)])
    assert said[0].startswith("cannot be compared: The pixel data ends early")
    assert said[1:] == ["cannot be compared: a file cannot be read: No such file or directory", ""]


def test_a_crash_of_the_decoder_is_one_pair_s_answer(dicom: Writer, fatal: Callable[[str], Path]) -> None:
    path, bad = dicom(film()), fatal("SIGSEGV")
    said = differences([(path, path), (path, bad), (path, path)])
    assert said == ["", "cannot be compared: the decoder ended its process (SIGSEGV)", ""]


def test_a_decoder_that_hangs_is_ended_and_the_rest_not_waited_for(dicom: Writer, silent: Path) -> None:
    path = dicom(film())
    said = differences([(path, path), (path, silent), (path, path)], seconds=1)
    assert said[0] == ""
    assert said[1] == "cannot be compared: it took more than 1 s"
    assert said[2].startswith("cannot be compared: not tried")


@pytest.mark.slow
def test_a_child_whose_alarm_fails_is_killed(
    dicom: Writer, silent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import signal\nsignal.alarm = lambda _: 0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(compare, "START_SECONDS", 2)
    path = dicom(film())
    assert differences([(path, silent)], seconds=1) == ["cannot be compared: it took more than 1 s"]


def test_a_child_that_was_told_to_stop_says_nothing_about_the_files(
    dicom: Writer, fatal: Callable[[str], Path]
) -> None:
    with pytest.raises(InterruptedError, match="stopped by signal 15"):
        differences([(dicom(film()), fatal("SIGTERM"))])


def test_what_a_decoder_prints_is_no_answer(dicom: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = "import os, models.pixels\nmodels.pixels.decoded_equal = lambda a, b: os.write(1, b'\"\"\\n') == 0\n"
    (tmp_path / "sitecustomize.py").write_text(noisy)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = dicom(film())
    assert differences([(path, path)]) == ["PixelData: the decoded pixels differ"]


def test_any_error_of_a_parser_is_no_equality(dicom: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(_a: Path, _b: Path) -> bool:
        raise KeyError("secret")

    monkeypatch.setattr(compare, "decoded_equal", odd)
    path = dicom(film())
    assert compare.difference((path, path)) == "cannot be compared: the decoder failed (KeyError)"


def test_the_child_ends_by_itself_when_nobody_waits_for_it(dicom: Writer, silent: Path) -> None:
    asked = f'[["{dicom(film())}", "{silent}"]]'.encode()
    done = subprocess.run(
        [sys.executable, "-m", "models.compare", "1"], input=asked, capture_output=True, timeout=20, check=False
    )
    assert done.returncode == -signal.SIGALRM


def test_the_child_loads_no_tensorflow() -> None:
    code = "import sys, models.compare; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
