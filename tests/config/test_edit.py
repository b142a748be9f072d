"""Peers are added to and taken out of a settings file's text; everything else stays as it was written."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.edit import EditError, add_peer, remove_peer
from config.settings import EXAMPLE

TEXT = EXAMPLE.read_text(encoding="utf-8")
CT: dict[str, Any] = {"name": "ct", "ae_title": "CT1", "networks": ["10.1.7.22"], "may": ["send"]}
ARCHIVE: dict[str, Any] = {"name": "archive", "ae_title": "ARCHIVE", "host": "10.1.2.4", "port": 104}


def names(text: str) -> list[str]:
    return [p["name"] for p in tomllib.loads(text).get("peer", [])]


def refusal(text: str, name: str = "pacs", **how: bool) -> str:
    with pytest.raises(EditError) as caught:
        remove_peer(text, name, **how)
    return str(caught.value)


def test_a_peer_is_written_behind_the_last_one() -> None:
    after = add_peer(TEXT, CT)
    block = '\n[[peer]]\nname = "ct"\nae_title = "CT1"\nnetworks = ["10.1.7.22"]\nmay = ["send"]\n'
    before, _, behind = after.partition(block)
    assert before + behind == TEXT
    assert before.endswith('may = ["send"]\n') and behind.startswith("\n# A system on the web: a url in place of")


def test_values_are_quoted_as_toml_wants_it() -> None:
    after = add_peer("", CT | {"ae_title": 'A"B', "settle": {"quiet_seconds": 120}})
    assert tomllib.loads(after)["peer"] == [CT | {"ae_title": 'A"B', "settle": {"quiet_seconds": 120}}]


def test_a_peer_that_is_added_and_removed_leaves_no_trace() -> None:
    after = add_peer(TEXT, ARCHIVE, to_routes=["chest-findings", "chest-abnormal"])
    assert after.count('deliver_to = ["pacs", "archive"]') == 2
    assert remove_peer(after, "archive", from_routes=True) == TEXT


def test_a_route_without_destinations_gets_its_first_one() -> None:
    text = 'x = 1\n[[route]]\nname = "a" # first\n[route.gate]\nat_least = 0.9\n\n# --- The rest ---\n\n[log]\n'
    after = add_peer(text, ARCHIVE, to_routes=["a"])
    assert tomllib.loads(after)["route"] == [{"name": "a", "gate": {"at_least": 0.9}, "deliver_to": ["archive"]}]
    assert 'name = "a" # first\n' in after and "\n\n# --- The rest ---\n\n[log]\n" in after


def test_comments_of_a_removed_peer_go_with_it() -> None:
    after = remove_peer(TEXT, "xray-room-1")
    gone = [line for line in TEXT.splitlines() if line not in after.splitlines()]
    assert gone == [
        "# A radiography unit that sends its images straight to the node and takes nothing back.",
        'name = "xray-room-1"',
        'ae_title = "XRAY1"',
        'networks = ["10.1.7.21"]',
        'may = ["send"]',
    ]
    assert after.count("[[peer]]") == TEXT.count("[[peer]]") - 1


LIVED_IN = """# Ours
[node]
ae_title = "OVERREAD"  # as agreed

# --- Peers ---
# The big one in the basement
[[peer]]
name = "pacs"
ae_title = "PACS"   # since 2019
host = "10.1.2.3"
port = 104
# its pager: 4711

# Which results:
#results = ["sc"]

# Ask Kim before anything below changes.

