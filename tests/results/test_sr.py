from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydicom.dataset import Dataset

from models.codes import FINDINGS
from node.errors import ResultError
from node.results import sc, sr, uids
from node.results.evidence import Predecessor
from node.results.header import RESEARCH_ONLY

Judge = Callable[[Dataset], list[str]]
Groups = Callable[[Dataset], list[dict[str, Any]]]


def mixed(make: Any) -> Any:
    """Three images: two analysed, one refused."""
    finding = make.finding
    return make.subject(
        make.evidence(make.source(1), make.analysed(finding("Mass", 0.2), finding("Pneumonia", 0.912345))),
        make.evidence(make.source(2), make.refused()),
        make.evidence(make.source(3), make.analysed(finding("Mass", 0.3), finding("Pneumonia", 0.1))),
    )


def test_findings_make_a_valid_report(make: Any, errors_of: Judge) -> None:
    assert errors_of(sr.build(make.flagged())) == []


def test_the_judges_see_what_is_wrong(make: Any, errors_of: Judge) -> None:
    built = sr.build(make.flagged())
    del built.CompletionFlag
    assert any("CompletionFlag" in error for error in errors_of(built))


def test_each_finding_has_its_certainty_and_presence(make: Any, groups_of: Groups) -> None:
    status, present, between, absent = groups_of(sr.build(make.flagged()))
    assert status["tracking"] == "Analysis status"
    assert status["coded"]["Summary of Analyses"] == "Succeeded"
    assert present["numbers"] == [("Certainty of Finding", 83.2, "%")]
    assert [g["coded"]["Finding"] for g in (present, between, absent)] == [
        "Pneumothorax",
        "Pleural effusion",
        "Lung mass",
    ]
    found = [g["coded"]["Presence of property"] for g in (present, between, absent)]
    assert found == ["Present", "Undetermined", "Absent"]
    assert present["coded"]["Finding Site"] == "Pleura"


def test_a_score_that_is_not_calibrated_is_never_written_in_per_cent(make: Any, groups_of: Groups) -> None:
    finding = make.finding("Mass", 0.61234, calibrated=False)
    built = sr.build(make.subject(make.evidence(make.source(), make.analysed(finding))))
    assert groups_of(built)[1]["numbers"] == [("Score", 0.6123, "1")]


def test_without_a_score_a_finding_is_undetermined_and_has_no_number(
    make: Any, groups_of: Groups, errors_of: Judge
) -> None:
    built = sr.build(make.subject(make.evidence(make.source(), make.analysed(make.finding("Mass", float("nan"))))))
    group = groups_of(built)[1]
    assert (group["numbers"], group["coded"]["Presence of property"]) == ([], "Undetermined")
    assert errors_of(built) == []


@pytest.mark.parametrize("score", [-0.1, 1.1, float("inf")])
def test_a_score_outside_0_and_1_is_not_reported(make: Any, score: float) -> None:
    with pytest.raises(ResultError, match="Mass"):
        sr.build(make.subject(make.evidence(make.source(), make.analysed(make.finding("Mass", score)))))


def test_a_refused_image_has_a_reason_and_no_findings(make: Any, groups_of: Groups, errors_of: Judge) -> None:
    built = sr.build(make.subject(make.evidence(make.source(), make.refused())))
    (status,) = groups_of(built)
    assert status["coded"]["Summary of Analyses"] == "Not Attempted"
    assert status["coded"]["Quality Assessment"] == "Unusable - Quality renders image unusable"
    assert any("chest 3.0 %" in c and "[gate]" in c for c in status["comments"])
    assert any("hand 0.970" in c for c in status["comments"])
    assert built.CompletionFlagDescription == "Not Attempted"
    assert errors_of(built) == []


def test_eight_findings_make_a_valid_report_that_says_in_short_what_was_found(
    make: Any, groups_of: Groups, errors_of: Judge
) -> None:
    findings = [make.finding(name, 0.1 * n) for n, name in enumerate(list(FINDINGS)[:8])]
    built = sr.build(make.subject(make.evidence(make.source(), make.analysed(*findings))))
    assert errors_of(built) == []
    status, *groups = groups_of(built)
    assert [g["tracking"] for g in groups] == list(FINDINGS)[:8]
    assert status["comments"][1] == (
        "In short: Nodule of lung 50.0 % present, Pneumonia 60.0 % present, Pneumothorax 70.0 % present; "
        "nothing else of these 8 above its threshold; undetermined: Lung mass 40.0 %."
    )
    assert status["comments"][1] in sr.as_text(built)


