import datetime
import functools
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.bundles import make_bundle
from tests.helpers.tracking import MemoryRegistry, add_version, evaluation, make_tracking
from visionops.errors import ChampionChangedError, RegistryError
from visionops.gate.decision import decide
from visionops.gate.settings import GateConfig
from visionops.inference.bundle import ModelBundle
from visionops.inference.settings import Precision
from visionops.lineage import add_review
from visionops.registry import CHALLENGER, CHAMPION, PREVIOUS, ModelRegistry, brief_waits
from visionops.review.versions import ReviewVersion

GATE = GateConfig(minimum=0.5, margin=0.02)


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
    with pytest.raises(RegistryError, match="nobody: no champion"):
        registry.champion("nobody")


def test_promotion_rollback_and_the_chain_of_champions(registry, add, name):
    first = add(2.0)
    assert aliases(registry, name) == {CHALLENGER: "1"}
    registry.promote(first)
    assert aliases(registry, name) == {CHAMPION: "1"}
    with pytest.raises(
        RegistryError, match="the first champion that was not rolled back; there is no earlier version to"
    ):
        registry.rollback(name)

    for gain in (2.1, 2.2):
        registry.promote(add(gain))
    assert aliases(registry, name) == {CHAMPION: "3", PREVIOUS: "2"}

    assert registry.rollback(name).version == "2"
    assert aliases(registry, name) == {CHAMPION: "2", PREVIOUS: "1"}
    assert registry.by_digest(name, add(2.2).digest).rolled_back
    assert registry.by_version(name, "2").aliases
    assert [registry.by_version(name, number) for number in ("77", "two", "")] == [None] * 3
    assert registry.by_version("nobody", "1") is None
    assert registry.rollback(name).version == "1"
    assert aliases(registry, name) == {CHAMPION: "1"}


def test_a_version_that_was_rolled_back_is_skipped(registry, add, name):
    first, second = add(2.0), add(2.1)
    for version in (first, second, first):
        registry.promote(version)
    assert aliases(registry, name) == {CHAMPION: "1", PREVIOUS: "2"}
    assert registry.rollback(name).version == "2"
    assert aliases(registry, name) == {CHAMPION: "2"}
    with pytest.raises(RegistryError, match="no earlier version to go back to"):
        registry.rollback(name)
    with pytest.raises(RegistryError, match="version 1 was rolled back by hand; train a better one"):
        registry.promote(first)
    assert aliases(registry, name) == {CHAMPION: "2"}


@given(st.lists(st.one_of(st.integers(0, 7), st.just("back")), max_size=30))
@settings(max_examples=300, deadline=None)
def test_a_rollback_goes_to_the_last_champion_that_was_not_rolled_back(moves):
    registry = MemoryRegistry()
    versions = [registry.add("case") for _ in range(8)]
    champions, out = [], set()  # the latest last
    for move in moves:
        try:
            if move == "back":
                registry.rollback("case")
            else:
                registry.promote(versions[move])
        except RegistryError:
            assert len(champions) < 2 if move == "back" else versions[move].version in out
            continue
        if move == "back":
            out.add(champions.pop())
        else:
            champions = [number for number in champions if number != versions[move].version]
            champions.append(versions[move].version)
        assert registry.client.aliases.get(CHAMPION) == champions[-1]
        assert registry.client.aliases.get(PREVIOUS) == (champions[-2] if len(champions) > 1 else None)
        assert champions[-1] not in out


def test_chains_of_an_earlier_release_name_one_version_each():
    registry = MemoryRegistry()
    for before in ("", "1", "2", "3"):
        registry.add("case", **{"visionops.replaced": before})
    registry.client.aliases[CHAMPION] = "4"
    del registry.client.versions["2"]  # deleted by a person
    assert registry.rollback("case").version == "3"
    with pytest.raises(RegistryError, match="no earlier version to go back to"):
        registry.rollback("case")

    registry = MemoryRegistry()
    for before in ("2", "1", "2"):  # 1, 2, 1 again, 2 again, 3
        registry.add("case", **{"visionops.replaced": before})
    registry.client.aliases[CHAMPION] = "3"
    assert [registry.rollback("case").version for _ in range(2)] == ["2", "1"]
    registry.promote(registry.add("case"))
    assert registry.client.versions["4"].tags["visionops.replaced"] == "1"


def test_a_decision_is_void_when_another_version_is_champion_by_now():
    registry = MemoryRegistry()
    first, second, third = (registry.add("case") for _ in range(3))
    nobody = decide(evaluation(), None, GATE)
    registry.promote(first, nobody)
    with pytest.raises(ChampionChangedError, match="2 was compared with no champion, but now version 1 is champion"):
        registry.promote(second, nobody)
    over_first = decide(evaluation(), None, GATE, champion_version="1")
    registry.promote(second, over_first)
    registry.check_champion(second, over_first)  # it is promoted already: a killed run is completed
    with pytest.raises(ChampionChangedError, match="compared with version 1, but now version 2 is champion; run again"):
        registry.promote(third, over_first)
    assert registry.client.aliases == {CHAMPION: "2", PREVIOUS: "1"}


def test_a_champion_that_changes_in_the_middle_of_a_promotion_stays(monkeypatch):
    registry = MemoryRegistry()
    first, second, third = (registry.add("case") for _ in range(3))
    registry.promote(first)
    set_tag = registry.client.set_model_version_tag

    def others_are_faster(*tag):
        set_tag(*tag)
        registry.client.aliases[CHAMPION] = third.version

    monkeypatch.setattr(registry.client, "set_model_version_tag", others_are_faster)
    with pytest.raises(ChampionChangedError):
        registry.promote(second, decide(evaluation(), None, GATE, champion_version="1"))
    assert registry.client.aliases[CHAMPION] == third.version


