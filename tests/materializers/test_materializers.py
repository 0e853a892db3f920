"""Test artifacts in a local store and in a shared store."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from zenml.artifact_stores.local_artifact_store import LocalArtifactStore, LocalArtifactStoreConfig
from zenml.enums import StackComponentType, VisualizationType
from zenml.steps.step_context import StepContext
from zenml.utils import source_utils

from materializers.dataset import DatasetMaterializer
from materializers.model_bundle import ModelBundleMaterializer
from materializers.shard_results import ShardMaterializer
from materializers.split_history import SplitHistoryMaterializer
from materializers.tuning import TuningMaterializer
from materializers.validation_report import ValidationReportMaterializer
from tests.helpers.bundles import make_bundle
from visionops.batch.answers import BatchAnswers
from visionops.data.dataset import Dataset, Split
from visionops.data.hashing import hash_images
from visionops.data.history import SplitHistory
from visionops.data.layers import Attribute
from visionops.data.settings import ValidationPolicy
from visionops.data.shards import StoredDataset
from visionops.data.validation.judging import validate
from visionops.data.validation.report import ValidationReport
from visionops.errors import BundleError, DataError
from visionops.inference.bundle import ModelBundle
from visionops.tuning.report import write_report
from visionops.tuning.result import Trial, TrialState, TuningResult

pytestmark = pytest.mark.filterwarnings("ignore")


class SharedStoreConfig(LocalArtifactStoreConfig):
    """Settings of a store whose files only the store may open, like a bucket for a pod."""

    @property
    def is_local(self) -> bool:
        return False


def make_store(folder: Path, config: type[LocalArtifactStoreConfig]) -> LocalArtifactStore:
    folder.mkdir()
    return LocalArtifactStore(
        name="store",
        id=uuid4(),
        config=config(path=str(folder)),
        flavor="local",
        type=StackComponentType.ARTIFACT_STORE,
        user=None,
        created="2026-01-01T00:00:00",
        updated="2026-01-01T00:00:00",
    )


@pytest.fixture
def local(tmp_path):
    return make_store(tmp_path / "local", LocalArtifactStoreConfig)


@pytest.fixture
def shared(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "other-machine"))
    return make_store(tmp_path / "shared", SharedStoreConfig)


@pytest.fixture
def in_step(monkeypatch):
    """Return a function that sets the running step's input data sets, as ZenML reports them to a materializer."""

    def given(*uris: str) -> None:
        source = source_utils.resolve(DatasetMaterializer)
        artifacts = [SimpleNamespace(uri=uri, materializer=source) for uri in uris]
        monkeypatch.setattr(StepContext, "get", lambda: SimpleNamespace(inputs={"dataset": artifacts}))

    return given


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    keys = [f"{i}.png" for i in range(6)]
    for i, key in enumerate(keys):
        Image.fromarray(np.full((24, 32, 3), 40 * i, dtype=np.uint8)).save(folder / key)
    return hash_images(
        Dataset.from_columns(
            "case",
            ["dent"],
            {
                "key": keys,
                "path": [str(folder / k) for k in keys],
                "width": [32] * 6,
                "height": [24] * 6,
                "split": ["train"] * 6,
            },
            {"image": [0, 1], "class_id": [0, 0], "x1": [1, 2], "y1": [1, 2], "x2": [9, 9], "y2": [9, 9]},
        )
    )


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_local_store_gets_tables_and_no_image(local, dataset, tmp_path):
    uri = f"{local.path}/dataset"
    DatasetMaterializer(uri, local).save(dataset)
    assert files(tmp_path / "local") == {
        f"dataset/{n}" for n in ("dataset.json", "images.parquet", "boxes.parquet", "labels.parquet")
    }
    assert DatasetMaterializer(uri, local).load(Dataset).paths() == dataset.paths()


def test_the_page_of_labels_names_each_question_and_its_answers(local):
    attributes = [Attribute("glasses", ("no", "yes")), Attribute("<hair>", ("dark", "grey"))]
    labels = {"glasses": [0, None], "<hair>": [1, 0]}
    labelled = Dataset.from_columns("faces", (), {"key": ["a", "b"]}, {}, attributes=attributes, labels=labels)
    materializer = DatasetMaterializer(f"{local.path}/dataset", local)
    materializer.save(labelled)
    assert materializer.load(Dataset) == labelled
    assert materializer.extract_metadata(labelled)["classes"] == 4
    (page,) = materializer.save_visualizations(labelled)
    text = Path(page).read_text(encoding="utf-8")
    assert "2 images, 2 attributes, 4 classes: glasses (no, yes), &lt;hair&gt; (dark, grey)" in text


