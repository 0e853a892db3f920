import dataclasses
import functools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.tracking import add_version, evaluation, make_tracking
from visionops.config import GateConfig
from visionops.errors import RegistryError
from visionops.registry import CHALLENGER, CHAMPION, PREVIOUS, ModelRegistry, decide

GATE = GateConfig(minimum=0.5, margin=0.02)
NAN = math.nan


@pytest.mark.parametrize(
    ("challenger", "champion", "promote", "words"),
    [
        (0.49, None, False, "below the gate"),
        (0.50, None, True, "the first champion"),
        (0.49, 0.10, False, "below the gate"),
        (0.80, 0.79, False, "does not beat the champion's 0.790 by 0.020"),
        (0.82, 0.80, True, "beats the champion's 0.800"),
        (0.70, 0.80, False, "does not beat"),
    ],
)
def test_the_gate(challenger, champion, promote, words):
    decision = decide(evaluation(challenger), None if champion is None else evaluation(champion), GATE)
    assert decision.promote is promote
    assert words in decision.reason
    assert (decision.challenger, decision.champion) == (challenger, champion)


def test_figures_from_different_test_splits_do_not_compare():
    with pytest.raises(RegistryError, match="different test splits"):
        decide(evaluation(0.9, "t2"), evaluation(0.8, "t1"), GATE)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_only_a_better_model_is_promoted(challenger, champion, minimum, margin):
    gate = GateConfig(minimum=minimum, margin=margin)
    if decide(evaluation(challenger), evaluation(champion), gate).promote:
        assert challenger >= minimum
        assert challenger >= champion + margin - 1e-6


# Replicates: what a champion is not replaced on

SURE = GateConfig(minimum=0.5, margin=0.0, confidence=0.8)


def resampled(value, replicates):
    return dataclasses.replace(evaluation(value), replicates={"map50": tuple(replicates)})


@pytest.mark.parametrize(
    ("challenger", "champion", "promote", "words"),
    [
        ([0.82] * 10, [0.80] * 10, True, "in 100% of resamples"),
        ([0.82] * 8 + [0.7] * 2, [0.80] * 10, True, "in 80% of resamples"),
        ([0.82] * 7 + [0.7] * 3, [0.80] * 10, False, "but in only 70% of resamples of the 10 test images"),
        ([0.70] * 10, [0.80] * 10, False, "in only 0%"),
        ([0.80] * 10, [0.80] * 10, False, "in only 50%"),
        ([0.82] * 6 + [0.80] * 4, [0.80] * 10, True, "in 80%"),
        ([0.82] * 6 + [NAN] * 4, [0.80] * 9 + [NAN], True, "in 100%"),
        ([0.82] * 3 + [0.7] + [NAN] * 6, [0.80] * 10, False, "in only 75%"),
    ],
    ids=["ahead", "ahead enough", "not often enough", "behind", "ties", "ties count half", "undefined", "few defined"],
)
def test_a_champion_is_replaced_only_when_the_challenger_is_ahead_in_most_resamples(
    challenger, champion, promote, words
):
    decision = decide(resampled(0.82, challenger), resampled(0.80, champion), SURE)
    assert decision.promote is promote
    assert words in decision.reason


@pytest.mark.parametrize(
    ("challenger", "champion"),
    [((), ()), ([0.1] * 10, ()), ((), [0.9] * 10), ([0.1] * 10, [0.9] * 20), ([NAN] * 10, [0.9] * 10)],
    ids=["neither", "challenger alone", "champion alone", "another number", "never defined"],
)
def test_without_replicates_that_compare_the_margin_decides(challenger, champion):
    decision = decide(resampled(0.82, challenger), resampled(0.80, champion), SURE)
    assert decision.promote
    assert "resamples" not in decision.reason


def test_no_resample_helps_a_challenger_within_the_margin():
    gate = SURE.model_copy(update={"margin": 0.05})
    decision = decide(resampled(0.82, [0.82] * 10), resampled(0.80, [0.80] * 10), gate)
    assert not decision.promote
    assert "does not beat the champion's 0.800 by 0.050" in decision.reason


def test_replicates_may_be_told_not_to_count():
    gate = SURE.model_copy(update={"confidence": 0.0})
    assert decide(resampled(0.82, [0.1] * 10), resampled(0.80, [0.9] * 10), gate).promote


@pytest.mark.parametrize(
    ("value", "replicates", "promote", "words"),
    [
        (0.79, (), True, "promoted: map50 0.790 is within 0.010 of the champion's 0.800"),
        (0.9, (), True, "is within 0.010"),
        (0.78, (), False, "refused: map50 0.780 misses the champion's 0.800 by more than 0.010"),
        (0.79, [0.79] * 10, True, "in 100% of resamples"),
        (0.80, [0.80] * 7 + [0.7] * 3, False, "but in only 70% of resamples"),
        (0.4, (), False, "below the gate of 0.500"),
    ],
)
def test_a_cheaper_challenger_may_lose_a_little(value, replicates, promote, words):
    champion = resampled(0.80, [0.80] * len(replicates))
    decision = decide(resampled(value, replicates), champion, SURE, max_loss=0.01)
    assert decision.promote is promote
    assert words in decision.reason
    assert decision.margin == -0.01


