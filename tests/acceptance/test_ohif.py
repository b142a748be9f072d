"""A person opens the study in a real viewer: what the node sent back is seen there, and breaks nothing."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from acceptance_parts import give
from numpy.typing import NDArray
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Locator, Page
from pydicom import dcmread
from running import RunningNode
from viewer import Viewer

from node.network.orthanc import Orthanc, free_port
from node.results.header import PRODUCT

pytestmark = [pytest.mark.browser, pytest.mark.orthanc, pytest.mark.model, pytest.mark.slow]

SCREEN = {"width": 1280, "height": 900}
SECONDS = 40
ALIKE = 0.9
"""Correlation between a picture and the screen; what lies over it on the screen is the viewer's few words."""
DRAWN = 30
"""Mean brightness of a viewport, of 255, above which there is a film on it; its black ground and words stay below 5."""
UNKNOWN_TO_OHIF = {"PR", "KO"}
"""Modalities that OHIF lists with a warning triangle, whoever made them, and does not open."""
COMPLAINED_OF = {"SR", *UNKNOWN_TO_OHIF}
"""Modalities that OHIF may complain of when they are opened. Of TID 1500 reports 3.12 and 3.13 expect a drawn region in
each group, and where there is none they say "Something went wrong" over a black viewport."""

LISTED = """uids => {
    const sets = window.services?.displaySetService?.getActiveDisplaySets() ?? [];
    return uids.every(uid => sets.some(set => set.SeriesInstanceUID === uid));
}"""
DISPLAY_SET = "uid => window.services.displaySetService.getDisplaySetsForSeries(uid)[0].displaySetInstanceUID"
SHOWN = """id => {
    const {viewports, activeViewportId} = window.services.viewportGridService.getState();
    return viewports.get(activeViewportId).displaySetInstanceUIDs.includes(id);
}"""
NOTICES = """
    window.notices = new Set();
    const look = () => document.querySelectorAll('[data-sonner-toast]').forEach(it => window.notices.add(it.innerText));
    new MutationObserver(look).observe(document, {childList: true, subtree: true});
"""


