"""Both engines give the same numbers, at the card's precision, within the CPU quota."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.helpers.bundles import encode, make_bundle, picture
from visionops.errors import BundleError
from visionops.inference.bundle import ModelBundle
from visionops.inference.engines import _require_bf16, available_cpus, load_engine
from visionops.inference.settings import Device, EngineName, Precision

ENGINES = pytest.mark.parametrize("engine", list(EngineName))


def tensor(seed: int = 0):
    return np.random.default_rng(seed).random((1, 3, 128, 128), dtype=np.float32)


@pytest.mark.parametrize(
    ("engine", "seen"),
    [
        (EngineName.OPENVINO, r"OpenVINO sees CPU here"),
        (EngineName.ONNXRUNTIME, r"ONNX Runtime has .*CPUExecutionProvider here"),
    ],
)
def test_a_gpu_that_is_missing_is_refused_and_never_replaced(tmp_path, engine, seen):
    bundle = make_bundle(tmp_path / "bundle")
    with pytest.raises(
        BundleError, match=rf"bundle: is configured for a GPU, but {seen}; .* serving\.device: cpu"
    ) as no:
        load_engine(bundle, engine, device=Device.GPU)
    assert "\n" not in str(no.value)
    assert load_engine(bundle, engine, device=Device.CPU).infer(tensor())[0].shape == (1, 7, 16)


def test_cuda_that_cannot_be_loaded_is_refused(tmp_path, monkeypatch):
    """On a machine without CUDA, ONNX Runtime claims to have it and computes on the CPU."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(BundleError, match="cannot load CUDA"):
        load_engine(make_bundle(tmp_path / "bundle"), EngineName.ONNXRUNTIME, device=Device.GPU)


def test_the_engines_agree(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", gain=20.0)
    left, right = (load_engine(bundle, engine).infer(tensor()) for engine in EngineName)
    assert left[0].shape == (1, 7, 16)
    np.testing.assert_allclose(left[0], right[0], atol=1e-4)


@ENGINES
def test_an_answer_belongs_to_its_caller(tmp_path, engine):
    loaded = load_engine(make_bundle(tmp_path / "bundle", gain=20.0), engine)
    first = loaded.infer(tensor(1))[0]
    kept = first.copy()
    loaded.infer(tensor(2))
    np.testing.assert_array_equal(first, kept)


@ENGINES
def test_threads_do_not_mix_their_answers(tmp_path, engine):
    loaded = load_engine(make_bundle(tmp_path / "bundle", gain=20.0), engine, threads=1)
    expected = [loaded.infer(tensor(i))[0] for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: loaded.infer(tensor(i % 16))[0], range(160)))
    for i, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, expected[i % 16])


@ENGINES
def test_an_image_gets_the_same_answer_alone_and_beside_others(tmp_path, engine):
    loaded = load_engine(make_bundle(tmp_path / "bundle", gain=20.0), engine, threads=2, streams=2)
    assert loaded.streams == (2,)
    loaded.add(1)
    assert loaded.streams == (2, 1)
    expected = [loaded.infer(tensor(i))[0] for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: loaded.infer(tensor(i % 8), streams=2)[0], range(80)))
    for i, answer in enumerate(answers):
        np.testing.assert_allclose(answer, expected[i % 8], atol=1e-5)


def test_streams_share_the_threads(tmp_path):
    loaded = load_engine(make_bundle(tmp_path / "bundle"), threads=2, streams=8)
    loaded.add(1)
    assert [graph.model.get_property("NUM_STREAMS") for graph in loaded._graphs.values()] == [2, 1]


@ENGINES
def test_a_mode_that_was_not_compiled_is_answered_in_the_first(tmp_path, engine):
    loaded = load_engine(make_bundle(tmp_path / "bundle", gain=20.0), engine, threads=2, streams=2)
    np.testing.assert_array_equal(loaded.infer(tensor(), streams=1)[0], loaded.infer(tensor(), streams=2)[0])
    assert loaded.streams == (2,)


@ENGINES
def test_a_mode_of_a_bundle_that_has_gone_is_refused_and_the_others_answer(tmp_path, engine):
    bundle = make_bundle(tmp_path / "bundle")
    loaded = load_engine(bundle, engine, threads=2, streams=2)
    expected = loaded.infer(tensor())[0]
    bundle.model_path.unlink()
    with pytest.raises(BundleError, match=r"model\.onnx"):
        loaded.add(1)
    np.testing.assert_array_equal(loaded.infer(tensor())[0], expected)


