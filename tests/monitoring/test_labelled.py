from __future__ import annotations

import pytest

from tests.helpers.bundles import CLASSES, encode, make_bundle, picture
from visionops.config import Config, DataConfig, EvaluationConfig, FolderSource
from visionops.data.dataset import Dataset
from visionops.data.hashing import hash_images
from visionops.errors import BundleError, MetricError
from visionops.inference.bundle import ModelBundle, Task
from visionops.inference.predictor import Predictor
from visionops.monitoring.labelled import SEEN_FILE, LabelledTraffic, add_seen, measure, unseen
from visionops.tasks import task_for

SCENES = [[("red", 0, 0)], [("green", 2, 2)], [("blue", 1, 1)], [("red", 3, 3)], []]
SPLITS = ["train", "val", "test", "", "unlabelled"]


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def dataset(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(SCENES))]
    for path, cells in zip(paths, SCENES, strict=True):
        path.write_bytes(encode(picture(cells)))
    images = {"key": [p.name for p in paths], "path": [str(p) for p in paths], "split": SPLITS}
    return hash_images(Dataset.from_columns("cells", CLASSES, images, {}))


def test_new_is_what_no_training_had_in_whatever_split(bundle, dataset):
    trained = add_seen(bundle, dataset.take([0, 1, 2, 4]))
    assert unseen(dataset, trained).column("key") == ["3.png", "4.png"]  # seen without a label does not count
    assert SEEN_FILE in ModelBundle.load(bundle.folder).card.files
    assert add_seen(trained, dataset).digest == trained.digest


def test_a_bundle_that_does_not_say_what_it_has_seen_is_refused(bundle, dataset):
    with pytest.raises(BundleError, match=r"has no seen\.parquet to tell new labels from old ones; train again"):
        unseen(dataset, bundle)


def test_the_gates_metric_is_measured_on_new_labels_whatever_the_order_of_classes(bundle, dataset, tmp_path):
    labels = ["green", "red"]  # another tool counts its classes in another order
    new = dataset.take([0, 1, 3])
    predictor = Predictor(bundle)
    found = [predictor.predict(path.read_bytes()) for path in new.paths()]
    rows = [(row, box, name) for row, p in enumerate(found) for box, (name, _) in zip(p.boxes, p.labels(), strict=True)]
    assert {name for *_, name in rows} == set(labels)
    boxes = {"image": [row for row, *_ in rows], "class_id": [labels.index(name) for *_, name in rows]}
    boxes |= {side: [float(box[i]) for _, box, _ in rows] for i, side in enumerate(("x1", "y1", "x2", "y2"))}
    images = {name: new.column(name) for name in ("key", "path", "sha256", "width", "height")}
    labelled = Dataset.from_columns("new", labels, images, boxes)
    config = Config(
        name="cells",
        task=Task.DETECTION,
        data=DataConfig(source=FolderSource(kind="folder", path=tmp_path)),
        evaluation=EvaluationConfig(worst_images=0, latency_images=1, resamples=50),
    )
    performance = measure(task_for(config.task), bundle, labelled, config, 0.9)
    assert performance.metric == "map50"
    assert performance.value == pytest.approx(1)
    assert performance.interval[0] <= performance.value <= performance.interval[1] + 1e-9
    assert (performance.images, performance.at_test) == (3, 0.9)
    traffic = LabelledTraffic(new_labels=3, performance=performance)
    assert traffic.explain().startswith("3 images labelled since the last training; map50 of the champion 1.000 (")


def test_images_on_which_nothing_is_define_no_figure(bundle, dataset, tmp_path):
    config = Config(
        name="cells", task=Task.DETECTION, data=DataConfig(source=FolderSource(kind="folder", path=tmp_path))
    )
    with pytest.raises(MetricError, match="has no boxes"):
        measure(task_for(config.task), bundle, dataset.take([4]), config, 0.9)


def test_without_labels_that_is_all_there_is_to_say():
    assert LabelledTraffic().explain() == "0 images labelled since the last training"
