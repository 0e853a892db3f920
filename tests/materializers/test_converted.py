"""Test a converted data set in a local store and in a shared store: no image is stored twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from zenml.artifact_stores.local_artifact_store import LocalArtifactStoreConfig
from zenml.enums import VisualizationType
from zenml.steps.step_context import StepContext
from zenml.utils import source_utils

from materializers.converted import ConvertedMaterializer
from materializers.dataset import DatasetMaterializer
from tests.materializers.test_materializers import SharedStoreConfig, make_store
from tests.tasks.classification.conftest import labels_plan, plates, scratch
from tests.tasks.detection.conftest import plates_plan
from visionops.data.dataset import Dataset, Split
from visionops.data.hashing import hash_images
from visionops.data.shards import StoredDataset
from visionops.errors import DataError
from visionops.tasks.conversion import convert
from visionops.tasks.converted import ConvertedDataset
from visionops.tasks.detection.conversion import link_yolo

pytestmark = pytest.mark.filterwarnings("ignore")

SPLITS = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
TILES = {"size": 48, "overlap": 24, "keep_empty": 1.0}


@pytest.fixture
def local(tmp_path):
    return make_store(tmp_path / "local", LocalArtifactStoreConfig)


@pytest.fixture
def shared(tmp_path):
    return make_store(tmp_path / "shared", SharedStoreConfig)


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Return a function that simulates another machine with an empty VISIONOPS_HOME."""

    def move(name: str) -> Path:
        monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / name))
        return tmp_path / name

    move("first")
    return move