def test_what_was_compiled_is_kept_and_a_broken_cache_is_no_matter(tmp_path):
    bundle, cache = make_bundle(tmp_path / "bundle", gain=20.0), tmp_path / "cache"
    expected = load_engine(bundle, cache=cache).infer(tensor())[0]
    (blob,) = cache.glob("*.blob")
    np.testing.assert_array_equal(load_engine(bundle, cache=cache).infer(tensor())[0], expected)
    blob.write_bytes(blob.read_bytes()[:100])
    np.testing.assert_array_equal(load_engine(bundle, cache=cache).infer(tensor())[0], expected)


@ENGINES
def test_a_file_that_is_no_onnx_is_refused_in_one_line(tmp_path, engine, capfd):
    bundle = make_bundle(tmp_path / "bundle")
    bundle.model_path.write_bytes(b"this is no graph" * 50)
    resealed = ModelBundle.create(bundle.folder, bundle.card)
    with pytest.raises(BundleError, match=r"model\.onnx: is not an ONNX graph this engine can run") as caught:
        load_engine(resealed, engine)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@ENGINES
def test_a_graph_of_another_input_size_is_refused(tmp_path, engine):
    bundle = make_bundle(tmp_path / "bundle", size=64)
    smaller = bundle.card.preprocessing.model_copy(update={"width": 96})
    lying = ModelBundle.create(bundle.folder, bundle.card.model_copy(update={"preprocessing": smaller}))
    with pytest.raises(BundleError, match=r"takes .*64.*, the card says one image of \(1, 3, 64, 96\)"):
        load_engine(lying, engine)


@ENGINES
def test_a_graph_of_any_input_size_passes(tmp_path, engine):
    import onnx

    bundle = make_bundle(tmp_path / "bundle")
    model = onnx.load(bundle.model_path)
    shape = model.graph.input[0].type.tensor_type.shape
    shape.dim[2].dim_param, shape.dim[3].dim_param = "height", "width"
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(model, bundle.model_path)
    assert load_engine(ModelBundle.create(bundle.folder, bundle.card), engine).infer(tensor())[0].shape == (1, 7, 16)


def test_the_precision_is_the_cards_and_threads_are_ours(tmp_path):
    loaded = load_engine(make_bundle(tmp_path / "bundle"), EngineName.OPENVINO, threads=1)
    compiled = loaded._first.model
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert loaded.precision is Precision.F32


def test_bf16_runs_where_the_cpu_has_it_and_is_refused_where_not(tmp_path):
    import openvino

    bundle = make_bundle(tmp_path / "bundle", precision=Precision.BF16)
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        compiled = load_engine(bundle)._first.model
        assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "bf16"
    else:
        with pytest.raises(BundleError, match="was sealed for bf16, which this CPU does not have"):
            load_engine(bundle)


def test_bf16_needs_the_capability(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", precision=Precision.BF16)
    _require_bf16(bundle, ["FP32", "BF16"])
    with pytest.raises(BundleError, match=r"serving\.precision: f32"):
        _require_bf16(bundle, ["FP32"])


def test_onnx_runtime_refuses_bf16(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", precision=Precision.BF16)
    with pytest.raises(BundleError, match="precision bf16 needs the openvino engine"):
        load_engine(bundle, EngineName.ONNXRUNTIME)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "garbage"}, None),
        ({}, None),
    ],
)
def test_cpus_are_those_of_the_affinity_mask_within_the_quota(tmp_path, monkeypatch, files, quota):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cpus(tmp_path) == (quota or 8)


def test_without_affinity_the_machine_counts(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert available_cpus(tmp_path) == 3


@pytest.mark.parametrize(("engine", "other"), [("openvino", "onnxruntime"), ("onnxruntime", "openvino")])
def test_either_engine_alone_is_enough_and_nothing_heavy_comes_along(tmp_path, engine, other):
    bundle = make_bundle(tmp_path / "bundle")
    image = tmp_path / "image.png"
    image.write_bytes(encode(picture([("red", 1, 1)])))
    code = f"""
import sys
from pathlib import Path
sys.modules[{other!r}] = None
from visionops.inference.settings import EngineName
from visionops.inference.bundle import ModelBundle
from visionops.inference.predictor import Predictor
predictor = Predictor(ModelBundle.load(Path({str(bundle.folder)!r})), EngineName({engine!r}))
assert len(predictor.predict(Path({str(image)!r}).read_bytes()).boxes) == 1
heavy = {{"torch", "ultralytics", "zenml", "mlflow", "matplotlib", "pandas"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


LET_GO = """
import signal, sys, threading
from pathlib import Path
from visionops.inference.bundle import ModelBundle
from visionops.inference.engines import load_engine

held = [load_engine(ModelBundle.load(Path(sys.argv[1])))]
other = threading.Thread(target=held.clear)
other.start()
other.join()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""


def test_signals_are_handled_after_another_thread_has_let_an_engine_go(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    ended = subprocess.run(
        [sys.executable, "-c", LET_GO, str(bundle.folder)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr
