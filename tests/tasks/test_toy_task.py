"""A custom task: how bright a part is, as a number. It is defined only in this module.

It has its own annotation layer (``lux``, from the file names), answers with a number instead of classes, and passes
through training, evaluation, the gate, bundle, server, batch inference, prediction log and drift.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import BaseModel, Field

from tests.helpers.bundles import encode, filled
from tests.serving.conftest import client_of, settings_of
from visionops.batch.images import list_images
from visionops.batch.inference import batch_predictor, predict_batch
from visionops.config import Config, load_config
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset, Split
from visionops.data.formats import read_dataset
from visionops.data.hashing import hash_images
from visionops.data.layers import ValueLayer
from visionops.data.output import open_output
from visionops.data.settings import Format
from visionops.data.splitting.assignment import assign_splits
from visionops.data.validation.judging import validate
from visionops.errors import ConfigError, DataError, LabelError, OptionError
from visionops.evaluation.measuring import measure_latency, read_test_image, select_test
from visionops.evaluation.report import NO_GALLERY, Page, load_evaluation, write_report, writing
from visionops.evaluation.resampling import percentile_intervals, resample
from visionops.evaluation.result import Evaluation
from visionops.evaluation.settings import EvaluationPlan
from visionops.gate.decision import decide
from visionops.inference.bundle import BundleCard, ModelBundle, Thresholds
from visionops.inference.decoders import RawOutput
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing_spec import PreprocessingSpec, Resize
from visionops.inference.task import RecordColumn, TensorSpec
from visionops.inference.task_registry import register, unregister
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.labelled import measure
from visionops.monitoring.log import PredictionLog
from visionops.monitoring.log_reading import read_log
from visionops.monitoring.reference import add_reference, read_reference
from visionops.monitoring.settings import DriftSettings
from visionops.review.exchange import dataset_of
from visionops.review.items import Origin, Predicted, UseCase
from visionops.review.service import Answer, Arrival
from visionops.review.states import Actor, Verdict
from visionops.review_store.opening import open_review
from visionops.tasks.base import NoLog, TrainingLog, evaluation_folder, training_folder
from visionops.tasks.conversion import convert
from visionops.tasks.converted import ConvertedDataset
from visionops.tasks.labelling import LabelForm, LabelScheme, read_form
from visionops.tasks.settings import TrainingPlan
from visionops.tasks.spec import Metric, TaskSpec, task_for
from visionops.tasks.training_settings import TrainingBase
from visionops.tuning.data import SearchData
from visionops.tuning.result import Trial, TuningResult
from visionops.tuning.search import tune

SIDE = 16
COUNT = 40

# The task


class BrightnessTraining(TrainingBase):
    task: Literal["brightness"] = "brightness"
    tolerance: float = 0.05
    """Largest error of a correct answer."""
    shift: float = 0.0
    """Added to every answer, as a parameter for tuning."""


class BrightnessAnswer(BaseModel):
    """Brightness of the part."""

    brightness: float


class BrightnessLabel(LabelForm):
    brightness: float = Field(ge=0, le=1)


@dataclasses.dataclass(frozen=True, slots=True)
class BrightnessPrediction:
    width: int
    height: int
    brightness: float

    def to_dict(self) -> dict[str, Any]:
        return {"brightness": round(self.brightness, 6)}

    def labels(self) -> list[tuple[str, float]]:
        return []

    def record(self) -> dict[str, float | list[float]]:
        return {"brightness": self.brightness}

    @property
    def embedding(self) -> np.ndarray:
        return np.empty(0, dtype=np.float32)

    def problem(self) -> str:
        return "" if np.isfinite(self.brightness) else "brightness is no finite number"

    def support(self, other: BrightnessPrediction) -> float:
        return max(0.0, 1 - abs(self.brightness - other.brightness))

    def agreement(self, other: BrightnessPrediction) -> float:
        return self.support(other)


class BrightnessDecoder:
    everything: Mapping[str, float] = MappingProxyType({})

    def contradiction(self, outputs: Sequence[np.ndarray]) -> str:
        return "" if outputs[0].shape == (1, 1) else "(1, 1)"

    def decode(self, views: Sequence[RawOutput], options: Mapping[str, float]) -> BrightnessPrediction:
        if unknown := sorted(set(options) - {"floor"}):
            raise OptionError(f"{unknown[0]}: a brightness takes floor")
        (view,) = views
        found = float(view.outputs[0][0, 0])
        shown = found if found >= options.get("floor", 0.0) else 0.0
        return BrightnessPrediction(view.geometry.width, view.geometry.height, shown)


class BrightnessTask(TaskSpec[BrightnessPrediction]):
    name = "brightness"
    settings = BrightnessTraining
    options: ClassVar = MappingProxyType({"floor": "Of a brightness: what is below it counts as dark."})
    record_columns: ClassVar = (RecordColumn("brightness", title="brightness of the part"),)
    answer = BrightnessAnswer
    example: Mapping[str, Any] = MappingProxyType({"brightness": 0.42})
    metrics = (Metric("within"), Metric("mae", higher_is_better=False, is_share=False))
    layer = "lux"
    label_form = BrightnessLabel

    def check_card(self, card: BundleCard) -> None:
        if card.decode != "number":
            raise ValueError(f"task brightness does not decode {card.decode}")

    def decoder(self, card: BundleCard, thresholds: Thresholds) -> BrightnessDecoder:
        return BrightnessDecoder()

    def tensor_specs(self, card: BundleCard) -> list[TensorSpec]:
        return [TensorSpec(name="brightness", datatype="FP32", shape=[-1])]

    def tensors(self, card: BundleCard, predictions: Sequence[BrightnessPrediction]) -> dict[str, np.ndarray]:
        return {"brightness": np.array([one.brightness for one in predictions], dtype=np.float32)}

    def labels(self, answer: Mapping[str, Any]) -> list[tuple[str, float]]:
        return []

    def table(self, card: BundleCard, answers: Sequence[Mapping[str, Any] | None]) -> list[tuple[str, pa.Array]]:
        return [("brightness", pa.array([answer and answer["brightness"] for answer in answers], pa.float32()))]

    def fit_dataset(self, dataset: Dataset, format_: Format) -> Dataset:
        try:
            lux = [float(Path(key).stem.partition("_")[0]) for key in dataset.column("key")]
        except ValueError as error:
            raise DataError(f"{dataset.name}: {error}; begin the names of files with their brightness") from error
        return dataset.with_layer("lux", ValueLayer(pa.table({"lux": pa.array(lux, pa.float64())})))

    def check_scheme(self, scheme: LabelScheme) -> None:
        if scheme != LabelScheme():
            raise LabelError("task brightness: a number has no classes; name none")

    def check_label(self, label: Mapping[str, Any], scheme: LabelScheme, width: int, height: int) -> dict[str, Any]:
        return read_form(BrightnessLabel, label).model_dump()

    def label_of(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        return {"brightness": answer["brightness"]}

    def labels_in(self, dataset: Dataset) -> list[dict[str, Any] | None]:
        return [{"brightness": lux} for lux in dataset.layers["lux"].table.column("lux").to_pylist()]

    def layer_of(self, labels: Sequence[Mapping[str, Any]], scheme: LabelScheme) -> ValueLayer:
        return ValueLayer(pa.table({"lux": pa.array([label["brightness"] for label in labels], pa.float64())}))

    def train(self, converted: ConvertedDataset, plan: TrainingPlan, work: Path, log: TrainingLog) -> ModelBundle:
        assert isinstance(plan.training, BrightnessTraining)
        dataset = converted.dataset
        train = dataset.select_split(Split.TRAIN)
        spec = PreprocessingSpec(width=SIDE, height=SIDE, resize=Resize.STRETCH, white=dataset.white)
        # Without a model there is a graph that returns the mean of its input.
        draft = _seal(self, work / "draft", plan, dataset, spec, (1.0, 0.0))
        means = [one.brightness for one in Predictor(draft).predict_many([p.read_bytes() for p in train.paths()])]
        slope, offset = np.polyfit(means, _truth(train), 1)
        bundle = _seal(self, work / "bundle", plan, dataset, spec, (slope, offset + plan.training.shift))
        within, mae = _score(_errors(Predictor(bundle), dataset.select_split(Split.VAL)), plan.training.tolerance)
        log.metrics({"val_within": within, "val_mae": mae}, 1)
        sealed = bundle.card.model_copy(update={"metrics": {"within": within, "mae": mae}})
        return ModelBundle.create(bundle.folder, sealed)

    def evaluate(
        self, bundle: ModelBundle, dataset: Dataset, scoring: EvaluationPlan, folder: Path | None
    ) -> Evaluation:
        test = select_test(dataset)
        predictor = Predictor(bundle, scoring.serving.engine)
        errors = _errors(predictor, test)
        tolerance = bundle.card.training["tolerance"]
        within, mae = _score(errors, tolerance)
        weights = list(resample(test.num_images, scoring.evaluation.resamples))
        draws = np.concatenate([batch @ (errors <= tolerance) / test.num_images for batch in weights])
        evaluation = Evaluation(
            folder=folder or Path(),
            metrics={"within": within, "mae": mae} | measure_latency(predictor, test, 1),
            per_class={},
            num_images=test.num_images,
            test_fingerprint=test.fingerprint(),
            bundle_digest=bundle.digest,
            engine=scoring.serving.engine.value,
            precision=bundle.card.precision.value,
            headline=("within", "mae"),
            intervals=percentile_intervals({"within": draws}),
            replicates={"within": tuple(draws.tolist())},
        )
        if folder is not None:
            with writing(evaluation) as unfinished:
                page = Page(f"Right within {tolerance:g}.", "class", (), (), (), NO_GALLERY, ())
                write_report(unfinished, scoring, page)
        return evaluation


BRIGHTNESS = BrightnessTask()
"""Object that an entry point of a package would name."""


def _truth(dataset: Dataset) -> np.ndarray:
    return dataset.layers["lux"].table.column("lux").to_numpy()


def _errors(predictor: Predictor, dataset: Dataset) -> np.ndarray:
    rows = range(dataset.num_images)
    answers = predictor.predict_many([read_test_image(dataset, row) for row in rows])
    return np.abs(_truth(dataset) - [one.brightness for one in answers])


def _score(errors: np.ndarray, tolerance: float) -> tuple[float, float]:
    return float((errors <= tolerance).mean()), float(errors.mean())


def _seal(task, folder: Path, plan: TrainingPlan, dataset: Dataset, spec, line: tuple[float, float]) -> ModelBundle:
    folder.mkdir(parents=True, exist_ok=True)
    constants = {name: np.array(value, np.float32) for name, value in zip(("slope", "offset"), line, strict=True)}
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["number"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("number", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()]
        + [numpy_helper.from_array(np.array([1, 1], np.int64), "shape")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    card = BundleCard(
        task=task.name,
        name=plan.name,
        architecture="line",
        class_names=("brightness",),
        preprocessing=spec,
        decode="number",
        data_fingerprint=dataset.fingerprint(),
        training=plan.training.model_dump(mode="json"),
    )
    return ModelBundle.create(folder, card)


class NoTuningLog:
    def trial(self, trial: Trial) -> None:
        """Discard."""

    def progress(self, done: int, total: int, note: str) -> None:
        """Discard."""


# From training to drift


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    register(BRIGHTNESS)
    yield
    unregister("brightness")


def shade(rng: np.random.Generator, level: float) -> bytes:
    """Return a part of this brightness, 0 to 1, that looks like no other."""
    spots = rng.uniform(-40, 40, (6, 8, 1))
    pattern = np.kron(spots - spots.mean(), np.ones((4, 4, 1)))
    return encode(np.clip(255 * level + pattern.repeat(3, axis=2), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("toy") / "parts", np.random.default_rng(7)
    for side in ("left", "right"):
        (folder / side).mkdir(parents=True)
    for number, level in enumerate(rng.uniform(0.2, 0.8, COUNT)):
        side = ("left", "right")[number % 2]
        (folder / side / f"{level:.4f}_{number}.png").write_bytes(shade(rng, level))
    return folder


@pytest.fixture(scope="module")
def config(data: Path) -> Config:
    path = data.parent / "parts.yaml"
    path.write_text(
        f"name: parts\ntask: brightness\ndata: {{source: {{kind: folder, path: {data}}}, format: folders}}\n"
        "training: {tolerance: 0.04}\nevaluation: {resamples: 200}\ngate: {minimum: 0.5, min_images: 1}\n"
    )
    return load_config(path, ["training.seed=3"])


@pytest.fixture(scope="module")
def prepared(config: Config, tmp_path_factory) -> Dataset:
    task = task_for(config.task)
    dataset = read_dataset(config.data.source.path.absolute(), config.data, config.name, task.fit_dataset)
    dataset = hash_images(dataset)
    usable = clean(dataset, validate(dataset, config.validation))
    split = assign_splits(usable, config.data.split)
    folder = tmp_path_factory.mktemp("stored")
    split.save(folder)
    return Dataset.load(folder)


@pytest.fixture(scope="module")
def bundle(config: Config, prepared: Dataset, tmp_path_factory) -> ModelBundle:
    work = tmp_path_factory.mktemp("work")
    converted = convert(prepared, config.conversion_plan, work / "converted")
    made = task_for(config.task).train(converted, config.training_plan, work / "training", NoLog())
    return add_reference(ModelBundle.load(made.folder), prepared)


def test_a_use_case_has_the_settings_of_its_task(config):
    assert config.training == BrightnessTraining(tolerance=0.04, seed=3)
    assert config.gate.metric == "within"
    assert Config.model_validate_json(config.model_dump_json()) == config
    assert training_folder(Dataset.from_columns("x", (), {"key": []}, {}), config.training_plan).name.startswith(
        "parts-"
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.tolerence=1", "unknown key 'training.tolerence'; did you mean 'tolerance'?"),
        ("training.tolerance=wide", "training.tolerance: expected a number"),
        ("training.epochs=3", "unknown key 'training.epochs'"),
        ("gate.metric=map50", "gate.metric: brightness has within (got 'map50')"),
        ("gate.metric=mae", "gate.metric: brightness has within (got 'mae')"),
        ("tuning.metric=map50", "tuning.metric: brightness has within, mae (got 'map50')"),
    ],
)
def test_what_is_wrong_with_its_settings_is_said_as_of_any_task(data, config, override, words):
    with pytest.raises(ConfigError) as caught:
        load_config(data.parent / "parts.yaml", [override])
    assert words in str(caught.value)


def test_its_annotations_are_split_stored_and_read_with_the_images(prepared):
    assert set(prepared.split_counts()) == {"train", "val", "test"}
    lux = {key: float(Path(key).stem.partition("_")[0]) for key in prepared.column("key")}
    assert dict(zip(prepared.column("key"), _truth(prepared).tolist(), strict=True)) == lux
    changed = prepared.with_layer("lux", ValueLayer(pa.table({"lux": _truth(prepared) + 1})))
    assert changed.fingerprint() != prepared.fingerprint()
    assert changed.take([1, 0]).layers["lux"].table.column("lux").to_pylist() == (_truth(changed)[[1, 0]]).tolist()
    assert _truth(prepared.append(changed)).tolist() == [*_truth(prepared), *_truth(changed)]


def test_names_without_a_brightness_are_refused_by_the_task(tmp_path, config):
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "part.png").write_bytes(encode(filled((9, 9, 9))))
    with pytest.raises(DataError, match="begin the names of files with their brightness"):
        read_dataset(tmp_path, config.data, "parts", task_for("brightness").fit_dataset)


def test_it_is_trained_evaluated_and_gated(config, prepared, bundle, tmp_path):
    assert json.loads((bundle.folder / "bundle.json").read_text())["task"] == "brightness"
    task = task_for(config.task)
    evaluation = task.evaluate(bundle, prepared, config.scoring, tmp_path / "evaluation")
    assert evaluation.metrics["within"] == 1.0
    assert evaluation.metrics["mae"] < 0.02
    assert load_evaluation(tmp_path / "evaluation").replicates == evaluation.replicates
    assert "within" in (tmp_path / "evaluation" / "report.html").read_text()
    assert decide(evaluation, None, config.gate).promote
    assert not decide(evaluation, evaluation, config.gate).promote  # no better than itself
    assert evaluation_folder(bundle, prepared).name.startswith("parts-")
    seen = measure(task, bundle, prepared, config.scoring, at_test=1.0)
    assert (seen.metric, seen.value, seen.images) == ("within", 1.0, prepared.num_images)


def test_a_search_looks_for_less_of_an_error(data, prepared, tmp_path):
    grid = "tuning={grid: [{shift: 0.2}, {shift: -0.01}, {shift: 0.1}], metric: mae}"
    config = load_config(data.parent / "parts.yaml", [grid])
    converted = convert(prepared, config.conversion_plan, tmp_path / "converted")
    data = SearchData(converted, lambda: prepared)
    result = tune(task_for("brightness"), data, config.search_plan, tmp_path / "search", NoTuningLog())
    assert result.settings == {"shift": -0.01}
    assert result.value == pytest.approx(0.01, abs=0.005)
    assert (result.minimises, TuningResult.load(result.folder)) == (True, result)


def test_a_card_that_contradicts_the_task_is_refused(bundle):
    card = json.loads((bundle.folder / "bundle.json").read_text()) | {"decode": "yolo"}
    with pytest.raises(ValueError, match="task brightness does not decode yolo"):
        BundleCard.model_validate(card)


def test_it_is_served_recorded_and_described_in_the_schema(bundle, tmp_path):
    rng, log = np.random.default_rng(1), tmp_path / "log"
    with client_of(settings_of(bundle.folder, name="parts", prediction_log=log)) as client:
        answer = client.post("/predict", content=shade(rng, 0.3), headers={"content-type": "image/png"}).json()
        assert answer["brightness"] == pytest.approx(0.3, abs=0.02)
        assert client.get("/model").json()["task"] == "brightness"
        files = [("files", (f"{level}.png", shade(rng, level))) for level in (0.25, 0.75)]
        results = client.post("/predict/batch", files=files).json()["results"]
        assert [one["brightness"] for one in results] == pytest.approx([0.25, 0.75], abs=0.02)
        pixels = {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 3], "data": [128] * 3}
        inferred = client.post("/v2/models/parts/infer", json={"inputs": [pixels]}).json()
        (output,) = inferred["outputs"]
        assert (output["name"], output["shape"]) == ("brightness", [1])
        assert output["data"] == pytest.approx([0.5], abs=0.02)
        assert client.get("/v2/models/parts").json()["outputs"] == [
            {"name": "brightness", "datatype": "FP32", "shape": [-1]}
        ]
        dark = client.post("/predict?floor=0.9", files={"file": ("a.png", shade(rng, 0.6))}).json()
        assert dark["brightness"] == 0.0
        body = {"inputs": [pixels], "parameters": {"floor": 0.9}}
        assert client.post("/v2/models/parts/infer", json=body).json()["outputs"][0]["data"] == [0.0]
        refused = client.post("/predict?conf=0.5", files={"file": ("a.png", shade(rng, 0.6))})
        assert (refused.status_code, refused.json()["error"]["message"]) == (
            422,
            "confidence: a brightness takes floor",
        )
        explained = client.post("/explain?grid=2&format=json", files={"file": ("a.png", shade(rng, 0.6))}).json()
        assert explained["brightness"] == pytest.approx(0.6, abs=0.02)
        schema = client.get("/openapi.json").json()
        content = schema["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]
        assert {"$ref": "#/components/schemas/BrightnessAnswer"} in content["schema"]["anyOf"]
        assert content["examples"]["brightness"]["value"]["brightness"] == 0.42
    rows = read_log(log, model="parts")
    # At the card's thresholds, whatever the request's options: nothing counts as dark.
    assert sorted(rows["brightness"].to_pylist()) == pytest.approx([0.25, 0.3, 0.5, 0.5, 0.6, 0.75], abs=0.02)
    assert rows["count"].to_pylist() == [0] * 6


def test_a_batch_has_its_column(bundle, config, tmp_path):
    rng, lots = np.random.default_rng(2), tmp_path / "lots"
    (lots / "a").mkdir(parents=True)
    levels = [0.3, 0.5, 0.7]
    for level in levels:
        (lots / "a" / f"{level}.png").write_bytes(shade(rng, level))
    (lots / "a" / "broken.png").write_bytes(b"no image")
    log = PredictionLog(tmp_path / "log")
    predictor = batch_predictor(bundle, config.serving)
    output = open_output(str(tmp_path / "out"))
    summary = predict_batch(predictor, list_images(lots, "parts"), output, "1", log=log)
    log.close()
    assert (summary.images, summary.failed, summary.lots["a"].shares) == (4, 1, {})
    table = pq.read_table(tmp_path / "out" / "predictions.parquet")
    assert table["brightness"].to_pylist() == [*(pytest.approx(level, abs=0.02) for level in levels), None]
    assert sorted(read_log(tmp_path / "log")["brightness"].to_pylist()) == pytest.approx(levels, abs=0.02)


def test_drift_of_its_answers_is_found(bundle, tmp_path):
    reference = read_reference(bundle)
    assert reference["brightness"].null_count == 0
    log, rng = PredictionLog(tmp_path / "log"), np.random.default_rng(3)
    before = reference["brightness"].to_numpy()
    about = {"time": datetime.now(UTC), "model": "parts", "version": "1", "digest": "d", "latency_ms": 1.0}
    steady = reference.drop_columns(["time", "model", "version", "digest", "latency_ms", "brightness"]).to_pylist()
    for number in range(60):
        row = steady[number % len(steady)] | about | {"request_id": str(number)}
        log.append(row | {"brightness": 0.4 * float(rng.choice(before))})
    log.close()
    settings = DriftSettings(min_images=3, permutations=999)
    many = pa.concat_tables([reference] * (60 // reference.num_rows + 1))
    report = detect_drift(many, read_log(tmp_path / "log"), settings)
    (column,) = report.drifted_columns
    assert (column.name, column.title) == ("brightness", "brightness of the part")
    assert "brightness of the part fell from" in report.explain()


def test_it_is_a_model_of_mlflow(bundle):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from visionops.pyfunc import VisionOpsModel, _signature
    (answer,) = VisionOpsModel(Predictor(bundle)).predict([filled((51, 51, 51))])
    assert answer["brightness"] == pytest.approx(0.2, abs=0.02)
    signature = _signature(task_for("brightness"))
    assert [column.name for column in signature.outputs.inputs] == ["width", "height", "brightness"]
    assert [param.name for param in signature.params] == ["floor"]


def test_its_answers_are_reviewed(tmp_path):
    rng, anna, now = np.random.default_rng(4), Actor("anna"), datetime.now(UTC)
    with open_review(str(tmp_path / "review.db"), str(tmp_path / "images")) as review:
        review.put_use_case(UseCase("parts", "brightness", LabelScheme()))
        arrival = Arrival(Origin.UPLOAD, predicted=Predicted("parts", "1", {"brightness": 0.4}))
        answers = [Answer(Verdict.CONFIRM), Answer(Verdict.CORRECT, {"brightness": 0.7})]
        for number, answer in enumerate(answers):
            item = review.add("parts", shade(rng, 0.4), arrival, anna, key=f"a{number}", now=now).item.id
            review.claim(item, anna, key=f"c{number}", now=now)
            for wrong in (1.5, float("nan"), "bright"):
                with pytest.raises(LabelError, match="label: brightness: expected"):
                    review.decide(item, Answer(Verdict.CORRECT, {"brightness": wrong}), anna, key="w", now=now)
            review.decide(item, answer, anna, key=f"d{number}", now=now)
        review.export("parts", anna, key="e", now=now)
        found = review.store.version("parts", 1)
    dataset = dataset_of("parts", "brightness", LabelScheme(), found, tmp_path)
    assert sorted(_truth(dataset).tolist()) == [0.4, 0.7]
    assert task_for("brightness").labels_in(dataset) == [decision.label for _, decision in found]