# room 1
[[peer]]
name = "ct"
ae_title = "CT"
networks = ["10.1.7.22"]
may = ["send"]
[peer.settle]
quiet_seconds = 120  # slow
# --- Routes ---
[[route]]
name = "chest"
bundle = "chest-findings"
from_peers = ["ct"]
deliver_to = ["pacs"]
"""


def test_comments_that_belong_to_others_stay() -> None:
    gone = set(LIVED_IN.splitlines()) - set(remove_peer(LIVED_IN, "pacs", from_routes=True).splitlines())
    assert [line for line in LIVED_IN.splitlines() if line in gone] == [
        "# The big one in the basement",
        'name = "pacs"',
        'ae_title = "PACS"   # since 2019',
        'host = "10.1.2.3"',
        "port = 104",
        "# its pager: 4711",
        "# Which results:",
        '#results = ["sc"]',
        'deliver_to = ["pacs"]',
    ]


def test_a_sub_table_goes_with_its_peer() -> None:
    text = LIVED_IN.replace('from_peers = ["ct"]\n', "")
    after = remove_peer(text, "ct")
    assert after == text.partition("\n# room 1\n")[0] + text[text.index("# --- Routes ---\n") :]


def test_what_a_route_names_is_not_removed() -> None:
    assert refusal(TEXT) == (
        "the peer pacs is named by the route chest-findings (deliver_to), chest-abnormal (deliver_to): "
        "--from-routes removes it there too"
    )


def test_a_route_is_never_opened_to_everybody() -> None:
    assert refusal(LIVED_IN, "ct", from_routes=True) == (
        "the route chest takes studies from the peer ct only, and without it would take them from everybody: change "
        "its from_peers, or remove the route, first"
    )


def test_unknown_and_taken_names_are_answered_with_those_that_are_there() -> None:
    assert refusal(TEXT, "mri") == "there is no [[peer]] named mri (have: pacs, xray-room-1)"
    assert refusal("", "mri") == "there is no [[peer]] named mri (have: none)"
    with pytest.raises(EditError, match=r"^there is a \[\[peer\]\] named pacs already$"):
        add_peer(TEXT, ARCHIVE | {"name": "pacs"})
    with pytest.raises(
        EditError, match=r"^there is no \[\[route\]\] named x \(have: chest-findings, chest-abnormal\)$"
    ):
        add_peer(TEXT, ARCHIVE, to_routes=["x"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("peer = [", "not TOML: "),
        (
            'peer = [{ name = "a" }, { name = "pacs" }]\n',
            "write each peer as [[peer]] and in one piece: only then can a command change it",
        ),
        (
            '[[peer]]\nname = "pacs"\n[[route]]\nname = "r"\n[peer.settle]\nquiet_seconds = 1\n',
            "write each peer as [[peer]] and in one piece: only then can a command change it",
        ),
        (
            '[node]\norganisation = """\n# no comment"""\n[[peer]]\nname = "pacs"\n',
            "this file has a form that only a person can change: nothing was changed",
        ),
    ],
)
def test_what_cannot_be_changed_in_place_is_refused(text: str, words: str) -> None:
    assert refusal(text).startswith(words)


def test_what_looks_like_a_header_in_a_text_is_none() -> None:
    text = '[node]\norganisation = """\n[[peer]]\nname = "ghost"\n"""\n' + LIVED_IN.partition("# --- Peers")[2][4:]
    assert refusal(text, "ghost").startswith("there is no [[peer]] named ghost")
    assert names(remove_peer(text, "pacs", from_routes=True)) == ["ct"]


def test_a_comment_of_a_route_does_not_go_with_the_peers_behind_it() -> None:
    route = '[[route]]\nname = "r"\ndeliver_to = ["zz"]\n# of the route\n\n'
    text = route + '[[peer]]\nname = "one"\n[[peer]]\nname = "two"\n'
    assert remove_peer(remove_peer(text, "one"), "two").rstrip() == route.rstrip()


PIECES = [
    "# a remark\n",
    "\n",
    "#port = 1\n",
    "# --- a rule ---\n",
    "#[[peer]]\n#name = 'shown'\n",
    '[[peer]]\nname = "p{}"\nae_title = "P"\n',
    '# leads\n[[ peer ]] # odd\nname = "p{}"\nnetworks = [\n  "10.1.2.3", # one\n]\n',
    '[[route]]\nname = "r{}"\ndeliver_to = ["p0", "zz"]\n# of the route\n\n',
    '[[route]]\nname = "r{}"\ndeliver_to = [\n    "zz", # last\n]\n',
    "[t{}]\nx = 1 # of t\n",
    '[s{}]\ny = """\n[[peer]]\n# no comment\n"""\n',
]
FILES = st.builds(
    lambda parts, whole, newline: (
        "".join(p.format(i) for i, p in enumerate(parts)).removesuffix("" if whole else "\n").replace("\n", newline)
    ),
    st.lists(st.sampled_from(PIECES), max_size=12),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)


@settings(deadline=None)
@given(FILES)
def test_whatever_the_file_looks_like_adding_and_removing_gives_it_back(text: str) -> None:
    routes = [r["name"] for r in tomllib.loads(text).get("route", [])]
    assert remove_peer(add_peer(text, ARCHIVE), "archive") == text
    after = add_peer(text, ARCHIVE, to_routes=routes)
    assert tomllib.loads(remove_peer(after, "archive", from_routes=True)) == tomllib.loads(text)


@settings(deadline=None)
@given(FILES, st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=8))
def test_whatever_is_added_and_removed_other_sections_stay_byte_for_byte(
    text: str, steps: list[tuple[bool, int]]
) -> None:
    others = [line for line in text.splitlines() if "of t" in line or "no comment" in line or "of the route" in line]
    after = text
    for add, n in steps:
        have = names(after)
        if add and f"n{n}" not in have:
            after = add_peer(after, ARCHIVE | {"name": f"n{n}"})
            assert names(after) == [*have, f"n{n}"]
        elif have and not add:
            after = remove_peer(after, have[n % len(have)], from_routes=True)
    kept = [line for line in after.splitlines() if line in others]
    assert kept == others
    for rule in ("# --- a rule ---", "#[[peer]]"):
        assert after.count(rule) == text.count(rule)
