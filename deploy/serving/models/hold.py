"""The hold of a release: counts how champion and candidate do, and outlives its process.

A candidate that was sent away stays away after a restart, and the figures go on where they were: both are in a file
beside the compiled models. No request waits for that file.
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
    """What a file keeps of one hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion_digest: str
    candidate_digest: str
    report: ReleaseReport


class HoldFile:
    """Where the holds of one process are kept, by name; without a path nowhere.

    Args:
        path: A JSON file; another process of the same endpoint reads it after this one.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._holds: dict[str, Hold] = {}
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def read(self, name: str) -> HoldState | None:
        """Return what the process before this one kept; None where there is nothing that can be read."""
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
        """Keep this hold from now on instead of the one before it of that name; None: keep none."""
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
        """Write without waiting for the next turn."""
        self._changed.set()

    def close(self) -> None:
        """Write for the last time."""
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
    """The file."""

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
    """One candidate beside one champion. Safe to use from several threads.

    Args:
        before: What is gone on with: the same two models, before this process.
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
        """Args: champion, candidate: Version and digest."""
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
        """Which bound the candidate broke, in a word, and the sentence; twice "" while it was not sent away."""
        return self._breach, self._returned

    def answered(self, arm: Arm, seconds: float) -> None:
        """A model answered one image in so much time, decoding not counted."""
        bucket = bucket_of(seconds)
        with self._lock:
            counts = self._arms[arm]
            counts.answered += 1
            counts.durations[bucket] = counts.durations.get(bucket, 0) + 1

    def failed(self, arm: Arm) -> None:
        """A model failed on one image."""
        with self._lock:
            self._arms[arm].failed += 1

    def compared(self, agreement: float) -> None:
        """Both models computed one image.

        Args:
            agreement: By `Prediction.agreement`, 0 to 1.
        """
        with self._lock:
            seen = self._agreement
            self._agreement = Agreement(
                images=seen.images + 1, total=seen.total + agreement, squares=seen.squares + agreement**2
            )

    def send_away(self, breach: str, reason: str) -> None:
        """Remember that the candidate answers nobody any more: which bound it broke, and the sentence."""
        with self._lock:
            self._breach, self._returned = breach, reason
        self._file.write_soon()

    def report(self) -> ReleaseReport:
        """Return what is known by now."""
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
        """Return what its file keeps."""
        return HoldState(champion_digest=self._champion[1], candidate_digest=self._candidate[1], report=self.report())

    def _take_over(self, report: ReleaseReport) -> None:
        for name, counts in self._arms.items():
            seen = report.arm(name)
            counts.answered, counts.failed, counts.durations = seen.answered, seen.failed, dict(seen.durations)
        self._agreement = report.agreement
        self._since = report.since or self._since
        self._breach, self._returned = report.breach, report.returned


def instance_name() -> str:
    """Return what tells this process from the other replicas of its endpoint: in a cluster, the name of its pod."""
    return f"{socket.gethostname()}/{os.getpid()}"