def test_a_shared_store_carries_the_images_to_another_machine(shared, dataset):
    uri = f"{shared.path}/dataset"
    DatasetMaterializer(uri, shared).save(dataset)
    for path in dataset.paths():
        path.unlink()
    loaded = DatasetMaterializer(uri, shared).load(Dataset)
    assert loaded.fingerprint() == dataset.fingerprint()
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in loaded.paths()]
    assert hashes == dataset.column("sha256")


def test_images_are_uploaded_once_for_all_steps(shared, dataset, tmp_path):
    DatasetMaterializer(f"{shared.path}/first", shared).save(dataset)
    before = {name for name in files(tmp_path / "shared") if name.startswith("visionops/")}
    DatasetMaterializer(f"{shared.path}/second", shared).save(dataset.replace_column("split", ["val"] * 6))
    assert {name for name in files(tmp_path / "shared") if name.startswith("visionops/")} == before


def test_a_moved_folder_is_not_answered_from_the_cache(local, dataset):
    materializer = DatasetMaterializer(f"{local.path}/d", local)
    moved = dataset.replace_column("path", [p.replace("images", "elsewhere") for p in dataset.column("path")])
    assert materializer.compute_content_hash(moved) != materializer.compute_content_hash(dataset)
    assert materializer.compute_content_hash(dataset) == materializer.compute_content_hash(dataset)


def test_a_bundle_is_linked_not_copied(local, tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    uri = f"{local.path}/bundle"
    ModelBundleMaterializer(uri, local).save(bundle)
    stored = ModelBundleMaterializer(uri, local).load(ModelBundle)
    assert stored.digest == bundle.digest
    assert stored.model_path.samefile(bundle.model_path)


def test_a_bundle_travels_through_a_shared_store_and_is_checked(shared, tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    uri = f"{shared.path}/bundle"
    ModelBundleMaterializer(uri, shared).save(bundle)
    fetched = ModelBundleMaterializer(uri, shared).load(ModelBundle)
    assert fetched.digest == bundle.digest
    assert ModelBundleMaterializer(uri, shared).load(ModelBundle).folder == fetched.folder

    other = f"{shared.path}/corrupt"
    ModelBundleMaterializer(other, shared).save(bundle)
    Path(other, "model.onnx").write_bytes(b"cut")
    with pytest.raises(BundleError, match="corrupt"):
        ModelBundleMaterializer(other, shared).load(ModelBundle)


def test_the_card_of_a_bundle_is_shown(local, tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    materializer = ModelBundleMaterializer(f"{local.path}/bundle", local)
    materializer.save(bundle)
    ((path, kind),) = materializer.save_visualizations(bundle).items()
    assert kind is VisualizationType.JSON
    assert json.loads(Path(path).read_text())["class_names"] == list(bundle.card.class_names)
    assert materializer.extract_metadata(bundle)["digest"] == bundle.digest


def test_a_validation_report_is_kept_with_its_card(local, dataset):
    report = validate(dataset, ValidationPolicy(min_images=1))
    materializer = ValidationReportMaterializer(f"{local.path}/report", local)
    materializer.save(report)
    assert (
        ValidationReportMaterializer(f"{local.path}/report", local).load(ValidationReport).findings == report.findings
    )
    ((path, kind),) = materializer.save_visualizations(report).items()
    assert kind is VisualizationType.HTML
    assert "<html" in Path(path).read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("store", ["local", "shared"])
def test_a_tuning_result_keeps_its_trials_and_shows_its_pictures(store, request, tmp_path):
    trials = tuple(
        Trial(number=i, state=TrialState.COMPLETE, settings={"batch": 2**i}, value=i / 4, is_default=not i)
        for i in range(4)
    )
    fields = {
        "use_case": "toy",
        "study": "toy-1",
        "metric": "map50",
        "settings": {"batch": 8},
        "best": 3,
        "value": 0.75,
    }
    result = TuningResult(folder=tmp_path / "result", default_value=0.0, trials=trials, **fields)
    result.folder.mkdir()
    result.save(result.folder)
    write_report(result, {}, result.folder)

    found = request.getfixturevalue(store)
    materializer = TuningMaterializer(uri=f"{found.path}/tuning", artifact_store=found)
    materializer.save(result)
    read = materializer.load(TuningResult)
    assert read.model_copy(update={"folder": result.folder}) == result
    assert (read.folder / "report.html").read_text() == (result.folder / "report.html").read_text()
    shown = materializer.save_visualizations(result)
    assert {Path(uri).name for uri, kind in shown.items() if kind is VisualizationType.IMAGE} == {
        "history.png",
        "parallel_coordinates.png",
    }
    assert all(found.exists(uri) for uri in shown)
    assert materializer.extract_metadata(result) == {
        "use_case": "toy",
        "metric": "map50",
        "value": 0.75,
        "trials": {"complete": 4, "pruned": 0, "failed": 0},
        "batch": "8",
    }


def test_a_step_with_a_stored_data_set_fetches_only_the_images_that_it_needs(local, shared, dataset, tmp_path):
    for store in (local, shared):
        DatasetMaterializer(f"{store.path}/dataset", store).save(dataset)
        stored = DatasetMaterializer(f"{store.path}/dataset", store).load(StoredDataset)
        assert DatasetMaterializer.can_load_type(StoredDataset)
        wanted = dataset.take([2, 4])
        assert [p.read_bytes() for p in stored.fetch(wanted).paths()] == [p.read_bytes() for p in wanted.paths()]
    cached = [path for path in (tmp_path / "other-machine" / "cache" / "images").rglob("*") if path.is_file()]
    assert {path.name for path in cached} == set(wanted.column("sha256"))


def test_what_comes_of_a_stored_data_set_needs_no_image_at_hand(shared, dataset, tmp_path, in_step):
    DatasetMaterializer(f"{shared.path}/dataset", shared).save(dataset)
    contents = [path.read_bytes() for path in dataset.paths()]
    for path in dataset.paths():
        path.unlink()
    shards = files(tmp_path / "shared" / "visionops" / "shards")
    tables = DatasetMaterializer(f"{shared.path}/dataset", shared).load(StoredDataset).tables
    assert set(tables.column("path")) == {""}
    in_step(f"{shared.path}/dataset")
    DatasetMaterializer(f"{shared.path}/prepared", shared).save(tables.take([5, 3]))
    assert len(files(tmp_path / "shared" / "visionops" / "shards") - shards) <= 1  # an index
    loaded = DatasetMaterializer(f"{shared.path}/prepared", shared).load(Dataset)
    assert [path.read_bytes() for path in loaded.paths()] == [contents[5], contents[3]]


def test_only_what_a_step_was_given_counts_as_stored(shared, dataset):
    """Data sets that this process read earlier do not count, as their shards may be gone by now."""
    DatasetMaterializer(f"{shared.path}/dataset", shared).save(dataset)
    tables = DatasetMaterializer(f"{shared.path}/dataset", shared).load(StoredDataset).tables
    DatasetMaterializer(f"{shared.path}/prepared", shared).save(tables)
    assert set(DatasetMaterializer(f"{shared.path}/prepared", shared).load(Dataset).column("path")) == {""}


def test_only_some_splits_come_to_this_machine(local, shared, dataset):
    cut = dataset.replace_column("split", ["train", "train", "val", "test", "test", "unlabelled"])
    for store, others in ((local, cut.column("path")), (shared, [""] * 6)):
        DatasetMaterializer(f"{store.path}/cut", store).save(cut)
        stored = DatasetMaterializer(f"{store.path}/cut", store).load(StoredDataset)
        found = stored.only(Split.TEST, Split.VAL)
        assert found.fingerprint() == cut.fingerprint()
        assert [Path(p).read_bytes() for p in found.column("path")[2:5]] == [p.read_bytes() for p in cut.paths()[2:5]]
        assert found.column("path")[:2] == others[:2]
        assert found.column("path")[5:] == others[5:]


def test_answers_of_a_shard_travel(local, shared):
    rows = pa.table({"key": ["a.png"], "sha256": ["0"], "answer": ["{}"]})
    for store in (local, shared):
        uri = f"{store.path}/answers"
        ShardMaterializer(uri, store).save(BatchAnswers("run", 1, 0.5, rows))
        assert ShardMaterializer(uri, store).load(BatchAnswers) == BatchAnswers("run", 1, 0.5, rows)
    (Path(local.path) / "answers" / "answers.json").write_text("{}")
    with pytest.raises(DataError, match="no saved answers of a batch"):
        ShardMaterializer(f"{local.path}/answers", local).load(BatchAnswers)


def test_a_history_of_splits_travels_and_has_the_hash_of_its_rows(dataset, local, shared):
    history = SplitHistory.of(dataset, left_out=["ab" * 32])
    for store in (local, shared):
        materializer = SplitHistoryMaterializer(uri=str(Path(store.path) / "splits"), artifact_store=store)
        materializer.save(history)
        assert materializer.load(SplitHistory).rows.equals(history.rows)
        assert materializer.extract_metadata(history)["splits"]["left out"] == 1
        assert materializer.compute_content_hash(history) == materializer.compute_content_hash(history.merged(history))
        assert materializer.compute_content_hash(history) != materializer.compute_content_hash(SplitHistory.empty())
