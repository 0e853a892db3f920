import dataclasses
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.bundles import CELL, CLASSES, encode, make_bundle, make_label_bundle, picture
from tests.helpers.programs import free_port
from tests.helpers.tracking import MemoryRegistry, add_version, evaluation, make_tracking
from visionops.config import Config
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset
from visionops.data.hashing import hash_images
from visionops.data.history import SplitHistory
from visionops.data.layers import Attribute
from visionops.data.settings import DataConfig, FolderSource, ValidationPolicy
from visionops.data.validation.judging import validate
from visionops.endpoint import Endpoint
from visionops.errors import ChampionChangedError, DeploymentError, RegistryError
from visionops.gate.settings import GateConfig
from visionops.inference.bundle import Head, ModelBundle
from visionops.inference.settings import Precision
from visionops.lineage import recall_splits
from visionops.quantization.settings import QuantizationConfig
from visionops.registry import CHAMPION, PREVIOUS, ModelRegistry
from visionops.release import decide_release, promote_by_hand, register_bundle, release, restore
from visionops.tasks.spec import task_for

CONFIG = Config(
    name="case",
    data=DataConfig(source=FolderSource(kind="folder", path=".")),
    gate=GateConfig(minimum=0.5, margin=0.02, confidence=0),
)


@dataclasses.dataclass
class RecordingDeployer:
    """Checks a bundle like every deployer; fails its smoke test if set to."""

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
    """Gives every champion the same score."""

    map50: float

    def evaluate(self, bundle, dataset, scoring, folder):
        assert bundle.model_path.is_file()
        return evaluation(self.map50)


@pytest.fixture
def registry(tmp_path):
    return ModelRegistry(make_tracking(tmp_path))


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    return Dataset.from_columns("case", CLASSES, {"key": ["a.jpg"], "path": [str(path)], "split": ["test"]}, {})


def alias(registry, name):
    version = registry.by_alias("case", name)
    return version.version if version else None


def test_a_challenger_is_served_and_promoted_only_if_it_beats_the_champion(registry, dataset, tmp_path):
    deployer = RecordingDeployer()
    first = add_version(registry, "case", tmp_path, 2.0)
    decision = decide_release(registry, first, evaluation(0.6), ScoringTask(0), dataset, CONFIG.gate_plan)
    assert release(registry, deployer, first, decision, dataset, CONFIG.serving).version == "1"
    assert alias(registry, CHAMPION) == "1"

    weaker = add_version(registry, "case", tmp_path, 2.1)
    decision = decide_release(registry, weaker, evaluation(0.61), ScoringTask(0.6), dataset, CONFIG.gate_plan)
    assert not decision.promote
    assert release(registry, deployer, weaker, decision, dataset, CONFIG.serving).version == "1"

    better = add_version(registry, "case", tmp_path, 2.2)
    decision = decide_release(registry, better, evaluation(0.7), ScoringTask(0.6), dataset, CONFIG.gate_plan)
    assert release(registry, deployer, better, decision, dataset, CONFIG.serving).version == "3"
    assert (alias(registry, CHAMPION), alias(registry, PREVIOUS)) == ("3", "1")
    assert deployer.served == ["1", "1", "3"]


def test_a_quantized_challenger_is_judged_by_what_it_loses(registry, dataset, tmp_path):
    registry.promote(add_version(registry, "case", tmp_path, 2.0))
    second = add_version(registry, "case", tmp_path, 2.1)
    quantized = dataclasses.replace(evaluation(0.595), precision="int8")
    assert decide_release(registry, second, quantized, ScoringTask(0.6), dataset, CONFIG.gate_plan).promote
    strict = CONFIG.model_copy(update={"quantization": QuantizationConfig(max_loss=0.001)})
    assert not decide_release(registry, second, quantized, ScoringTask(0.6), dataset, strict.gate_plan).promote
    assert not decide_release(registry, second, evaluation(0.595), ScoringTask(0.6), dataset, CONFIG.gate_plan).promote


def test_nothing_is_served_when_no_model_ever_passed(registry, dataset, tmp_path):
    deployer = RecordingDeployer()
    version = add_version(registry, "case", tmp_path, 2.0)
    decision = decide_release(registry, version, evaluation(0.1), ScoringTask(0), dataset, CONFIG.gate_plan)
    assert release(registry, deployer, version, decision, dataset, CONFIG.serving) is None
    assert deployer.served == []
    assert alias(registry, CHAMPION) is None


