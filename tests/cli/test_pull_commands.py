"""`overread pull` as a person types it, in one process."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from house import House, make_image
from pydicom import dcmread
from query_scp_made import QueryScp
from typer.testing import Result

from config.settings import Settings
from node.errors import NoSuchPull, PullError
from node.network.standin import StandIn
from node.storage import bulk, pulls, studies

Overread = Callable[..., Result]


@pytest.fixture
def asked(tmp_path: Path, file: Path, pacs: StandIn) -> Iterator[QueryScp]:
    made = QueryScp(*(make_image(tmp_path / f"{n}.dcm", AccessionNumber=f"A{n}") for n in range(3)))
    more = f'[[peer]]\nname = "asked"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {made.port}\nmay = ["query"]\n'
    settings = file.read_text().replace("[deliver]", "[deliver]\nretry_base_seconds = 0.05")
    file.write_text(settings + more)
    yield made
    made.stop()


def test_a_dry_run_says_what_there_is_and_brings_nothing(overread: Overread, asked: QueryScp, house: House) -> None:
    done = overread("pull", "--from", "asked", "--since", "2026-01-01", "--until", "2026-01-31", "--dry-run")
    assert done.exit_code == 0
    assert [line.rpartition("  ")[2] for line in done.output.splitlines()[:3]] == ["A0", "A1", "A2"]
    assert "20260101  CR       0 of 1 here" in done.output
    assert "3 studies at asked; nothing was brought" in done.output
    assert (asked.sent.total(), pulls.latest(house.store, 5), studies.latest(house.store, 5)) == (0, [], [])


def test_a_pull_is_told_listed_and_shown(overread: Overread, asked: QueryScp, house: House) -> None:
    bad = str(dcmread(asked.held[1].filename).StudyInstanceUID) if asked.held[1].filename else ""
    asked.gives = lambda ds: None if ds.AccessionNumber == "A1" else ds
    done = overread("pull", "--from", "asked", "--accession", "A0", "--accession", "A1", "--accession", "A9")
    assert done.exit_code == 1
    assert "DONE, 1 of 2 studies are here, 1 given up" in done.output
    assert "not found at asked: A9" in done.output
    assert f"{bad}: " in done.output
    assert "go on with: overread pull --resume 1" in done.output
    assert "pull #1 from asked" in overread("pull", "list").output
    shown = overread("pull", "show", "1").output
    assert "asked for: accession_numbers A0, A1, A9" in shown
    assert f"{bad}  DEAD  0 of 1 instances  " in shown
    assert json.loads(overread("pull", "show", "1", "--json").output)["missing"] == ["A9"]
    asked.gives = lambda ds: ds
    done = overread("pull", "--resume", "1")
    assert "DONE, 2 of 2 studies are here" in done.output
    # one of them is still not there
    assert done.exit_code == 1


def test_a_pull_that_has_ended_cannot_be_stopped(overread: Overread, asked: QueryScp) -> None:
    assert overread("pull", "--from", "asked", "--modality", "CR").exit_code == 0
    done = overread("pull", "stop", "1")
    assert (done.exit_code, "pull #1 is DONE: only one that is OPEN can be stopped" in done.output) == (2, True)


def test_one_that_is_open_is_stopped_by_a_row(overread: Overread, asked: QueryScp, house: House) -> None:
    pulls.begin(house.store, "asked", {"any": [{"since": "20260101"}]}, {}, route="", mode="", now=1)
    assert overread("pull", "stop", "1").exit_code == 0
    assert pulls.find(house.store, 1).state is pulls.PullState.STOPPED
    assert overread("pull", "--resume", "1").exit_code == 0


def test_a_peer_that_is_not_there_is_explained_with_how_to_go_on(overread: Overread, asked: QueryScp) -> None:
    asked.stop()
    done = overread("pull", "--from", "asked", "--since", "2026-01-01")
    assert done.exit_code == 1
    assert "nothing listens at 127.0.0.1" in done.output
    assert "pull #1 has not begun; go on with: overread pull --resume 1" in done.output


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--since", "2026-01-01"], "pull what? Give --from PEER with what to look for, or --resume ID"),
        (["--from", "asked", "--study", "1.2", "--mode", "live"], '--mode live: "shadow", or leave it out'),
        (
            ["--from", "asked", "--study", "1.2", "--route", "none"],
            "--route none: no such [[route]] in the settings (have: chest)",
        ),
    ],
)
def test_what_cannot_be_done_is_said(overread: Overread, asked: QueryScp, typed: list[str], words: str) -> None:
    done = overread("pull", *typed)
    assert (done.exit_code, words in done.output) == (2, True), done.output


@pytest.mark.parametrize(
    ("typed", "error", "words"),
    [
        (
            ["--from", "pacs", "--study", "1.2"],
            PullError,
            r'pacs: no \[\[peer\]\] of that name may "query" .*have: asked',
        ),
        (["--from", "typo"], PullError, r'typo: no \[\[peer\]\] of that name may "query" .*have: asked'),
        (["--from", "asked"], PullError, "pull what"),
        (["--from", "asked", "--study", "1.2", "--between", "night"], PullError, "--between night: hours of the day"),
        (["--resume", "7"], NoSuchPull, r"no pull #7 \(the newest: none\)"),
    ],
)
def test_what_is_wrong_is_an_error_with_what_is_allowed(
    overread: Overread, asked: QueryScp, typed: list[str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        overread("pull", *typed)


def test_nothing_is_remembered_of_a_pull_that_cannot_be_made(
    overread: Overread, asked: QueryScp, house: House, file: Path
) -> None:
    with pytest.raises(PullError):
        overread("pull", "--from", "asked", "--between", "night", "--study", "1.2")
    assert pulls.latest(house.store, 5) == []
    assert Settings.load(file).peer_named("asked")


def test_what_each_study_of_a_pull_cost_is_taken_along(
    overread: Overread, asked: QueryScp, house: House, tmp_path: Path
) -> None:
    done = overread("pull", "--from", "asked", "--modality", "CR", "--keep-hours", "6", "--json")
    cost = json.loads(done.output.splitlines()[-1])["cost"]
    assert (cost["studies"], cost["images"], cost["per_1000_studies"]["images"]) == (3, 3, 1000)
    assert "price" not in cost
    assert pulls.find(house.store, 1).rules["keep_hours"] == 6
    table = tmp_path / "pull.csv"
    assert overread("pull", "export", "1", "--csv", str(table)).exit_code == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [list(bulk.COLUMNS)] * 3
    assert {(row["state"], row["instances"], row["jobs"]) for row in rows} == {("DONE", "1", "0")}
    assert sum(int(row["bytes_received"]) for row in rows) == cost["received"] == cost["kept_images"]
    shown = overread("pull", "show", "1", "--price-gb", "1000000").output
    assert "3 of 3 studies brought; 0 read, 0 waiting" in shown
    assert "cost: 3 images, " in shown and "per 1,000 studies: 1,000 images, " in shown
    assert f"price: {cost['received'] / 1000:,.2f}" in shown
    assert overread("pull", "export", "1").exit_code == 2


def test_where_there_is_no_terminal_lines_tell_how_far_it_is(overread: Overread, asked: QueryScp) -> None:
    said = overread("pull", "--from", "asked", "--modality", "CR").output
    assert re.search(r"pull #1: (asking asked: 1 of 1 questions answered|0 of 3 studies brought)", said)


def test_a_pull_goes_on_at_another_pace(overread: Overread, asked: QueryScp, house: House) -> None:
    assert overread("pull", "--from", "asked", "--modality", "CR", "--per-minute", "6000").exit_code == 0
    with pytest.raises(PullError, match="--between night"):
        overread("pull", "--resume", "1", "--between", "night")
    assert overread("pull", "--resume", "1", "--keep-hours", "0", "--ahead", "5").exit_code == 0
    kept = {"per_minute": 6000, "ahead": 5, "keep_hours": 0, "between": "", "limit": 0, "again": False}
    assert pulls.find(house.store, 1).rules == kept
