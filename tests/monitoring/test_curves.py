"""Curves of a running training, with a real Pushgateway and without one."""

from __future__ import annotations

import math
import socket
import time
from pathlib import Path

from tests.helpers.programs import free_port, pushed, pushgateway, until
from visionops.monitoring.curves import EPOCH_METRICS, TrainingCurves
from visionops.monitoring.gateway import Pushgateway

EPOCH = {"train_box_loss": 0.5, "val_map50": 0.8, "learning_rate": 0.01, "val_precision": math.nan}


def test_an_epoch_and_a_new_run_replace_what_was_there(tmp_path: Path):
    with pushgateway(tmp_path / "run") as url:
        first = TrainingCurves(Pushgateway(url), "steel", "training", epochs=3)
        first.epoch(EPOCH, 1)
        shown = until(lambda: pushed(url, "steel"))
        assert shown["visionops_training_epoch", "epochs"] == 1
        assert shown["visionops_training_epochs", "epochs"] == 3
        assert shown["visionops_training_loss", "train_box_loss", "epochs"] == 0.5
        assert shown["visionops_training_epoch_metric", "val_map50", "epochs"] == 0.8
        assert shown["visionops_training_learning_rate", "epochs"] == 0.01
        assert not [key for key in shown if "val_precision" in key]
        assert {name for name, *_ in shown if not name.startswith("push_")} == EPOCH_METRICS.keys()
        first.epoch(EPOCH, 2)
        assert first.close() == ""
        assert pushed(url, "steel")["visionops_training_epoch", "epochs"] == 2
        second = TrainingCurves(Pushgateway(url), "steel", "training", epochs=1)
        second.epoch({"val_accuracy": 0.5}, 1)
        assert second.close() == ""
        names = {key[:2] for key in pushed(url, "steel")}
        assert ("visionops_training_epoch_metric", "val_accuracy") in names
        assert ("visionops_training_epoch_metric", "val_map50") not in names


def test_a_thousand_names_are_not_pushed(tmp_path: Path):
    with pushgateway(tmp_path / "run") as url:
        curves = TrainingCurves(Pushgateway(url), "steel", "training", epochs=1)
        curves.epoch({f"val_{number}": 1.0 for number in range(1000)}, 1)
        assert curves.close() == ""
        assert len([key for key in pushed(url, "steel") if key[0] == "visionops_training_epoch_metric"]) == 50


def test_a_gateway_that_is_gone_is_one_line_with_the_number_of_epochs():
    nobody = Pushgateway(f"http://127.0.0.1:{free_port()}")
    curves = TrainingCurves(nobody, "steel", "training", epochs=2)
    curves.epoch(EPOCH, 1)
    until(lambda: curves._lost == 1)
    curves.epoch(EPOCH, 2)
    problem = curves.close()
    assert problem.startswith(
        f"Pushgateway {nobody.url}: accepts no metrics (connection refused); start it, or set VIS"
    )
    assert problem.endswith("; 2 of 2 epochs could not be pushed, but the training continued")


def test_a_gateway_that_hangs_holds_no_epoch_up():
    with socket.create_server(("127.0.0.1", 0)) as hung:
        gateway = Pushgateway(f"http://127.0.0.1:{hung.getsockname()[1]}")
        curves = TrainingCurves(gateway, "steel", "training", epochs=100, patience=0.5)
        begin = time.thread_time()
        for number in range(1, 101):
            curves.epoch(EPOCH, number)
        assert time.thread_time() - begin < 0.5
        assert "(no answer in time)" in curves.close()


def test_without_a_gateway_nothing_happens():
    curves = TrainingCurves(Pushgateway(), "steel", "training", epochs=1)
    curves.epoch(EPOCH, 1)
    assert curves._thread is None
    assert curves.close() == ""
