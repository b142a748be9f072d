from __future__ import annotations

from config.explained import explained
from config.settings import Settings


def test_every_key_of_every_section_has_its_words() -> None:
    said = explained()
    assert said["listener", "port"]
    for section, field in Settings.model_fields.items():
        part = field.annotation
        keys = getattr(part, "model_fields", {})
        assert all(said.get((section, key)) for key in keys), section


def test_a_comment_for_two_keys_is_said_of_both() -> None:
    said = explained()
    assert said["peer", "user"] == said["peer", "password_file"]
