import pytest

from training.audit import LIMITS, Check, Status, concluded


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        (["pass", "reported", "not given"], "pass"),
        (["pass", "not run"], "warn"),
        (["pass", "warn"], "warn"),
        (["not run", "warn", "fail"], "fail"),
        ([], "warn"),
    ],
)
def test_the_verdict_is_that_of_the_worst_check_and_never_pass_while_one_was_not_run(
    statuses: list[Status], verdict: str
) -> None:
    found = concluded("finding", [Check(f"c{i}", s, f"It is {s}.") for i, s in enumerate(statuses)])
    assert found.verdict == verdict
    assert found.as_json()["verdict"] == verdict and found.as_json()["limits"] == LIMITS


def test_a_bundle_derives_the_same_verdict_from_the_checks() -> None:
    from models.bundle import _derived

    for statuses in (["pass", "not given"], ["reported", "not run"], ["warn"], ["fail", "pass"]):
        found = concluded("finding", [Check("c", s, "t") for s in statuses])  # type: ignore[arg-type]
        assert _derived([dict(c) for c in found.as_json()["checks"]]) == found.verdict


def test_the_summary_of_a_failure_says_why_and_leaves_out_what_was_fine() -> None:
    found = concluded("finding", [Check("a", "fail", "The ages differ."), Check("b", "pass", "No copies.")])
    assert "The ages differ." in found.summary and "No copies." not in found.summary
