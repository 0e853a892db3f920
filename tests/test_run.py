"""What the command line says without running a pipeline."""

from __future__ import annotations

import pytest
import yaml

import run


def lines(capsys):
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


def test_list_names_pipelines_use_cases_and_stacks(capsys):
    assert run.main(["--list"]) == 0
    out = "\n".join(lines(capsys)[0])
    for name in ("training", "deployment", "configs/sample.yaml", "configs/steel.yaml", "configs/litter.yaml", "local"):
        assert name in out


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as caught:
        run.main(["--help"])
    assert caught.value.code == 0
    out = "\n".join(lines(capsys)[0])
    assert "examples:" in out
    assert "--rollback" in out


def test_a_dry_run_shows_every_setting_and_starts_nothing(capsys):
    assert run.main(["--dry-run", "--set", "training.epochs=5"]) == 0
    out, _ = lines(capsys)
    shown = yaml.safe_load("\n".join(out[out.index("") + 1 :]))
    assert shown["training"]["epochs"] == 5
    assert shown["gate"]["metric"] == "map50"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "configs/stel.yaml"], "configs/stel.yaml: no such configuration"),
        (["--set", "training.epoch=3"], "did you mean 'epochs'?"),
        (["--set", "nonsense"], "expected key=value"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(capsys, arguments, words):
    assert run.main(arguments) == 2
    out, err = lines(capsys)
    assert out == []
    assert len(err) == 1
    assert err[0].startswith("error: ")
    assert words in err[0]


def test_rollback_goes_with_deployment(capsys):
    with pytest.raises(SystemExit) as caught:
        run.main(["--rollback"])
    assert caught.value.code == 2
    assert "--rollback goes with --pipeline deployment" in capsys.readouterr().err
