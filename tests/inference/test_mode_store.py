"""The fastest mode is stored with its time and survives the process."""

from __future__ import annotations

import time

from tests.helpers.bundles import make_bundle
from visionops.inference.mode_store import ModeStore
from visionops.inference.settings import Device, EngineName


def test_a_mode_is_read_as_it_was_written_with_its_time(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    before = time.time()
    ModeStore(tmp_path / "cache", bundle, EngineName.OPENVINO, Device.CPU, 2).write(2, {1: 20.123, 2: 31.0})
    guess = ModeStore(tmp_path / "cache", bundle, EngineName.OPENVINO, Device.CPU, 2).read()
    assert guess is not None
    assert (guess.streams, guess.images_per_second) == (2, {1: 20.12, 2: 31.0})
    assert before <= guess.stored_at <= time.time()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".json"]


def test_it_holds_for_one_model_engine_and_number_of_threads(tmp_path):
    bundle, other = make_bundle(tmp_path / "bundle"), make_bundle(tmp_path / "other", gain=1.5)
    ModeStore(tmp_path, bundle, EngineName.OPENVINO, Device.CPU, 2).write(2, {})
    for which in [
        (other, EngineName.OPENVINO, Device.CPU, 2),
        (bundle, EngineName.ONNXRUNTIME, Device.CPU, 2),
        (bundle, EngineName.OPENVINO, Device.CPU, 4),
    ]:
        assert ModeStore(tmp_path, *which).read() is None


def test_what_cannot_be_read_is_no_guess(tmp_path):
    store = ModeStore(tmp_path, make_bundle(tmp_path / "bundle"), EngineName.OPENVINO, Device.CPU, 2)
    store.write(2, {})
    (record,) = tmp_path.glob("mode-*.json")
    for broken in ["{", '{"streams": 0, "images_per_second": {}, "stored_at": 1}']:
        record.write_text(broken)
        assert store.read() is None


def test_without_a_folder_nothing_is_stored(tmp_path):
    store = ModeStore(None, make_bundle(tmp_path / "bundle"), EngineName.OPENVINO, Device.CPU, 2)
    store.write(2, {})
    assert store.read() is None
