"""Count the results of champion and candidate during the hold of a release, and keep them over a restart.

After a restart, a withdrawn candidate stays withdrawn and the figures continue: both are in a file beside the compiled
models. No request waits for that file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from visionops.inference.release_report import Agreement, ArmFigures, ReleaseReport, bucket_of
from visionops.inference.release_settings import Strategy

__all__ = ["Arm", "Hold", "HoldFile", "HoldState", "instance_name"]

_log = logging.getLogger("visionops.serving")
_WRITE_SECONDS = 2.0
Arm = str
"""champion or candidate."""


class HoldState(BaseModel):
    """State of one hold in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion_digest: str
    candidate_digest: str
    report: ReleaseReport


class HoldFile:
    """File with the holds of one process, by model name.

    Args:
        path: JSON file, which the next process of the same endpoint reads; None to store nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._holds: dict[str, Hold] = {}
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def read(self, name: str) -> HoldState | None:
        """Return the state that the previous process stored; None if there is no readable one."""
        if self._path is None:
            return None
        try:
            return _File.model_validate_json(self._path.read_bytes()).holds.get(name)
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            _log.warning("release_state_unreadable", extra={"fields": {"file": str(self._path), "error": str(error)}})
            return None

    def watch(self, hold: Hold | None, name: str) -> None:
        """Store this hold from now on instead of the previous one with that name; None to store none."""
        with self._lock:
            if hold is None:
                if self._holds.pop(name, None) is None:
                    return
            else:
                self._holds[name] = hold
            if self._path is None:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="release-state", daemon=True)
                self._thread.start()
        self.write_soon()

    def write_soon(self) -> None:
        """Write soon, without waiting for the next interval."""
        self._changed.set()

    def close(self) -> None:
        """Write a last time and end the thread."""
        self._ended.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        written = b""
        while True:
            self._changed.wait(_WRITE_SECONDS)
            self._changed.clear()
            is_last = self._ended.is_set()
            with self._lock:
                text = _File(holds={name: hold.state() for name, hold in self._holds.items()}).model_dump_json()
            if (now := text.encode()) != written:
                self._write(now)
                written = now
            if is_last:
                return

    def _write(self, text: bytes) -> None:
        assert self._path is not None
        draft = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(text)
            draft.replace(self._path)
        except OSError as error:
            fields = {"file": str(self._path), "error": str(error)}
            _log.warning("release_state_unwritable", extra={"fields": fields})
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


class _File(BaseModel):
    """Content of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    holds: dict[str, HoldState] = {}


@dataclasses.dataclass(slots=True)
class _Counts:
    answered: int = 0
    failed: int = 0
    durations: dict[int, int] = dataclasses.field(default_factory=dict)

    def figures(self) -> ArmFigures:
        return ArmFigures(answered=self.answered, failed=self.failed, durations=dict(self.durations))


class Hold:
    """Results of one candidate and one champion. Safe to use from several threads.

    Args:
        before: Report of the same two models from a previous process, which this one continues.
    """

    def __init__(
        self,
        name: str,
        champion: tuple[str, str],
        candidate: tuple[str, str],
        strategy: Strategy,
        share: float,
        file: HoldFile,
        before: HoldState | None = None,
    ) -> None:
        """Set both models; ``champion`` and ``candidate`` are their version and digest."""
        self.name = name
        self._champion, self._candidate = champion, candidate
        self._strategy, self._share = strategy, share
        self._file = file
        self._lock = threading.Lock()
        self._arms = {"champion": _Counts(), "candidate": _Counts()}
        self._agreement = Agreement()
        self._since = datetime.now(UTC)
        self._breach, self._returned = "", ""
        if before and (before.champion_digest, before.candidate_digest) == (champion[1], candidate[1]):
            self._take_over(before.report)

    @property
    def returned(self) -> tuple[str, str]:
        """Return the bound that the candidate broke and a sentence on it; twice "" while it is not withdrawn."""
        return self._breach, self._returned

    def answered(self, arm: Arm, seconds: float) -> None:
        """Count one answered image, with its time in seconds without decoding."""
        bucket = bucket_of(seconds)
        with self._lock:
            counts = self._arms[arm]
            counts.answered += 1
            counts.durations[bucket] = counts.durations.get(bucket, 0) + 1

    def failed(self, arm: Arm) -> None:
        """Count one image that a model failed on."""
        with self._lock:
            self._arms[arm].failed += 1

    def compared(self, agreement: float) -> None:
        """Count one image that both models computed.

        Args:
            agreement: Result of `Prediction.agreement`, 0 to 1.
        """
        with self._lock:
            seen = self._agreement
            self._agreement = Agreement(
                images=seen.images + 1, total=seen.total + agreement, squares=seen.squares + agreement**2
            )

    def withdraw(self, breach: str, reason: str) -> None:
        """Record that the candidate is withdrawn: the bound that it broke, and a sentence on it."""
        with self._lock:
            self._breach, self._returned = breach, reason
        self._file.write_soon()

    def report(self) -> ReleaseReport:
        """Return the report of the hold so far."""
        with self._lock:
            return ReleaseReport(
                instance=instance_name(),
                name=self.name,
                champion=self._champion[0],
                candidate=self._candidate[0],
                strategy=self._strategy,
                share=self._share,
                since=self._since,
                figures={arm: counts.figures() for arm, counts in self._arms.items()},
                agreement=self._agreement,
                breach=self._breach,
                returned=self._returned,
            )

    def state(self) -> HoldState:
        """Return the state for the file."""
        return HoldState(champion_digest=self._champion[1], candidate_digest=self._candidate[1], report=self.report())

    def _take_over(self, report: ReleaseReport) -> None:
        for name, counts in self._arms.items():
            seen = report.arm(name)
            counts.answered, counts.failed, counts.durations = seen.answered, seen.failed, dict(seen.durations)
        self._agreement = report.agreement
        self._since = report.since or self._since
        self._breach, self._returned = report.breach, report.returned


def instance_name() -> str:
    """Return a name that is unique among the replicas of the endpoint: in a cluster, the name of the pod."""
    return f"{socket.gethostname()}/{os.getpid()}"
