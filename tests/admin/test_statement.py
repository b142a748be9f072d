"""The conformance statement as a document: whole, in both forms, and of these settings."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import UID
from typer.testing import CliRunner

from config.settings import EXAMPLE, Settings
from node import __version__
from node.admin.conformance import Document, answers, as_html, as_markdown, objects, services, statement
from node.admin.conformance.document import Section, Table
from node.admin.conformance.networking import PARAMETERS
from node.cli import app
from node.network import incoming, statuses
from node.pipeline.report import BUILDERS
from node.results.check import ALSO_TYPE_2, ALWAYS_TYPE_1, TYPE_1
from node.results.evidence import TYPE_2
from node.results.form import CLASSES

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_800_000_000.0
ALL_KINDS: dict[str, Any] = {
    "peer": [
        {"name": "pacs", "ae_title": "PACS", "host": "10.1.2.3", "port": 104},
        {"name": "web", "url": "http://10.1.2.4/dicom-web"},
    ],
    "route": [
        {
            "name": "chest",
            "bundle": "chest-findings",
            "results": ["sr", "sc", "gsps", "kos", "pdf"],
            "deliver_to": ["pacs", "web"],
        }
    ],
}


@pytest.fixture(scope="module")
def whole() -> Document:
    return statement(Settings(**ALL_KINDS), now=NOW)


def titles(document: Document) -> list[str]:
    return [f"{number} {section.title}" for number, section in document.numbered()]


def test_the_sections_are_those_of_the_standard_s_template(whole: Document) -> None:
    tops = [t for t in titles(whole) if "." not in t.partition(" ")[0]]
    # PS3.2 A.1 to A.9
    assert tops == [
        "1 Conformance Statement Overview",
        "2 Table of Contents",
        "3 Introduction",
        "4 Networking",
        "5 Media Interchange",
        "6 Transformation of DICOM to CDA",
        "7 Support of Character Sets",
        "8 Security",
        "9 Annexes",
    ]
    for wanted in (
        "4.1.1 Application Data Flow",
        "4.2.1.1 SOP Classes",
        "4.2.1.2.3 Asynchronous Nature",
        "4.4.1 AE Title and Presentation Address Mapping",
        "9.1.1.2 Structured Report",
    ):
        assert wanted in titles(whole)


def test_no_section_and_no_table_is_empty(whole: Document) -> None:
    assert all(section.blocks or section.parts for _, section in whole.numbered())
    assert all(block.rows if isinstance(block, Table) else block.lines for _, block in whole.tables())
    for _, block in whole.tables():
        if isinstance(block, Table):
            assert {len(row) for row in block.rows} == {len(block.head)}


def test_both_forms_say_every_word(whole: Document) -> None:
    markdown, page = as_markdown(whole), as_html(whole)
    shown = _Shown()
    shown.feed(page)
    assert not shown.open, "every element of the page is closed"
    plain = re.sub(r"\\([\\`*_{}\[\]<>#|~])", r"\1", markdown)
    for number, section in whole.numbered():
        assert f"{number} {section.title}" in plain and f"{number} {section.title}" in shown.text
        for block in section.blocks:
            rows = block.rows if isinstance(block, Table) else ()
            for text in [block] if isinstance(block, str) else [cell for row in rows for cell in row]:
                assert text in plain, text
                assert text in shown.text, text


class _Shown(HTMLParser):
    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_from_elsewhere(whole: Document) -> None:
    page = as_html(whole)
    assert "<script" not in page and not re.search(r"(src|href)=[\"']?(http|//)", page)


def test_what_the_settings_hold_cannot_become_markup() -> None:
    hostile = Settings(node={"organisation": "<b>|`x`*"})
    document = statement(hostile, now=NOW)
    assert "<b>" not in as_html(document)
    assert "\\<b\\>\\|\\`x\\`\\*" in as_markdown(document)


def test_a_node_without_peers_and_routes_has_a_statement_too() -> None:
    document = statement(Settings(), now=NOW)
    assert services.activities(Settings()) == () and services.resources(Settings()) == ()
    assert "this node makes no objects" in as_markdown(document)
    assert "this machine may associate under any title" in as_markdown(document)


def test_every_section_of_the_settings_is_shown_or_known_to_bear_on_nobody() -> None:
    """Whoever adds a section has to say here, and in the statement, what it means to a peer."""
    elsewhere = {"database", "spool", "ray", "peer", "route", "infer"}
    elsewhere |= {"log", "web", "metrics", "alarm", "canary", "audit"}
    assert set(PARAMETERS) | elsewhere == set(Settings.model_fields)


def test_the_audit_trail_is_said_to_be_off_or_where_it_goes(tmp_path: Path) -> None:
    def told(**audit: Any) -> str:
        return as_markdown(statement(Settings(audit=audit), now=NOW))

    assert "Audit trail: off; the settings name no place for it" in told()
    said = told(file=tmp_path / "audit.xml", syslog="tls://audit.hospital:6514")
    assert "to a file of this machine and by syslog over TLS (RFC 5425) to tls://audit.hospital:6514" in said
    assert "audit.xml" not in said


def test_no_file_name_and_no_secret_of_this_machine_is_told(tmp_path: Path) -> None:
    peer = {"name": "web", "url": "https://10.1.2.4/dicom-web", "user": "somebody", "password_file": "hidden.password"}
    settings = Settings(tls={"certificate": tmp_path / "c.pem"}, peer=[peer], node={"data_dir": tmp_path})
    text = as_markdown(statement(settings, now=NOW))
    assert not [word for word in (str(tmp_path), "somebody", "hidden.password", "node.key") if word in text]
    assert "BCP 195" in text and "tls.port" in text


def test_objects_are_described_as_the_self_check_wants_them(whole: Document) -> None:
    for kind, classes in CLASSES.items():
        sop_class = classes[0]
        table = whole.table(f"Attributes of the {objects.TITLES[kind]}")
        said = {row[2]: row[5] for row in table.rows if not row[1].startswith(">")}
        for keyword in (*ALWAYS_TYPE_1.split(), *TYPE_1[sop_class].split()):
            assert said[_tag(keyword)] == "ALWAYS", (kind, keyword)
        for keyword in (*TYPE_2, *ALSO_TYPE_2[sop_class].split()):
            assert said[_tag(keyword)] != "ANAP", (kind, keyword)
        assert "Other" not in table.column("Module")


def _tag(keyword: str) -> str:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def test_every_kind_of_result_has_a_title_and_a_section(whole: Document) -> None:
    assert set(objects.TITLES) == {*BUILDERS, "withdrawal"}
    assert {f"9.1.1.{n} {objects.TITLES[kind]}" for n, kind in enumerate([*BUILDERS, "withdrawal"], 1)} <= set(
        titles(whole)
    )


def test_attributes_come_from_where_the_statement_says(whole: Document) -> None:
    table = whole.table("Attributes of the Structured Report")
    rows = {row[1]: row for row in table.rows}
    assert rows["Patient ID"][-2:] == ("VNAP", "COPY")
    assert rows["Station Name"][-2:] == ("ALWAYS", "CONFIG")
    assert rows["SOP Instance UID"][-2:] == ("ALWAYS", "AUTO")
    assert rows["Content Date"][-2:] == ("ALWAYS", "AUTO")
    assert rows["Manufacturer"][4:] == ("Overread", "ALWAYS", "FIXED")
    assert rows["Predecessor Documents Sequence"][5] == "ANAP"


def test_the_findings_are_those_of_the_routes_bundles(whole: Document) -> None:
    from models.registry import Registry

    table = whole.table("Findings by route")
    assert table.column("Label") == [label.name for label in Registry().find("chest-findings").spec.labels]
    assert set(table.column("Model")) == {"chest-findings@1.0.0"}


def test_every_sop_class_has_a_name_of_words() -> None:
    named = [services.name_of(c.sop_class_uid) for c in services.accepted()]
    assert not [name for name in named if name[0].isdigit() and "lead" not in name]
    assert services.name_of("1.2.840.10008.5.1.4.1.1.66.7") == "Label Map Segmentation Storage"
    assert all(UID(c.sop_class_uid).is_valid for c in services.accepted())


def codes_in(module: Any, *calls: str) -> set[int]:
    """The status codes that a module's source gives to these calls."""
    found = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in calls and node.args:
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Name) and part.id.isupper():
                    found.add(int(getattr(module, part.id)))
                elif isinstance(part, ast.Constant) and isinstance(part.value, int):
                    found.add(part.value)
    return found


