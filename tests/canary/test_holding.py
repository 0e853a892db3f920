"""Releases over registry and endpoint: begun, decided, interrupted, ended by hand."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.canary.test_decision import agreed, reports
from tests.helpers.tracking import MemoryRegistry, evaluation
from visionops.alerts import Severity
from visionops.canary.alerts import release_alerts
from visionops.canary.decision import Action
from visionops.canary.holding import Stage, abort, begin, find_held, look, promote_early, release_state, settle
from visionops.config import Config
from visionops.data.dataset import Dataset
from visionops.data.settings import DataConfig, FolderSource
from visionops.endpoint import Endpoint
from visionops.errors import DeploymentError, RegistryError
from visionops.gate.decision import GateDecision
from visionops.inference.release_report import ReleaseReports
from visionops.inference.release_settings import ReleaseConfig
from visionops.inference.settings import ServingConfig
from visionops.release import decide_release, promote_by_hand, release, restore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERVING = ServingConfig(
    release=ReleaseConfig(strategy="canary", share=0.2, hold_minutes=60, min_agreement=0.9, min_requests=50)
)


class Registry(MemoryRegistry):
    """Registry whose bundles are in folders named by their version."""

    def fetch_bundle(self, version, folder: Path):
        return SimpleNamespace(**vars(super().fetch_bundle(version, folder)), folder=Path(version.version))


@dataclasses.dataclass
class Deployer:
    """Deployer that records the champion and the candidate."""

    served: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)
    found: ReleaseReports = dataclasses.field(default_factory=reports)
    fails: bool = False

    def deploy_bundle(self, bundle_folder, *, name, version, alias, serving, smoke_images, candidate=None):
        if self.fails:
            raise DeploymentError("cells: the cluster does not answer")
        assert str(bundle_folder) == version
        self.served.append((version, candidate.version if candidate else None))
        return Endpoint(url="http://127.0.0.1:1", name=name, version=version, alias=alias)

    def release_reports(self, name: str) -> ReleaseReports:
        return self.found


@pytest.fixture
def registry() -> Registry:
    """Return a registry with version 1 as champion, and 2 and 3 without a role."""
    made = Registry()
    made.promote(made.add("cells"))
    made.add("cells")
    made.add("cells")
    return made


def start(registry: Registry, deployer: Deployer, version: str = "2", now: datetime = NOW) -> Endpoint:
    tried = registry.by_version("cells", version)
    assert tried
    return begin(registry, deployer, tried, registry.champion("cells"), SERVING, (), now)


def after(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def champion(registry: Registry) -> str:
    return registry.champion("cells").version


def ended(registry: Registry, version: str = "2"):
    assert find_held(registry, "cells") is None
    state = release_state(registry.by_version("cells", version))
    assert state
    return state


def test_a_good_candidate_is_promoted_and_the_registry_says_why(registry):
    deployer = Deployer()
    endpoint = start(registry, deployer)
    assert (endpoint.version, deployer.served) == ("1", [("1", "2")])
    assert "version 2 answers 20% of the requests as canary for 60 minutes" in endpoint.remarks[0]
    held, verdict = settle(registry, deployer, "cells", SERVING, after(59))
    assert (held.state.stage, verdict.action, champion(registry)) == (Stage.HELD, Action.HOLD, "1")
    held, verdict = settle(registry, deployer, "cells", SERVING, after(60))
    assert (held.state.stage, champion(registry)) == (Stage.PROMOTED, "2")
    assert deployer.served == [("1", "2"), ("2", None)]
    state = ended(registry)
    assert state.reason.startswith("kept its bounds for 60 minutes")
    assert (state.figures["candidate_images"], state.figures["agreement"], state.ended) == (100, 0.97, after(60))
    assert [alert.lasts for alert in release_alerts(held)] == [timedelta(0)]


def test_a_bad_candidate_goes_back_and_is_not_tried_again(registry):
    deployer = Deployer(found=reports(agreement=agreed(60, 0.4)))
    start(registry, deployer)
    held, _ = settle(registry, deployer, "cells", SERVING, after(2))
    assert (held.state.stage, champion(registry), deployer.served[-1]) == (Stage.RETURNED, "1", ("1", None))
    state = ended(registry)
    assert state.reason.startswith("agreed with the champion by 0.400")
    (alert,) = release_alerts(held)
    assert (alert.severity, alert.use_case) == (Severity.WARNING, "cells")
    assert alert.lasts > timedelta(0)
    again = registry.by_version("cells", "2")
    decision = decide_release(registry, again, evaluation(0.9), None, None, CONFIG.gate_plan)
    assert not decision.promote
    assert "taken back from its release (agreed with the champion by 0.400" in decision.reason
    with pytest.raises(RegistryError, match=r"was taken back from its release .*, or this one with --override"):
        promote_by_hand(registry, deployer, again, SERVING, "ann: seen")


def test_a_look_changes_nothing(registry):
    deployer = Deployer()
    start(registry, deployer)
    before = registry.by_version("cells", "2").tags
    assert look(registry, deployer, "cells", after(61))[1].action is Action.PROMOTE
    assert (registry.by_version("cells", "2").tags, deployer.served) == (before, [("1", "2")])


@pytest.mark.parametrize("good", [True, False])
def test_what_was_decided_is_completed_after_an_interruption(registry, good: bool):
    deployer = Deployer(found=reports() if good else reports(returned="canary version 2 failed"))
    start(registry, deployer)
    deployer.fails = True
    with pytest.raises(DeploymentError, match="does not answer"):
        settle(registry, deployer, "cells", SERVING, after(60))
    assert champion(registry) == "1"
    # By now the servers have other figures, or none.
    deployer.fails, deployer.found = False, ReleaseReports()
    held, _ = settle(registry, deployer, "cells", SERVING, after(61))
    assert held.state.stage is (Stage.PROMOTED if good else Stage.RETURNED)
    assert champion(registry) == ("2" if good else "1")
    assert ended(registry).figures["candidate_images"] == 100


def test_the_same_command_goes_on_with_the_hold(registry):
    deployer = Deployer()
    start(registry, deployer)
    start(registry, deployer, now=after(30))
    held = find_held(registry, "cells")
    assert held.state.since == NOW
    assert deployer.served == [("1", "2"), ("1", "2")]


def test_another_version_takes_the_place_of_the_one_that_is_tried(registry):
    deployer = Deployer()
    start(registry, deployer)
    start(registry, deployer, "3", after(30))
    held = find_held(registry, "cells")
    assert (held.version.version, held.state.since) == ("3", after(30))
    state = release_state(registry.by_version("cells", "2"))
    assert (state.stage, state.reason) == (Stage.SUPERSEDED, "version 3 is tried instead")


def test_a_champion_that_changed_ends_the_release(registry):
    deployer = Deployer()
    start(registry, deployer)
    registry.promote(registry.by_version("cells", "3"))
    settle(registry, deployer, "cells", SERVING, after(60))
    assert (champion(registry), deployer.served[-1]) == ("3", ("3", None))
    assert ended(registry).stage is Stage.SUPERSEDED


def test_a_candidate_that_a_person_made_champion_is_held_no_longer(registry):
    deployer = Deployer()
    start(registry, deployer)
    promote_by_hand(registry, deployer, registry.by_version("cells", "2"), SERVING, "ann: seen", override=True)
    settle(registry, deployer, "cells", SERVING, after(1))
    assert (champion(registry), ended(registry).stage) == ("2", Stage.PROMOTED)


def test_people_may_end_it(registry):
    deployer = Deployer()
    start(registry, deployer)
    abort(registry, deployer, "cells", SERVING, after(1), reason="misses scratches", by="ann")
    state = ended(registry)
    assert (state.stage, state.reason, state.by) == (Stage.RETURNED, "misses scratches", "ann")
    start(registry, deployer, "3")
    deployer.found = reports(version="3", returned="canary version 3 failed")
    with pytest.raises(RegistryError, match="version 3 canary version 3 failed; abort it"):
        promote_early(registry, deployer, "cells", SERVING, after(2), reason="seen", by="ann")
    deployer.found = reports(version="3")
    promote_early(registry, deployer, "cells", SERVING, after(2), reason="seen on line 3", by="ann")
    assert (champion(registry), ended(registry, "3").reason) == ("3", "seen on line 3")
    with pytest.raises(RegistryError, match="there is no candidate beside the champion"):
        abort(registry, deployer, "cells", SERVING, after(3), reason="x", by="ann")


# The steps


CONFIG = Config(name="cells", data=DataConfig(source=FolderSource(kind="folder", path=".")), serving=SERVING)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    return Dataset.from_columns("cells", ("a",), {"key": ["a.jpg"], "path": [str(path)], "split": ["test"]}, {})


def decision(promote: bool, present: str | None = "1") -> GateDecision:
    return GateDecision(
        promote=promote,
        reason="",
        metric="map50",
        challenger=0.9,
        minimum=0.5,
        margin=0,
        champion_version=present,
    )


def test_a_release_step_tries_a_challenger_and_keeps_it_beside_the_champion(registry, dataset):
    deployer = Deployer()
    second = registry.by_version("cells", "2")
    endpoint = release(registry, deployer, second, decision(promote=True), dataset, SERVING)
    assert (endpoint.version, champion(registry)) == ("1", "1")
    release(registry, deployer, registry.by_version("cells", "3"), decision(promote=False), dataset, SERVING)
    restore(registry, deployer, "cells", SERVING, rollback=False)
    assert deployer.served == [("1", "2")] * 3
    promote_by_hand(registry, deployer, registry.by_version("cells", "3"), SERVING, "ann: seen", override=True)
    assert (deployer.served[-1], champion(registry)) == (("3", None), "3")
    assert find_held(registry, "cells") is not None  # the next look finds that the champion changed
    settle(registry, deployer, "cells", SERVING, after(1))
    assert ended(registry).stage is Stage.SUPERSEDED


def test_the_first_champion_and_a_switch_wait_for_nobody(dataset):
    registry, deployer = Registry(), Deployer()
    release(registry, deployer, registry.add("cells"), decision(promote=True, present=None), dataset, SERVING)
    assert (champion(registry), deployer.served) == ("1", [("1", None)])
    release(registry, deployer, registry.add("cells"), decision(promote=True), dataset, ServingConfig())
    assert (champion(registry), deployer.served[-1]) == ("2", ("2", None))
