import pytest

from models import preprocess
from training import recipe


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipe_is_complete(name: str) -> None:
    found = recipe.named(name, {})
    assert found.name.replace("-", "_") == name
    assert all(step.step in preprocess.STEPS for step in found.steps)
    assert "esearch use only" in found.intended_use and found.not_for
    assert recipe.NIH_CITATION in found.data_note


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipes_docstring_holds_its_command_time_and_result(name: str) -> None:
    import importlib

    text = importlib.import_module(f"training.recipes.{name}").__doc__ or ""
    assert f"overread-train fit {name}" in text
    assert "minutes" in text and "AUC" in text


def test_settings_can_be_changed_and_keep_their_kind() -> None:
    found = recipe.named("cardiomegaly", {"size": "320", "coarse": "yes", "strength": "0.5"})
    assert (found.settings.size, found.settings.coarse, found.settings.strength) == (320, True, 0.5)
    assert found.steps[0].arguments == {"height": 320, "width": 320}


@pytest.mark.parametrize(
    ("name", "key", "text", "named"),
    [
        ("lungs", "size", "1", "no such recipe"),
        ("cardiomegaly", "colour", "1", "no such setting"),
        ("cardiomegaly", "size", "big", "int is needed"),
    ],
)
def test_what_does_not_exist_is_named(name: str, key: str, text: str, named: str) -> None:
    with pytest.raises(recipe.RecipeError, match=named):
        recipe.named(name, {key: text})
