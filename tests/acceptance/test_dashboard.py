"""A person opens the dashboard of a running node in a real browser: the first account, the flow, a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance_parts import give
from playwright.sync_api import Browser, FloatRect, Page, expect
from running import RunningNode

from config.settings import Settings
from node.network.orthanc import Orthanc

pytestmark = [pytest.mark.browser, pytest.mark.orthanc, pytest.mark.model, pytest.mark.slow]

SECONDS = 40
LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
PAGES = (
    *("/", "/studies", "/studies/1", "/held", "/deliveries", "/reconcile", "/accounts", "/peers", "/peers/pacs"),
    *("/models", "/models/chest-findings@1.0.0", "/settings", "/conformance"),
)
PASSWORD = "correct horse battery"

# The contrast of each text with what lies behind it (WCAG 2.2, 1.4.3); what is less than 4.5 is named
FAINT = """() => {
    const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return [...n.slice(0, 3), n[3] ?? 1]; };
    const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {
        for (let it = element; it; it = it.parentElement) {
            const colour = parse(getComputedStyle(it).backgroundColor);
            if (colour[3] === 1) return colour;
        }
        return [255, 255, 255, 1];
    };
    const found = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
        if (!text || !element.checkVisibility() || element.closest(".unseen, option")) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) found.push(`${text}: ${contrast.toFixed(2)}`);
    }
    return found;
}"""
# What a screen reader needs and does not find
UNNAMED = """() => {
    const found = [];
    if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
    for (const tag of ["main", "header", "footer", "nav"]) if (!document.querySelector(tag)) found.push(`no ${tag}`);
    for (const it of document.querySelectorAll("table:not(.prose table)"))
        if (!it.caption) found.push("a table without caption");
    for (const it of document.querySelectorAll("th")) if (!it.scope) found.push(`th without scope: ${it.innerText}`);
    for (const it of document.querySelectorAll("img")) if (!it.alt) found.push(`no alt: ${it.src}`);
    for (const it of document.querySelectorAll("input:not([type=hidden]), select"))
        if (!it.labels.length && !it.ariaLabel) found.push(`no label: ${it.name}`);
    for (const it of document.querySelectorAll("button, a"))
        if (!it.innerText.trim() && !it.querySelector("img[alt]")) found.push(`no name: ${it.outerHTML}`);
    return found;
}"""


@pytest.fixture(scope="module")
def running(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node whose peers are changed in the dashboard."""
    node = RunningNode(tmp_path_factory.mktemp("node"), (orthanc.ae_title, orthanc.port), port=orthanc.node_port)
    node.file.write_text(node.file.read_text().replace("[web]\n", "[web]\nedit_peers = true\n"))
    node.settings = Settings.load(node.file)
    node.start()
    yield node
    node.stop()


@pytest.fixture
def page(browser: Browser, artefacts: Path) -> Iterator[Page]:
    context = browser.new_context(viewport=LAPTOP)
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    yield page
    page.screenshot(path=artefacts / "last.png", full_page=True)
    context.close()


