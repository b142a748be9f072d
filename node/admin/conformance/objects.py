"""What the result objects hold: modules and attributes, the trees of documents, the codes in them.

All of it is read off objects that the node's builders make of patients who do not exist (`specimens`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from config.settings import Settings
from models.bundle import Bundle
from models.codes import PRIVATE_SCHEME
from node.admin.conformance.document import Section, Table, Tree
from node.admin.conformance.services import name_of
from node.admin.conformance.specimens import Specimens, sequence_items
from node.results.form import SR_CLASSES
from node.results.modules import modules_of

DEEPEST = 3
LONGEST = 64
ITEMS = "items"
"""In the place of the value of a sequence."""
TITLES = {
    "sr": "Structured Report",
    "sc": "Secondary Capture",
    "gsps": "Presentation State",
    "kos": "Key Object Selection",
    "pdf": "Encapsulated PDF",
    "withdrawal": "Withdrawal",
}
SOURCES = (
    "COPY: the value of the images that the object is about",
    "FIXED: always the value that is shown",
    "CONFIG: of this node and its settings",
    "AUTO: computed by this node",
    "no source: a sequence, whose items are described below it",
)
PRESENCES = (
    "ALWAYS: there, with a value",
    "VNAP: there, without a value where the images have none",
    "ANAP: not there where there is nothing to say",
    "EMPTY: there, without a value",
)
Path = tuple[str, ...]
TREE = {"ContentSequence"}
"""Described as a tree, not as attributes."""


def created(found: Sequence[Specimens], settings: Settings) -> Section:
    """Annex "IOD Contents" (PS3.2 A.9.1)."""
    if not found:
        return Section("Created SOP Instances", ("No route is set up: this node makes no objects.",))
    intro = (
        "Attributes as this node's own builders write them; those of the images that an object is about are copied "
        "with all that they hold. Presence of value and source are given by these words:",
        Table("Words of the tables below", ("Word",), tuple((word,) for word in (*PRESENCES, *SOURCES))),
    )
    return Section("Created SOP Instances", intro, tuple(_of_kind(one, settings) for one in found))


def _of_kind(one: Specimens, settings: Settings) -> Section:
    sop_class = str(one.of_one.SOPClassUID)
    title = TITLES.get(one.kind, one.kind)
    routes = ", ".join(r.name for r in settings.route if one.kind in r.results)
    blocks: list[str | Table | Tree] = [
        f"{name_of(sop_class)} ({sop_class})." + (f" Made by the routes {routes}." if routes else ""),
    ]
    if one.kind == "sr":
        others = " or ".join(name_of(str(uid)) for uid in SR_CLASSES[1:])
        blocks.append(f"To a peer that does not take it the same content goes as {others}, under a UID of its own.")
    blocks.append(_attributes(one, title))
    if "ContentSequence" in one.of_one:
        template = one.of_one.get("ContentTemplateSequence")
        number = f"TID {template[0].TemplateIdentifier}" if template else "no template named"
        blocks.append(Tree(f"Content tree of the {title} ({number})", tuple(_tree(one.of_one))))
    return Section(title, tuple(blocks))


def _attributes(one: Specimens, title: str) -> Table:
    modules = modules_of(str(one.of_one.SOPClassUID))
    flat = {name: _flat(getattr(one, name)) for name in vars(one) if name.startswith("of_")}
    source = _flat(one.image)
    rows = []
    paths = {path: None for values in flat.values() for path in values}
    order = sorted(paths, key=lambda path: [tag_for_keyword(keyword) or 0 for keyword in path])
    for path in sorted(order, key=lambda path: list(modules).index(path[0]) if path[0] in modules else 10_000):
        module, usage = modules.get(path[0], ("Other", ""))
        came = _source(path, flat, source)
        value = flat["of_one"].get(path, "")
        shown = value if came == "FIXED" and value != ITEMS and len(value) <= LONGEST else ""
        rows.append(
            (
                f"{module} ({usage})" if usage else module,
                f"{'>' * (len(path) - 1)}{dictionary_description(path[-1])}",
                _tag(path[-1]),
                dictionary_VR(path[-1]),
                shown,
                _presence(path, flat),
                "" if value == ITEMS and came != "COPY" else came,
            )
        )
    head = ("Module", "Attribute", "Tag", "VR", "Value", "Presence of value", "Source")
    return Table(f"Attributes of the {title}", head, tuple(rows))


def _tag(keyword: str) -> str:
    tag = tag_for_keyword(keyword) or 0
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _source(path: Path, flat: Mapping[str, Mapping[Path, str]], source: Mapping[Path, str]) -> str:
    """What an attribute's value changes with."""
    mine = flat["of_one"].get(path)
    if mine is None:
        return "AUTO"
    if mine == source.get(path) and mine != flat["of_another_patient"].get(path):
        return "COPY"
    if flat["of_another_patient"].get(path) != mine or flat["of_another_model"].get(path) != mine:
        return "AUTO"
    return "CONFIG" if flat["of_another_node"].get(path) != mine else "FIXED"


