"""The pieces that the page is made of: charts, tables, checklist rows, and the same story on a terminal."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from told_made import LABELS, held, items

from training import shown
from training.audit import Audit, Check
from training.figures import curves, evaluate
from training.report import Refused, Story, html, label, svg
from training.report.claim import UNKNOWN, rows
from training.report.page import page


def story(count: int = 200) -> Story:
    some = held(count)
    return Story("heart", "made films", some, items(count), (0.5, 0.5), evaluate.figures(some, on="made films"))


def numbers(drawn: str, name: str) -> list[float]:
    return [float(v) for v in re.findall(rf'{name}="(-?[0-9.]+)"', drawn)]


def test_a_chart_puts_zero_at_the_lower_left_and_one_at_the_upper_right() -> None:
    (x0, y0), (x1, y1) = (
        tuple(float(v) for v in pair.split(",")) for pair in re.findall(r"[\d.]+,[\d.]+", svg.line([0, 1], [0, 1]))
    )
    assert (x0, y0) == (svg.LEFT, svg.HEIGHT - svg.BOTTOM) and (x1, y1) == (svg.WIDTH - svg.RIGHT, svg.TOP)


def test_a_chart_numbers_its_axis_over_the_span_it_is_given() -> None:
    drawn = svg.chart([], title="a", x="x", y="y", span=(0.2, 0.6))
    assert re.findall(r">([\d.]+)</text>", drawn) == ["0.2", "0.3", "0.4", "0.5", "0.6"]
    assert 'aria-label="a"' in drawn and "<title>a</title>" in drawn


def test_a_bar_is_as_high_as_its_value_and_none_is_drawn_for_nothing() -> None:
    drawn = svg.bars(np.array([0, 0.5, 1.0]), np.array([0.5, 0.0]), "a")
    (height,) = numbers(drawn, "height")
    assert height == pytest.approx((svg.HEIGHT - svg.TOP - svg.BOTTOM) / 2)


def test_a_band_goes_out_along_its_lower_and_back_along_its_upper_line() -> None:
    drawn = svg.band(np.array([0.0, 1.0]), np.array([0.0, 0.5]), np.array([0.5, 1.0]))
    heights = [float(y) for y in re.findall(r",([\d.]+)", drawn)]
    assert len(heights) == 4 and heights[0] > heights[1] > heights[2] and heights[3] > heights[2]


def test_a_forest_plot_keeps_its_rows_inside_and_says_where_films_are_too_few() -> None:
    lines: list[svg.Row] = [("PA", "3 of 9", 0.91, 0.62, 1.0), ("AP", "1 of 2", None, None, None)]
    drawn = svg.forest(lines, title="by view", all_=0.8)
    assert "too few films for a figure" in drawn and ">0.91<" in drawn
    assert all(225 <= x <= 435 for x in numbers(drawn, "x1") + numbers(drawn, "x2"))


def test_a_forest_plot_of_one_perfect_value_has_an_axis() -> None:
    assert ">1.0<" in svg.forest([("PA", "9 of 9", 1.0, 1.0, 1.0)], title="by view", all_=1.0)


def test_a_table_escapes_its_cells_and_without_rows_there_is_none() -> None:
    assert "&lt;i&gt;" in html.table(("a", "b"), [("x", "<i>")])
    assert html.table(("a", "b"), []) == "" and html.section("a", "A") == ""


def test_the_confusion_table_holds_the_decisions_of_the_run() -> None:
    told = story()
    tp, fp, fn, tn = curves.confusion(told.held.flagged[:, 0], told.held.truth[:, 0])
    part = label.part(told, 0)
    assert f"<th scope=row>has it</th><td>{tp}</td><td>{fn}</td>" in part
    assert f"<th scope=row>has it not</th><td>{fp}</td><td>{tn}</td>" in part


def test_a_label_is_drawn_from_the_films_that_count_for_it_alone() -> None:
    told = story()
    counted = told.held.counted.copy()
    counted[100:, 0] = False
    some = replace(told.held, counted=counted)
    assert "100 films of 50 patients" in label.part(replace(told, held=some), 0)
    assert "200 films of 100 patients" in label.part(replace(told, held=some), 1)


def test_the_operating_point_lies_where_the_decisions_put_it() -> None:
    told = story()
    tp, fp, fn, tn = curves.confusion(told.held.flagged[:, 0], told.held.truth[:, 0])
    roc = label.part(told, 0).partition("ROC, AUC")[0]
    assert svg.dot(fp / (fp + tn), tp / (tp + fn), says="operating point") in roc


def test_a_training_curve_takes_rows_that_lack_a_measure() -> None:
    told = replace(story(), history=[{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5, "val_loss": 0.7}])
    assert "loss: training (blue), validation (orange)" in page(told)
    assert "<polyline" in page(replace(story(), history=[{"epoch": 1, "loss": 1.0}]))


def test_checklist_answers_come_from_the_run() -> None:
    check = Check("external set", "reported", "AUC 0.71 on 300 films of another hospital.")
    told = replace(
        story(),
        audit=Audit("finding", "pass", "", (check,)),
        about={"Network": "one dense layer", "Licence": "Apache-2.0"},
        provenance={"packages": {"numpy": "2.4"}, "starting_weights_sha256": "abc"},
        history=[{"epoch": 1, "loss": 1.0}],
        refusals=[Refused("all", 203, 3)],
    )
    said = dict(rows(told))
    assert said["External testing"] == check.text
    assert said["Description of the model"] == "one dense layer"
    assert (said["Software libraries and versions"], said["Initialisation of model parameters"]) == ("numpy 2.4", "abc")
    assert said["Numbers of patients and images included and excluded"] == "200 images of 100 patients; 3 refused"
    assert "AUC, average precision" in said["Metrics of model performance"]


def test_checklist_rows_of_a_bare_run_are_not_made_up() -> None:
    bare = dict(rows(replace(story(), figures=(), items=items(age=None, sex=""))))
    for item in ("External testing", "Description of the model", "Failure analysis", "Demographic characteristics"):
        assert bare[item] == UNKNOWN
    assert "age of 200, sex of 200" in bare["How missing data were handled"]


def test_the_terminal_shows_the_verdict_first_and_every_figure(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:
        shown.story(story(), Console(file=file, width=200))
    said = (tmp_path / "out").read_text()
    assert said.index("Audit: absent") < said.index("average precision")
    assert all(name in said for name in (*LABELS, evaluate.MEAN)) and said.count("AUC") == 3
