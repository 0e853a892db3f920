"""Valid and invalid settings of `serving.release`."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionops.config import load_config
from visionops.errors import ConfigError
from visionops.inference.release_settings import SplitBy, Strategy

CONFIG = """name: cells
data: {source: {kind: folder, path: data}}
serving:
  port: 0
  release: {%s}
"""


def test_a_release_is_a_switch_unless_it_says_otherwise(tmp_path: Path):
    file = tmp_path / "cells.yaml"
    file.write_text(CONFIG % "")
    release = load_config(file).serving.release
    assert (release.strategy, release.is_held) == (Strategy.SWITCH, False)
    file.write_text(CONFIG % "strategy: shadow, share: 0.2, hold_minutes: 30, split_by: key")
    release = load_config(file).serving.release
    assert (release.strategy, release.is_held) == (Strategy.SHADOW, True)
    assert (release.share, release.hold_minutes, release.split_by) == (0.2, 30, SplitBy.KEY)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("share: 0", "serving.release.share: expected more than 0 (got 0)"),
        ("strategy: blue", "serving.release.strategy: expected switch, canary or shadow (got 'blue')"),
        ("min_requests: 900", "serving.release.min_requests: expected 200 or less (got 900)"),
        ("shade: 1", "unknown key 'serving.release.shade'; did you mean 'share'?"),
    ],
)
def test_what_cannot_be_is_named_with_its_line(tmp_path: Path, wrong: str, said: str):
    file = tmp_path / "cells.yaml"
    file.write_text(CONFIG % wrong)
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    assert str(refused.value) == f"{file}:5: {said}"
