"""How many images side by side this machine computes fastest: measured, not guessed, and remembered.

The engine's own hints guess from the count of cores. Whether an image on each core beats all cores on one image
depends on the model, the CPU and its quota; half a second of trying tells.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from visionops.inference.bundle import ModelBundle
from visionops.inference.engines import Engine, available_cpus, load_engine
from visionops.inference.settings import Device
from visionops.inference.settings import Engine as EngineName

__all__ = ["Calibration", "calibrate"]

_SECONDS = 0.15
"""At most, for one candidate in one round; at least one image a stream."""
_IMAGES = 16
"""At most, for each stream of a candidate in one round."""
_ROUNDS = 3


class Calibration(BaseModel):
    """What was measured, and what follows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int
    """That the engine may use."""
    streams: int
    """Images side by side that gave the most."""
    images_per_second: dict[int, float]
    """By the number of streams: the graph alone, without decoding."""


def calibrate(
    bundle: ModelBundle,
    engine: EngineName,
    *,
    device: Device = Device.CPU,
    threads: int | None = None,
    cache: Path | None = None,
    otherwise: Calibration | None = None,
) -> Calibration:
    """Try 1, 2, 4, … streams up to the number of threads.

    Args:
        device: As for `load_engine`; so are ``threads``.
        cache: Folder that remembers the result for this model on this CPU; nothing is remembered when absent.
        otherwise: Of another model: its streams are taken instead of a trial where nothing is remembered.

    Raises:
        BundleError: The graph cannot be loaded.
    """
    count = threads or available_cpus()
    record = cache / f"calibration-{_key(bundle, engine, device, count)}.json" if cache else None
    if record and (known := _read(record)):
        return known
    if otherwise is not None and otherwise.threads == count:
        return otherwise.model_copy(update={"images_per_second": {}})
    rates = _measure(bundle, engine, device, count, cache) if count > 1 else {1: 0.0}
    result = Calibration(threads=count, streams=max(rates, key=lambda streams: rates[streams]), images_per_second=rates)
    if record:
        record.parent.mkdir(parents=True, exist_ok=True)
        draft = record.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(result.model_dump_json(), encoding="utf-8")
        draft.replace(record)
    return result


def _measure(
    bundle: ModelBundle, engine: EngineName, device: Device, threads: int, cache: Path | None
) -> dict[int, float]:
    powers = [1 << power for power in range(threads.bit_length()) if 1 << power < threads]
    candidates = {
        streams: load_engine(bundle, engine, device=device, threads=threads, streams=streams, cache=cache)
        for streams in (*powers, threads)
    }
    best = dict.fromkeys(candidates, 0.0)
    for _ in range(_ROUNDS):  # in turn, so that a busy moment hits all
        for streams, loaded in candidates.items():
            best[streams] = max(best[streams], _rate(loaded, bundle))
    return {streams: round(rate, 2) for streams, rate in best.items()}


def _rate(engine: Engine, bundle: ModelBundle) -> float:
    """Images a second with every stream in work."""
    spec = bundle.card.preprocessing
    tensor = np.full((1, 3, spec.height, spec.width), 0.5, dtype=np.float32)
    end = time.perf_counter() + _SECONDS

    def work(_: int) -> int:
        done = 0
        while not done or (done < _IMAGES and time.perf_counter() < end):
            engine.infer(tensor, alone=engine.streams == 1)
            done += 1
        return done

    with ThreadPoolExecutor(engine.streams) as pool:
        start = time.perf_counter()
        done = sum(pool.map(work, range(engine.streams)))
        return done / (time.perf_counter() - start)


def _read(record: Path) -> Calibration | None:
    try:
        return Calibration.model_validate_json(record.read_bytes())
    except (OSError, ValidationError):
        return None


def _key(bundle: ModelBundle, engine: EngineName, device: Device, threads: int) -> str:
    place = _cpu() if device is Device.CPU else device.value
    told = f"{bundle.digest} {engine.value} {_version(engine)} {threads} {place}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _version(engine: EngineName) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(engine.value)
    except PackageNotFoundError:
        return version(f"{engine.value}-gpu")  # the same modules, with CUDA


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.processor())
