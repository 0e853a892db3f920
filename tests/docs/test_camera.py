"""Run the client of the camera guide, unchanged, against a real server and a real video file."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.helpers.bundles import make_bundle, picture
from tests.serving.test_main import server

FRAMES = 12


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return the only Python block of the guide as a file."""
    text = (ROOT / "docs" / "how-to" / "camera.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    path = tmp_path / "camera.py"
    path.write_text(block, encoding="utf-8")
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Return a video of `FRAMES` frames with one red cell, at 30 frames per second."""
    import cv2

    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (128, 128))
    assert writer.isOpened()
    frame = np.ascontiguousarray(picture([("red", 2, 1)])[..., ::-1])
    for _ in range(FRAMES):
        writer.write(frame)
    writer.release()
    return path


def run(script: Path, source: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), source, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_example_prints_what_the_server_finds(script: Path, video: Path, tmp_path: Path):
    bundle = make_bundle(tmp_path / "bundle").folder
    with server("--bundle", str(bundle), "--streams", "1") as (process, port, _log):
        done = run(script, str(video), f"ws://127.0.0.1:{port}/stream")
        assert done.returncode == 0, done.stderr
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    lines = done.stdout.splitlines()
    found = [re.fullmatch(r"frame (\d+): red 0\.\d\d; (\d+) dropped so far", line) for line in lines]
    assert all(found), lines
    last = found[-1]
    assert last is not None
    assert last[1] == str(FRAMES)
    assert int(last[2]) == FRAMES - len(lines)


def test_the_example_reports_a_source_that_it_cannot_open(script: Path, tmp_path: Path):
    done = run(script, str(tmp_path / "none.avi"), "ws://127.0.0.1:1/stream")
    assert done.returncode == 1
    assert "OpenCV cannot open it" in done.stderr