def test_a_figure_that_is_no_number_passes_no_gate():
    assert not decide(evaluation(NAN), None, SURE).promote


def test_noise_replaces_no_champion():
    # Two models of the same skill, 0.9, on the same 60 images: by luck the second is right on two more.
    champion, challenger = np.zeros(60), np.zeros(60)
    champion[:53], challenger[3:58] = 1, 1
    draws = np.random.default_rng(0).integers(0, 60, (1000, 60))
    old, new = (
        dataclasses.replace(
            evaluation(hits.mean()), num_images=60, replicates={"map50": tuple(hits[draws].mean(axis=1).tolist())}
        )
        for hits in (champion, challenger)
    )
    gate = GateConfig(minimum=0.5, margin=0.02)
    assert decide(new, old, gate.model_copy(update={"confidence": 0.0})).promote
    decision = decide(new, old, gate)
    assert not decision.promote
    assert "of resamples of the 60 test images (80% needed): that may be chance" in decision.reason


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    return make_tracking(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def registry(tracking):
    return ModelRegistry(tracking)


@pytest.fixture
def name(request):
    return re.sub(r"[^a-z0-9]+", "-", request.node.name)


@pytest.fixture
def add(registry, name, tmp_path):
    return functools.partial(add_version, registry, name, tmp_path)


def aliases(registry, name):
    found = {alias: registry.by_alias(name, alias) for alias in (CHALLENGER, CHAMPION, PREVIOUS)}
    return {alias: version.version for alias, version in found.items() if version}


def test_a_registry_without_models_has_no_champion(registry):
    registry.ping()
    assert registry.by_alias("nobody", CHAMPION) is None
    with pytest.raises(RegistryError, match="nobody: has no champion"):
        registry.champion("nobody")


def test_promotion_rollback_and_the_chain_of_champions(registry, add, name):
    first = add(2.0)
    assert aliases(registry, name) == {CHALLENGER: "1"}
    registry.promote(first)
    assert aliases(registry, name) == {CHAMPION: "1"}
    with pytest.raises(RegistryError, match="first champion"):
        registry.rollback(name)

    for gain in (2.1, 2.2):
        registry.promote(add(gain))
    assert aliases(registry, name) == {CHAMPION: "3", PREVIOUS: "2"}

    assert registry.rollback(name).version == "2"
    assert aliases(registry, name) == {CHAMPION: "2", PREVIOUS: "1"}
    assert registry.by_digest(name, add(2.2).digest).rolled_back
    assert registry.rollback(name).version == "1"
    assert aliases(registry, name) == {CHAMPION: "1"}


def test_the_same_bundle_is_registered_once(registry, add, name):
    assert [add(2.0).version, add(2.0).version] == ["1", "1"]
    assert add(2.5).version == "2"


def test_a_fetched_bundle_is_the_registered_one(registry, add, tmp_path):
    version = add(2.0)
    assert registry.fetch_bundle(version, tmp_path / "fetched").digest == version.digest


def test_the_decision_stands_on_the_version(registry, add, name):
    version = add(2.0)
    registry.record(version, decide(evaluation(0.4), None, GATE))
    tags = registry.by_alias(name, CHALLENGER).tags
    assert tags["gate.promote"] == "False"
    assert "below the gate" in tags["gate.reason"]
    assert float(tags["gate.challenger"]) == 0.4


@pytest.mark.parametrize("interrupted_at", range(6))
def test_an_interrupted_promotion_leaves_one_champion_and_a_way_on(registry, add, name, monkeypatch, interrupted_at):
    from mlflow import MlflowClient

    registry.promote(add(2.0))
    second = add(2.1)
    calls = 0

    def dying(method):
        original = getattr(MlflowClient, method)

        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > interrupted_at:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for method in ("set_model_version_tag", "set_registered_model_alias", "delete_registered_model_alias"):
            patch.setattr(MlflowClient, method, dying(method))
        try:
            registry.promote(second)
        except KeyboardInterrupt:
            assert registry.by_alias(name, CHAMPION).version in {"1", "2"}

    registry.promote(second)
    assert aliases(registry, name) == {CHAMPION: "2", PREVIOUS: "1"}
    assert registry.rollback(name).version == "1"


def test_a_registry_that_does_not_answer_is_one_line(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError) as caught:
        ModelRegistry("http://user:secret@127.0.0.1:9").ping()
    message = str(caught.value)
    assert message.startswith("model registry http://127.0.0.1:9: does not answer")
    assert "secret" not in message
    assert "\n" not in message


def test_a_registry_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database " * 100)
    with pytest.raises(RegistryError, match="does not answer"):
        ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db").ping()