def test_no_status_is_answered_that_the_statement_does_not_name() -> None:
    from node.network import commitment, listener
    from node.pipeline import commit, identify, prove, receive

    store = {one.code for one in answers.STORE}
    asked = {one.code for one in answers.COMMIT}
    reported = {one.code for one in answers.REPORT}
    assert codes_in(receive, "Status") | codes_in(identify, "Unidentified") | codes_in(listener, "Status") == store
    wire = codes_in(commitment, "_Refused", "Status")
    shared = {incoming.NOT_AUTHORISED, 0x0000}
    assert asked == (wire - {incoming.NO_SUCH_EVENT_TYPE}) | codes_in(commit, "Status") | shared
    assert reported == (wire - {incoming.NO_SUCH_ACTION}) | codes_in(prove, "Status") | shared
    failures = {incoming.NO_SUCH_INSTANCE, incoming.CLASS_INSTANCE_CONFLICT, incoming.PROCESSING_FAILURE}
    assert {one.code for one in answers.FAILURES} == failures


def test_each_code_means_what_the_sender_takes_it_for(whole: Document) -> None:
    table = whole.table("Statuses of C-STORE responses of peers")
    for first, last, kind, words in statuses.meanings():
        code = f"{first:04X}" if first == last else f"{first:04X} to {last:04X}"
        row = next(row for row in table.rows if row[0] == code)
        assert row[1] == words and statuses.classify(last).kind in (kind, "warning", "permanent")
    assert all(one.words != "unknown status" for one in (*answers.STORE, *answers.COMMIT, *answers.REPORT))