def test_two_runs_that_roll_back_the_same_champion_go_back_once():
    registry = MemoryRegistry()
    for _ in range(3):
        bad = registry.promote(registry.add("case"))
    assert registry.rollback("case", bad).version == "2"
    with pytest.raises(ChampionChangedError, match="3 cannot be rolled back, because version 2 is now"):
        registry.rollback("case", bad)
    assert registry.client.aliases == {CHAMPION: "2", PREVIOUS: "1"}


def test_the_lineage_of_an_int8_champion_goes_back_to_a_float_one():
    registry = MemoryRegistry()
    f32, int8 = Precision.F32, Precision.INT8
    for precision in (f32, f32, int8, int8):
        registry.promote(registry.add("case", precision))
    lineage = registry.lineage(registry.champion("case"))
    assert [version.version for version in lineage] == ["4", "3", "2"]
    assert [version.version for version in registry.lineage(lineage[-1])] == ["2"]


def test_the_precision_of_a_version_of_an_earlier_release_is_read_from_its_bundle(registry, add, name):
    from mlflow import MlflowClient

    registry.promote(add(2.0))
    MlflowClient(registry.tracking_uri).delete_model_version_tag(name, "1", "visionops.precision")
    champion = registry.champion(name)
    assert registry.lineage(champion) == (champion,)


def test_a_quantized_version_was_trained_when_its_source_was(registry, add, name):
    from mlflow import MlflowClient

    source = add(2.0)
    assert abs(source.trained - source.created) < datetime.timedelta(minutes=1)
    client, long_ago = MlflowClient(registry.tracking_uri), "2026-01-02T03:04:05+00:00"
    client.set_model_version_tag(name, source.version, "visionops.trained", long_ago)
    quantized = add(2.0, quantized_from=source.digest)
    assert (quantized.version, quantized.trained) == ("2", datetime.datetime.fromisoformat(long_ago))
    assert registry.newest_trained(name).version == "1"
    assert add(2.1, quantized_from="a bundle that is not here").trained > quantized.trained
    client.delete_model_version_tag(name, source.version, "visionops.trained")
    assert registry.by_digest(name, source.digest).trained == source.created, "of an earlier release"
    assert registry.newest_trained(name).version == "3"
    assert registry.newest_trained("nobody") is None


def test_a_version_says_which_data_version_of_a_review_it_was_trained_on(registry, add, name):
    def reviewed(number: int, use_case: str = "o'hara") -> ReviewVersion:
        return ReviewVersion(use_case=use_case, number=number, images=3, reviewers={"anna": 3}, rejected=("f" * 64,))

    before = add(2.0, review=ReviewVersion(use_case="o'hara"))
    assert before.review_version("o'hara") == 0
    first, second, other = add(2.1, review=reviewed(1)), add(2.2, review=reviewed(2)), add(2.3, review=reviewed(1, "x"))
    assert [version.review_version("o'hara") for version in (first, second, other)] == [1, 2, 0]
    quantized = add(2.4, review=reviewed(2))
    assert [version.version for version in registry.reviewed("o'hara")] == [
        first.version,
        second.version,
        quantized.version,
    ]
    assert registry.reviewed("nobody") == []


def test_a_bundle_has_the_lineage_of_its_data_on_its_card_once(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    version = ReviewVersion(use_case="parts", number=3, images=7, models={"parts 1": 7}, rejected=("f" * 64,))
    made = add_review(bundle, version)
    assert ModelBundle.load(made.folder).card.training["review"] == version.lineage
    assert "rejected" not in version.lineage
    assert add_review(made, version) is made
    # A resumed training sets the data version again: another version may have the same labels.
    assert add_review(made, None).digest == bundle.digest


def test_the_same_bundle_is_registered_once(registry, add, name):
    assert [add(2.0).version, add(2.0).version] == ["1", "1"]
    assert add(2.5).version == "2"


def test_a_fetched_bundle_is_the_registered_one(registry, add, tmp_path):
    version = add(2.0)
    assert registry.fetch_bundle(version, tmp_path / "fetched").digest == version.digest


def test_the_decision_is_written_onto_the_version(registry, add, name):
    version = add(2.0)
    registry.record(version, decide(evaluation(0.4), None, GATE))
    tags = registry.by_alias(name, CHALLENGER).tags
    assert tags["gate.promote"] == "False"
    assert "below the gate" in tags["gate.reason"]
    assert float(tags["gate.challenger"]) == 0.4


@pytest.mark.parametrize("interrupted_at", range(6))
def test_an_interrupted_promotion_leaves_one_champion_and_can_be_repeated(
    registry, add, name, monkeypatch, interrupted_at
):
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


def test_a_registry_waits_briefly_and_leaves_the_environment_as_it_was(tmp_path, monkeypatch):
    names = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
    monkeypatch.delenv(names[0], raising=False)
    monkeypatch.setenv(names[1], "7")
    with brief_waits(), brief_waits():
        assert [os.environ[name] for name in names] == ["2", "7"]
    assert names[0] not in os.environ
    (tmp_path / "mlflow.db").write_text("not a database " * 100)
    with pytest.raises(RegistryError):
        ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db").ping()
    assert names[0] not in os.environ
    assert os.environ[names[1]] == "7"


def test_a_registry_file_that_is_not_a_database_is_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database " * 100)
    with pytest.raises(RegistryError, match="does not answer"):
        ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db").ping()
