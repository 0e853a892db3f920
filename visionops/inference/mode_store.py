"""Store which mode of an engine was fastest, as the initial guess of the next process.

The mode was the fastest under the load of its time, so that time is stored with it, and live traffic corrects it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visionops.inference.bundle import ModelBundle
from visionops.inference.settings import Device, EngineName

__all__ = ["ModeGuess", "ModeStore"]


class ModeGuess(BaseModel):
    """Fastest mode at the time of storing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    streams: int = Field(ge=1)
    """Number of images computed at once."""
    images_per_second: dict[int, float]
    """Rate by the number of streams, measured on live requests."""
    stored_at: float
    """Time of storing in seconds since 1970."""


class ModeStore:
    """One file for a model, an engine, a device and a number of threads. Without a folder nothing is stored.

    Args:
        folder: Folder, created when something is stored.
        threads: Number of threads that the engine may use.
    """

    def __init__(
        self, folder: Path | None, bundle: ModelBundle, engine: EngineName, device: Device, threads: int
    ) -> None:
        self._path = folder / f"mode-{_key(bundle, engine, device, threads)}.json" if folder else None

    def read(self) -> ModeGuess | None:
        """Return the stored mode; None where it is missing or cannot be read."""
        if self._path is None:
            return None
        try:
            return ModeGuess.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return None

    def write(self, streams: int, images_per_second: Mapping[int, float]) -> None:
        """Store a mode with the current time.

        Raises:
            OSError: The folder cannot be written.
        """
        if self._path is None:
            return
        rates = {mode: round(rate, 2) for mode, rate in images_per_second.items()}
        guess = ModeGuess(streams=streams, images_per_second=rates, stored_at=time.time())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(guess.model_dump_json(), encoding="utf-8")
        draft.replace(self._path)


def _key(bundle: ModelBundle, engine: EngineName, device: Device, threads: int) -> str:
    place = _cpu() if device is Device.CPU else device.value
    text = f"{bundle.digest} {engine.value} {_version(engine)} {threads} {place}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