def test_tables_are_found_by_their_caption() -> None:
    document = Document(
        "d", (), (Section("s", (Table("a", ("x",), (("1",),)), "words", Table("b", ("x",), (("2",),)))),)
    )
    assert document.table("b").column("x") == ["2"]
    assert [number for number, _ in document.tables()] == ["1-1", "1-2"]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    file = tmp_path / "overread.toml"
    file.write_text('[node]\nae_title = "OVERREAD"\n')

    def typed(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["conformance", *arguments, "--config", str(file)], catch_exceptions=False)

    return typed


def test_the_command_prints_markdown_or_writes_files(run: Callable[..., Any], tmp_path: Path) -> None:
    printed = run()
    assert printed.exit_code == 0
    assert printed.stdout.startswith("# DICOM Conformance Statement of Overread, OVERREAD\n")
    assert f"| Version | {__version__} |" in printed.stdout
    written = run("--html", str(tmp_path / "s.html"), "--md", str(tmp_path / "s.md"))
    assert written.exit_code == 0
    assert (tmp_path / "s.md").read_text().splitlines()[0] == printed.stdout.splitlines()[0]
    assert (tmp_path / "s.html").read_text().startswith("<!doctype html>")
    failed = run("--html", str(tmp_path / "gone" / "s.html"))
    assert failed.exit_code == 2 and "cannot be written: No such file or directory" in failed.stderr


def test_a_route_to_no_bundle_is_a_sentence(run: Callable[..., Any], tmp_path: Path) -> None:
    from node.errors import SettingsError

    file = tmp_path / "overread.toml"
    file.write_text('[[route]]\nname = "r"\nbundle = "nobody"\nmode = "shadow"\n')
    with pytest.raises(SettingsError, match="nobody: no such bundle"):
        run()


@pytest.mark.slow
def test_the_example_has_a_statement() -> None:
    said = as_markdown(statement(Settings.load(EXAMPLE), now=NOW))
    assert "Made by the routes chest-findings, chest-abnormal." in said and "XRAY1" in said


@pytest.mark.slow
@pytest.mark.parametrize("bundle", ["chest-abnormal", "body-part"])
def test_a_model_of_another_kind_is_described_too(bundle: str) -> None:
    route = {"name": "r", "bundle": bundle, "results": ["sr", "sc", "gsps", "kos", "pdf"], "mode": "shadow"}
    document = statement(Settings(route=[route]), now=NOW)
    assert set(document.table("Findings by route").column("Model")) == {f"{bundle}@1.0.0"}
    assert document.table("Attributes of the Structured Report").rows
