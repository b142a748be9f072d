"""What every request passes: names, sites, lengths, headers, errors and the log."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from house import House
from visitors import Person

from node.web.auth import FIELD, SESSION, form_token
from node.web.door import BODY_BYTES, HEADERS
from node.web.view import STATIC


@pytest.mark.parametrize("host", ["127.0.0.1:8090", "localhost:8090", "localhost", "[::1]:8090", "10.1.2.3"])
def test_addresses_and_localhost_are_names_of_ours(stranger: Person, host: str) -> None:
    assert stranger.get("/login", Host=host).status_code in (200, 303)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "a@b"])
def test_another_name_is_refused_as_a_foreign_page_may_have_it_mean_us(admin: Person, host: str) -> None:
    answer = admin.get("/", Host=host)
    assert answer.status_code == 421
    assert "web.public_url" in answer.text


class TestPublic:
    @pytest.fixture
    def web_settings(self) -> str:
        return '[web]\npublic_url = "https://overread.hospital"\n'

    def test_the_name_of_the_settings_is_ours_and_its_cookies_are_for_https(self, app: FastAPI, house: House) -> None:
        person = Person(app, "https://overread.hospital")
        answer = person.get("/first")
        assert answer.status_code == 200
        assert "secure" in answer.headers["set-cookie"].lower()
        assert person.get("/first", Host="other.hospital").status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8091"},
    ],
)
def test_a_form_from_another_site_is_refused_even_with_its_token(admin: Person, headers: dict[str, str]) -> None:
    token = form_token(admin.cookies[SESSION])
    assert admin.ask("POST", "/logout", data={FIELD: token}, headers=headers).status_code == 403
    assert admin.get("/").status_code == 200


def test_a_form_that_is_too_long_is_refused(admin: Person) -> None:
    assert admin.post("/studies/search", name="x" * BODY_BYTES).status_code == 413

    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"name=" + b"x" * (BODY_BYTES // 10)

    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert admin.ask("POST", "/studies/search", content=in_pieces(), headers=kind).status_code == 413


@pytest.mark.parametrize("path", ["/", "/login", "/no-such-page", "/static/style.css", "/studies/1"])
def test_every_answer_takes_its_headers_along(admin: Person, path: str) -> None:
    answer = admin.get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "unsafe" not in HEADERS["content-security-policy"]
    assert answer.headers["cache-control"] == (
        "public, max-age=31536000, immutable" if "static" in path else "no-store"
    )


def test_no_page_needs_the_internet_or_an_inline_script_or_style(admin: Person) -> None:
    for path in ("/", "/studies", "/held", "/deliveries", "/reconcile", "/accounts", "/login"):
        text = admin.get(path).text
        assert "<script>" not in text
        assert " style=" not in text
        assert " onclick=" not in text
        assert "//" not in text.replace("http://127.0.0.1:8090", "").replace("http://www.w3.org", "")
    for name, file in STATIC.items():
        assert b"@import" not in file.data, name
        assert b"url(" not in file.data, name


@pytest.mark.parametrize("name", ["nothing.css", "..%2fapp.py", "%2e%2e/app.py", "../app.py"])
def test_only_static_files_are_static(stranger: Person, name: str) -> None:
    assert stranger.get(f"/static/{name}").status_code in (303, 404)
    assert "import" not in stranger.get(f"/static/{name}").text


def test_an_error_of_ours_ends_as_a_page_and_a_line_without_its_message(
    app: FastAPI, admin: Person, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("Doe^Jane")

    monkeypatch.setattr("node.web.pages.held.contradictions", broken)
    with caplog.at_level(logging.DEBUG):
        answer = admin.get("/held")
    assert answer.status_code == 500
    assert "Doe" not in answer.text + caplog.text
    assert "web.failed route=/held ValueError at test_door.py" in caplog.text


def test_what_cannot_be_read_is_refused_without_quoting_it(admin: Person) -> None:
    answer = admin.get("/studies/Doe%5EJane")
    assert answer.status_code == 422
    assert "Doe" not in answer.text


def test_the_log_knows_routes_and_rows_and_nothing_that_was_asked_for(
    admin: Person, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="node.web"):
        admin.post("/studies/search", name="PID-1042")
        admin.get("/studies/7?name=PID-1042")
        admin.get("/Doe%5EJane%0Aforged")
    said = [r.getMessage() for r in caplog.records]
    assert said == [
        "web.request method=POST route=/studies/search rows=none status=200 account=ada",
        "web.request method=GET route=/studies/{study_id} rows=study_id=7 status=404 account=ada",
        "web.request method=GET route=none rows=none status=404 account=nobody",
    ]
