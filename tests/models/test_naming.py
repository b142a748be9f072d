import json
from pathlib import Path

import pytest

from models.codes import BODY_PARTS, FINDINGS, SOMETHING
from models.foreign import ImportRefused
from models.naming import concepts, is_finding


@pytest.mark.parametrize("name", ["normal", "Normal", "healthy", "No Finding", "no_findings", "NEGATIVE", "non-COVID"])
def test_a_label_that_names_no_finding_is_known(name: str) -> None:
    assert not is_finding(name, ("COVID", name))


@pytest.mark.parametrize("name", ["covid", "nodule", "Abnormal", "other", "non-tuberculous"])
def test_a_label_that_only_looks_like_it_stays_a_finding(name: str) -> None:
    assert is_finding(name, ("covid", name)), "nothing called X is beside it"


def test_labels_get_the_codes_that_are_known_whatever_their_spelling() -> None:
    found = concepts(None, ["covid", "pleural thickening", "CHEST"])
    assert found["covid"] == FINDINGS["COVID-19"]
    assert found["pleural thickening"] == FINDINGS["Pleural_Thickening"]
    assert found["CHEST"] == BODY_PARTS["chest"]


def test_an_unknown_label_gets_a_private_code_and_no_guessed_site() -> None:
    concept = concepts(None, ["rib fracture (healing)"])["rib fracture (healing)"]
    assert (concept.finding.value, concept.finding.scheme) == ("RIB_FRACTURE_HEA", "99OVERREAD")
    assert concept.finding.meaning == "rib fracture (healing)" and concept.site == SOMETHING


def test_two_labels_never_share_a_code() -> None:
    with pytest.raises(ImportRefused, match="two of them get the same code"):
        concepts(None, ["covid", "COVID-19"])
    with pytest.raises(ImportRefused, match="two of them get the same code"):
        concepts(None, ["a very long label of the left", "a very long label of the right"])


def test_codes_in_a_file_come_first_and_must_be_whole(tmp_path: Path) -> None:
    code = {"value": "1", "scheme": "99ME", "meaning": "Mine"}
    path = tmp_path / "codes.json"
    path.write_text(json.dumps({"covid": {"finding": code, "site": code | {"value": "2"}}}))
    assert concepts(path, ["covid"])["covid"].finding.scheme == "99ME"
    with pytest.raises(ImportRefused, match="covid: finding and site of one of flu are needed"):
        concepts(path, ["flu"])
    path.write_text(json.dumps({"covid": {"finding": code | {"value": "x" * 17}, "site": code}}))
    with pytest.raises(ImportRefused, match=r"codes\.json: covid\.finding\.value: .*16"):
        concepts(path, ["covid"])
    with pytest.raises(ImportRefused, match="cannot be read"):
        concepts(tmp_path / "gone.json", ["covid"])
