"""What is installed: the wheel's contents, the commands, and the guard against others who own our import names."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from node.admin.doctor import IMPORT_NAMES, import_names
from node.errors import ImportNameError

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = folder.glob("overread-*.whl")
    return made


@pytest.mark.slow
def test_the_wheel_holds_the_four_packages_their_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {n.split("/")[0] for n in names}
    assert {t for t in tops if not t.startswith("overread-")} == set(IMPORT_NAMES)
    for wanted in (
        "config/node.example.toml",
        "models/bundles/body-part-1.0.0/bundle.json",
        "node/cli/__init__.py",
        "node/web/templates/base.html",
        "node/web/templates/parts/flow.html",
        "node/web/static/style.css",
    ):
        assert wanted in names
    assert not [n for n in names if "test" in n.lower().split("/")[-1] and n.endswith(".py")]


@pytest.mark.parametrize("command", ["overread", "overread-train"])
def test_the_commands_say_what_they_do(command: str) -> None:
    done = subprocess.run([BIN / command, "--help"], capture_output=True, text=True, check=True)
    assert "research use only" in done.stdout.lower()


def test_our_import_names_are_ours_here() -> None:
    import_names()


def plant(folder: Path, distribution: str, module: str) -> None:
    """A distribution that brings a module of one of our names, as pip would leave it."""
    (folder / module).mkdir(parents=True)
    (folder / module / "__init__.py").touch()
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "top_level.txt").write_text(f"{module}\n")
    (info / "RECORD").write_text(f"{module}/__init__.py,,\n")


def test_another_distribution_of_the_same_name_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "somebody-else", "config")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportNameError, match=r"somebody-else.*'config'"):
        import_names()


def test_a_folder_of_the_same_name_on_the_path_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").touch()
    guard = "from node.admin.doctor import import_names; import_names()"
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {guard}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ImportNameError" in done.stderr
    assert "training" in done.stderr
