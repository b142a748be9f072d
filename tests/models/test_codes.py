from models import codes


def test_every_nih_label_has_a_finding_and_a_site() -> None:
    assert len(codes.FINDINGS) == 15
    for concept in codes.FINDINGS.values():
        for code in (concept.finding, concept.site):
            assert 0 < len(code.value) <= 16, "SH, PS3.5 Table 6.2-1"
            assert 0 < len(code.meaning) <= 64, "LO"
            assert code.scheme in ("SCT", "DCM", codes.PRIVATE_SCHEME)


def test_no_two_findings_share_a_code() -> None:
    values = [c.finding.value for c in codes.FINDINGS.values()]
    assert len(set(values)) == len(values)


def test_cardiomegaly_is_not_the_fetal_concept_of_cid_12248() -> None:
    assert codes.FINDINGS["Cardiomegaly"].finding.value == "8186001"


def test_the_codes_that_pydicom_knows_mean_the_same_there() -> None:
    from pydicom.sr.codedict import codes as known

    pairs = {
        codes.CHEST: known.SCT.Chest,
        codes.ABDOMEN: known.SCT.Abdomen,
        codes.LUNG: known.SCT.Lung,
        codes.HEART: known.SCT.Heart,
        codes.PLEURA: known.SCT.Pleura,
        codes.PRESENT: known.cid240.Present,
        codes.ABSENT: known.cid240.Absent,
        codes.UNDETERMINED: known.cid240.Undetermined,
        codes.FINDINGS["Infiltration"].finding: known.DCM.Infiltrate,
    }
    for ours, theirs in pairs.items():
        assert (ours.value, ours.scheme) == (theirs.value, theirs.scheme_designator)
