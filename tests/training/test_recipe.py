"""Every recipe as a file, what `--set` changes in it, and what it makes of the real folders."""

from __future__ import annotations

import importlib
import shlex
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from drawn import films

from models import preprocess
from training import recipe
from training.errors import RecipeError
from training.manifest import findings
from training.recipe import ALLOWED, Settings, named

NAMES = recipe.names()


def answered(name: str) -> dict[str, str]:
    """The first answer to what a recipe will not decide by itself."""
    found = recipe.named_plainly(name)
    return {key: found.open[key][0] for key in found.asked}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_complete(name: str) -> None:
    found = named(name, answered(name))
    assert all(step.step in preprocess.STEPS for step in found.steps)
    assert "esearch use only" in found.intended_use and found.not_for and found.data_note
    assert found.labels and (found.asked or found.bundle == found.name), "the default answers name the bundle"
    assert all(found.concepts(found.choices).values()), "every label has its codes"
    assert all(low <= getattr(found.settings, key) <= high for key, (low, high) in ALLOWED.items())


@pytest.mark.parametrize("name", NAMES)
def test_nih_is_cited_where_its_films_are_used(name: str) -> None:
    text = Path(importlib.import_module(f"training.recipes.{name}").__file__ or "").read_text()
    if "sources.nih" in text or "pediatric" in text:
        assert recipe.NIH_CITATION in recipe.named_plainly(name).data_note


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_in_a_recipes_docstring_are_understood(name: str) -> None:
    text = importlib.import_module(f"training.recipes.{name}").__doc__ or ""
    commands = [shlex.split(line) for line in text.splitlines() if line.strip().startswith("overread-train fit")]
    assert commands
    for words in commands:
        options = list(zip(words[3::2], words[4::2], strict=True))
        assert words[2] == name and {"--data", "--weights", "--out"} <= {key for key, _ in options}
        changed = dict(value.split("=") for key, value in options if key == "--set")
        assert named(words[2], changed).labels


@pytest.mark.parametrize("name", NAMES)
def test_every_choice_is_a_bundle_of_its_own(name: str) -> None:
    for key, answers in recipe.named_plainly(name).open.items():
        found = [named(name, {key: answer}) for answer in answers]
        assert len({f.bundle for f in found}) == len(answers) and all(f.labels for f in found)


def test_what_a_recipe_does_not_decide_must_be_said() -> None:
    with pytest.raises(RecipeError, match=r"one_finding: --set finding=\.\.\. is needed, one of Atelectasis, "):
        named("one_finding", {})
    assert named("one_finding", {"finding": "pneumothorax"}).bundle == "finding-pneumothorax"


def test_a_bundle_may_get_a_name_and_a_version_of_its_own() -> None:
    found = named("chest_abnormal", {}, called="our-films", version="1.1.0")
    assert (found.bundle, found.version, found.file) == ("our-films", "1.1.0", "chest_abnormal")
    for name, version in (("Our films", ""), ("", "2")):
        with pytest.raises(RecipeError, match="is needed"):
            named("chest_abnormal", {}, called=name, version=version)


def test_every_recipe_says_what_it_is() -> None:
    assert all(20 < len(recipe.described(name)) < 200 and "\n" not in recipe.described(name) for name in NAMES)


def test_a_choice_changes_labels_and_head() -> None:
    assert named("cardiomegaly_inceptionv3", {"finding": "Atelectasis"}).labels == ("Atelectasis",)
    gate = named("body_part", {"head": "multilabel"})
    assert (named("body_part", {}).task, gate.task, gate.bundle) == ("multiclass", "multilabel", "body-part-multilabel")


def test_settings_can_be_changed_and_keep_their_kind() -> None:
    found = named("chest-findings", {"size": "320", "strength": "0.5", "train_from": "head"})
    assert (found.settings.size, found.settings.strength, found.settings.train_from) == (320, 0.5, "head")
    assert found.steps[0].arguments == {"height": 320, "width": 320}


def test_every_setting_that_is_a_number_has_its_limits() -> None:
    assert {f.name for f in fields(Settings)} - set(ALLOWED) == {"backbone", "train_from"}