def test_only_the_finding_whose_map_is_drawn_refers_to_the_picture(make: Any, groups_of: Groups) -> None:
    findings = make.finding("Mass", 0.6), make.finding("Effusion", 0.9)
    subject = make.subject(make.evidence(make.source(), make.analysed(*findings)))
    built = sr.build(subject, visuals=[sc.overlay(subject, subject.images[0], ordinal=1)])
    explained = [g["tracking"] for g in groups_of(built) if "Visual explanation" in dict(g["images"])]
    assert explained == ["Effusion"]


def test_of_the_gates_scores_only_those_are_written_that_are_not_zero(make: Any, groups_of: Groups) -> None:
    gate = {"chest": 0.9994, "hand": 0.0006, "other": 0.00001}
    reading = dataclasses.replace(make.analysed(make.finding("Mass", 0.6)), gate=gate)
    (status, _) = groups_of(sr.build(make.subject(make.evidence(make.source(), reading))))
    assert "Gate body-part-1.0.0: chest 0.999, hand 0.001." in status["comments"]


def test_quality_is_judged_only_where_the_pixels_were(make: Any, groups_of: Groups) -> None:
    reading = dataclasses.replace(make.refused(), code="view", gate={}, gate_bundle="")
    (status,) = groups_of(sr.build(make.subject(make.evidence(make.source(), reading))))
    assert "Quality Assessment" not in status["coded"]


def test_a_failed_image_says_failed(make: Any, groups_of: Groups, errors_of: Judge) -> None:
    built = sr.build(make.subject(make.evidence(make.source(), make.failed())))
    (status,) = groups_of(built)
    assert status["coded"]["Summary of Analyses"] == "Failed"
    assert any("shorter than the header says. [truncated]" in c for c in status["comments"])
    assert errors_of(built) == []


def test_several_images_have_a_status_each_and_one_together(make: Any, groups_of: Groups, errors_of: Judge) -> None:
    built = sr.build(mixed(make))
    groups = groups_of(built)
    found = [g["coded"].get("Summary of Analyses") for g in groups if "Summary of Analyses" in g["coded"]]
    assert found == ["Partially Succeeded", "Succeeded", "Not Attempted", "Succeeded"]
    assert "2 of 3 images were analysed." in groups[0]["comments"]
    assert len(groups[0]["images"]) == 3
    assert errors_of(built) == []


def test_the_study_level_finding_is_the_highest_of_the_images_and_says_so(make: Any, groups_of: Groups) -> None:
    groups = {g["tracking"]: g for g in groups_of(sr.build(mixed(make)))}
    study = groups["Study: Pneumonia"]
    assert study["numbers"] == [("Certainty of Finding", 91.2, "%")]
    assert study["coded"]["Presence of property"] == "Present"
    assert "highest calibrated probability of the 2 images" in study["comments"][0]
    assert len(study["images"]) == 2
    assert groups["Study: Mass"]["numbers"] == [("Certainty of Finding", 30.0, "%")]


def test_one_analysed_image_has_no_study_level_finding(make: Any, groups_of: Groups) -> None:
    subject = make.subject(
        make.evidence(make.source(1), make.analysed(make.finding("Mass", 0.9))),
        make.evidence(make.source(2), make.refused()),
    )
    tracked = [g["tracking"] for g in groups_of(sr.build(subject))]
    assert tracked == ["Study: Analysis status", "Analysis status", "Mass", "Analysis status"]


def test_a_study_is_not_absent_while_an_image_has_no_score(make: Any, groups_of: Groups) -> None:
    subject = make.subject(
        make.evidence(make.source(1), make.analysed(make.finding("Mass", 0.1))),
        make.evidence(make.source(2), make.analysed(make.finding("Mass", float("nan")))),
    )
    groups = {g["tracking"]: g for g in groups_of(sr.build(subject))}
    assert groups["Study: Mass"]["coded"]["Presence of property"] == "Undetermined"


