import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_made import COUNT, films, folds, items, pictures, told
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from training import audit, sources
from training.audit.whole import asked
from training.cli import app
from training.errors import ManifestError
from training.manifest import NO_FINDING, Item, findings

QUIET = Console(quiet=True)
MANIFEST = findings(["Spot"], items())
GOOD, CHANCE = told(3.0, MANIFEST), told(0.0, MANIFEST, seed=3)


def test_with_every_score_every_check_is_run_and_an_honest_model_passes() -> None:
    scores = {"plain": GOOD, "hidden": CHANCE, "64 px": GOOD}
    found = audit.audited("finding", MANIFEST, films(pictures(COUNT)), folds(), scores=scores)
    assert found.verdict == "pass", found.summary
    assert "not run" not in {c.status for c in found.checks}


def test_without_a_model_the_data_is_audited_and_that_is_no_pass() -> None:
    found = audit.audited("finding", MANIFEST, films(pictures(COUNT)), folds(), scores={})
    assert found.verdict == "warn"
    assert {c.name for c in found.checks if c.status == "not run"} == {"organ hidden", "gain over pixels"}


def test_scores_that_do_not_fit_are_refused() -> None:
    for scores, said in (
        ({"blurred": GOOD}, "no such films"),
        ({"plain": GOOD[:5]}, r"\(120, 1\) values"),
        ({"plain": np.full_like(GOOD, np.nan)}, "held-out film has none"),
    ):
        with pytest.raises(ManifestError, match=said):
            audit.audited("finding", MANIFEST, films(pictures(COUNT)), folds(), scores=scores)


def test_labels_are_asked_against_films_without_any_finding_or_else_against_the_rest() -> None:
    made = items()
    well = asked(made, "")
    assert well.labels == ("Spot",) and well.counted.all()
    kinds = [replace(i, labels=frozenset({"Mark"})) if NO_FINDING in i.labels else i for i in made]
    assert asked(kinds, "").labels == ("Mark", "Spot") and asked(kinds, "Spot").labels == ("Spot",)
    assert len(asked([*kinds, Item(Path("x.png"), "drawn")], "").items) == COUNT
    with pytest.raises(ManifestError, match="have: Spot"):
        asked(made, "Cardiomegaly")
    with pytest.raises(ManifestError, match="two labels"):
        asked([i for i in made if "Spot" in i.labels], "")


def folder(path: Path, *, apart: bool) -> Path:
    """A folder per class; `apart`: the sick films are bright in a corner."""
    for number, film in enumerate(pictures(60)):
        kind = ("well", "spot")[number % 2]
        if apart and kind == "spot":
            film[:24, :24] = 255
        (path / kind).mkdir(exist_ok=True)
        Image.fromarray(film).save(path / kind / f"{number}.png")
    return path


@pytest.mark.parametrize(("apart", "code", "verdict"), [(True, 1, "fail"), (False, 0, "warn")])
def test_the_command_says_the_verdict_first_and_exits_by_it(
    tmp_path: Path, apart: bool, code: int, verdict: str
) -> None:
    run = CliRunner().invoke(app, ["audit", "--data", str(folder(tmp_path, apart=apart))])
    assert run.exit_code == code, run.output
    assert run.stdout.startswith(f"Verdict: {verdict}")
    assert "pixel baseline" in run.stdout


def test_the_command_gives_json_alone_on_its_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = CliRunner().invoke(app, ["audit", "--data", str(folder(tmp_path, apart=True)), "--json", "--out", str(out)])
    content = json.loads(run.stdout)
    assert run.exit_code == 1 and content["verdict"] == "fail" and content["limits"] == audit.LIMITS
    assert json.loads((out / "report.json").read_text()) == content
    assert "<strong>FAIL</strong>" in (out / "report.html").read_text()


def test_a_label_that_the_data_does_not_have_is_exit_code_2(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["audit", "--data", str(folder(tmp_path, apart=False)), "--label", "Mass"])
    assert run.exit_code == 2 and "no such label (have: spot, well)" in run.stderr


@pytest.mark.data
def test_the_published_covid_films_fail_by_small_pixels(data_dir: Path, tmp_path: Path) -> None:
    made = sources.covid_mpdem(data_dir / "covid_mpdem")
    found = audit.of_items("finding", made, label="", kept=tmp_path, console=QUIET)
    by_name = {c.name: c for c in found.checks}
    assert found.verdict == "fail" and by_name["pixel baseline"].status == "fail"
    assert by_name["pixel baseline"].value == pytest.approx(0.99, abs=0.01)
    assert by_name["metadata baseline"].status == "fail"
    assert "of 100 films with No Finding the age is known of none" in found.summary


@pytest.mark.data
def test_nih_cardiomegaly_does_not_fail_on_its_data(data_dir: Path, tmp_path: Path) -> None:
    made = sources.nih_adleberg(data_dir / "nih_adleberg", data_dir / "nih_metadata")
    found = audit.of_items("finding", made, label="Cardiomegaly", kept=tmp_path, console=QUIET)
    assert found.verdict == "warn" and not [c.text for c in found.checks if c.status in ("fail", "warn")]
