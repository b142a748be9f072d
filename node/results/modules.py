"""Which module of its IOD each attribute belongs to (PS3.3 Annex A), by the Standard's own tables.

highdicom carries them as 22 MB of JSON: they are read when somebody asks, which a node that serves never does.
"""

from __future__ import annotations

from collections.abc import Mapping

SPELLED = {"Sr": "SR", "Sop": "SOP", "Voi": "VOI", "Lut": "LUT", "Sc": "SC", "Icc": "ICC"}


def modules_of(sop_class_uid: str) -> Mapping[str, tuple[str, str]]:
    """Module and its usage (M, C or U) for each attribute of a data set of this class, by keyword."""
    from highdicom import _standard_utils as standard

    iod = standard.get_sop_class_iod_map()[sop_class_uid]
    attributes = standard.get_module_attribute_map()
    found: dict[str, tuple[str, str]] = {}
    for module in standard.get_iod_module_map()[iod]:
        for attribute in attributes[module["key"]]:
            if not attribute["path"]:
                found.setdefault(attribute["keyword"], (_named(module["key"]), module["usage"]))
    return found


def _named(key: str) -> str:
    return " ".join(SPELLED.get(word, word) for word in key.replace("-", " ").title().split())
