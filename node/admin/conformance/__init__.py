"""The DICOM Conformance Statement (PS3.2) of a node, generated from its settings and from the tables that it works by.

`services` is the table of services: a new one is an entry there. Sections are plain records (`document`), which
`markdown` and `page` turn into text. Nothing here opens a connection or the database.
"""

from __future__ import annotations

from config.settings import Settings
from models.bundle import Bundle
from node.admin.conformance import closing, front, objects
from node.admin.conformance.document import Contents, Document, Section
from node.admin.conformance.markdown import as_markdown
from node.admin.conformance.networking import networking
from node.admin.conformance.page import as_fragment, as_html
from node.admin.conformance.specimens import specimens
from node.pipeline.plan import plan, registry
from node.results.header import PRODUCT

__all__ = ["Document", "as_fragment", "as_html", "as_markdown", "statement"]


def statement(settings: Settings, *, now: float) -> Document:
    """The statement of a node with these settings.

    Raises:
        SettingsError, BundleError: a route names no bundle that it may use.
    """
    bundles = _bundles(settings)
    found = specimens(settings, next(iter(bundles.values()))) if bundles else []
    kinds = [objects.TITLES.get(one.kind, one.kind) for one in found]
    return Document(
        f"DICOM Conformance Statement of {PRODUCT}, {settings.node.ae_title}",
        front.cover(settings, now),
        (
            front.overview(settings, kinds),
            Section("Table of Contents", (Contents(),)),
            front.introduction(settings, now),
            networking(settings),
            closing.media(),
            closing.transformation(),
            closing.character_sets(),
            closing.security(settings),
            Section(
                "Annexes",
                (),
                (
                    Section("IOD Contents", (), (objects.created(found, settings),)),
                    Section("Data Dictionary of Private Attributes", ("None: no private attribute is written.",)),
                    objects.terminology(found, bundles),
                    Section(
                        "Grayscale Image Consistency",
                        ("Not applicable: nothing is displayed.",),
                    ),
                    Section(
                        "Standard Extended, Specialized, and Private SOP Classes; Private Transfer Syntaxes", ("None.",)
                    ),
                ),
            ),
        ),
    )


def _bundles(settings: Settings) -> dict[str, Bundle]:
    """The bundle of each route."""
    known = registry(settings)
    return {planned.route.name: known.find(planned.bundle) for planned in plan(settings)}