def test_a_present_finding_refers_to_its_own_overlay_only(make: Any, groups_of: Groups, errors_of: Judge) -> None:
    subject = mixed(make)
    shown = sc.overlay(subject, subject.images[0], ordinal=1)
    other = sc.overlay(subject, subject.images[2], ordinal=2)
    built = sr.build(subject, visuals=[shown, other, sc.card(subject, ordinal=3)])
    explained = {
        (g["tracking"], uid) for g in groups_of(built) for name, uid in g["images"] if name == "Visual explanation"
    }
    assert explained == {("Study: Pneumonia", shown.SOPInstanceUID), ("Pneumonia", shown.SOPInstanceUID)}
    evidence = str(built.CurrentRequestedProcedureEvidenceSequence)
    assert shown.SOPInstanceUID in evidence and other.SOPInstanceUID not in evidence
    assert errors_of(built) == []


def test_a_revision_replaces_its_predecessor_in_the_same_series(make: Any, errors_of: Judge) -> None:
    first = sr.build(make.flagged())
    before = Predecessor(first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPClassUID, first.SOPInstanceUID)
    second = sr.build(make.flagged(revision=2, predecessors=(before,)))
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)
    item = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert item.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert errors_of(second) == []


def test_tracking_stays_the_same_over_revisions(make: Any, groups_of: Groups) -> None:
    first, second = (groups_of(sr.build(make.flagged(revision=n))) for n in (1, 2))
    assert [g["uid"] for g in first] == [g["uid"] for g in second]
    assert len({g["uid"] for g in first}) == len(first)


def test_the_same_job_gives_the_same_bytes(make: Any, as_bytes: Callable[[Dataset], bytes]) -> None:
    subject = mixed(make)
    visual = sc.overlay(subject, subject.images[0], ordinal=1)
    assert as_bytes(sr.build(subject, visuals=[visual])) == as_bytes(sr.build(subject, visuals=[visual]))


def test_instances_that_are_gone_are_named(make: Any, groups_of: Groups, errors_of: Judge) -> None:
    built = sr.build(make.flagged(missing=("1.2.3.4",)))
    first = groups_of(built)[0]
    assert first["coded"]["Summary of Analyses"] == "Partially Succeeded"
    assert any("1.2.3.4" in comment for comment in first["comments"])
    assert errors_of(built) == []


def test_audit_and_shadow_and_research_use_stand_in_every_status(make: Any, groups_of: Groups) -> None:
    audit = "audit: failed (accepted by setting)"
    (status, *_) = groups_of(sr.build(make.flagged(audit_note=audit, shadow=True)))
    assert status["comments"][0].startswith(RESEARCH_ONLY)
    assert audit in status["comments"]
    assert any("not delivered" in comment for comment in status["comments"])


def test_covid_19_is_called_a_pattern(make: Any, groups_of: Groups) -> None:
    built = sr.build(make.subject(make.evidence(make.source(), make.analysed(make.finding("COVID-19", 0.9)))))
    assert groups_of(built)[1]["comments"] == ["A radiographic pattern only: no radiograph diagnoses COVID-19."]


def test_a_private_code_names_who_answers_for_it(make: Any, errors_of: Judge) -> None:
    finding = make.finding("Pleural_Thickening", 0.9)
    built = sr.build(make.subject(make.evidence(make.source(), make.analysed(finding))))
    (scheme,) = built.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99OVERREAD"
    assert errors_of(built) == []
    assert "CodingSchemeIdentificationSequence" not in sr.build(make.flagged())


def test_the_report_is_preliminary_unverified_and_for_research(make: Any) -> None:
    built = sr.build(make.flagged())
    assert (built.PreliminaryFlag, built.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert (built.ContentQualification, built.CompletionFlag) == ("RESEARCH", "COMPLETE")
    assert "RESEARCH USE ONLY" in built.SeriesDescription


@pytest.mark.parametrize("name", ["chest-abnormal", "a-name-of-more-than-sixty-four-characters-" * 2])
def test_a_series_is_described_by_its_model_so_that_two_of_a_study_can_be_told_apart(make: Any, name: str) -> None:
    subject = make.flagged()
    built = sr.build(dataclasses.replace(subject, model=dataclasses.replace(subject.model, name=name)))
    assert built.SeriesDescription == f"AI report, {name[:32]} - RESEARCH USE ONLY"
    assert len(built.SeriesDescription) <= 64


def test_the_report_belongs_to_the_study_and_names_the_node(make: Any) -> None:
    built, film = sr.build(make.flagged()), make.film()
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "StudyDate"):
        assert built[keyword].value == film[keyword].value
    assert (built.SeriesNumber, built.Modality, built.StationName) == (9001, "SR", "OVERREAD")
    assert built.DeviceUID == uids.device_uid("NODE-0001")
    assert built.InstitutionName == "Hospital A"
    assert built.file_meta.ImplementationClassUID == uids.IMPLEMENTATION_CLASS_UID
    assert built.file_meta.ImplementationVersionName == "OVERREAD_0.1.0"
    assert built.ReferencedRequestSequence[0].RequestedProcedureID == "RP1"
    makers = [item.Manufacturer for item in built.ContributingEquipmentSequence]
    assert makers == ["ACME", "Overread"]


