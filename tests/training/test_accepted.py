from training import accepted


def test_chest_bundles_accept_no_child_and_no_side_view_and_ask_the_gate() -> None:
    assert accepted.CHEST_FILM.min_age_years == 18
    assert "LATERAL" in accepted.CHEST_FILM.view_refused and "CHEST" in accepted.CHEST_FILM.body_part
    assert (accepted.CHEST_GATE.bundle, accepted.CHEST_GATE.accept) == ("body-part", ["chest"])


def test_raw_detector_data_is_refused_everywhere() -> None:
    for found in (accepted.CHEST_FILM, accepted.RADIOGRAPH, accepted.RADIOGRAPH_OR_SLICE):
        assert found.presentation_intent_refused == ["FOR PROCESSING"]


def test_slices_are_accepted_by_the_gate_alone() -> None:
    ct = accepted.SLICE_CLASSES[0]
    assert ct in accepted.RADIOGRAPH_OR_SLICE.sop_classes and ct in accepted.CT_SLICE.sop_classes
    assert ct not in accepted.CHEST_FILM.sop_classes and ct not in accepted.RADIOGRAPH.sop_classes
