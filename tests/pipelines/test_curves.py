"""The step of a training and the Pushgateway of its stack."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import steps.curves
from steps.curves import pushed_curves
from steps.run_log import RunLog
from tests.helpers.programs import free_port, pushed, pushgateway
from tests.helpers.trackers import Tape
from visionops.errors import StackError
from visionops.monitoring.gateway import Pushgateway

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML warns of its own code


@pytest.fixture(autouse=True)
def in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(pipeline=SimpleNamespace(name="training"))
    monkeypatch.setattr(steps.curves, "get_step_context", lambda: context)


def train(tmp_path: Path, gateway: Pushgateway, monkeypatch: pytest.MonkeyPatch) -> Tape:
    """Two epochs; what the tracker has of them."""
    tape = Tape(tmp_path / "tape")
    monkeypatch.setattr(steps.curves, "active_pushgateway", lambda: gateway)
    with pushed_curves("steel", 2) as curves:
        log = RunLog(tape, lambda *_: None, curves)
        log.metrics({"train_loss": 0.5, "val_accuracy": 0.6}, 1)
        log.metrics({"train_loss": 0.4, "val_accuracy": 0.7}, 2)
    return tape


def test_each_epoch_goes_to_the_tracker_and_the_last_one_stays_on_the_gateway(tmp_path, monkeypatch, capsys):
    with pushgateway(tmp_path / "run") as url:
        tape = train(tmp_path, Pushgateway(url), monkeypatch)
        shown = pushed(url, "steel")
    assert list(tape.epochs) == [1, 2]
    assert shown["visionops_training_epoch", "epochs"] == shown["visionops_training_epochs", "epochs"] == 2
    assert shown["visionops_training_epoch_metric", "val_accuracy", "epochs"] == 0.7
    assert capsys.readouterr().err == ""


def test_a_gateway_that_is_gone_is_one_line_and_fails_no_training(tmp_path, monkeypatch, capsys):
    nobody = Pushgateway(f"http://127.0.0.1:{free_port()}")
    assert list(train(tmp_path, nobody, monkeypatch).epochs) == [1, 2]
    said = capsys.readouterr().err
    assert said.startswith(f"warning: Pushgateway {nobody.url}: accepts no metrics (connection refused); start it, or")
    assert said.count("\n") == 1


def test_a_login_that_is_gone_is_one_line_and_fails_no_training(monkeypatch, capsys):
    def missing() -> Pushgateway:
        raise StackError("Pushgateway x: no secret; set VISIONOPS_PUSHGATEWAY_USERNAME")

    monkeypatch.setattr(steps.curves, "active_pushgateway", missing)
    with pushed_curves("steel", 1) as curves:
        curves.epoch({"train_loss": 0.5}, 1)
    assert capsys.readouterr().err == "warning: Pushgateway x: no secret; set VISIONOPS_PUSHGATEWAY_USERNAME\n"
