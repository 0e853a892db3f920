"""Disk space of the prediction log in Prometheus' metrics."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from deploy.serving.models.disk import DiskSpace
from tests.helpers.disks import mounted
from tests.helpers.programs import until
from tests.serving.conftest import client_of, settings_of
from tests.serving.test_app import metric

FREE, SIZE = (f"visionops_prediction_log_disk_{what}_bytes" for what in ("free", "size"))


def test_the_room_of_the_prediction_logs_disk_is_shown(bundle: Path, tmp_path: Path):
    with (
        mounted(tmp_path / "disk", "size=1m") as disk,
        client_of(settings_of(bundle, prediction_log=disk / "log")) as client,
    ):
        until(lambda: metric(client, SIZE) == 2**20)
        before = metric(client, FREE)
        (disk / "ballast").write_bytes(b"\0" * 2**19)
        until(lambda: metric(client, FREE) == before - 2**19)


def test_a_folder_that_is_not_there_has_the_room_of_the_one_above_it(tmp_path: Path):
    space = DiskSpace(tmp_path / "not" / "there")
    assert until(space.look)[1] == shutil.disk_usage(tmp_path).total


def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch):
    space = DiskSpace(tmp_path)
    known = until(space.look)
    hangs, called = threading.Event(), threading.Event()

    def hang(_: Path) -> None:
        called.set()
        hangs.wait(60)
        raise OSError

    monkeypatch.setattr(shutil, "disk_usage", hang)
    until(lambda: space.look() and called.is_set())
    assert [space.look()[1] for _ in range(3)] == [known[1]] * 3
    assert sum(thread.name == "disk-space" for thread in threading.enumerate()) == 1
    hangs.set()
