"""A resumed run may change the declared settings, and no others."""

import pathlib
from typing import Literal, get_args, get_origin

import pytest

from trainers.config.train_config import make_config
from trainers.errors import UsageError
from trainers.recipes.registry import RECIPES
from trainers.runs.run_folder import RunFolder
from trainers.runs.run_settings import MAY_CHANGE, path_settings

#: By hand: what each recipe's data set is made of.
SOURCES = {
    "polydigits": set(),
    "polymnist": {"backgrounds", "digits", "archive"},
    "mnist_svhn_text": {"digits", "svhn"},
    "celeba": {"files"},
}


def types_of(annotation):
    return [annotation, *(t for x in get_args(annotation) for t in types_of(x))]


def other_values(field, value):
    """Returns None for an optional setting, and another value of its type."""
    if get_origin(field.annotation) is Literal:
        choices = get_args(field.annotation)
        return [choice for choice in choices if choice != value][:1]
    kinds = types_of(field.annotation)
    others = {
        bool: lambda: not value,
        pathlib.Path: lambda: pathlib.Path("/elsewhere"),
        tuple: lambda: (*(value or ()), 0.75),
        str: lambda: f"{value}x",
        int: lambda: (value or 0) + 1,
        float: lambda: (value or 0) + 0.5,
    }
    kind = next(
        kind for kind in others if kind in kinds or kind in map(get_origin, kinds)
    )
    none = [None] if type(None) in kinds and value is not None else []
    return [*none, others[kind]()]


def cases():
    for name, recipe in RECIPES.items():
        fields = recipe.config_class.model_fields
        for filled in (False, True):  # from a value, and from None
            settings = {"data_set": "made/1.0"} if "data_set" in fields else {}
            config = make_config(recipe.config_class, settings)
            if filled:
                optional = {
                    field: other_values(info, None)[-1]
                    for field, info in fields.items()
                    if getattr(config, field) is None
                }
                config = config.model_copy(update=optional)
            for field, info in fields.items():
                for value in other_values(info, getattr(config, field)):
                    yield pytest.param(
                        name, config, field, value, id=f"{name}-{field}-{value}"
                    )


CASES = list(cases())


def test_every_setting_of_every_recipe_is_tried():
    tried = {(case.values[0], case.values[2]) for case in CASES}
    for name, recipe in RECIPES.items():
        for field, info in recipe.config_class.model_fields.items():
            assert (name, field) in tried
            if type(None) in get_args(info.annotation):
                values = [c.values[3] for c in CASES if c.values[:3:2] == (name, field)]
                assert None in values
                assert any(value is not None for value in values)


@pytest.mark.parametrize("name", RECIPES)
def test_path_settings_are_found_by_their_declared_type(name):
    found = set(path_settings(RECIPES[name].config_class))
    assert found - {"data_dir"} == SOURCES[name]


@pytest.mark.parametrize(("name", "config", "field", "value"), CASES)
def test_exactly_the_declared_settings_may_change(name, config, field, value, tmp_path):
    run = RunFolder(tmp_path)
    run.write_config(name, config)
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    assert run.checkpoints.paths()
    before = run.config_file.read_bytes()
    other = config.model_copy(update={field: value})
    if field in {*MAY_CHANGE, *SOURCES[name]}:
        run.prepare(name, other)
    else:
        with pytest.raises(UsageError, match=f"is a run with {field}="):
            run.prepare(name, other)
    assert run.config_file.read_bytes() == before


@pytest.mark.parametrize("name", [name for name in RECIPES if SOURCES[name]])
def test_without_a_named_data_set_its_sources_may_not_change(name, tmp_path):
    run = RunFolder(tmp_path)
    config = make_config(RECIPES[name].config_class, {})
    run.write_config(name, config)
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    for field in SOURCES[name]:
        other = config.model_copy(update={field: pathlib.Path("/elsewhere")})
        with pytest.raises(UsageError, match=f"{field}=None"):
            run.prepare(name, other)
