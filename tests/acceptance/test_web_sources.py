"""Studies from an Orthanc that can never send to us: by DICOMweb with its plug-in, and by its own REST without.

It knows no modality, wants a user and a password, and lets that user read only.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from shelf_made import Taken

from config.settings import Settings
from node.errors import AssociationFailed, Refused
from node.network.incoming import Status
from node.network.orthanc import Orthanc
from node.network.source import Arrived, Fetched, Source, Wanted
from node.pipeline.sources import source_to
from node.storage.spool import digest_of

pytestmark = [pytest.mark.orthanc, pytest.mark.slow]

ONLY_GET = """
function IncomingHttpRequestFilter(method, uri, ip, username, headers)
  return username == 'owner' or method == 'GET'
end
"""
# CR, CT and MR; uncompressed, JPEG 2000, JPEG-LS, and several frames, also compressed
FILES = {
    "CR": ["RG1_UNCR.dcm", "RG1_J2KI.dcm"],
    "CT": ["CT_small.dcm"],
    "MR": [
        "MR_small.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_jp2klossless.dcm",
        "emri_small.dcm",
        "emri_small_jpeg_2k_lossless.dcm",
        "emri_small_jpeg_ls_lossless.dcm",
    ],
}
PER_MODALITY = 10
BIG = "1.2.826.0.1.3680043.8.498.77"


class Public(Orthanc):
    """An Orthanc with users, and nobody it could send to."""

    def __init__(self, folder: Path, **options: object) -> None:
        (folder / "filter.lua").write_text(ONLY_GET)
        super().__init__(
            folder,
            node_ae_title="NOBODY",
            node_port=1,
            AuthenticationEnabled=True,
            RegisteredUsers={"owner": "o", "reader": "r"},
            LuaScripts=[str(folder / "filter.lua")],
            DicomModalities={},
            **options,
        )

    def kill(self) -> None:
        """In the middle of whatever it does."""
        assert isinstance(self._process, subprocess.Popen)
        self._process.kill()
        self._process.wait()
        self._process = None


@pytest.fixture(scope="module", params=["dicomweb", "orthanc"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def public(
    api: str, program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Public]:
    program("Orthanc")
    plugged: dict[str, object] = {}
    if api == "dicomweb":
        plugin = request.getfixturevalue("dicomweb")
        plugged = {"Plugins": [str(plugin)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    made = Public(tmp_path_factory.mktemp("public"), **plugged)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def studies(
    public: Public, pydicom_file: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Thirty studies, each of one or two instances; the modality by Study Instance UID."""
    folder, told = tmp_path_factory.mktemp("studies"), {}
    for modality, names in FILES.items():
        for n in range(PER_MODALITY):
            ds = dcmread(pydicom_file(names[n % len(names)]))
            ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
            ds.StudyDate, ds.AccessionNumber, ds.Modality = f"202001{n + 1:02d}", f"{modality}{n}", modality
            for _ in range(1 + n % 2):
                ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
                ds.save_as(folder / "one.dcm", enforce_file_format=True)
                public.upload(folder / "one.dcm")
            told[str(ds.StudyInstanceUID)] = modality
    return told


@pytest.fixture
def source(public: Public, api: str, tmp_path: Path) -> Iterator[Source]:
    made = asking(public, api, tmp_path, "r")
    yield made
    made.close()
    assert not list((tmp_path / "room").iterdir())


def asking(public: Public, api: str, folder: Path, password: str) -> Source:
    """As the settings say it."""
    secret, file, room = folder / "secret", folder / "overread.toml", folder / "room"
    secret.write_text(password)
    secret.chmod(0o600)
    room.mkdir(exist_ok=True)
    root = "/dicom-web" if api == "dicomweb" else ""
    file.write_text(
        f"""
        [[peer]]
        name = "public"
        url = "http://127.0.0.1:{public.http}{root}"
        api = "{api}"
        may = ["query"]
        user = "reader"
        password_file = "secret"
        """
    )
    settings = Settings.load(file)
    return source_to(settings.peer[0], settings, folder=room)


def test_studies_are_found_by_modality_date_and_accession_number(source: Source, studies: dict[str, str]) -> None:
    found = {one.study_instance_uid: one for one in source.find(Wanted(modalities=("CR", "CT")))}
    assert set(found) == {uid for uid, modality in studies.items() if modality in ("CR", "CT")}
    dated = list(source.find(Wanted(since="20200103", until="20200104", modalities=("MR",))))
    assert sorted(one.study_date for one in dated) == ["20200103", "20200104"]
    by_number = list(source.find(Wanted(accession_numbers=("CR3", "MR4", "NOBODY"))))
    assert sorted(one.accession_number for one in by_number) == ["CR3", "MR4"]
    assert {one.study_instance_uid for one in source.find(Wanted())} >= set(studies)


def test_thirty_studies_come_as_they_are_stored(
    public: Public, source: Source, studies: dict[str, str], tmp_path: Path
) -> None:
    syntaxes = set()
    for n, uid in enumerate(studies):
        digests = {}

        def take(arrived: Arrived, digests: dict[str, str] = digests) -> Status:
            digests[arrived.sop_instance_uid] = digest_of(arrived.path)
            syntaxes.add(arrived.transfer_syntax_uid)
            return Status(0x0000)

        assert source.fetch(uid, take) == Fetched(1 + n % PER_MODALITY % 2)
        assert source.count(uid) == len(digests)
        stored = {}
        for sop_instance_uid, data in public.instances(uid).items():
            (tmp_path / "stored.dcm").write_bytes(data)
            stored[sop_instance_uid] = digest_of(tmp_path / "stored.dcm")
        assert digests == stored
    assert {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1"} <= syntaxes


def test_a_server_that_is_killed_in_the_middle_is_asked_for_the_rest(
    public: Public, source: Source, pydicom_file: Callable[[str], Path], tmp_path: Path
) -> None:
    ds = dcmread(pydicom_file("RG1_UNCR.dcm"))
    ds.StudyInstanceUID = BIG
    for _ in range(12):  # 7 MB each: more than any buffer on the way holds
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.save_as(tmp_path / "one.dcm", enforce_file_format=True)
        public.upload(tmp_path / "one.dcm")
    taken = Taken()

    def kills(arrived: Arrived) -> Status:
        status = taken(arrived)
        if taken.calls == 3:
            public.kill()
        return status

    with pytest.raises(AssociationFailed):
        source.fetch(BIG, kills)
    assert 3 <= taken.calls < 12
    came = taken.calls
    with pytest.raises(AssociationFailed, match="nothing listens at"):
        source.fetch(BIG, taken)
    public.start()
    assert source.fetch(BIG, taken) == Fetched(12 - came)
    assert taken.calls == 12
    assert taken.data == public.instances(BIG)


def test_a_study_that_is_not_there_is_nothing(source: Source) -> None:
    assert source.count("1.2.3") == 0
    assert source.fetch("1.2.3", Taken()).reason.endswith("has no such study")


def test_a_wrong_password_says_so(public: Public, api: str, tmp_path: Path) -> None:
    source = asking(public, api, tmp_path, "wrong")
    for question in (lambda: source.count("1.2.3"), lambda: source.fetch("1.2.3", Taken())):
        with pytest.raises(
            Refused, match=r"answers 401 .*: correct the user, password or token in this peer's settings"
        ):
            question()
    source.close()