@pytest.mark.parametrize(
    ("name", "key", "text", "said"),
    [
        ("lungs", "size", "1", r"lungs: no such recipe \(have: body_part, .*nih_sick, one_finding\)"),
        ("chest_findings", "colour", "1", r"colour: no such setting \(have: backbone, size, .*lower_sensitivity\)"),
        ("covid_vgg16", "colour", "1", r"no such setting \(have: negatives, backbone"),
        ("chest_findings", "size", "big", "size = 'big': int is needed"),
        ("chest_findings", "size", "320.5", "int is needed"),
        ("chest_findings", "rate", "", "rate = '': float is needed"),
        ("chest_findings", "rate", "nan", "rate = nan: 1e-09 to 1 is allowed"),
        ("chest_findings", "size", "0", "size = 0: 32 to 2048 is allowed"),
        ("chest_findings", "folds", "0", "folds = 0: 1 to 100 is allowed"),
        ("chest_findings", "copies", "-1", "copies = -1: 0 to 100 is allowed"),
        ("covid_vgg16", "negatives", "none", "negatives = 'none': covid_vgg16 allows published, adult"),
        ("nih14", "folds", "5", r"patience = 3 with folds = 5: only a single split \(folds = 1\)"),
        ("body_part", "folds", "2", "folds = 2: body-part learns from films that are left out"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(name: str, key: str, text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        named(name, {key: text})


def test_images_without_a_patient_are_refused_unless_the_recipe_says_so(tmp_path: Path) -> None:
    items = films(tmp_path, patients=3)
    nameless = findings(("Spot",), [replace(items[0], patient=""), *items[1:]])
    found = replace(named("chest_findings", {}), manifest=lambda _data, _choices, _work: nameless)
    with pytest.raises(RecipeError, match="chest_findings: 1 images without a known patient"):
        found.read(tmp_path, tmp_path)
    assert len(replace(found, patients_unknown=True).read(tmp_path, tmp_path).items) == 6


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "choices", "images", "patients", "positives"),
    [
        ("chest_abdomen", {}, 65, 65, [33, 32]),
        ("covid_vgg16", {}, 226, 185, [126]),
        ("covid_vgg16", {"negatives": "adult"}, 409, 368, [126]),
        ("cardiomegaly_inceptionv3", {}, 924, 408, [117]),
        ("cardiomegaly_inceptionv3", {"finding": "Atelectasis"}, 949, 436, [142]),
        ("nih_sick", {}, 821, 220, [417]),
        ("chest_abnormal", {}, 1510, 881, [703]),
        ("chest_findings", {}, 1510, 881, [142, 117, 118, 101, 68, 63, 95, 80]),
    ],
    ids=str,
)
def test_a_recipe_counts_what_the_readme_files_count(
    data_dir: Path, name: str, choices: dict[str, str], images: int, patients: int, positives: list[int]
) -> None:
    chosen = named(name, choices)
    found = chosen.read(data_dir, data_dir)
    assert found.labels == chosen.labels
    assert (len(found.items), len(set(found.groups))) == (images, patients)
    assert (found.targets * found.counted).sum(axis=0).tolist() == positives
    assert chosen.patients_unknown or all(item.patient for item in found.items)
    assert len({item.path for item in found.items}) == images


@pytest.mark.data
def test_the_14_labels_count_the_text_mined_ones_too(data_dir: Path) -> None:
    found = named("nih14", {"films": "nih_adleberg"}).read(data_dir, data_dir)
    assert len(found.labels) == 14 and found.counted.all()
    assert found.targets[:, found.labels.index("Hernia")].sum() == 2
    assert (found.targets.sum(axis=1) == 0).sum() == 807, "films labelled No Finding bear none of them"


@pytest.mark.data
def test_adult_negatives_are_one_pa_film_of_each_adult_without_findings(data_dir: Path) -> None:
    items = named("covid_vgg16", {"negatives": "adult"}).read(data_dir, data_dir).items
    well = [i for i in items if "COVID-19" not in i.labels]
    assert len({i.patient for i in well}) == len(well) == 283
    assert all(i.view == "PA" and i.age is not None and i.age >= 18 for i in well)


@pytest.mark.data
@pytest.mark.slow
def test_the_gate_trains_on_half_of_the_tiles_and_counts_the_other_half(data_dir: Path, tmp_path: Path) -> None:
    chosen = named("body_part", {})
    found = chosen.read(data_dir, tmp_path)
    counts = dict(zip(found.labels, found.targets.sum(axis=0).tolist(), strict=True))
    assert counts.pop("chest") == 33 + 1510 + 350 and counts.pop("abdomen") == 32
    assert counts.pop("other") == 1510 + 350 + 2 * 32 and set(counts.values()) == {350}
    parents = {g for g, t in zip(found.groups, found.targets, strict=True) if not t[found.labels.index("other")]}
    assert set(found.groups) == parents, "a spoiled film is of the patient of its film"
    assert chosen.known
    known = chosen.known(data_dir)
    groups = {**known.familiar, **known.foreign}
    assert all(groups.values()), "no group of images is empty"
    assert not {i.path for items in groups.values() for i in items} & {i.path for i in found.items}
    assert np.isin([i.group for i in known.foreign["hand tiles, 64 px"]], list(parents)).sum() == 0
