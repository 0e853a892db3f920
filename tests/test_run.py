"""Output of the command line when no pipeline runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import run
from launch import TrainRequest
from launch.service import tuned_config
from launch.terminal import following_request
from visionops.errors import ConfigError
from visionops.tuning.result import TuningResult

ROOT = Path(__file__).resolve().parents[1]


def lines(capsys):
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


def test_list_names_pipelines_use_cases_and_stacks(capsys):
    assert run.main(["--list"]) == 0
    out = "\n".join(lines(capsys)[0])
    for name in (
        "training",
        "tuning",
        "batch_inference",
        "quantize",
        "drift-drill",
        "deployment",
        "configs/sample.yaml",
        "configs/steel.yaml",
        "configs/litter.yaml",
        "local",
    ):
        assert name in out


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as caught:
        run.main(["--help"])
    assert caught.value.code == 0
    out = "\n".join(lines(capsys)[0])
    assert "examples:" in out
    for flag in ("--rollback", "--tuned", "--input FOLDER", "--output FOLDER", "--kind KIND", "--severity S"):
        assert flag in out


def test_a_dry_run_shows_every_setting_and_starts_nothing(capsys):
    assert run.main(["--dry-run", "--set", "training.epochs=5"]) == 0
    out, _ = lines(capsys)
    assert "-> split -> converted -> trained ->" in out[0]
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


@pytest.mark.parametrize(
    ("flag", "pipeline"),
    [
        (["--rollback"], "deployment"),
        (["--tuned", "--pipeline", "tuning"], "training"),
        (["--input", "images"], "batch_inference"),
        (["--output", "tables", "--pipeline", "deployment"], "batch_inference"),
        (["--shards", "2"], "batch_inference"),
        (["--kind", "blur"], "drift-drill"),
        (["--severity", "0", "--pipeline", "monitoring"], "drift-drill"),
        (["--images", "10"], "drift-drill"),
    ],
)
def test_a_flag_goes_with_its_pipeline(capsys, flag, pipeline):
    with pytest.raises(SystemExit) as caught:
        run.main(flag)
    assert caught.value.code == 2
    assert f"{flag[0]} goes with --pipeline {pipeline}" in capsys.readouterr().err


@pytest.mark.parametrize("shards", ["0", "1001"])
def test_shards_have_a_limit(capsys, shards):
    with pytest.raises(SystemExit):
        run.main(["--pipeline", "batch_inference", "--shards", shards])
    assert "--shards must be 1 to 1000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--pipeline drift-drill needs --kind, one of brightness, noise, "),
        (["--kind", "smoke"], "argument --kind: invalid choice: 'smoke'"),
        (["--kind", "blur", "--severity", "much"], "argument --severity: invalid float value: 'much'"),
    ],
)
def test_a_drill_must_say_what_changes(capsys, flags, words):
    with pytest.raises(SystemExit) as caught:
        run.main(["--pipeline", "drift-drill", *flags])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--kind", "blur", "--severity", "-1"], "error: --severity -1: blur takes 0 to 10"),
        (["--kind", "camera", "--severity", "nan"], "error: --severity nan: camera takes 0 to 10"),
        (["--kind", "noise", "--images", "0"], "error: --images 0: send 1 to "),
    ],
)
def test_an_impossible_drill_is_one_line_before_anything_runs(capsys, flags, words):
    assert run.main(["--pipeline", "drift-drill", *flags]) == 2
    out, err = lines(capsys)
    assert (out, len(err)) == ([], 1)
    assert err[0].startswith(words)


def test_the_plan_of_a_drill_says_what_is_sent(capsys):
    assert run.main(["--dry-run", "--pipeline", "drift-drill", "--kind", "brightness", "--severity", "-1"]) == 0
    assert "drill     200 images, brightness -1, light x 2" in lines(capsys)[0]


def test_the_line_that_comes_after_a_drill_can_be_copied():
    drill = run.parse(["--pipeline", "drift-drill", "--kind", "blur", "--set", "serving.port=0"])
    following = run.parse(run.to_command(following_request(drill))[2:])
    assert (following.pipeline, following.config, following.settings) == (
        "monitoring",
        drill.config,
        drill.settings,
    )


SPACE = "tuning.space={learning_rate: {low: 0.001, high: 0.01}}"


def test_the_plan_of_a_search_says_how_many_trials(capsys):
    assert run.main(["--dry-run", "--pipeline", "tuning", "--set", SPACE, "--set", "tuning.trials=7"]) == 0
    assert "trials    7, 1 at once" in lines(capsys)[0]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("tuning.trials=7", "sample: nothing to tune; give tuning.space"),
        (SPACE.replace("learning_rate", "learning_rat"), "did you mean 'learning_rate'?"),
        (SPACE.replace("0.001", "0.1"), "low 0.1 is not below high 0.01"),
        ("tuning.grid=[{epochs: 0}]", "tuning.grid.0: training.epochs: Input should be greater than or equal to 1"),
    ],
)
def test_an_impossible_search_is_one_line_before_anything_runs(capsys, setting, words):
    assert run.main(["--pipeline", "tuning", "--set", setting]) == 2
    out, err = lines(capsys)
    assert (out, len(err)) == ([], 1)
    assert words in err[0]


def test_set_takes_precedence_over_tuned_settings(monkeypatch, capsys):
    import steps.tuned

    settings = {"epochs": 7, "batch": 4, "augmentation.fliplr": 0.1}
    found = TuningResult(use_case="sample", study="s", metric="map50", settings=settings, best=0, value=0.9, trials=())
    monkeypatch.setattr(steps.tuned, "newest_tuning", lambda name: found)
    for sets, expected in (
        ([], (7, 4, 0.1)),
        (["training.epochs=3"], (3, 4, 0.1)),
        (["training.epoch_=3"], None),
        (["training.augmentation={fliplr: 0.2}"], (7, 4, 0.2)),
        (["training.augmentation.fliplr=0.3", "training.batch=8"], (7, 8, 0.3)),
    ):
        request = TrainRequest(tuned=True, settings=sets)
        if expected is None:
            with pytest.raises(ConfigError, match="unknown key"):
                request.load_config()
            continue
        training = tuned_config(request, request.load_config()).training
        assert (training.epochs, training.batch, training.augmentation["fliplr"]) == expected
    assert "batch=4" in capsys.readouterr().err


def test_the_command_that_trains_with_the_best_trial_can_be_copied():
    search = run.parse(
        ["--pipeline", "tuning", "--config", "my case.yaml", "--set", SPACE, "--set", "data.split={val: 0.2}"]
    )
    assert run.to_command(following_request(search)) == [
        "python", "run.py", "--config", "my case.yaml", "--set", "data.split={val: 0.2}", "--tuned"
    ]  # fmt: skip


def test_a_closed_pipe_shows_no_trace():
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "--dry-run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(180) == 0
