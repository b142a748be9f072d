import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from films_made import seal, spec

from models.bundle import REQUIRED, Bundle, BundleError

Writer = Callable[..., Path]


def test_a_sealed_bundle_loads_and_names_itself(bundle_folder: Writer) -> None:
    bundle = Bundle.load(bundle_folder())
    assert bundle.ref == "heart@1.2.0"
    assert bundle.audit_verdict == "warn"
    assert bundle.spec.labels[0].finding.code.meaning == "Cardiomegaly"
    assert bundle.spec.steps[0].arguments == {"height": 8, "width": 8}
    assert len(bundle.digest) == 64


def test_the_digest_names_every_byte(bundle_folder: Writer, tmp_path: Path) -> None:
    first = Bundle.load(bundle_folder(root=tmp_path / "a"))
    same = Bundle.load(bundle_folder(root=tmp_path / "b"))
    other = Bundle.load(bundle_folder(root=tmp_path / "c", family="another"))
    assert first.digest == same.digest != other.digest


@pytest.mark.parametrize("name", REQUIRED)
def test_a_flipped_bit_is_found_and_named(bundle_folder: Writer, name: str) -> None:
    folder = bundle_folder()
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=name):
        Bundle.load(folder)


@pytest.mark.parametrize("name", [*REQUIRED, "SHA256SUMS"])
def test_a_missing_file_is_named(bundle_folder: Writer, name: str) -> None:
    folder = bundle_folder()
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.load(folder)


def test_a_required_file_that_was_never_listed_is_named(bundle_folder: Writer) -> None:
    folder = bundle_folder()
    (folder / "golden.npz").unlink()
    seal(folder)
    with pytest.raises(BundleError, match=r"golden\.npz"):
        Bundle.load(folder)


def test_an_extra_file_is_named(bundle_folder: Writer) -> None:
    folder = bundle_folder()
    (folder / "code.py").write_text("print()")
    with pytest.raises(BundleError, match=r"code\.py.*not listed"):
        Bundle.load(folder)


def test_a_list_cannot_point_outside_the_folder(bundle_folder: Writer) -> None:
    folder = bundle_folder()
    (folder.parent / "outside").write_text("x")
    with (folder / "SHA256SUMS").open("a") as file:
        file.write("0" * 64 + "  ../outside\n")
    with pytest.raises(BundleError, match="outside"):
        Bundle.load(folder)


def test_a_renamed_folder_is_refused(bundle_folder: Writer) -> None:
    folder = bundle_folder()
    with pytest.raises(BundleError, match=r"must be heart-1\.2\.0"):
        Bundle.load(folder.rename(folder.parent / "heart-9.9.9"))


def label(**changes: Any) -> list[dict[str, Any]]:
    return [spec()["labels"][0] | changes]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"task": "guess"}, "task"),
        ({"colour": "red"}, "colour"),
        ({"preprocessing": [{"step": "sharpen"}]}, "no such step"),
        ({"preprocessing": []}, "preprocessing"),
        ({"labels": label(lower=0.6)}, "above the threshold"),
        ({"labels": label(threshold=1.5)}, "threshold"),
        ({"labels": label() + label()}, "same name"),
        ({"task": "multiclass"}, "cannot have 1"),
        ({"calibration": {"method": "platt", "slope": [1, 2], "intercept": [0]}}, r"calibration\.slope"),
        ({"gate": {"bundle": "g", "accept": [], "at_least": 0.5}}, "accept"),
        ({"out_of_distribution": {"method": "mahalanobis", "file": "reference.npz", "limit": 1}}, r"reference\.npz"),
        ({"accepts": {"frames": "last"}}, "frames"),
    ],
)
def test_a_bundle_that_says_what_cannot_be_is_refused(bundle_folder: Writer, changes: Any, named: str) -> None:
    with pytest.raises(BundleError, match=named):
        Bundle.load(bundle_folder(**changes))


def test_an_audit_without_a_verdict_is_refused(bundle_folder: Writer) -> None:
    folder = bundle_folder(verdict="splendid")
    with pytest.raises(BundleError, match="splendid"):
        Bundle.load(folder)
    (folder / "audit.json").write_text(json.dumps([]))
    seal(folder)
    with pytest.raises(BundleError, match="no verdict"):
        Bundle.load(folder)


REFERENCE = {"method": "mahalanobis", "limit": 1}


