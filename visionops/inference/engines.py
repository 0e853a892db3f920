"""Run a bundle's graph with OpenVINO or ONNX Runtime, behind one small protocol.

Either package alone is enough: each is imported when it is needed. The precision is that of the bundle's card, never
the engine's default.

Using all cores for one image gives the lowest latency. Computing several images at once, each with its share of the
cores (a stream), often gives the highest throughput. An engine starts with one number of streams; others are compiled
by `Engine.add`.
"""

from __future__ import annotations

import collections
import functools
import math
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from visionops.errors import BundleError
from visionops.inference.bundle import ModelBundle
from visionops.inference.settings import Device, EngineName, Precision
from visionops.telemetry import forbid_telemetry

__all__ = ["Engine", "available_cpus", "load_engine"]


class Engine(Protocol):
    """A loaded graph. Safe to use from several threads at once."""

    name: EngineName
    precision: Precision
    threads: int
    """Maximum number of threads of one inference."""

    @property
    def streams(self) -> tuple[int, ...]:
        """Return the numbers of streams that are compiled, the first one first."""

    def add(self, streams: int) -> None:
        """Compile for another number of streams, run it once, and use it from then on. May run during `infer`.

        Raises:
            BundleError: The graph's file is missing or cannot be loaded any more.
        """

    def infer(self, tensor: npt.NDArray[np.float32], *, streams: int = 1) -> list[npt.NDArray[np.float32]]:
        """Run the graph.

        Args:
            tensor: float32 (1, 3, H, W), contiguous.
            streams: Number of images computed at once, each with its share of the threads; 1 uses all threads for
                this image. Falls back to the first number where this one is not compiled. Results differ between
                numbers only by the engine's rounding.

        Returns:
            All outputs, in the graph's order. The arrays belong to the caller.
        """


def load_engine(
    bundle: ModelBundle,
    engine: EngineName = EngineName.OPENVINO,
    *,
    device: Device = Device.CPU,
    threads: int | None = None,
    streams: int = 1,
    cache: Path | None = None,
) -> Engine:
    """Load a bundle's graph.

    Args:
        device: Device that computes.
        threads: Maximum number of threads at once; `available_cpus` when None.
        streams: Number of images computed at once; at most ``threads``. Only this number is compiled.
        cache: Folder for OpenVINO's compiled models, which makes loading again much faster.

    Raises:
        BundleError: The file is not an ONNX graph of one image, or this machine does not support the card's precision
            or the device.
    """
    forbid_telemetry()
    count = threads or available_cpus()
    if engine is EngineName.OPENVINO:
        return _OpenVino(bundle, device, count, min(streams, count), cache)
    return _OnnxRuntime(bundle, device, count, min(streams, count))


@functools.cache
def _core() -> Any:
    """Return OpenVINO's core, one for the lifetime of the process.

    The CPU plugin gives the thread that loads it a stack for signal handlers. Dropping the last core unloads the plugin
    and frees that stack, so the next SIGTERM would end in a segmentation fault.
    """
    import openvino

    return openvino.Core()


