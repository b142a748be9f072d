"""/metrics, /healthz and /readyz: who may ask, and what is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from databases_made import place
from fastapi import FastAPI

from config.settings import Settings
from node.storage.store import Store
from node.web import probes

PATHS = ["/metrics", "/healthz", "/readyz"]


class Client:
    """Asks an application directly, as if from an address."""

    def __init__(self, app: FastAPI, address: str) -> None:
        self._transport = httpx.ASGITransport(app=app, client=(address, 50000))

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://localhost") as client:
                return await client.get(path, headers=headers or {})

        return asyncio.run(ask())


Ask = Callable[..., Client]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(place(tmp_path), tmp_path / "spool")
    made.open()
    made.spool.open()
    yield made
    made.close()


@pytest.fixture
def ask(store: Store, tmp_path: Path) -> Ask:
    """A client of the given address, to a dashboard with or without a token."""

    def make(address: str = "127.0.0.1", *, token: str = "", mode: int = 0o600) -> Client:
        file = tmp_path / "metrics.token"
        if token:
            file.write_text(f"{token}\n")
            file.chmod(mode)
        metrics = {"token_file": file} if token else {}
        settings = Settings(node={"data_dir": tmp_path}, metrics=metrics)  # type: ignore[arg-type]
        app = FastAPI()
        probes.install(app, settings, store, store.spool)
        return Client(app, address)

    return make


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_ask(ask: Ask, path: str, address: str) -> None:
    assert ask(address).get(path).status_code in (200, 503)


@pytest.mark.parametrize("path", PATHS)
def test_nobody_else_may_without_a_token_file(ask: Ask, path: str) -> None:
    answer = ask("10.1.2.3").get(path, headers={"Authorization": "Bearer "})
    assert answer.status_code == 403


@pytest.mark.parametrize("path", PATHS)
def test_elsewhere_the_token_opens(ask: Ask, path: str) -> None:
    client = ask("10.1.2.3", token="canary")
    assert client.get(path).status_code == 401
    assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get(path, headers={"Authorization": "canary"}).status_code == 401
    assert client.get(path, headers={"Authorization": "Bearer canary"}).status_code in (200, 503)


def test_a_token_that_others_can_read_opens_nothing(ask: Ask) -> None:
    client = ask("10.1.2.3", token="canary", mode=0o644)
    answer = client.get("/metrics", headers={"Authorization": "Bearer canary"})
    assert (answer.status_code, "canary" in answer.text) == (403, False)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_what_a_proxy_on_this_machine_brings_is_not_from_this_machine(ask: Ask, header: str) -> None:
    assert ask().get("/metrics", headers={header: "10.1.2.3"}).status_code == 403


def test_metrics_are_in_the_form_that_is_asked_for(ask: Ask) -> None:
    answer = ask().get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "# HELP overread_studies Studies by state." in answer.text
    answer = ask().get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")


def test_a_node_that_does_not_run_is_neither_alive_nor_ready(ask: Ask) -> None:
    for path in ("/healthz", "/readyz"):
        answer = ask().get(path)
        assert (answer.status_code, answer.json()["well"]) == (503, False)
        assert "dispatch, infer, receive" in answer.json()["checks"]["roles"]


def test_a_database_that_is_gone_fails_the_scrape(ask: Ask, store: Store) -> None:
    client = ask()
    store.close()
    store.path.write_bytes(b"no database at all, " * 1000)
    assert client.get("/metrics").status_code == 503


@pytest.mark.parametrize("path", PATHS)
def test_a_token_that_is_brought_must_be_right_also_from_this_machine(ask: Ask, path: str) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    assert ask().get(path, headers=wrong).status_code == 403
    client = ask(token="canary")
    assert client.get(path, headers=wrong).status_code == 401
    assert client.get(path, headers={"Authorization": "Bearer canary"}).status_code in (200, 503)


class TestDashboard:
    """The same behind the dashboard's door."""

    @pytest.fixture
    def web_settings(self, tmp_path: Path) -> str:
        file = tmp_path / "metrics.token"
        file.write_text("canary\n")
        file.chmod(0o600)
        return f'[metrics]\ntoken_file = "{file}"\n'

    @pytest.mark.parametrize("host", ["127.0.0.1:8090", "localhost", "[::1]:8090", "10.1.2.3:8090"])
    def test_they_are_asked_at_the_dashboard_by_its_addresses(self, app: FastAPI, host: str) -> None:
        for path in PATHS:
            answer = Client(app, "127.0.0.1").get(path, headers={"Host": host})
            assert (answer.status_code in (200, 503), "location" in answer.headers) == (True, False)

    def test_by_another_name_only_with_the_token(self, app: FastAPI) -> None:
        # in a container network the node goes by its service's name; a foreign page may have a name mean our address
        named = {"Host": "overread:8090"}
        for client in (Client(app, "127.0.0.1"), Client(app, "10.1.2.3")):
            assert client.get("/metrics", headers=named).status_code == 421
            assert client.get("/metrics", headers=named | {"Authorization": "Bearer guessed"}).status_code == 401
            assert client.get("/metrics", headers=named | {"Authorization": "Bearer canary"}).status_code == 200
        assert Client(app, "10.1.2.3").get("/", headers=named | {"Authorization": "Bearer canary"}).status_code == 421

    def test_a_refusal_is_for_programs_too(self, app: FastAPI) -> None:
        answer = Client(app, "10.1.2.3").get("/metrics")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json() == {"detail": "the token is missing or wrong"}
