"""Measured once, remembered after."""

from __future__ import annotations

import pytest

from tests.helpers.bundles import make_bundle
from visionops.inference.calibration import calibrate
from visionops.inference.settings import Engine


@pytest.mark.parametrize("engine", list(Engine))
def test_the_streams_are_the_fastest_of_those_tried(tmp_path, engine):
    result = calibrate(make_bundle(tmp_path / "bundle"), engine, threads=3)
    assert set(result.images_per_second) == {1, 2, 3}
    assert result.images_per_second[result.streams] == max(result.images_per_second.values())


def test_one_thread_has_nothing_to_try(tmp_path):
    assert calibrate(make_bundle(tmp_path / "bundle"), Engine.OPENVINO, threads=1).streams == 1


def test_it_is_remembered_for_this_model_and_as_many_threads(tmp_path):
    bundle, cache = make_bundle(tmp_path / "bundle"), tmp_path / "cache"
    first = calibrate(bundle, Engine.OPENVINO, threads=2, cache=cache)
    (record,) = cache.glob("calibration-*.json")
    marked = first.model_copy(update={"images_per_second": {1: 1.0, 2: 2.0}})
    record.write_text(marked.model_dump_json())
    assert calibrate(bundle, Engine.OPENVINO, threads=2, cache=cache) == marked
    other = make_bundle(tmp_path / "other", gain=1.5)
    assert calibrate(other, Engine.OPENVINO, threads=2, cache=cache) != marked
    record.write_text("{")
    assert set(calibrate(bundle, Engine.OPENVINO, threads=2, cache=cache).images_per_second) == {1, 2}
