"""What the documents say can be done: the commands exist, the settings load, the links lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import typer

import training.cli
from config.settings import Settings
from node.cli import app
from training.recipe import names
from training.sources import SOURCES

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("[a-z]*/[A-Z]*.md"))]
TEXT = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}


def commands(group: typer.Typer, before: str = "") -> set[str]:
    names = {before + (c.name or c.callback.__name__) for c in group.registered_commands if c.callback}
    for sub in group.registered_groups:
        assert sub.typer_instance is not None
        names |= {f"{before}{sub.name}"} | commands(sub.typer_instance, f"{before}{sub.name} ")
    return names


def test_every_command_of_the_program_is_in_the_readme_and_the_other_way_round() -> None:
    have = commands(app)
    words = re.findall(r"`(?:\.venv/bin/)?overread ([a-z]+(?: [a-z]+)?)", TEXT[ROOT / "README.md"])
    words += re.findall(r"^\.venv/bin/overread ([a-z]+)", TEXT[ROOT / "README.md"], re.MULTILINE)
    said = {w if w in have else w.split()[0] for w in words}
    assert said <= have
    top = {name.split()[0] for name in have} - {"demo"}
    assert top <= {s.split()[0] for s in said}


def test_every_training_command_in_the_documents_exists_and_names_a_recipe_or_source_that_exists() -> None:
    have = {c.name or c.callback.__name__ for c in training.cli.app.registered_commands if c.callback}
    text = "\n".join(TEXT.values())
    said = re.findall(r"overread-train ([a-z]+)(?: ([a-z0-9_]+))?", text)
    assert {verb for verb, _ in said} == have
    assert {what for verb, what in said if verb == "fit" and what} <= set(names())
    listed = TEXT[ROOT / "training" / "README.md"].partition("## The sources")[2]
    assert set(SOURCES) <= set(re.findall(r"`([a-z0-9_]+)`", listed))


def test_the_settings_in_the_readme_load(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", TEXT[ROOT / "README.md"], re.DOTALL)
    block = "\n".join(blocks)
    file = tmp_path / "overread.toml"
    file.write_text(block)
    assert Settings.load(file).route[0].deliver_to == ["pacs"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT[document]):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("folder", ["acceptance", "faults"])
def test_what_a_table_says_is_shown_is_shown_by_files_that_are_there(folder: str) -> None:
    text = (ROOT / "tests" / folder / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:[a-z]+/)?test_[a-z0-9_]+\.py)`", text)
    assert named
    for name in named:
        assert (ROOT / "tests" / name).is_file() or (ROOT / "tests" / folder / name).is_file(), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", TEXT[document])) <= targets


def test_the_makefile_explains_itself_in_at_most_ten_lines() -> None:
    said = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert 1 < len(said.splitlines()) <= 10
    assert "make demo" in said


def test_research_use_only_is_said_first() -> None:
    assert "Research use only. Not a medical device." in "\n".join(TEXT[ROOT / "README.md"].splitlines()[:12])