class _OpenVino:
    name = EngineName.OPENVINO

    def __init__(self, bundle: ModelBundle, device: Device, threads: int, streams: int, cache: Path | None) -> None:
        from openvino import frontend as frontends

        self.precision = bundle.card.precision
        self.threads = threads
        core = _core()
        self._bundle, self._target = bundle, device.value.upper()
        target = self._target
        # With several GPUs, each has its number behind a dot.
        if target not in {name.partition(".")[0] for name in core.available_devices}:
            raise _without_gpu(bundle, f"OpenVINO sees {', '.join(core.available_devices)} here", "Intel's")
        if device is Device.GPU and self.precision is Precision.BF16:
            raise BundleError(
                f"{bundle.folder}: was sealed for bf16, which is for CPUs; set serving.device: cpu, or "
                "serving.precision: f32 and train again"
            )
        if self.precision is Precision.BF16:
            _require_bf16(bundle, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        self._unusable = (
            RuntimeError,
            frontends.GeneralFailure,
            frontends.InitializationFailure,
            frontends.NotImplementedFailure,
            frontends.OpConversionFailure,
            frontends.OpValidationFailure,
        )
        self._options: dict[str, Any] = {
            # A quantized graph defines what is computed in integers; the hint applies to the rest.
            "INFERENCE_PRECISION_HINT": "bf16" if self.precision is Precision.BF16 else "f32",
        }
        if device is Device.CPU:
            # With pinning, two servers on one node would use the same first cores.
            self._options |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        if cache is not None:
            self._options["CACHE_DIR"] = str(cache)
        self._first = self._compile(streams)
        self._graphs = {streams: self._first}

    @property
    def streams(self) -> tuple[int, ...]:
        return tuple(self._graphs)

    def add(self, streams: int) -> None:
        graph = self._compile(streams)
        graph.infer(_zeros(self._bundle))
        self._graphs[streams] = graph

    def infer(self, tensor: npt.NDArray[np.float32], *, streams: int = 1) -> list[npt.NDArray[np.float32]]:
        return self._graphs.get(streams, self._first).infer(tensor)

    def _compile(self, streams: int) -> _Compiled:
        from openvino import frontend as frontends

        try:
            # Not Core.read_model: for a file that is not ONNX it tries every other format and prints an error for each.
            form = "ir" if self.precision is Precision.INT8 else "onnx"
            frontend = frontends.FrontEndManager().load_by_framework(form)
            model = frontend.convert(frontend.load(str(self._bundle.model_path)))
            _check_input(self._bundle, [_openvino_shape(port) for port in model.inputs])
            return _Compiled(_core().compile_model(model, self._target, self._options | {"NUM_STREAMS": streams}))
        except self._unusable as error:
            raise _unreadable(self._bundle, error) from error


class _Compiled:
    """A compiled OpenVINO graph with its idle requests, each of which computes one image at a time."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._idle: collections.deque[Any] = collections.deque()

    def infer(self, tensor: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        # As many requests are created as there were concurrent callers.
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.model.create_infer_request()
        try:
            return list(request.infer({0: tensor}, share_inputs=True).to_tuple())
        finally:
            self._idle.append(request)


class _OnnxRuntime:
    name = EngineName.ONNXRUNTIME

    def __init__(self, bundle: ModelBundle, device: Device, threads: int, streams: int) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

        self.precision = bundle.card.precision
        self.threads = threads
        self._bundle = bundle
        if self.precision is not Precision.F32:
            fix = "go back to the f32 version" if self.precision is Precision.INT8 else "train again in f32"
            raise BundleError(
                f"{bundle.folder}: precision {self.precision.value} needs the openvino engine; "
                f"set serving.engine: openvino, or {fix}"
            )
        self._unusable = (
            ort_errors.Fail,
            ort_errors.InvalidArgument,
            ort_errors.InvalidGraph,
            ort_errors.InvalidProtobuf,
            ort_errors.NoSuchFile,
            ort_errors.NotImplemented,
            ort_errors.RuntimeException,
        )

        providers = onnxruntime.get_available_providers()
        provider = "CPUExecutionProvider" if device is Device.CPU else "CUDAExecutionProvider"
        if provider not in providers:
            raise _without_gpu(bundle, f"ONNX Runtime has {', '.join(providers)} here", "NVIDIA's")
        if device is Device.GPU:
            onnxruntime.preload_dlls()  # use CUDA and cuDNN from Python packages, where installed

        self._provider = provider
        self._first = self._session(streams)
        inputs = self._first.get_inputs()
        _check_input(bundle, [tuple(d if isinstance(d, int) else None for d in port.shape) for port in inputs])
        self._input = inputs[0].name
        self._sessions = {streams: self._first}

    @property
    def streams(self) -> tuple[int, ...]:
        return tuple(self._sessions)

    def add(self, streams: int) -> None:
        session = self._session(streams)
        session.run(None, {self._input: _zeros(self._bundle)})
        self._sessions[streams] = session

    def infer(self, tensor: npt.NDArray[np.float32], *, streams: int = 1) -> list[npt.NDArray[np.float32]]:
        return list(self._sessions.get(streams, self._first).run(None, {self._input: tensor}))

    def _session(self, streams: int) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # A session computes in its callers' threads, so the number of callers is the number of streams.
        options.intra_op_num_threads = max(1, self.threads // streams)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            made = onnxruntime.InferenceSession(str(self._bundle.model_path), options, providers=[self._provider])
        except self._unusable as error:
            raise _unreadable(self._bundle, error) from error
        if made.get_providers()[0] != self._provider:  # without CUDA it silently falls back to the CPU
            raise _without_gpu(self._bundle, "ONNX Runtime cannot load CUDA and cuDNN, or finds no GPU", "NVIDIA's")
        return made


def available_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many CPUs this process may use: its affinity mask, limited by its container's quota.

    Engines use the machine's CPU count by default, which creates threads that throttle each other in a container.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(cpus, math.ceil(quota)) if quota else cpus)


def _quota(cgroup: Path) -> float | None:
    """Return the CPU quota of cgroup v2 or v1; None without a limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            limit, period = " ".join((cgroup / file).read_text() for file in files).split()
        except (OSError, ValueError):
            continue
        if limit in {"max", "-1"}:
            return None
        return float(limit) / float(period)
    return None


def _require_bf16(bundle: ModelBundle, capabilities: list[str]) -> None:
    if "BF16" not in capabilities:
        raise BundleError(
            f"{bundle.folder}: was sealed for bf16, which this CPU does not have ({', '.join(capabilities)}); "
            "serve it on a CPU with avx512_bf16 or amx_bf16, or set serving.precision: f32 and train again"
        )


def _without_gpu(bundle: ModelBundle, seen: str, whose: str) -> BundleError:
    return BundleError(
        f"{bundle.folder}: is configured for a GPU, but {seen}; start the server on a node with one of {whose}, from "
        "the image for it (docs/how-to/gpu.md), or set serving.device: cpu"
    )


def _zeros(bundle: ModelBundle) -> npt.NDArray[np.float32]:
    spec = bundle.card.preprocessing
    return np.zeros((1, 3, spec.height, spec.width), dtype=np.float32)


def _openvino_shape(port: Any) -> tuple[int | None, ...]:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return ()
    return tuple(None if d.is_dynamic else d.get_length() for d in shape)


def _check_input(bundle: ModelBundle, shapes: list[tuple[int | None, ...]]) -> None:
    spec = bundle.card.preprocessing
    wanted = (1, 3, spec.height, spec.width)
    fits = (
        len(shapes) == 1 and len(shapes[0]) == 4 and all(d in (None, w) for d, w in zip(shapes[0], wanted, strict=True))
    )
    if not fits:
        raise BundleError(f"{bundle.model_path}: takes {shapes}, the card says one image of {wanted}; export it again")


def _unreadable(bundle: ModelBundle, error: Exception) -> BundleError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
    return BundleError(
        f"{bundle.model_path}: is not an {'OpenVINO' if bundle.card.precision is Precision.INT8 else 'ONNX'} graph "
        f"this engine can run ({reason}); export it again"
    )
