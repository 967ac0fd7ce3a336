"""`mopoe-evaluate`: wrong usage is refused in one line."""

import pytest

from trainers import evaluate


def test_folder_without_a_run_is_one_line_with_code_2(tmp_path, capsys):
    assert evaluate.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "is no run folder" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        ["--metrics", "fid"],
        ["--rows", "0"],
        ["--num-samples", "many"],
        ["--num-train", "-3"],
        ["--seed", "x"],
    ],
)
def test_wrong_options_are_one_line_with_code_2(tmp_path, capsys, wrong):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main([str(tmp_path), *wrong])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert wrong[0] in error
    assert error.count("\n") == 1