@pytest.mark.parametrize("name", ["../outside.npz", "d/reference.npz", "..", "", "d\\reference.npz"])
def test_a_reference_is_a_plain_name(bundle_folder: Writer, name: str) -> None:
    folder = bundle_folder(out_of_distribution=REFERENCE | {"file": name})
    (folder.parent / "outside.npz").write_text("x")
    with pytest.raises(BundleError, match=r"out_of_distribution\.file"):
        Bundle.load(folder)


def test_a_reference_that_is_there_and_listed_loads(bundle_folder: Writer) -> None:
    folder = bundle_folder(out_of_distribution=REFERENCE | {"file": "reference.npz"})
    (folder / "reference.npz").write_text("x")
    seal(folder)
    assert Bundle.load(folder).spec.out_of_distribution is not None
    itself = bundle_folder(root=folder.parent / "b", out_of_distribution=REFERENCE | {"file": "SHA256SUMS"})
    with pytest.raises(BundleError, match="not listed"):
        Bundle.load(itself)


def test_links_are_refused_in_a_bundle_and_as_its_folder(bundle_folder: Writer, tmp_path: Path) -> None:
    folder = bundle_folder()
    link = tmp_path / folder.name
    link.symlink_to(folder)
    with pytest.raises(BundleError, match="symbolic link"):
        Bundle.load(link)
    (folder / "d").symlink_to(tmp_path)
    with pytest.raises(BundleError, match="d: is a symbolic link"):
        Bundle.load(folder)
    (folder / "d").unlink()
    (folder / "golden.npz").rename(tmp_path / "golden.npz")
    (folder / "golden.npz").symlink_to(tmp_path / "golden.npz")
    with pytest.raises(BundleError, match=r"golden\.npz: is a symbolic link"):
        Bundle.load(folder)


def judged(folder: Path, stated: str, statuses: list[str]) -> str:
    checks = [{"name": "n", "status": s, "text": "t", "value": None} for s in statuses]
    (folder / "audit.json").write_text(json.dumps({"verdict": stated, "checks": checks}))
    seal(folder)
    return Bundle.load(folder).audit_verdict


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ([], "absent"),
        (["pass", "splendid"], "absent"),
        (["pass", "reported"], "pass"),
        (["pass", "not given"], "pass"),
        (["pass", "warn"], "warn"),
        (["pass", "not run"], "warn"),
        (["warn", "fail", "pass"], "fail"),
    ],
)
def test_the_audit_verdict_follows_from_the_checks(bundle_folder: Writer, statuses: list[str], verdict: str) -> None:
    folder = bundle_folder()
    assert judged(folder, verdict, statuses) == verdict
    for other in {"pass", "warn", "fail", "absent"} - {verdict}:
        with pytest.raises(BundleError, match="disagrees"):
            judged(folder, other, statuses)


def test_a_verdict_without_checks_is_refused(bundle_folder: Writer) -> None:
    folder = bundle_folder()
    (folder / "audit.json").write_text(json.dumps({"verdict": "pass"}))
    seal(folder)
    with pytest.raises(BundleError, match="'absent' follows"):
        Bundle.load(folder)


def test_the_shipped_bundles_are_small_and_audited_and_have_one_gate() -> None:
    folders = [f.parent for f in (Path(__file__).parents[2] / "models" / "bundles").glob("*/bundle.json")]
    bundles = {b.spec.name: b for b in map(Bundle.load, folders)}
    assert set(bundles) == {"body-part", "chest-findings", "chest-abnormal"}
    assert {b.audit_verdict for b in bundles.values()} <= {"pass", "warn"}
    assert all(b.file("model.keras").stat().st_size <= 10_000_000 for b in bundles.values())
    gate = bundles["chest-findings"].spec.gate
    assert gate and gate == bundles["chest-abnormal"].spec.gate and gate.bundle == "body-part"


def test_labels_of_an_imported_network_are_among_its_outputs(bundle_folder: Writer) -> None:
    said = {"outputs": ["Cardiomegaly", "normal"], "exclusive": True, "features": "conv"}
    bundle = Bundle.load(bundle_folder(imported=said))
    assert bundle.spec.imported and bundle.spec.imported.features == "conv"
    with pytest.raises(BundleError, match=r"\['heart', 'normal'\] do not hold the labels \['Cardiomegaly'\]"):
        Bundle.load(bundle_folder(name="other", imported=said | {"outputs": ["heart", "normal"]}))
