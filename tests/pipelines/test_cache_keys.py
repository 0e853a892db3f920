"""A step runs again when what it reads has changed, and at no other time: its parameters are part of its cache key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.conftest import ROOT
from visionops.config import Config, load_config
from visionops.tasks.converted import ConvertedDataset

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML and SQLAlchemy warn of their own code

CACHED = {"ingest", "validate_data", "prepare", "convert", "train", "evaluate"}
"""Other steps run each time: the registry, or the endpoint, may have changed."""

CHANGES: dict[str, set[str]] = {
    "data.source.images=100": {"ingest", "prepare"},
    "data.split.seed=9": {"ingest", "prepare"},
    "data.format=coco": {"ingest", "prepare"},
    "validation.min_images=20": {"validate_data", "prepare", "train"},
    "training.epochs=5": {"train"},
    "training.augmentation.mosaic=0.5": {"train"},
    "training.image_size=320": {"train"},
    "training.seed=3": {"train"},
    "training.tiles={size: 320, overlap: 64}": {"convert", "train"},
    "evaluation.worst_images=3": {"evaluate"},
    "gate.metric=map50_95": {"evaluate"},
    "gate.minimum=0.9": set(),
    "gate.margin=0.1": set(),
    "gate.confidence=0.8": set(),
    "gate.per_class_minimum=0.2": set(),
    "tuning.trials=3": set(),
    "quantization.images=3": set(),
    "quantization.max_loss=0.5": set(),
    "serving.confidence=0.5": {"train", "evaluate"},
    "monitoring.window_hours=3": set(),
    "review.random_share=0.2": set(),
    "schedules.training=0 3 * * 0": set(),
}


@pytest.mark.parametrize("override", CHANGES)
def test_a_step_runs_again_only_when_what_it_reads_has_changed(override):
    before, after = _parameters(_config()), _parameters(_config(override))
    assert {name for name in CACHED if before[name] != after[name]} == CHANGES[override]


LABELS: dict[str, set[str]] = {
    "training.views=mirrored": {"convert", "train"},
    "training.image_size=96": {"convert", "train"},
    "training.crop={margin: 0.1}": {"convert", "train"},
    "training.l2=0.5": {"train"},
    "training.balance=none": {"train"},
    "training.calibrate=false": {"train"},
    "training.threshold={metric: f1}": {"train"},
    "training.seed=3": {"train"},
    "gate.minimum=0.99": set(),
}
"""Settings of heads on a frozen backbone, whose features are converted."""


@pytest.mark.parametrize("override", LABELS)
def test_features_are_computed_anew_only_for_what_they_depend_on(override):
    before, after = (_parameters(_config(*own, name="casting")) for own in ((), (override,)))
    assert {name for name in CACHED if before[name] != after[name]} == LABELS[override]


@pytest.mark.parametrize("override", ["training.epochs=99", "training.filters=8", "training.image_size=64"])
def test_from_scratch_every_training_has_the_same_links(override):
    before, after = (_parameters(_config(*own, name="casting-cnn")) for own in ((), (override,)))
    assert {name for name in CACHED if before[name] != after[name]} == {"train"}


@pytest.mark.parametrize("name", ["training", "tuning"])
def test_learning_starts_from_what_was_converted(name):
    import pipelines.training
    import pipelines.tuning

    module, learns = {"training": (pipelines.training, "train"), "tuning": (pipelines.tuning, "search")}[name]
    pipeline = getattr(module, name).copy()
    pipeline.prepare(config=_config("tuning.grid=[{epochs: 1}]"), source_fingerprint="unchanged")
    given = {
        step: {
            artifact.invocation_id
            for inputs in invocation.input_artifacts.values()
            for artifact in (inputs if isinstance(inputs, list) else [inputs])
        }
        for step, invocation in pipeline.invocations.items()
    }
    kind = module.convert.entrypoint_definition.outputs["converted"].resolved_annotation
    assert kind is ConvertedDataset, "and not Any, as where ZenML cannot resolve what it has inside"
    assert given["convert"] == {"prepare"}
    assert "convert" in given[learns]


@pytest.mark.parametrize(("name", "makes_version"), [("training", True), ("tuning", False), ("quantize", False)])
def test_a_review_is_read_first_and_only_a_training_makes_a_version(name, makes_version):
    import importlib

    module = importlib.import_module(f"pipelines.{name}")
    pipeline = getattr(module, name).copy()
    config = _config("data.additions={kind: review, use_case: parts}", "tuning.grid=[{epochs: 1}]")
    pipeline.prepare(config=config, source_fingerprint="unchanged")
    assert next(iter(pipeline.invocations)) == "read_reviewed"
    given = pipeline.invocations["read_reviewed"].parameters
    assert (given["source"].use_case, given["makes_version"]) == ("parts", makes_version)
    inputs = {step: set(invocation.input_artifacts) for step, invocation in pipeline.invocations.items()}
    assert {"reviewed", "review_version"} <= inputs["prepare"]
    assert ("review_version" in inputs.get("train", ())) == (name == "training")


def test_without_a_review_no_step_reads_one():
    assert "read_reviewed" not in _parameters(_config())
    assert "read_reviewed" not in _parameters(_config("data.additions={kind: folder, path: /data}"))


@pytest.mark.parametrize(
    ("additions", "changed"),
    [("{kind: folder, path: /data}", {"ingest", "prepare"}), ("{kind: review}", {"ingest"}), ("null", {"ingest"})],
)
def test_what_was_added_since_is_part_of_the_key_of_the_step_that_reads_it(additions, changed):
    config = _config(f"data.additions={additions}")
    before, after = _parameters(config), _parameters(config, "changed")
    assert {name for name in CACHED if before[name] != after[name]} == changed


def test_the_data_set_is_indexed_behind_the_release_where_a_review_adds_images():
    from pipelines.training import training

    for additions, indexes in (("{kind: review}", True), ("{kind: folder, path: /data}", False), ("null", False)):
        pipeline = training.copy()
        pipeline.prepare(config=_config(f"data.additions={additions}"), source_fingerprint="unchanged")
        assert ("index_images" in pipeline.invocations) == indexes
        if indexes:
            assert "release_model" in pipeline.invocations["index_images"].upstream_steps


def test_every_section_has_a_change():
    assert {change.partition(".")[0] for change in CHANGES} == set(Config.model_fields) - {"name", "task"}


@pytest.mark.parametrize("shards", [2, 7])
def test_a_number_of_shards_changes_no_step_that_others_depend_on(shards):
    whole, cut = _parameters(_config()), _parameters(_config(f"validation.shards={shards}"))
    assert set(cut) - set(whole) == {f"validate_{n}_of_{shards}" for n in range(1, shards + 1)} | {"join_validation"}
    assert all(cut[name] == whole[name] for name in set(cut) & set(whole))
    assert CACHED - {"validate_data"} <= set(cut)
    policies = [cut[name]["policy"] for name in cut if "policy" in cut[name]]
    assert all(policy == whole["validate_data"]["policy"] for policy in policies)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_steps_are_given_comes_back_from_json_as_it_was(path):
    given = [value for values in _invocations(load_config(path)).values() for value in values.values()]
    for model in [value for value in given if isinstance(value, BaseModel)]:
        assert type(model).model_validate_json(model.model_dump_json()) == model


def _config(*overrides: str, name: str = "sample") -> Config:
    return load_config(Path(ROOT / "configs" / f"{name}.yaml"), overrides)


def _invocations(config: Config, fingerprint: str = "unchanged") -> dict[str, dict[str, Any]]:
    """Return the parameters of each step of a training, by what it runs as."""
    from pipelines.training import training

    prepared = training.copy()
    prepared.prepare(config=config, source_fingerprint=fingerprint)
    return {name: invocation.parameters for name, invocation in prepared.invocations.items()}


def _parameters(config: Config, fingerprint: str = "unchanged") -> dict[str, dict[str, Any]]:
    return {
        name: {
            key: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for key, value in given.items()
        }
        for name, given in _invocations(config, fingerprint).items()
    }