@pytest.fixture
def dataset(tmp_path):
    """Return eight images with a box each, large enough for tiles of 48 px; trainers cannot read the second file."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    keys = [f"{i}.png" for i in range(8)]
    for key in keys:
        Image.fromarray(rng.integers(0, 255, (60, 64, 3)).astype(np.uint8)).save(folder / key)
    Image.fromarray(rng.integers(0, 255, (60, 64, 4)).astype(np.uint8)).save(folder / "1.png")
    columns = {"key": keys, "path": [str(folder / k) for k in keys], "split": SPLITS}
    boxes = {"image": range(8), "class_id": [0] * 8, "x1": [2] * 8, "y1": [2] * 8, "x2": [30] * 8, "y2": [30] * 8}
    return hash_images(Dataset.from_columns("case", ["dent"], columns, boxes))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


def shard_bytes(store) -> int:
    return sum(path.stat().st_size for path in (Path(store.path) / "visionops" / "shards").glob("*.shard"))


def prepare_and_convert(dataset, plan, store, home, monkeypatch):
    """Prepare and convert in two steps on a shared store: the first uploads the images, the second reads them."""
    uri = f"{store.path}/prepared"
    DatasetMaterializer(uri, store).save(dataset)
    for path in dataset.paths():
        path.unlink()
    given = SimpleNamespace(uri=uri, materializer=source_utils.resolve(DatasetMaterializer))
    monkeypatch.setattr(StepContext, "get", lambda: SimpleNamespace(inputs={"prepared": [given]}))
    prepared = DatasetMaterializer(uri, store).load(StoredDataset).only(Split.TRAIN, Split.VAL)
    return convert(prepared, plan, home / "converted")


def test_in_a_local_store_the_layout_is_moved_and_its_images_are_links(local, dataset, tmp_path):
    converted = convert(dataset, plates_plan().conversion, tmp_path / "converted")
    before = contents(converted.folder)
    uri = f"{local.path}/converted"
    ConvertedMaterializer(uri, local).save(converted)
    assert not converted.folder.exists()
    loaded = ConvertedMaterializer(uri, local).load(ConvertedDataset)
    assert contents(loaded.folder) == before
    assert loaded.folder == Path(uri) / "files"
    assert loaded.plan == converted.plan
    assert loaded.dataset == converted.dataset  # including val, whose images stay in place
    links = [path for path in loaded.folder.rglob("*") if path.is_symlink()]
    assert {path.readlink() for path in links} == {p for i, p in enumerate(dataset.paths()[:6]) if i != 1}
    moved = tmp_path / "elsewhere"
    shutil.move(local.path, moved)
    data = link_yolo(ConvertedDataset(loaded.dataset, loaded.plan, moved / "converted" / "files"), tmp_path / "view")
    assert "train: images/train" in data.read_text()
    assert len([path for path in data.parent.glob("images/*/*") if path.is_file()]) == 6


def test_over_a_shared_store_no_image_travels_twice(shared, dataset, tmp_path, monkeypatch, machine):
    converted = prepare_and_convert(dataset, plates_plan().conversion, shared, machine("pod-1"), monkeypatch)
    before, sent = contents(converted.folder), shard_bytes(shared)
    uri = f"{shared.path}/converted"
    ConvertedMaterializer(uri, shared).save(converted)
    assert not converted.folder.exists()
    made = {name for name in before if not name.startswith("yolo/images/")} | {"yolo/images/train/1.png"}
    assert shard_bytes(shared) - sent == sum(len(data) for data in {before[name] for name in made})
    home = machine("pod-2")
    loaded = ConvertedMaterializer(uri, shared).load(ConvertedDataset)
    assert contents(loaded.folder) == before
    assert loaded.folder.is_relative_to(home)
    assert loaded.dataset.fingerprint() == dataset.fingerprint()
    assert [bool(path) for path in loaded.dataset.column("path")] == [split == "val" for split in SPLITS]
    assert all(Path(path).is_relative_to(home) for path in loaded.dataset.column("path") if path)
    test_images = set(dataset.select_split(Split.TEST).column("sha256"))
    assert not test_images & {path.name for path in (home / "cache" / "images").rglob("*")}
    again = ConvertedMaterializer(uri, shared).load(ConvertedDataset)
    assert again.folder == loaded.folder


def test_tiles_travel_instead_of_the_images_they_are_cut_from(shared, dataset, monkeypatch, machine):
    converted = prepare_and_convert(dataset, plates_plan(tiles=TILES).conversion, shared, machine("pod-1"), monkeypatch)
    before = contents(converted.folder)
    ConvertedMaterializer(f"{shared.path}/converted", shared).save(converted)
    home = machine("pod-2")
    loaded = ConvertedMaterializer(f"{shared.path}/converted", shared).load(ConvertedDataset)
    assert contents(loaded.folder) == before
    assert loaded.facts == converted.facts
    here = {path.name for path in (home / "cache" / "images").rglob("*")}
    assert not here & set(dataset.select_split(Split.TRAIN).column("sha256"))
    assert here >= set(dataset.select_split(Split.VAL).column("sha256"))


@pytest.mark.parametrize("settings", [{}, scratch()], ids=["frozen", "scratch"])
def test_features_and_links_of_labels_travel(local, shared, tmp_path, monkeypatch, machine, settings):
    dataset, plan = plates(tmp_path / "images"), labels_plan(**settings).conversion
    here = convert(dataset, plan, tmp_path / "converted")
    ConvertedMaterializer(f"{local.path}/converted", local).save(here)
    near = ConvertedMaterializer(f"{local.path}/converted", local).load(ConvertedDataset)
    opened = [Path(path).read_bytes() for path in near.dataset.column("path") if path]
    there = prepare_and_convert(dataset, plan, shared, machine("pod-1"), monkeypatch)
    ConvertedMaterializer(f"{shared.path}/converted", shared).save(there)
    machine("pod-2")
    far = ConvertedMaterializer(f"{shared.path}/converted", shared).load(ConvertedDataset)
    assert [Path(path).read_bytes() for path in far.dataset.column("path") if path] == opened
    assert len(opened) == (36 if settings else 12)
    assert all(Path(path).is_relative_to(far.folder) for path in far.dataset.column("path") if path)
    assert far.fingerprint() == here.fingerprint()


def test_the_same_content_has_the_same_hash_wherever_it_lies(local, dataset, tmp_path):
    first, second = (convert(dataset, plates_plan().conversion, tmp_path / name) for name in ("a", "b"))
    materializer = ConvertedMaterializer(f"{local.path}/converted", local)
    assert materializer.compute_content_hash(first) == materializer.compute_content_hash(second)
    tiled = convert(dataset, plates_plan(tiles=TILES).conversion, tmp_path / "c")
    assert materializer.compute_content_hash(first) != materializer.compute_content_hash(tiled)


def test_the_dashboard_shows_what_it_is_for(local, dataset, tmp_path):
    converted = convert(dataset, plates_plan(tiles=TILES).conversion, tmp_path / "converted")
    materializer = ConvertedMaterializer(f"{local.path}/converted", local)
    materializer.save(converted)
    ((page, kind),) = materializer.save_visualizations(converted).items()
    assert kind is VisualizationType.HTML
    assert "converted for detection" in Path(page).read_text()
    assert '"tiles"' in Path(page).read_text()
    metadata = materializer.extract_metadata(converted)
    assert metadata == {"task": "detection", "splits": {"train": 4, "val": 2, "test": 2}} | {
        "data_fingerprint": dataset.fingerprint()
    }
    assert json.loads((Path(local.path) / "converted" / "conversion.json").read_text())["facts"] == converted.facts


def test_a_layout_that_another_run_moved_is_an_error(local, dataset, tmp_path):
    converted = convert(dataset, plates_plan().conversion, tmp_path / "converted")
    ConvertedMaterializer(f"{local.path}/one", local).save(converted)
    with pytest.raises(DataError, match="two runs convert the same data at once"):
        ConvertedMaterializer(f"{local.path}/two", local).save(converted)
