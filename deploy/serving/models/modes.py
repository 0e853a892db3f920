"""Choose and compile the modes of a served model, and report their measured speed.

A mode is a number of images computed in parallel. A model is ready once its first mode is compiled. The others are
compiled afterwards, one by one, on a thread that waits until the server is idle.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
import weakref
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from deploy.serving.models.memory import MemoryLimit, return_freed_memory
from visionops.errors import VisionOpsError
from visionops.inference.autotune import StreamTuner, TunerState, first_streams, stream_modes
from visionops.inference.bundle import ModelBundle
from visionops.inference.engines import available_cpus
from visionops.inference.mode_store import ModeStore
from visionops.inference.predictor import Load, Predictor
from visionops.inference.server_options import ModelRef

__all__ = ["ModeCompiler", "ModeStatus", "ModeUse"]

_log = logging.getLogger("visionops.serving")
_AFTER_READY_SECONDS = 1.0
_QUIET_SECONDS = 3.0
"""Longest wait in seconds for an idle moment, before a mode is compiled while images are processed."""
_POLL_SECONDS = 0.05
Source = Literal["option", "rule", "stored", "model before"]


class FirstGuess(BaseModel):
    """Mode of the model when it was loaded."""

    streams: int
    source: Source = Field(description="--streams, the rule for model and CPUs, the store, or the replaced model")
    age_seconds: float | None = Field(default=None, description="age of a stored mode")


class ModeRate(BaseModel):
    """Speed of one mode, measured on live requests while others waited."""

    images_per_second: float
    age_seconds: float


class ModeStatus(BaseModel):
    """Number of images that the engine computes in parallel under load, and why. A single image gets all threads."""

    threads: int
    streams: int
    compiled: list[int] = Field(description="numbers of streams that are compiled")
    first: FirstGuess
    rates: dict[int, ModeRate] = Field(description="rate by number of streams; empty until requests have queued")
    switches: int = Field(description="changes of the mode since the model was loaded")
    trial_seconds: float = Field(description="seconds under load in modes that were not kept")


class ModeUse:
    """The modes of one model.

    Args:
        fixed: Number of streams under load from the settings; 0 to choose it by measured rates.
        before: Modes of the model that it replaces.
        folder: Folder that stores the fastest mode; None to store nothing.
    """

    def __init__(
        self, bundle: ModelBundle, ref: ModelRef, load: Load, fixed: int, before: ModeUse | None, folder: Path | None
    ) -> None:
        self.threads = available_cpus()
        self._store = ModeStore(folder, bundle, ref.engine, ref.device, self.threads)
        self._stored_at: float | None = None
        modes = (min(fixed, self.threads),) if fixed else stream_modes(self.threads)
        self.first, self.source = self._first(bundle, modes, fixed, before)
        self.tuner: StreamTuner | None = None
        if len(modes) > 1:
            self.tuner = StreamTuner(
                [self.first], self.first, load.slack, threads=self.threads, on_switch=self._switched
            )
        # A single image gets all threads, so mode 1 is always needed.
        self.later = tuple(sorted({1, *modes} - {self.first}))
        """Modes to compile after the model is ready."""

    @property
    def streams(self) -> int:
        """Return the current mode."""
        return self.tuner.streams if self.tuner else self.first

    def status(self, predictor: Predictor) -> ModeStatus:
        """Return the modes for `/model`."""
        state = self.tuner.state if self.tuner else None
        age = time.time() - self._stored_at if self._stored_at is not None else None
        rates = {
            streams: ModeRate(images_per_second=round(rate, 2), age_seconds=round(state.measured[streams], 1))
            for streams, rate in (state.images_per_second if state else {}).items()
            if state
        }
        return ModeStatus(
            threads=self.threads,
            streams=self.streams,
            compiled=sorted(predictor.engine.streams),
            first=FirstGuess(
                streams=self.first, source=self.source, age_seconds=None if age is None else round(age, 1)
            ),
            rates=rates,
            switches=state.switches if state else 0,
            trial_seconds=round(state.trial_seconds, 1) if state else 0.0,
        )

    def _first(
        self, bundle: ModelBundle, modes: tuple[int, ...], fixed: int, before: ModeUse | None
    ) -> tuple[int, Source]:
        if fixed:
            return modes[0], "option"
        if (guess := self._store.read()) and guess.streams in modes:
            self._stored_at = guess.stored_at
            return guess.streams, "stored"
        if before is not None and before.streams in modes:
            return before.streams, "model before"
        return first_streams(self.threads, bundle.model_path.stat().st_size), "rule"

    def _switched(self, state: TunerState) -> None:
        fields = {"streams": state.streams, "rates": {k: round(v, 2) for k, v in state.images_per_second.items()}}
        _log.info("mode_switched", extra={"fields": fields})
        # Written on another thread, so that no request waits for the disk.
        threading.Thread(target=self._write, args=(state,), name="mode-store", daemon=True).start()

    def _write(self, state: TunerState) -> None:
        try:
            self._store.write(state.streams, state.images_per_second)
        except OSError as error:
            _log.warning("mode_not_stored", extra={"fields": {"error": str(error)}})


class ModeCompiler:
    """Compile the other modes of ready models one by one, on one thread."""

    def __init__(self, memory: MemoryLimit, load: Load) -> None:
        self._memory, self._load = memory, load
        self._todo: collections.deque[tuple[weakref.ref[Predictor], ModelBundle, str, int]] = collections.deque()
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_open = False
        self._is_at_work = False

    def add(self, predictor: Predictor, use: ModeUse, who: str) -> None:
        """Queue the later modes of a model. They are compiled after `open`, unless the model is gone by then."""
        with self._changed:
            self._todo.extend((weakref.ref(predictor), predictor.bundle, who, mode) for mode in use.later)
            self._start()

    def open(self) -> None:
        """Start compiling; call this when the server is ready."""
        with self._changed:
            self._is_open = True
            self._start()

    def wait(self, seconds: float) -> bool:
        """Wait until all modes are compiled, and return whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._todo and not self._is_at_work, seconds)

    def close(self) -> None:
        """Stop compiling, and wait for the mode that is being compiled."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        """Start the thread; the caller holds the lock."""
        if self._is_open and self._todo and not self._is_at_work and not self._closed.is_set():
            self._is_at_work = True
            self._thread = threading.Thread(target=self._work, name="compile-modes", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        self._closed.wait(_AFTER_READY_SECONDS)
        while True:
            self._wait_for_quiet()
            with self._changed:
                if self._closed.is_set() or not self._todo:
                    self._is_at_work = False
                    self._changed.notify_all()
                    return
                kept, bundle, who, streams = self._todo.popleft()
            if (predictor := kept()) is not None:
                self._compile(predictor, bundle, who, streams)
            del predictor  # lets a replaced model be freed before the next mode is compiled
            return_freed_memory()  # compiling needs more memory than the compiled mode

    def _wait_for_quiet(self) -> None:
        until = time.monotonic() + _QUIET_SECONDS
        while self._load.images and time.monotonic() < until and not self._closed.wait(_POLL_SECONDS):
            pass

    def _compile(self, predictor: Predictor, bundle: ModelBundle, who: str, streams: int) -> None:
        try:
            self._memory.check_mode(bundle, who)
            predictor.engine.add(streams)
        except VisionOpsError as error:
            # The model keeps answering in its compiled modes.
            _log.warning("mode_not_compiled", extra={"fields": {"streams": streams, "error": str(error)}})
            return
        except Exception:  # noqa: BLE001 - an engine may raise anything, and the thread must survive
            _log.exception("mode_not_compiled", extra={"fields": {"streams": streams}})
            return
        if predictor.tuner is not None:
            predictor.tuner.allow(streams)
