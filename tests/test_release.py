import dataclasses
import socket

import pytest

from tests.helpers.tracking import add_version, evaluation, make_tracking
from visionops.config import Config, DataConfig, FolderSource, GateConfig, QuantizationConfig
from visionops.data.dataset import Dataset
from visionops.endpoint import Endpoint
from visionops.errors import DeploymentError, RegistryError
from visionops.inference.bundle import ModelBundle
from visionops.registry import CHAMPION, PREVIOUS, ModelRegistry
from visionops.release import judge, release, restore

CONFIG = Config(
    name="case",
    data=DataConfig(source=FolderSource(kind="folder", path=".")),
    gate=GateConfig(minimum=0.5, margin=0.02),
)


@dataclasses.dataclass
class RecordingDeployer:
    """Checks a bundle as every deployer does; fails its smoke test when told to."""

    fails: bool = False
    served: list[str] = dataclasses.field(default_factory=list)

    def deploy_bundle(self, bundle_folder, *, name, version, alias, serving, smoke_images):
        ModelBundle.load(bundle_folder)
        if self.fails:
            raise DeploymentError("case: the smoke test failed")
        self.served.append(version)
        return Endpoint(url="http://127.0.0.1:1", name=name, version=version, alias=alias)


@dataclasses.dataclass
class ScoringTask:
    """Scores every champion alike."""

    map50: float

    def evaluate(self, bundle, dataset, config, folder):
        assert bundle.model_path.is_file()
        return evaluation(self.map50)


@pytest.fixture
def registry(tmp_path):
    return ModelRegistry(make_tracking(tmp_path))


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    return Dataset.from_columns("case", ["dent"], {"key": ["a.jpg"], "path": [str(path)], "split": ["test"]}, {})


def alias(registry, name):
    version = registry.by_alias("case", name)
    return version.version if version else None


def test_a_challenger_is_served_and_promoted_only_if_it_beats_the_champion(registry, dataset, tmp_path):
    deployer = RecordingDeployer()
    first = add_version(registry, "case", tmp_path, 2.0)
    decision = judge(registry, first, evaluation(0.6), ScoringTask(0), dataset, CONFIG)
    assert release(registry, deployer, first, decision, dataset, CONFIG).version == "1"
    assert alias(registry, CHAMPION) == "1"

    weaker = add_version(registry, "case", tmp_path, 2.1)
    decision = judge(registry, weaker, evaluation(0.61), ScoringTask(0.6), dataset, CONFIG)
    assert not decision.promote
    assert release(registry, deployer, weaker, decision, dataset, CONFIG).version == "1"

    better = add_version(registry, "case", tmp_path, 2.2)
    decision = judge(registry, better, evaluation(0.7), ScoringTask(0.6), dataset, CONFIG)
    assert release(registry, deployer, better, decision, dataset, CONFIG).version == "3"
    assert (alias(registry, CHAMPION), alias(registry, PREVIOUS)) == ("3", "1")
    assert deployer.served == ["1", "1", "3"]


def test_a_quantized_challenger_is_judged_by_what_it_loses(registry, dataset, tmp_path):
    registry.promote(add_version(registry, "case", tmp_path, 2.0))
    second = add_version(registry, "case", tmp_path, 2.1)
    quantized = dataclasses.replace(evaluation(0.595), precision="int8")
    assert judge(registry, second, quantized, ScoringTask(0.6), dataset, CONFIG).promote
    strict = CONFIG.model_copy(update={"quantization": QuantizationConfig(max_loss=0.001)})
    assert not judge(registry, second, quantized, ScoringTask(0.6), dataset, strict).promote
    assert not judge(registry, second, evaluation(0.595), ScoringTask(0.6), dataset, CONFIG).promote


def test_nothing_is_served_when_no_model_ever_passed(registry, dataset, tmp_path):
    deployer = RecordingDeployer()
    version = add_version(registry, "case", tmp_path, 2.0)
    decision = judge(registry, version, evaluation(0.1), ScoringTask(0), dataset, CONFIG)
    assert release(registry, deployer, version, decision, dataset, CONFIG) is None
    assert deployer.served == []
    assert alias(registry, CHAMPION) is None


def test_a_model_that_fails_its_smoke_test_never_becomes_champion(registry, dataset, tmp_path):
    first, second = (add_version(registry, "case", tmp_path, gain) for gain in (2.0, 2.1))
    registry.promote(first)
    decision = judge(registry, second, evaluation(0.9), ScoringTask(0.6), dataset, CONFIG)
    with pytest.raises(DeploymentError, match="smoke test failed"):
        release(registry, RecordingDeployer(fails=True), second, decision, dataset, CONFIG)
    assert alias(registry, CHAMPION) == "1"


def test_a_second_run_finds_its_champion(registry, dataset, tmp_path):
    version = registry.promote(add_version(registry, "case", tmp_path, 2.0))
    decision = judge(registry, version, evaluation(0.6), ScoringTask(0.6), dataset, CONFIG)
    assert decision.promote
    assert "champion already" in decision.reason
    assert release(registry, RecordingDeployer(), version, decision, dataset, CONFIG).version == "1"


def test_rollback_serves_first_and_is_not_undone_by_the_next_run(registry, dataset, tmp_path):
    first, second = (add_version(registry, "case", tmp_path, gain) for gain in (2.0, 2.1))
    registry.promote(first)
    registry.promote(second)
    with pytest.raises(DeploymentError):
        restore(registry, RecordingDeployer(fails=True), CONFIG, rollback=True)
    assert alias(registry, CHAMPION) == "2"

    assert restore(registry, RecordingDeployer(), CONFIG, rollback=True).version == "1"
    assert (alias(registry, CHAMPION), alias(registry, PREVIOUS)) == ("1", None)
    second = registry.by_digest("case", second.digest)
    decision = judge(registry, second, evaluation(0.9), ScoringTask(0.6), dataset, CONFIG)
    assert not decision.promote
    assert "rolled back by hand" in decision.reason


def test_restoring_without_a_champion_says_what_to_run(registry):
    for rollback in (False, True):
        with pytest.raises(RegistryError, match="case: has no champion; run --pipeline training first"):
            restore(registry, RecordingDeployer(), CONFIG, rollback=rollback)


def test_a_registry_that_is_down_leaves_the_endpoint_alone(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    deployer = RecordingDeployer()
    for rollback in (False, True):
        with pytest.raises(RegistryError, match="does not answer"):
            restore(ModelRegistry(f"http://127.0.0.1:{port}"), deployer, CONFIG, rollback=rollback)
    assert deployer.served == []