@pytest.fixture
def trouble(page: Page) -> list[str]:
    """What goes wrong in the page: exceptions, what the browser complains of, and requests that were refused."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(f"{error}"))
    page.on("console", lambda said: found.append(said.text) if said.type in ("error", "warning") else None)
    page.on("response", lambda got: found.append(f"{got.status} {got.url}") if got.status >= 400 else None)
    return found


@pytest.fixture
def node(running: RunningNode, page: Page) -> RunningNode:
    """The node, and somebody who is logged in: with the first account, where there is none."""
    address = running.settings.web.address
    page.goto(address)
    if page.url.endswith("/first"):
        token = (running.settings.node.data_dir / "run" / "web.token").read_text()
        page.get_by_label("Token").fill(token)
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Make the account").click()
        expect(page.get_by_role("status")).to_have_text("The account is made: log in with it.")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Flow")
    return running


def test_a_study_is_seen_to_pass_and_is_looked_at(
    page: Page,
    trouble: list[str],
    node: RunningNode,
    orthanc: Orthanc,
    film: Callable[..., Path],
    artefacts: Path,
) -> None:
    expect(page.get_by_text("Nothing has come yet.")).to_be_visible()
    node.finish(give(orthanc, film(PatientID="PID-1042", AccessionNumber="A2026-118")))
    row = page.get_by_role("region", name="Newest studies").get_by_role("link", name="1", exact=True)
    row.wait_for()  # nobody loaded the page again
    verbs = page.get_by_role("list", name="The six verbs")
    expect(verbs.get_by_role("link", name="SENT 2")).to_be_visible()
    page.screenshot(path=artefacts / "flow.png", full_page=True)
    row.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Study 1")
    expect(page.get_by_role("rowheader", name="Pneumothorax")).to_be_visible()
    expect(page.get_by_text("pacs: sent sr")).to_be_visible()
    picture = page.get_by_role("img", name="The picture that was made of it")
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("it => it.decode().then(() => it.naturalWidth)") > 300
    page.evaluate("() => scrollTo(0, 0)")
    page.screenshot(path=artefacts / "study.png", full_page=True)
    assert "PID" not in page.url
    assert trouble == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_every_page_can_be_read_by_everybody(
    page: Page,
    trouble: list[str],
    node: RunningNode,
    orthanc: Orthanc,
    film: Callable[..., Path],
    artefacts: Path,
    scheme: str,
    screen: dict[str, int],
) -> None:
    node.finish(give(orthanc, film()))
    page.set_viewport_size({"width": screen["width"], "height": screen["height"]})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    for path in PAGES:
        page.goto(f"{node.settings.web.address}{path}")
        assert page.evaluate(FAINT) == [], path
        assert page.evaluate(UNNAMED) == [], path
        assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0, path
        # the statement of conformance would be a picture of 36,000 lines
        length = min(page.evaluate("() => document.documentElement.scrollHeight"), 6000)
        clip = FloatRect(x=0, y=0, width=screen["width"], height=length)
        name = path.strip("/").replace("/", "-") or "flow"
        page.screenshot(path=artefacts / f"{name}.png", full_page=True, clip=clip)
    assert trouble == []


def test_a_keyboard_is_enough(page: Page, node: RunningNode) -> None:
    page.goto(f"{node.settings.web.address}/studies")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.evaluate("it => getComputedStyle(it).outlineStyle") == "solid"
    assert focused.get_attribute("name") == "state"


def test_pages_work_without_a_script(browser: Browser, page: Page, node: RunningNode) -> None:
    context = browser.new_context(java_script_enabled=False, storage_state=page.context.storage_state())
    plain = context.new_page()
    plain.goto(f"{node.settings.web.address}/")
    expect(plain.get_by_role("list", name="The six verbs")).to_be_visible()
    plain.goto(f"{node.settings.web.address}/studies")
    plain.get_by_label("State").select_option("ROUTED")
    plain.get_by_role("button", name="Show").click()
    expect(plain.get_by_role("heading", level=1)).to_have_text("Studies")
    assert "state=ROUTED" in plain.url
    context.close()


def test_one_button_proves_the_round_trip(page: Page, trouble: list[str], node: RunningNode, artefacts: Path) -> None:
    page.goto(f"{node.settings.web.address}/peers/pacs")
    page.get_by_label("also store the test result at pacs").check()
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.get_by_text("PROVEN", exact=True)).to_be_visible(timeout=SECONDS * 1000)
    steps = page.get_by_role("region", name="Test the round trip").get_by_role("listitem")
    expect(steps.filter(has_text="2 of 2 results stored")).to_be_visible()
    expect(steps.filter(has_text="pacs sent 2 objects of the test study back")).to_be_visible()
    page.screenshot(path=artefacts / "proven.png", full_page=True)
    assert trouble == []


def test_scores_are_drawn_where_a_model_was_asked(
    page: Page, trouble: list[str], node: RunningNode, orthanc: Orthanc, film: Callable[..., Path], artefacts: Path
) -> None:
    node.finish(give(orthanc, film()))
    page.goto(f"{node.settings.web.address}/models/chest-findings@1.0.0")
    chart = page.get_by_role("img", name="Distribution of Pneumothorax")
    assert max(chart.locator("rect").evaluate_all("bars => bars.map(it => it.height.baseVal.value)")) > 20
    page.get_by_text("The whole model card").click()
    page.screenshot(path=artefacts / "model.png", full_page=True)
    assert trouble == []


def test_a_peer_is_added_and_taken_up_while_the_page_waits(page: Page, node: RunningNode, artefacts: Path) -> None:
    page.goto(f"{node.settings.web.address}/peers")
    page.get_by_label("Name", exact=True).fill("archive")
    page.get_by_label("AE title").fill("ARCHIVE")
    page.get_by_label("Host, where results go").fill("192.0.2.7")
    page.get_by_label("Port").fill("104")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("peer archive was added", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="archive", exact=True)).to_have_count(0)
    page.screenshot(path=artefacts / "waiting.png", full_page=True)
    page.get_by_role("button", name="Take up now").click()
    expect(page.get_by_text("The settings file is being taken up")).to_be_visible()
    # nobody loads the page again: the dashboard is restarted under it
    expect(page.get_by_text("Taken up: peer archive was added.")).to_be_visible(timeout=SECONDS * 1000)
    expect(page.get_by_role("link", name="archive", exact=True)).to_be_visible()
    page.screenshot(path=artefacts / "taken-up.png", full_page=True)
    page.get_by_role("link", name="archive", exact=True).click()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("peer archive was removed", exact=True)).to_be_visible()
    page.get_by_role("button", name="Take up now").click()
    expect(page.get_by_text("Taken up: peer archive was removed.")).to_be_visible(timeout=SECONDS * 1000)
    expect(page.get_by_role("link", name="archive", exact=True)).to_have_count(0)