@pytest.fixture(scope="module")
def orthanc(
    program: Callable[[str], str], dicomweb: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """The PACS of this module's node: with DICOMweb, which the viewer reads."""
    program("Orthanc")
    made = Orthanc(
        tmp_path_factory.mktemp("orthanc"),
        node_ae_title="OVERREAD",
        node_port=free_port(),
        Plugins=[str(dicomweb)],
        DicomWeb={"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def viewer(ohif_dir: Path, orthanc: Orthanc) -> Iterator[Viewer]:
    with Viewer(ohif_dir, f"http://127.0.0.1:{orthanc.http}") as serving:
        yield serving


@pytest.fixture
def page(browser: Browser, viewer: Viewer, artefacts: Path) -> Iterator[Page]:
    """A page of somebody who has seen OHIF's tour; its last sight is kept."""
    seen = {"name": "shownTours", "value": '["basicViewerTour"]'}
    context = browser.new_context(
        viewport=SCREEN, storage_state={"cookies": [], "origins": [{"origin": viewer.address, "localStorage": [seen]}]}
    )
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    page.add_init_script(NOTICES)
    yield page
    page.screenshot(path=artefacts / "last.png")
    context.close()


@pytest.fixture
def trouble(page: Page) -> list[str]:
    """What goes wrong in the page: exceptions that nobody caught, and requests that the server refused."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(f"{error}"))
    page.on("response", lambda got: found.append(f"{got.status} {got.url}") if got.status >= 400 else None)
    return found


@pytest.fixture
def study(running: RunningNode, orthanc: Orthanc, film: Callable[..., Path]) -> str:
    """The UID of a study with its results. The film says that its pixels are 0 mm wide, and OHIF then draws nothing."""
    uid = give(orthanc, film(PixelSpacing=None))
    running.finish(uid)
    return uid


def ours(orthanc: Orthanc, uid: str) -> dict[str, str]:
    """The series that the node put into a study: Series Instance UID and modality."""
    tags = [series["MainDicomTags"] for series in orthanc.get(f"/studies/{orthanc.study_id(uid)}/series")]
    return {t["SeriesInstanceUID"]: t["Modality"] for t in tags if t.get("Manufacturer") == PRODUCT}


def picture_of(orthanc: Orthanc, uid: str) -> NDArray[np.uint8]:
    """The pixels of the study's one Secondary Capture."""
    objects = [dcmread(io.BytesIO(data)) for data in orthanc.instances(uid).values()]
    (capture,) = [ds for ds in objects if ds.Modality == "OT"]
    pixels: NDArray[np.uint8] = capture.pixel_array
    return pixels


def enter(page: Page, address: str, series: dict[str, str]) -> None:
    """Wait until the film is drawn, too: OHIF stays black for good when it is asked for another series before."""
    page.goto(address)
    page.wait_for_function(LISTED, arg=list(series))
    until(page, lambda: np.asarray(seen(page)).mean() > DRAWN, "the film")


def thumbnail(page: Page, series: str) -> Locator:
    return page.locator(f"#thumbnail-{page.evaluate(DISPLAY_SET, series)}")


def open_series(page: Page, series: str) -> None:
    thumbnail(page, series).dblclick()
    await_series(page, series)


def await_series(page: Page, series: str) -> None:
    page.wait_for_function(SHOWN, arg=page.evaluate(DISPLAY_SET, series))


def seen(page: Page) -> Image.Image:
    """The viewport as it is on the screen, with what the viewer writes over it."""
    return Image.open(io.BytesIO(page.locator("[data-cy=viewport-pane]").screenshot())).convert("RGB")


def likeness(screen: Image.Image, picture: NDArray[np.uint8]) -> float:
    """How far a picture, as large as fits, is what the screen shows: of grey and of colour the lower correlation."""
    wanted = ImageOps.contain(Image.fromarray(picture), screen.size)
    left, top = (screen.width - wanted.width) // 2, (screen.height - wanted.height) // 2
    shown = screen.crop((left, top, left + wanted.width, top + wanted.height))
    a, b = (np.asarray(image, float) for image in (shown, wanted))
    pairs = [(a.mean(axis=2), b.mean(axis=2)), (a[..., 0] - a[..., 2], b[..., 0] - b[..., 2])]
    with np.errstate(invalid="ignore"):  # a black screen correlates with nothing
        return min(float(np.nan_to_num(np.corrcoef(x.ravel(), y.ravel())[0, 1])) for x, y in pairs)


def await_picture(page: Page, picture: NDArray[np.uint8]) -> None:
    until(page, lambda: likeness(seen(page), picture) > ALIKE, "the picture")


def until(page: Page, condition: Callable[[], bool], what: str) -> None:
    late = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < late, f"the viewport did not show {what} in {SECONDS} s"
        page.wait_for_timeout(100)


def notices(page: Page) -> list[str]:
    return list(page.evaluate("[...window.notices]"))


def test_the_picture_is_seen_in_its_viewport(
    page: Page, trouble: list[str], viewer: Viewer, orthanc: Orthanc, study: str, artefacts: Path
) -> None:
    series, picture = ours(orthanc, study), picture_of(orthanc, study)
    enter(page, viewer.study(study), series)
    assert likeness(seen(page), picture) < ALIKE  # so far it is the film
    (capture,) = [uid for uid, modality in series.items() if modality == "OT"]
    open_series(page, capture)
    await_picture(page, picture)
    for button in page.locator("[data-cy=cine-player-close]").all():  # offered for whatever is of modality OT
        button.click()
    page.screenshot(path=artefacts / "picture.png")
    assert thumbnail(page, capture).locator("img").is_visible()
    assert (trouble, notices(page)) == ([], [])


def test_the_report_is_listed_in_its_study(
    page: Page, trouble: list[str], viewer: Viewer, orthanc: Orthanc, study: str
) -> None:
    series = ours(orthanc, study)
    enter(page, viewer.study(study), series)
    (report,) = [uid for uid, modality in series.items() if modality == "SR"]
    row = thumbnail(page, report)
    row.wait_for()
    assert row.locator("[data-cy=series-modality-label]").inner_text() == "SR"
    assert "RESEARCH USE ONLY" in (row.locator("[data-cy=series-description-label]").text_content() or "")
    assert trouble == []


def test_every_series_of_ours_opens_and_the_viewer_lives_on(
    page: Page, trouble: list[str], viewer: Viewer, orthanc: Orthanc, study: str, artefacts: Path
) -> None:
    series, picture = ours(orthanc, study), picture_of(orthanc, study)
    assert {"SR", "OT"} <= set(series.values())
    enter(page, viewer.study(study), series)
    for uid in (uid for uid in series if series[uid] not in COMPLAINED_OF):
        open_series(page, uid)
        if series[uid] == "OT":
            await_picture(page, picture)
        page.screenshot(path=artefacts / f"{series[uid]}.png")
    assert notices(page) == []
    for uid in (uid for uid in series if series[uid] in COMPLAINED_OF):
        thumbnail(page, uid).dblclick()
        if series[uid] not in UNKNOWN_TO_OHIF:
            await_series(page, uid)
        page.screenshot(path=artefacts / f"{series[uid]}.png")
    (capture,) = [uid for uid, modality in series.items() if modality == "OT"]
    open_series(page, capture)
    await_picture(page, picture)
    marked = {series[uid] for uid in series if thumbnail(page, uid).locator("#status-warning").count()}
    assert marked <= UNKNOWN_TO_OHIF
    assert trouble == []