def test_dates_follow_the_source_where_it_names_its_time_zone(make: Any, as_bytes: Any, errors_of: Judge) -> None:
    built = sr.build(make.subject(make.evidence(make.source(TimezoneOffsetFromUTC="-0500"), make.refused())))
    assert (built.TimezoneOffsetFromUTC, built.ContentTime) == ("-0500", "051530")
    assert errors_of(built) == []
    plain = sr.build(make.flagged())
    assert "TimezoneOffsetFromUTC" not in plain and plain.ContentTime == "101530"


def test_dates_are_written_in_the_zone_of_the_moment_given(make: Any) -> None:
    subject = make.flagged()
    moved = dataclasses.replace(subject, when=subject.when.astimezone(timezone(timedelta(hours=2))))
    assert sr.build(moved).ContentTime == "121530"
    assert sr.build(moved).ContributingEquipmentSequence[-1].ContributionDateTime == "20260301121530+0200"


def test_a_multi_frame_image_is_referenced_with_its_frame(make: Any, errors_of: Judge) -> None:
    source = make.source(NumberOfFrames=5, SOPClassUID="1.2.840.10008.5.1.4.1.1.7.2")
    frame = dataclasses.replace(make.frame(), number=3, frames_used="middle")
    image = make.evidence(source, make.analysed(make.finding("Mass", 0.9)), pixels=frame)
    built = sr.build(make.subject(image))
    frames = {elem.value for elem in built.iterall() if elem.keyword == "ReferencedFrameNumber"}
    assert frames == {3}
    assert errors_of(built) == []


def test_frames_in_a_single_frame_class_are_not_referenced_by_number(make: Any, errors_of: Judge) -> None:
    image = make.evidence(make.source(NumberOfFrames=5), make.analysed(make.finding("Mass", 0.9)))
    assert errors_of(sr.build(make.subject(image))) == []


def test_the_procedure_is_the_sources_or_its_modalitys(make: Any) -> None:
    def procedure(**changes: Any) -> str:
        built = sr.build(make.subject(make.evidence(make.source(**changes), make.refused())))
        items = [i for i in built.ContentSequence if i.ConceptNameCodeSequence[0].CodeMeaning == "Procedure reported"]
        return str(items[0].ConceptCodeSequence[0].CodeMeaning)

    none: dict[str, Any] = {"ProcedureCodeSequence": None, "RequestAttributesSequence": None}
    assert procedure() == "XR Chest Single view"
    assert procedure(**none) == "XR unspecified body region"
    assert procedure(**none, Modality="MR") == "MRI unspecified body region"
    assert procedure(**none, Modality="OT") == "Imaging procedure"


def test_a_job_without_images_has_no_report(make: Any) -> None:
    with pytest.raises(ResultError, match="at least one image"):
        sr.build(make.subject())


def test_a_report_reads_as_text(make: Any) -> None:
    subject = mixed(make)
    visual = sc.overlay(subject, subject.images[0], ordinal=1)
    text = sr.as_text(sr.build(subject, visuals=[visual]))
    assert "Study: Partially Succeeded" in text
    assert "chest-findings 1.0.0" in text and RESEARCH_ONLY in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "study: Pneumonia 91.2 % Present Lung, present from 50.0 %" in lines
    assert "Lung mass 20.0 % Absent Lung, present from 50.0 %" in lines
    assert f"shown by {visual.SOPInstanceUID}" in lines
    assert any("Not analysed: The gate" in line for line in lines)
    assert text.count(RESEARCH_ONLY) == 1
    assert "Doe" not in text and "PID-0001" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"missing": ("1.2.3",)},
        {"predecessors": (Predecessor("1.2", "1.3", "1.4", "1.5"),)},
        {"when": datetime(2030, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_report_that_says_something_else_has_another_name(make: Any, changes: dict[str, Any]) -> None:
    subject = make.flagged()
    other = dataclasses.replace(subject, **changes)
    assert sr.build(other).SOPInstanceUID != sr.build(subject).SOPInstanceUID
