"""Where tests find real files and real programs; each fixture skips with a word when its part is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases_made import WANTED
from needed import missing
from viewer import VERSION

pytest_plugins = ["judged"]

ROOT = Path(__file__).resolve().parent.parent
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another database what is about SQLite's file is not run."""
    if WANTED != "sqlite":
        about_the_file = [item for item in items if item.get_closest_marker("sqlite")]
        config.hook.pytest_deselected(items=about_the_file)
        items[:] = [item for item in items if item not in about_the_file]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A store that speaks S3, and who we are there."""
    from buckets_made import KEYS, Service  # only for those who ask: it loads moto

    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    made = Service()
    yield made
    made.stop()


def shared(name: str, variable: str) -> Path:
    folder = Path(os.environ.get(variable) or ROOT.parent / "shared" / name)
    if not folder.is_dir():
        missing(f"the folder ${variable}")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folders of real radiographs with labels."""
    return shared("data", "OVERREAD_TEST_DATA")


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Starting weights for transfer learning."""
    return shared("weights", "OVERREAD_TEST_WEIGHTS")


@pytest.fixture(scope="session")
def dicom_dir(data_dir: Path) -> Path:
    """Real DICOM files of many kinds."""
    return data_dir / "dicom"


@pytest.fixture(scope="session")
def pydicom_file() -> Callable[[str], Path]:
    """A file that pydicom or pydicom-data ships, by name."""
    from pydicom.data import get_testdata_file

    def find(name: str) -> Path:
        found = get_testdata_file(name, download=False)
        if not found:
            missing(f"{name} of pydicom-data")
        return Path(str(found))

    return find


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """The path of an installed program, by name."""

    def find(name: str) -> str:
        found = shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
        if not found:
            missing(f"the program {name}")
        return str(found)

    return find


@pytest.fixture(scope="session")
def dicomweb() -> Path:
    """Orthanc's plug-in for DICOMweb, where Debian puts it."""
    if not DICOMWEB.is_file():
        missing(f"Orthanc's plug-in {DICOMWEB}")
    return DICOMWEB


@pytest.fixture(scope="session")
def ohif_dir() -> Path:
    """A built OHIF viewer, where `.ci/run` unpacks it or where the variable says."""
    folder = Path(os.environ.get("OVERREAD_TEST_OHIF") or Path.home() / ".cache" / "overread" / f"ohif-{VERSION}")
    if not (folder / "index.html").is_file():
        missing(f"OHIF {VERSION} in $OVERREAD_TEST_OHIF")
    return folder


@pytest.fixture
def artefacts(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a test leaves what a person may look at afterwards: below $OVERREAD_TEST_ARTEFACTS, if that is set."""
    kept = os.environ.get("OVERREAD_TEST_ARTEFACTS")
    folder = Path(kept) / request.node.name if kept else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    return folder
