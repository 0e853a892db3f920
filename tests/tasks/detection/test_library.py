from __future__ import annotations

import logging
import os

import pytest

from visionops.errors import TrainingError
from visionops.tasks.detection import library
from visionops.tasks.detection.library import cpu_threads, prepare_library, quiet_library


def test_nothing_that_reaches_outside_is_on():
    prepare_library()
    from ultralytics import utils

    assert not any(utils.SETTINGS[name] for name in ("sync", "mlflow", "comet", "clearml", "wandb", "tensorboard"))
    assert not utils.ONLINE
    assert not utils.AUTOINSTALL
    assert (utils.USER_CONFIG_DIR / "Arial.ttf").is_file()


def test_a_font_that_was_lost_is_placed_again(tmp_path):
    library._place_fonts(tmp_path)
    (tmp_path / "Arial.ttf").unlink()
    library._place_fonts(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Arial.Unicode.ttf", "Arial.ttf"]


def test_a_configuration_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "file"))
    with pytest.raises(TrainingError, match="set VISIONOPS_HOME to a folder that can"):
        prepare_library()


def test_all_cores_compute_unless_set_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert cpu_threads() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cpu_threads() == 3


def test_the_library_is_heard_in_a_file_and_its_warnings_through_us(tmp_path, capfd, caplog):
    prepare_library()
    logger = logging.getLogger("ultralytics")
    before = list(logger.handlers)
    with quiet_library(tmp_path / "trainer.log"), caplog.at_level(logging.WARNING):
        logger.info("\x1b[34m\x1b[1mchat\x1b[0mter")
        logger.warning("two\n\x1b[31mlines\x1b[0m")
    assert logger.handlers == before
    assert (tmp_path / "trainer.log").read_text() == "chatter\ntwo\nlines\n"
    assert [r.getMessage() for r in caplog.records] == ["two lines"]
    assert capfd.readouterr().out == ""
