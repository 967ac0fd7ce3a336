"""`--config`, `--print-config` and `--help` of `mopoe-train`."""

import json
import subprocess
import sys

import pytest

from trainers import train
from trainers.config.config_file import format_config, read_config_file
from trainers.config.train_config import make_config
from trainers.recipes.registry import RECIPES, choose_recipe


@pytest.fixture
def trained(monkeypatch):
    """Records the arguments of `train` instead of training."""
    calls = []
    monkeypatch.setattr(train, "train", lambda *args: calls.append(args))
    return calls


@pytest.fixture
def written(tmp_path):
    """A function that writes a file and returns its path."""

    def write(content, name="run.yaml"):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return str(path)

    return write


ODD = {
    "polydigits": {
        "patience": None,
        "wandb": "no",
        "mlflow": "0x10: # 'ä' \"b\"",
        "monitor": "none",
        "schedule": "piecewise",
        "learning_rate_drops": (0.25, 0.5, 0.75),
        "learning_rate": 2e-5,
        "tensorboard_graph": True,
        "checkpoint_minutes": 1e-3,
    },
    "polymnist": {"digits": "/data/Zürich 😀/*&no.npz", "archive": "/null"},
    "celeba": {"files": "/~/- x", "data_set": "1.0"},
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("odd", [False, True])
def test_printed_configuration_is_read_back_as_the_same(recipe, odd, written):
    values = ODD.get(recipe, {}) if odd else {}
    config = make_config(RECIPES[recipe].config_class, values)
    text = format_config(recipe, config, RECIPES)
    again = choose_recipe(None, written(text), {})
    assert again.name == recipe
    assert again.config == config
    for field in type(config).model_fields:
        assert f"\n{field}:" in text
    assert all(len(line) <= 88 for line in text.splitlines() if line[:1] == "#")


def test_printing_needs_no_folder_and_no_tensorflow_and_writes_nothing(tmp_path):
    code = (
        "import sys, trainers.train\n"
        "arguments = ['polydigits', '--print-config', '--epochs', '3']\n"
        "code = trainers.train.main(arguments)\n"
        "print('#', code, [x for x in ('tensorflow', 'keras') if x in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(train.__file__).rsplit("/", 2)[0],
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.endswith("# 0 []\n")
    assert "\nepochs: 3\n" in result.stdout
    assert "# Number of epochs in all" in result.stdout
    assert result.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_command_line_wins_over_file_and_file_over_defaults(trained, written, tmp_path):
    path = written("epochs: 7\nbeta: 3.5\nlatent_dim: 5\n")
    more = ["--epochs", "2", "--set", "beta=0.5"]
    arguments = ["polydigits", "--config", path, "--out", str(tmp_path / "run"), *more]
    assert train.main(arguments) == 0
    ((name, recipe, config, out),) = trained
    assert (name, recipe, out) == ("polydigits", RECIPES[name], str(tmp_path / "run"))
    assert (config.epochs, config.beta, config.latent_dim) == (2, 0.5, 5)
    assert config.width == 0.5


def test_config_json_of_a_run_is_accepted(trained, written):
    config = make_config(
        RECIPES["polymnist"].config_class, {"digits": "/a/😀.npz", "patience": 2}
    )
    content = {"recipe": "polymnist", **config.model_dump(mode="json")}
    path = written(json.dumps(content, indent=2), "config.json")
    assert train.main(["--config", path, "--out", "x"]) == 0
    assert train.main(["polymnist", "--config", path, "--out", "x"]) == 0
    assert [call[2] for call in trained] == [config, config]


def test_values_of_a_file_are_texts_as_on_the_command_line(written):
    path = written(
        "recipe: polydigits\nlearning_rate: 2e-3\nepochs: 010\nwandb: no\n"
        "patience: ~\nclip_norm:\nmlflow: 2024-01-01\ntensorboard_graph: on\n"
        "schedule: piecewise\nlearning_rate_drops: [5e-1, .75]\n"
    )
    config = choose_recipe(None, path, {}).config
    assert config.learning_rate == 0.002
    assert config.epochs == 10
    assert (config.wandb, config.mlflow) == ("no", "2024-01-01")
    assert (config.patience, config.clip_norm) == (None, None)
    assert config.tensorboard_graph is True
    assert config.learning_rate_drops == (0.5, 0.75)


def refused(arguments, capsys):
    """Returns the error, which must be one line."""
    assert train.main([*arguments, "--out", "never"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("bta: 1", "unknown setting 'bta'. Did you mean 'beta'?"),
        ("epochs: many", "epochs: Input should be a valid integer"),
        ("epochs: [1, 2]", "epochs: Input should be a valid integer"),
        ("epochs: {a: 1}", "epochs: Input should be a valid integer"),
        ("epochs: 1\nbeta: 2\nepochs: 3", "'epochs' comes twice"),
        ('{"epochs": 1, "epochs": 1}', "'epochs' comes twice"),
        ("devices: 2", "devices: is for strategy mirrored"),
        ("- epochs", "must hold lines `field: value`"),
        ("epochs", "must hold lines `field: value`"),
        ("", "must hold lines `field: value`"),
        ("epochs: 1\n---\nepochs: 2", "is not YAML: expected a single document"),
        ("epochs: [1", "is not YAML: while parsing a flow sequence"),
        ("? [a]\n: 1", "is not YAML"),
        ("\x00", "is not YAML"),
        ("[" * 500, "is not YAML"),
        ("patience: !!python/object/apply:os.abort []", "patience: "),
        ("recipe: polymnist", "recipe: is 'polymnist', but the command line names"),
        ("<<: {beta: 2}", "unknown setting '<<'"),
    ],
)
def test_wrong_files_are_one_line_that_names_file_and_field(
    content, message, written, capsys
):
    path = written(content)
    error = refused(["polydigits", "--config", path], capsys)
    assert message in error
    assert path in error


def test_error_of_the_command_line_does_not_blame_the_file(written, capsys):
    path = written("epochs: 3")
    error = refused(["polydigits", "--config", path, "--epochs", "0"], capsys)
    assert path not in error
    assert "epochs: " in error


def test_file_that_cannot_be_read_is_refused(tmp_path, capsys):
    missing = str(tmp_path / "missing.yaml")
    assert "No such file" in refused(["polydigits", "--config", missing], capsys)
    assert "directory" in refused(["polydigits", "--config", str(tmp_path)], capsys)
    (tmp_path / "latin.yaml").write_bytes(b"mlflow: \xe4")
    latin = ["polydigits", "--config", str(tmp_path / "latin.yaml")]
    assert "is not YAML" in refused(latin, capsys)


def test_recipe_must_be_named_somewhere_and_be_known(written, capsys):
    assert "expected RECIPE. Recipes: celeba, " in refused([], capsys)
    assert "error: unknown recipe ''" in refused([""], capsys)
    nameless = written("epochs: 1")
    assert "expected a line `recipe: NAME`" in refused(["--config", nameless], capsys)
    unknown = written("recipe: polydigit")
    error = refused(["--config", unknown], capsys)
    assert f"{unknown}: unknown recipe 'polydigit'. Did you mean 'polydigits'?" in error


def test_exponentially_growing_aliases_are_refused_in_one_short_line(written, capsys):
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    error = refused(["polydigits", "--config", written("\n".join(lines))], capsys)
    assert len(error) < 1500


def test_file_holds_texts_and_lists_only(written):
    path = written("a: 1\nb: [true, 2.0]\nc: null\n")
    assert read_config_file(path) == {"a": "1", "b": ["true", "2.0"], "c": "null"}


def test_help_names_recipes_settings_examples_and_exit_codes(capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for name in RECIPES:
        assert f"\n  {name} " in text
    assert "PolyDigits: five views of real handwritten digits, no download." in text
    for word in ("--print-config", "--config", "  75  stopped by SIGTERM or SIGINT"):
        assert word in text
