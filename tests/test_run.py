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
from launch.terminal import following_question, following_request
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


@pytest.fixture(autouse=True)
def unused_zenml(tmp_path, monkeypatch):
    """As on a machine on which nothing has run yet."""
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    monkeypatch.delenv("ZENML_STORE_URL", raising=False)
    monkeypatch.delenv("VISIONOPS_KUBERNETES_CONTEXT", raising=False)


STEEL = ["--config", str(ROOT / "configs/steel.yaml"), "--set"]


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "run"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*STEEL, "data.source.path={tmp}/none"], "{tmp}/none: no such folder; set data.source.path, or --set data."),
        ([*STEEL, "data.source.path={tmp}/file"], "{tmp}/file: is a file; for an archive set data.source.kind to"),
        ([*STEEL, "data.source.path={tmp}/empty"], "{tmp}/empty: holds no file; put the images there, or set"),
        ([*STEEL, "data.source={{kind: archive, path: {tmp}/none.zip}}"], "{tmp}/none.zip: no such archive; set"),
        (["--set", "data.additions={{kind: folder, path: {tmp}/none}}"], "data.additions: {tmp}/none: no such folder"),
        (["--stack", "lokal"], "stack 'lokal': unknown; did you mean 'local'? choose one of airflow, "),
        (["--stack", "kubernetes"], "variables are not set; set in the environment: "),
        (["--pipeline", "batch_inference", "--input", "{tmp}/none"], "--input {tmp}/none: no such folder; give a"),
        (["--pipeline", "monitoring", "--set", "serving.prediction_log=false"], "serving.prediction_log: is false"),
    ],
)
def test_what_needs_no_run_to_be_known_is_said_before_one(tmp_path, capsys, unused_zenml, dry, arguments, words):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "empty").mkdir()
    assert run.main([*dry, *(argument.format(tmp=tmp_path) for argument in arguments)]) == 2
    out, err = lines(capsys)
    assert (out, len(err)) == ([], 1)
    assert words.format(tmp=tmp_path) in err[0]
    assert not (tmp_path / "zenml").exists(), "nothing was started"


@pytest.mark.parametrize(
    ("config", "model", "words"),
    [
        ("sample", "yolov8x9", "training.model: unknown detector 'yolov8x9'; did you mean yolov8"),
        ("casting", "efficientnet_lit0", "unknown backbone 'efficientnet_lit0'; did you mean efficientnet_lite0"),
    ],
)
def test_a_dry_run_knows_the_models(tmp_path, capsys, unused_zenml, config, model, words):
    data = f"data.source={{kind: folder, path: {ROOT / 'configs'}}}"  # a folder with files, which are not looked at
    flags = ["--config", str(ROOT / f"configs/{config}.yaml"), "--set", data, "--set", f"training.model={model}"]
    assert run.main(["--dry-run", *flags]) == 2
    assert words in lines(capsys)[1][0]


def test_a_dry_run_names_the_stack(capsys, unused_zenml):
    assert run.main(["--dry-run"]) == 0
    assert "stack     local" in lines(capsys)[0]
    assert run.main(["--dry-run", "--stack", "local"]) == 0
    assert "stack     local" in lines(capsys)[0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--pipeline", "trainin"],
            "argument --pipeline: invalid choice: 'trainin'; did you mean 'training'? choose from",
        ),
        (["--confg", "x"], "unrecognized arguments: --confg x; did you mean --config?"),
    ],
)
def test_a_misspelt_flag_or_pipeline_is_answered_with_the_nearest(capsys, flags, words):
    with pytest.raises(SystemExit):
        run.main(flags)
    assert words in capsys.readouterr().err


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
    assert f"{flag[0]} needs --pipeline {pipeline}" in capsys.readouterr().err


@pytest.mark.parametrize("shards", ["0", "1001"])
def test_shards_have_a_limit(capsys, shards):
    with pytest.raises(SystemExit):
        run.main(["--pipeline", "batch_inference", "--shards", shards])
    assert "--shards must be 1 to 1000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--pipeline drift-drill needs --kind, one of brightness, noise, "),
        (["--kind", "dark"], "argument --kind: invalid choice: 'dark'; choose from brightness, noise, "),
        (["--kind", "brigthness"], "did you mean 'brightness'?"),
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
        (["--kind", "noise", "--images", "0"], "error: --images 0: expected 1 to "),
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


@pytest.mark.parametrize(
    ("severity", "expected"), [("1", "detects it"), ("-1", "detects it"), ("0", "reports no drift")]
)
def test_a_drill_asks_for_drift_and_a_control_for_none(severity, expected):
    drill = run.parse(["--pipeline", "drift-drill", "--kind", "brightness", "--severity", severity])
    assert following_question(drill) == f"check that monitoring {expected}:\n"
    assert following_question(run.parse(["--pipeline", "tuning", "--set", SPACE])) == ""


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
        ("tuning.grid=[{epochs: 0}]", "tuning.grid.0: training.epochs: expected 1 or more"),
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
