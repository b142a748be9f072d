"""A report as plain text for people: what the tree says, in its order, and nothing that it does not say.

Reads any of our own Structured Reports. Patient attributes are left out, so the text may stand in a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import UID

from node.results.summary import called

WIDTH = 28
# Concept names by code value (PS3.16 Annex D).
MEASUREMENTS, GROUP, LIBRARY = "126010", "125007", "111028"
FINDING, SITE, PRESENCE, SUMMARY, QUALITY = "121071", "363698007", "121052", "111065", "111050"
TRACKING, COMMENT, EXPLANATION, SOURCE = "112039", "121106", "130401", "121112"
ALGORITHM, VERSION, PARAMETERS = "111001", "111003", "111002"


def as_text(ds: Dataset) -> str:
    """The report, one line for each fact, indented under its image; ends with a newline."""
    return "\n".join(_lines(ds)) + "\n"


def _lines(ds: Dataset) -> Iterator[str]:
    groups = [g for c in _named(ds, MEASUREMENTS) for g in _named(c, GROUP)]
    algorithm = f"{_first(groups[0], ALGORITHM)} {_first(groups[0], VERSION)}" if groups else "unknown"
    yield f"{ds.SeriesDescription}"
    yield f"  by {algorithm}, {ds.SoftwareVersions[0]} at {ds.StationName}, {moment(ds)}"
    yield f"  {ds.PreliminaryFlag.lower()}, {ds.VerificationFlag.lower()}, report {ds.InstanceNumber} of its series"
    for study in ds.get("PredecessorDocumentsSequence", []):
        for series in study.ReferencedSeriesSequence:
            for item in series.ReferencedSOPSequence:
                yield f"  replaces {item.ReferencedSOPInstanceUID}"
    labels: dict[str, set[str]] = {}
    for group in groups:
        labels.setdefault(_first(group, FINDING), set()).add(_label(group)[1])
    said: set[str] = set()
    for group in groups:
        if name := _first(group, FINDING):
            yield from _finding(group, called(name, _label(group)[1], shared=len(labels[name]) > 1))
        else:
            yield from _status(group, said)


def moment(ds: Dataset) -> str:
    """When an object was made, on its own clock."""
    day, time = str(ds.ContentDate), str(ds.ContentTime)
    zone = str(ds.get("TimezoneOffsetFromUTC", ""))
    return f"{day[:4]}-{day[4:6]}-{day[6:8]} {time[:2]}:{time[2:4]}:{time[4:6]} {zone}".rstrip()


def _status(group: Dataset, said: set[str]) -> Iterator[str]:
    images = [_reference(item) for item in _named(group, SOURCE)]
    title = _label(group)[0] or f"Image {images[0][1]} ({images[0][0]})"
    yield ""
    yield f"{title}: {_first(group, SUMMARY)}"
    for quality in _named(group, QUALITY):
        yield f"  {_value(quality)}"
    for comment in _named(group, COMMENT):
        # What stands in every status group is said once.
        value = _value(comment)
        if value not in said:
            said.add(value)
            yield f"  {value}"


def _label(group: Dataset) -> tuple[str, str]:
    """What a group is about as a whole, such as "Study", or nothing; and its label."""
    whole, parted, rest = _first(group, TRACKING).partition(": ")
    return (whole, rest) if parted and whole in ("Study", "Series") else ("", _first(group, TRACKING))


def _finding(group: Dataset, name: str) -> Iterator[str]:
    site, whole = _first(group, SITE), _label(group)[0]
    scope = f"{whole.lower()}: " if whole else ""
    values = [_value(item) for item in group.ContentSequence if item.ValueType == "NUM"]
    value = "".join(values) or "no score"
    place = site + _limit(group, calibrated=value.endswith("%"))
    yield f"  {scope + name:<{WIDTH}} {value:>9}  {_first(group, PRESENCE):<12}  {place}".rstrip()
    for comment in _named(group, COMMENT):
        yield f"      {_value(comment)}"
    for item in _named(group, EXPLANATION):
        yield f"      shown by {_reference(item)[1]}"


def _limit(group: Dataset, *, calibrated: bool) -> str:
    """The operating point, which stands as `threshold=...` among the algorithm's parameters."""
    for parameter in _named(group, PARAMETERS):
        name, _, value = _value(parameter).partition("=")
        if name == "threshold":
            return f", present from {100 * float(value):.1f} %" if calibrated else f", present from {value}"
    return ""


def _named(item: Dataset, code_value: str) -> list[Dataset]:
    children: list[Dataset] = list(item.get("ContentSequence", []))
    return [c for c in children if c.ConceptNameCodeSequence[0].CodeValue == code_value]


def _first(item: Dataset, code_value: str) -> str:
    found = _named(item, code_value)
    return _value(found[0]) if found else ""


def _value(item: Dataset) -> str:
    if item.ValueType == "CODE":
        return str(item.ConceptCodeSequence[0].CodeMeaning)
    if item.ValueType == "NUM":
        measured = item.MeasuredValueSequence[0]
        unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
        return f"{float(measured.NumericValue):.1f} %" if unit == "%" else f"{float(measured.NumericValue):.3f}"
    return str(item.get("TextValue", ""))


def _reference(item: Dataset) -> tuple[str, str]:
    """Name of the SOP class, and SOP Instance UID with the frame, that an IMAGE item refers to."""
    reference = item.ReferencedSOPSequence[0]
    frame = f" frame {reference.ReferencedFrameNumber}" if "ReferencedFrameNumber" in reference else ""
    return UID(reference.ReferencedSOPClassUID).name, f"{reference.ReferencedSOPInstanceUID}{frame}"