def test_a_model_that_fails_its_smoke_test_never_becomes_champion(registry, dataset, tmp_path):
    first, second = (add_version(registry, "case", tmp_path, gain) for gain in (2.0, 2.1))
    registry.promote(first)
    decision = decide_release(registry, second, evaluation(0.9), ScoringTask(0.6), dataset, CONFIG.gate_plan)
    with pytest.raises(DeploymentError, match="smoke test failed"):
        release(registry, RecordingDeployer(fails=True), second, decision, dataset, CONFIG.serving)
    assert alias(registry, CHAMPION) == "1"


def test_a_second_run_finds_its_champion(registry, dataset, tmp_path):
    version = registry.promote(add_version(registry, "case", tmp_path, 2.0))
    decision = decide_release(registry, version, evaluation(0.6), ScoringTask(0.6), dataset, CONFIG.gate_plan)
    assert decision.promote
    assert "champion already" in decision.reason
    assert release(registry, RecordingDeployer(), version, decision, dataset, CONFIG.serving).version == "1"


def test_rollback_serves_first_and_is_not_undone_by_the_next_run(registry, dataset, tmp_path):
    first, second = (add_version(registry, "case", tmp_path, gain) for gain in (2.0, 2.1))
    registry.promote(first)
    registry.promote(second)
    with pytest.raises(DeploymentError):
        restore(registry, RecordingDeployer(fails=True), CONFIG.name, CONFIG.serving, rollback=True)
    assert alias(registry, CHAMPION) == "2"

    assert restore(registry, RecordingDeployer(), CONFIG.name, CONFIG.serving, rollback=True).version == "1"
    assert (alias(registry, CHAMPION), alias(registry, PREVIOUS)) == ("1", None)
    second = registry.by_digest("case", second.digest)
    decision = decide_release(registry, second, evaluation(0.9), ScoringTask(0.6), dataset, CONFIG.gate_plan)
    assert not decision.promote
    assert "rolled back by hand" in decision.reason


def test_manual_promotion_follows_the_gate(registry, dataset, tmp_path):
    deployer = RecordingDeployer()
    first = add_version(registry, "case", tmp_path, 2.0)

    def promote(number, **changes):
        return promote_by_hand(
            registry, deployer, registry.by_version("case", number), CONFIG.serving, "anna: x", **changes
        )

    with pytest.raises(RegistryError, match=r"version 1 has not been judged by the gate; .* --override"):
        promote("1")
    decide_release(registry, first, evaluation(0.6), ScoringTask(0), dataset, CONFIG.gate_plan)
    promote("1")
    weaker = add_version(registry, "case", tmp_path, 2.1)
    decide_release(registry, weaker, evaluation(0.1), ScoringTask(0.6), dataset, CONFIG.gate_plan)
    with pytest.raises(RegistryError, match=r"version 2 was refused by the gate \(refused: .* below the gate"):
        promote("2")
    assert (alias(registry, CHAMPION), deployer.served) == ("1", ["1"])
    promote("2", override=True)
    assert (alias(registry, CHAMPION), alias(registry, PREVIOUS), deployer.served) == ("2", "1", ["1", "2"])
    assert registry.by_version("case", "2").tags["visionops.promoted_by_hand"] == "anna: x"
    with pytest.raises(RegistryError, match="version 1 was compared with version None, but 2 is now champion"):
        promote("1")
    restore(registry, deployer, "case", CONFIG.serving, rollback=True)
    with pytest.raises(RegistryError, match="version 2 was rolled back by hand"):
        promote("2", override=True)
    deployer.fails = True
    third = add_version(registry, "case", tmp_path, 2.2)
    with pytest.raises(DeploymentError):
        promote(third.version, override=True)
    assert alias(registry, CHAMPION) == "1"
    assert [version.version for version in registry.versions("case")] == ["3", "2", "1"]
    assert registry.versions("other") == []
    assert registry.by_version("case", "9") is None


def test_without_a_champion_the_newest_version_is_named(registry, tmp_path):
    add_version(registry, "case", tmp_path, 2.0)
    with pytest.raises(RegistryError, match=r"case: no champion; run visionops promote \(the newest version is 1\)"):
        registry.champion("case")


