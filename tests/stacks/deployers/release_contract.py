"""Check the contract of every model deployer for a candidate next to its champion, under load from clients.

A deployer passes when `check_good`, `check_bad` and `check_restart` do for its endpoint.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from tests.helpers.bundles import encode, filled
from visionops.canary.decision import Action, Verdict, decide
from visionops.endpoint import Candidate
from visionops.inference.release_report import ReleaseReports
from visionops.inference.release_settings import ReleaseConfig
from visionops.inference.settings import ServingConfig

CLIENTS = 2
MOST_SECONDS = 240.0
LEAST = 12
"""Images before the first decision."""
_DARK = encode(filled((40, 40, 40)))
"""Smoke image. A candidate that fails only on bright images passes it, as a bad model may in production."""


def serving(strategy: str = "canary", **more: Any) -> ServingConfig:
    """Return a config that sends half of the requests; its latency limit is loose, as other tests share the machine."""
    rules = {"share": 0.5, "hold_minutes": 0, "min_requests": LEAST, "min_agreement": 0.8, "max_latency_ratio": 1000}
    release = ReleaseConfig.model_validate({"strategy": strategy} | rules | more)
    return ServingConfig(port=0, release=release)


class Traffic:
    """Counts of the clients' answers, by version or by error status."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self._lock = threading.Lock()

    def note(self, what: str) -> None:
        with self._lock:
            self.answers[what] += 1

    def until(self, condition: Callable[[], bool]) -> None:
        """Let the clients continue until the condition holds."""
        end = time.monotonic() + MOST_SECONDS
        while not condition():
            assert time.monotonic() < end, self.answers
            time.sleep(0.05)


@contextmanager
def traffic(url: str, key: str, image: bytes, versions: set[str]) -> Iterator[Traffic]:
    """Send requests from clients while the block runs; each answer must be from one of the versions."""
    seen, over, numbers = Traffic(), threading.Event(), itertools.count()

    def client() -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not over.is_set():
                headers = {"X-API-Key": key, "X-Request-ID": f"r-{next(numbers)}", "Connection": "close"}
                try:
                    answer = session.post(f"{url}/predict", files={"file": image}, headers=headers, timeout=60)
                    seen.note(answer.json()["model"]["version"] if answer.ok else f"status {answer.status_code}")
                except requests.RequestException as error:
                    seen.note(type(error).__name__)
                time.sleep(0.01)

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client) for _ in range(CLIENTS)]
        try:
            yield seen
        finally:
            over.set()
        for one in clients:
            one.result(60)
    assert set(seen.answers) <= versions, seen.answers


class Life:
    """One endpoint, with the actions of a release."""

    def __init__(self, deployer: Any, champion: Path, image: bytes) -> None:
        self.deployer, self.champion, self.image = deployer, champion, image
        self.version = "1"

    def serve(self, config: ServingConfig, candidate: Candidate | None = None) -> None:
        self.deployer.deploy_bundle(
            self.champion,
            name="cells",
            version=self.version,
            alias="champion",
            serving=config,
            smoke_images=[_DARK],
            candidate=candidate,
        )

    def traffic(self, *others: str) -> Any:
        found = self.deployer.find_endpoint("cells")
        return traffic(found.url, found.key.get_secret_value(), self.image, {self.version, *others})

    def reports(self) -> ReleaseReports:
        return self.deployer.release_reports("cells")

    def verdict(self, version: str, config: ServingConfig) -> Verdict:
        now = datetime.now(UTC)
        return decide(config.release, version, self.reports(), now - timedelta(minutes=1), now)


def check_good(life: Life, bundle: Path, version: str, strategy: str) -> None:
    """Check that a good candidate passes on traffic and becomes champion without a failed request."""
    config = serving(strategy)
    life.serve(config)
    with life.traffic(version) as seen:
        life.serve(config, Candidate(bundle, version))
        life.serve(config, Candidate(bundle, version))  # the same command again keeps the counts
        seen.until(lambda: life.verdict(version, config).action is not Action.HOLD)
        verdict = life.verdict(version, config)
        assert verdict.action is Action.PROMOTE, verdict.reason
        if strategy == "shadow":
            assert seen.answers[version] == 0
        else:
            assert seen.answers[version] >= LEAST
        before = seen.answers[version]
        life.champion, life.version = bundle, version
        life.serve(config)
        seen.until(lambda: seen.answers[version] >= before + 10)
    assert life.reports().reports[0].champion == version
    assert life.reports().reports[0].candidate is None


def check_bad(life: Life, bundle: Path, version: str, config: ServingConfig, reason: str, bound: int) -> None:
    """Check that a bad candidate answers at most ``bound`` requests, then the champion answers all; none fails."""
    life.serve(config)
    with life.traffic(version) as seen:
        life.serve(config, Candidate(bundle, version))
        seen.until(lambda: any(report.returned for report in life.reports().reports))
        verdict = life.verdict(version, config)
        assert (verdict.action, reason in verdict.reason) == (Action.RETURN, True), verdict.reason
        # Each of several servers checks its own traffic only; the deployment removes the candidate from all.
        life.serve(config)
        after = seen.answers[life.version]
        gone = seen.answers[version]
        seen.until(lambda: seen.answers[life.version] >= after + 20)
        assert seen.answers[version] <= gone + CLIENTS  # requests in progress at the removal
    assert seen.answers[version] <= bound, seen.answers


def check_restart(life: Life, bundle: Path, version: str, config: ServingConfig) -> None:
    """Check that a release keeps its counts when the endpoint is stopped and started."""
    life.serve(config, Candidate(bundle, version))
    with life.traffic(version) as seen:
        seen.until(lambda: life.verdict(version, config).figures.candidate.images >= 3)
    (before,) = life.reports().reports
    (record,) = life.deployer.find_model_server(model_name="cells")
    life.deployer.stop_model_server(record.uuid)
    life.deployer.start_model_server(record.uuid)
    (after,) = life.reports().reports
    assert (after.candidate, after.since, after.figures) == (version, before.since, before.figures)
    life.serve(config)
