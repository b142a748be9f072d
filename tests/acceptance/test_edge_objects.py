"""Objects without an image, SOP classes and syntaxes that nobody knows, and associations that offer too much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from house import make_image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    KeyObjectSelectionDocumentStorage,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)
from pynetdicom import AE, AllStoragePresentationContexts, build_context
from pynetdicom.association import Association
from running import RunningNode

from node.domain import InstanceState, StudyState
from node.network.sender import Sender
from node.network.standin import StandIn
from node.storage import instances, jobs, studies

pytestmark = pytest.mark.slow
CR = ComputedRadiographyImageStorage


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    pacs = StandIn(tmp_path_factory.mktemp("pacs"), ae_title="PACS")
    pacs.start()
    made = RunningNode(tmp_path_factory.mktemp("node"), ("PACS", pacs.port), stub=True)
    made.start()
    yield made
    made.stop()
    pacs.stop()


def send(node: RunningNode, *paths: Path) -> list[str]:
    sender = Sender(
        calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=node.port, timeout=30
    )
    kinds = [outcome.kind for _, outcome in sender.send(paths)]
    sender.close()
    return kinds


def companion(image: Path, path: Path, sop_class: UID, modality: str, **attributes: object) -> Path:
    """An object of another class in the study of an image."""
    source, ds = dcmread(image, stop_before_pixels=True), Dataset()
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate"):
        setattr(ds, keyword, source[keyword].value)
    ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.SOPClassUID, ds.Modality = (
        generate_uid(),
        generate_uid(),
        sop_class,
        modality,
    )
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = sop_class, ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)
    return path


SEGMENTS = {
    "Rows": 8,
    "Columns": 8,
    "NumberOfFrames": 1,
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 1,
    "BitsStored": 1,
    "HighBit": 0,
    "PixelRepresentation": 0,
    "PixelData": bytes(8),
}


def test_objects_without_an_image_are_kept_and_never_analysed(node: RunningNode, tmp_path: Path) -> None:
    image = make_image(tmp_path / "cr.dcm")
    uid = str(dcmread(image).StudyInstanceUID)
    others = [
        companion(image, tmp_path / "sr.dcm", BasicTextSRStorage, "SR"),
        companion(image, tmp_path / "ko.dcm", KeyObjectSelectionDocumentStorage, "KO"),
        companion(image, tmp_path / "pr.dcm", GrayscaleSoftcopyPresentationStateStorage, "PR"),
        companion(image, tmp_path / "pdf.dcm", EncapsulatedPDFStorage, "DOC", EncapsulatedDocument=b"%PDF-1.7"),
    ]
    assert send(node, image, *others) == ["stored"] * 5
    study = node.finish(uid)
    found = instances.of_study(node.parts.store, study.id)
    assert [i.state for i in found] == [InstanceState.CURRENT, *[InstanceState.RECEIPT] * 4]
    (job,) = jobs.of_study(node.parts.store, study.id)
    assert [i.sop_class_uid for i in jobs.members(node.parts.store, job.id)] == [CR]


def test_a_segmentation_in_the_study_is_left_alone_also_when_it_comes_late(node: RunningNode, tmp_path: Path) -> None:
    image = make_image(tmp_path / "cr.dcm")
    uid = str(dcmread(image).StudyInstanceUID)
    send(node, image)
    node.finish(uid)
    assert send(node, companion(image, tmp_path / "seg.dcm", SegmentationStorage, "SEG", **SEGMENTS)) == ["stored"]
    study = node.finish(uid, revision=2)
    assert [job.revision for job in jobs.of_study(node.parts.store, study.id)] == [1]
    (reason,) = studies.route_reasons(node.parts.store, study)
    assert "Modality SEG is not in CR, DX" in reason.reason


REAL = [
    ("test-SR.dcm", "SR"),
    ("reportsi.dcm", "SR"),
    ("rtplan.dcm", "RTPLAN"),
    ("rtdose.dcm", "RTDOSE"),
    ("waveform_ecg.dcm", "ECG"),
    ("liver_1frame.dcm", "SEG"),
]


@pytest.mark.parametrize(("name", "modality"), REAL)
def test_a_study_of_a_real_object_without_an_image_is_kept_and_sends_nothing(
    node: RunningNode, pydicom_file: Callable[[str], Path], tmp_path: Path, name: str, modality: str
) -> None:
    ds = dcmread(pydicom_file(name))
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.save_as(tmp_path / name)
    assert send(node, tmp_path / name) == ["stored"]
    study = node.finish(ds.StudyInstanceUID)
    assert study.state is StudyState.UNROUTED
    assert study.reason in (f"chest: Modality {modality} is not in CR, DX", "chest: the study has no image")
    assert jobs.of_study(node.parts.store, study.id) == []


JPEG_EXTENDED_AND_SPECTRAL, JPEG_PROGRESSION = "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"  # retired
JPEG_XL, MPEG4, HEVC = "1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.107"
DEFLATED, JPIP = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.94"
NOT_DECODABLE = [
    *(JPEG_EXTENDED_AND_SPECTRAL, JPEG_PROGRESSION, JPEG_XL, MPEG4, HEVC, DEFLATED, JPIP),
    ExplicitVRBigEndian,
    "1.2.826.0.1.3680043.10.999.1",
]


def associate(node: RunningNode, *contexts: tuple[str, list[str]]) -> Association:
    entity = AE("MODALITY")
    wanted = [build_context(sop_class, syntaxes) for sop_class, syntaxes in contexts]
    assoc = entity.associate("127.0.0.1", node.port, contexts=wanted, ae_title="OVERREAD")
    assert assoc.is_established
    return assoc


@pytest.mark.parametrize("syntax", NOT_DECODABLE)
def test_a_syntax_that_nobody_decodes_costs_its_context_and_not_the_association(
    node: RunningNode, tmp_path: Path, syntax: str
) -> None:
    assoc = associate(node, (CR, [syntax]), (CR, [ExplicitVRLittleEndian]))
    try:
        # PS3.8 Table 9-18: 4 is transfer-syntaxes-not-supported
        assert [context.result for context in assoc.rejected_contexts] == [0x04]
        assert assoc.send_c_store(dcmread(make_image(tmp_path / "cr.dcm"))).Status == 0x0000
    finally:
        assoc.release()


def test_a_sop_class_that_nobody_knows_costs_its_context_and_not_the_association(
    node: RunningNode, tmp_path: Path
) -> None:
    private, unheard_of = "1.2.826.0.1.3680043.10.999.2", "1.2.840.10008.5.1.4.1.1.9999"
    known = (CR, [ExplicitVRLittleEndian])
    assoc = associate(node, (private, [ExplicitVRLittleEndian]), (unheard_of, [ImplicitVRLittleEndian]), known)
    try:
        # 3 is abstract-syntax-not-supported
        assert [context.result for context in assoc.rejected_contexts] == [0x03, 0x03]
        assert assoc.send_c_store(dcmread(make_image(tmp_path / "cr.dcm"))).Status == 0x0000
    finally:
        assoc.release()


def test_an_association_with_128_contexts_of_many_syntaxes_is_served(node: RunningNode, tmp_path: Path) -> None:
    """As dcm4che's tools open it: as many contexts as there may be, each with all that it can write."""
    offered = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1, JPEG2000Lossless, RLELossless]
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    classes = [CR, *[uid for uid in classes if uid != CR]][:128]
    assoc = associate(node, *((uid, [*offered, JPEG_XL, DEFLATED]) for uid in classes))
    try:
        assert len(assoc.accepted_contexts) == 128
        assert {context.transfer_syntax[0] for context in assoc.accepted_contexts} == {JPEGLosslessSV1}
    finally:
        assoc.release()
    assoc = associate(node, *((uid, [ExplicitVRLittleEndian]) for uid in classes))
    path = make_image(tmp_path / "cr.dcm")
    try:
        assert assoc.send_c_store(dcmread(path)).Status == 0x0000
    finally:
        assoc.release()
    assert node.finish(str(dcmread(path).StudyInstanceUID)).state is StudyState.ROUTED


def test_all_that_was_acknowledged_is_there(node: RunningNode) -> None:
    assert node.problems() == []