def test_restoring_without_a_champion_names_the_command(registry):
    for rollback in (False, True):
        with pytest.raises(RegistryError, match="case: no champion; run --pipeline training first"):
            restore(registry, RecordingDeployer(), CONFIG.name, CONFIG.serving, rollback=rollback)


def test_a_registry_that_is_down_leaves_the_endpoint_alone(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = free_port()
    deployer = RecordingDeployer()
    for rollback in (False, True):
        with pytest.raises(RegistryError, match="does not answer"):
            restore(ModelRegistry(f"http://127.0.0.1:{port}"), deployer, CONFIG.name, CONFIG.serving, rollback=rollback)
    assert deployer.served == []


class OvertakingDeployer(RecordingDeployer):
    """During its first deployment, another machine promotes another version."""

    def deploy_bundle(self, bundle_folder, *, version, **rest):
        if not self.served:
            self.registry.promote(self.faster)
        return super().deploy_bundle(bundle_folder, version=version, **rest)


def test_of_two_runs_that_were_judged_by_one_champion_the_second_starts_over(registry, dataset, tmp_path):
    registry.promote(add_version(registry, "case", tmp_path, 2.0))
    ours, theirs = (add_version(registry, "case", tmp_path, gain) for gain in (2.1, 2.2))
    first, second = (
        decide_release(registry, v, evaluation(0.9), ScoringTask(0.6), dataset, CONFIG.gate_plan)
        for v in (ours, theirs)
    )
    assert first.promote
    assert first.champion_version == second.champion_version == "1"
    deployer = RecordingDeployer()
    release(registry, deployer, theirs, second, dataset, CONFIG.serving)
    with pytest.raises(ChampionChangedError, match="compared with version 1, but now version 3 is champion; run aga"):
        release(registry, deployer, ours, first, dataset, CONFIG.serving)
    assert deployer.served == ["3"], "known before the endpoint is switched"
    assert release(registry, deployer, theirs, second, dataset, CONFIG.serving).version == "3", (
        "a killed run is completed"
    )


def test_an_endpoint_that_was_switched_too_late_goes_back_to_the_champion(registry, dataset, tmp_path):
    registry.promote(add_version(registry, "case", tmp_path, 2.0))
    ours, theirs = (add_version(registry, "case", tmp_path, gain) for gain in (2.1, 2.2))
    deployer = OvertakingDeployer()
    deployer.registry, deployer.faster = registry, theirs
    decision = decide_release(registry, ours, evaluation(0.9), ScoringTask(0.6), dataset, CONFIG.gate_plan)
    with pytest.raises(ChampionChangedError):
        release(registry, deployer, ours, decision, dataset, CONFIG.serving)
    assert deployer.served == ["2", "3"]
    assert (alias(registry, CHAMPION), alias(registry, PREVIOUS)) == ("3", "1")


# The lineage: INT8 may lose a little once, not each time


class Figures:
    """Scores each version by its number; all resamples agree."""

    def __init__(self):
        self.of = {}

    def evaluation(self, version, value, precision=Precision.F32):
        self.of[version.version] = value
        return dataclasses.replace(
            evaluation(value), num_images=100, replicates={"map50": (value,) * 100}, precision=precision.value
        )

    def evaluate(self, bundle, dataset, scoring, folder):
        value = self.of[bundle.digest]
        return dataclasses.replace(evaluation(value), num_images=100, replicates={"map50": (value,) * 100})


@given(st.lists(st.tuples(st.sampled_from([Precision.F32, Precision.INT8]), st.floats(-0.03, 0.03)), max_size=25))
@settings(max_examples=50, deadline=None)
def test_float_and_int8_champions_in_turn_lose_max_loss_once(rounds):
    dataset = Dataset.from_columns("case", CLASSES, {"key": ["a"], "split": ["test"]}, {})
    registry, task = MemoryRegistry(), Figures()
    config = CONFIG.model_copy(update={"gate": GateConfig(minimum=0)})
    version = registry.add("case")
    registry.promote(version)
    best = champion = task.evaluation(version, 0.9).metrics["map50"]
    for precision, change in [*rounds, *[(Precision.INT8, -0.0099), (Precision.F32, 0.005)] * 4]:
        version = registry.add("case", precision)
        value = champion + change
        decision = decide_release(
            registry, version, task.evaluation(version, value, precision), task, dataset, config.gate_plan
        )
        if decision.promote:
            registry.promote(version, decision)
            champion, best = value, max(best, value)
        assert champion >= best - config.quantization.max_loss - 1e-9
        assert precision is Precision.INT8 or not decision.promote or champion == best


def test_the_reason_names_the_former_champion_that_was_not_beaten():
    dataset = Dataset.from_columns("case", CLASSES, {"key": ["a"], "split": ["test"]}, {})
    registry, task = MemoryRegistry(), Figures()
    for precision, value in ((Precision.F32, 0.9), (Precision.INT8, 0.891)):
        version = registry.add("case", precision)
        task.evaluation(version, value)
        registry.promote(version)
    third = registry.add("case")
    decision = decide_release(registry, third, task.evaluation(third, 0.897), task, dataset, CONFIG.gate_plan)
    assert decision.reason.startswith("refused: map50 0.897 does not beat former champion 1's 0.900 by 0.020; ")
    assert (decision.champion, decision.champion_version) == (0.9, "2")


# Classes that the champion does not know


def scenes(folder, cells, class_names=CLASSES):
    """Return images of coloured cells, each with its box, in the test split."""
    images, boxes = {"key": [], "path": [], "split": []}, {"image": [], "class_id": []}
    boxes |= {side: [] for side in ("x1", "y1", "x2", "y2")}
    for row, found in enumerate(cells):
        path = folder / f"{row:02d}.png"
        path.write_bytes(encode(picture(found)))
        for key, value in (("key", path.name), ("path", str(path)), ("split", "test")):
            images[key].append(value)
        for name, x, y in found:
            box = (row, class_names.index(name), x * CELL, y * CELL, (x + 1) * CELL, (y + 1) * CELL)
            for column, value in zip(boxes, box, strict=True):
                boxes[column].append(value)
    return Dataset.from_columns("case", class_names, images, boxes)


def test_a_new_class_is_reported_apart_and_stops_no_run(registry, tmp_path):
    dataset = scenes(tmp_path, [[("red", 0, 0), ("blue", 2, 2)], [("green", 1, 1)], [("red", 3, 0)]])
    registry.promote(add_version(registry, "case", tmp_path, 2.0, class_names=CLASSES[:2]))
    task, config = task_for("detection"), CONFIG.model_copy(update={"gate": GateConfig(min_images=1)})
    bundle = make_bundle(tmp_path / "challenger", gain=2.1)
    scored = task.evaluate(bundle, dataset, config.scoring, None)
    version = add_version(registry, "case", tmp_path, 2.1, scored)
    decision = decide_release(registry, version, scored, task, dataset, config.gate_plan)
    assert decision.reason == (
        "refused: map50 1.000 does not beat the champion's 1.000 by 0.005; compared on 3 of 3 test images, "
        "without 1 box of blue; new: blue with map50 1.000"
    )
    assert (decision.challenger, decision.compared, decision.champion) == pytest.approx((1, 1, 1))


def looked_at(dataset: Dataset) -> Dataset:
    """Return the data set with the hash and the look of each image."""
    return clean(hash_images(dataset), validate(hash_images(dataset), ValidationPolicy(min_images=1)))


def test_models_are_compared_on_images_that_none_learned_from(registry, tmp_path):
    cells = [[("red", 0, 0), ("blue", 2, 2)], [("green", 1, 1)], [("red", 3, 0)], [("blue", 3, 3)], [("green", 0, 2)]]
    dataset = looked_at(scenes(tmp_path, cells))
    learned = SplitHistory.of(
        dataset.replace_column("split", ["train", "val", "test", "test", "train"]).take([0, 1, 2])
    )
    registry.promote(add_version(registry, "case", tmp_path, 2.0, history=learned))
    task, config = task_for("detection"), CONFIG.model_copy(update={"gate": GateConfig(min_images=1)})
    scored = task.evaluate(make_bundle(tmp_path / "challenger", gain=2.1), dataset, config.scoring, None)
    version = add_version(registry, "case", tmp_path, 2.1, scored)
    decision = decide_release(registry, version, scored, task, dataset, config.gate_plan)
    assert decision.reason.endswith(
        "compared on 3 of 5 test images, without 2 images that are or look like some a model was trained or selected on"
    )
    everything = SplitHistory.of(dataset.replace_column("split", ["train"] * 5))
    registry.promote(add_version(registry, "case", tmp_path, 2.2, history=everything))
    decision = decide_release(registry, version, scored, task, dataset, config.gate_plan)
    assert not decision.promote
    assert decision.reason.startswith("refused: nothing to compare with the champion on (case: no test image is left")


def test_a_champion_without_a_history_is_compared_and_named(registry, tmp_path):
    dataset = looked_at(scenes(tmp_path, [[("red", 0, 0), ("blue", 2, 2)], [("green", 1, 1)]]))
    registry.promote(add_version(registry, "case", tmp_path, 2.0, history=None))
    version = add_version(registry, "case", tmp_path, 2.1)
    decision = decide_release(registry, version, evaluation(0.9), ScoringTask(0.6), dataset, CONFIG.gate_plan)
    assert decision.reason.endswith(
        "; version 1 does not record which images it was trained on, and may know some of these"
    )


def test_splits_are_recalled_from_the_champion_and_from_the_last_training(registry, tmp_path):
    def one(name: str, split: str) -> SplitHistory:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return SplitHistory.of(Dataset.from_columns("d", (), {"key": [name], "sha256": [digest], "split": [split]}, {}))

    assert recall_splits(registry, "case") == (SplitHistory.empty(), ())
    registry.promote(add_version(registry, "case", tmp_path, 2.0, history=one("a", "test")))
    add_version(registry, "case", tmp_path, 2.1, history=one("a", "train").merged(one("b", "val")))
    history, silent = recall_splits(registry, "case")
    assert (history.counts(), silent) == ({"train": 1, "val": 1}, ())
    add_version(registry, "case", tmp_path, 2.2, history=None)
    history, silent = recall_splits(registry, "case")
    assert (history.counts(), silent) == ({"test": 1}, ("3",))


def test_models_without_common_classes_are_explained(registry, tmp_path):
    dataset = scenes(tmp_path, [[("blue", 2, 2)]])
    registry.promote(add_version(registry, "case", tmp_path, 2.0, class_names=("scratch", "dent")))
    version = add_version(registry, "case", tmp_path, 2.1)
    decision = decide_release(registry, version, evaluation(0.9), task_for("detection"), dataset, CONFIG.gate_plan)
    assert not decision.promote
    assert decision.reason.startswith(
        "refused: nothing to compare with the champion on (case: the test split has no bo"
    )
    assert decision.champion_version == "1"


def test_a_removed_attribute_stops_no_run(registry, tmp_path):
    import mlflow

    heads = (Head(name="state", class_names=CLASSES), Head(name="size", class_names=("s", "l")))
    old = make_label_bundle(tmp_path / "old", heads=heads)
    new = make_label_bundle(tmp_path / "new", heads=heads[:1], gain=3.0)
    paths = [tmp_path / f"{name}.png" for name in CLASSES]
    for path, name in zip(paths, CLASSES, strict=True):
        path.write_bytes(encode(picture([(name, 0, 0)], width=CELL, height=CELL)))
    images = {"key": list(CLASSES), "path": [str(p) for p in paths], "split": ["test"] * 3}
    attributes = [Attribute("state", CLASSES)]
    dataset = Dataset.from_columns("case", [], images, {}, attributes=attributes, labels={"state": [0, 1, 2]})
    source = FolderSource(kind="folder", path=".")
    config = Config(name="case", task="attributes", data=DataConfig(source=source, format="table"))
    task = task_for(config.task)
    scored = task.evaluate(new, dataset, config.scoring, None)
    mlflow.set_tracking_uri(registry.tracking_uri)
    mlflow.set_experiment("registry")
    with mlflow.start_run():
        champion, version = (register_bundle(registry, "case", bundle, scored) for bundle in (old, new))
    registry.promote(champion)
    decision = decide_release(registry, version, scored, task, dataset, config.gate_plan)
    assert decision.reason.startswith("refused: accuracy 1.000 does not beat the champion's 1.000 by 0.005; ")