def _presence(path: Path, flat: Mapping[str, Mapping[Path, str]]) -> str:
    values = [one.get(path) for one in flat.values()]
    if None in values:
        return "ANAP"
    return "ALWAYS" if all(values) else "VNAP" if any(values) else "EMPTY"


def _flat(ds: Dataset, above: Path = ()) -> dict[Path, str]:
    """Every attribute by its way from the root; of several items of a sequence what the first with it says."""
    found: dict[Path, str] = {}
    for elem in ds:
        path = (*above, elem.keyword)
        if elem.VR != "SQ":
            found.setdefault(path, _value(elem))
            continue
        found[path] = ITEMS if elem.value else ""
        if len(path) < DEEPEST and elem.keyword not in TREE:
            for item in elem.value:
                for below, value in _flat(item, path).items():
                    found.setdefault(below, value)
    return found


def _value(elem: DataElement) -> str:
    if elem.is_empty:
        return ""
    if isinstance(elem.value, bytes):
        return f"{len(elem.value)} bytes"
    return str(elem.value) if elem.VM == 1 else "\\".join(map(str, elem.value))


def _tree(ds: Dataset, depth: int = 0) -> Iterator[str]:
    """One line for each sort of content item below each other; what only repeats another is left out."""
    if not depth:
        yield f"{ds.ValueType} {_code(ds.ConceptNameCodeSequence)}"
    seen: dict[str, list[Dataset]] = {}
    for item in ds.get("ContentSequence", []):
        seen.setdefault(_line(item), []).append(item)
    for line, items in seen.items():
        yield f"{'  ' * (depth + 1)}{line}"
        below: dict[str, None] = {}
        for item in items:
            below |= dict.fromkeys(_tree(item, depth + 1))
        yield from below


def _line(item: Dataset) -> str:
    name = item.get("ConceptNameCodeSequence")
    unit = item.get("MeasuredValueSequence")
    of = f" in {unit[0].MeasurementUnitsCodeSequence[0].CodeMeaning}" if unit else ""
    return f"{item.RelationshipType} {item.ValueType}{f' {_code(name)}' if name else ''}{of}"


def _code(sequence: Sequence[Dataset]) -> str:
    code = sequence[0]
    return f'({code.CodeValue}, {code.CodingSchemeDesignator}, "{code.CodeMeaning}")'


def terminology(found: Sequence[Specimens], bundles: Mapping[str, Bundle]) -> Section:
    """Annex "Coded Terminology" (PS3.2 A.9.3)."""
    labels = tuple(
        (route, bundle.ref, label.name, *_codes(label.finding), *_codes(label.site), label.operating_point)
        for route, bundle in bundles.items()
        for label in bundle.spec.labels
    )
    head = ("Route", "Model", "Label", "Finding", "Meaning", "Finding site", "Meaning", "Operating point")
    ours = sorted({code for one in found for code in _used(one)})
    private = sorted({row for row in ours if row[1].startswith("99")} | _private(bundles))
    said = (
        Table("Private codes", ("Code value", "Scheme", "Meaning"), tuple(private))
        if private
        else f"No private code is used; a concept without a public one would get one of {PRIVATE_SCHEME}."
    )
    return Section(
        "Coded Terminology and Templates",
        (
            "Templates: those that the content trees above name. No context group is extended.",
            Table("Findings by route", head, labels),
            Table("Codes in the created SOP instances", ("Code value", "Scheme", "Meaning"), tuple(ours)),
            said,
        ),
    )


def _private(bundles: Mapping[str, Bundle]) -> set[tuple[str, str, str]]:
    specs = [spec for b in bundles.values() for label in b.spec.labels for spec in (label.finding, label.site)]
    return {(s.value, s.scheme, s.meaning) for s in specs if s.scheme.startswith("99")}


def _used(one: Specimens) -> Iterator[tuple[str, str, str]]:
    for item in sequence_items([one.of_one]):
        if "CodeValue" in item:
            yield str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning)


def _codes(code: object) -> tuple[str, str]:
    value, scheme, meaning = (str(getattr(code, name)) for name in ("value", "scheme", "meaning"))
    return f"({value}, {scheme})", meaning
