import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionops.config import load_config
from visionops.data.findings import Code, Severity
from visionops.data.settings import FolderSource, SampleSource
from visionops.errors import ConfigError

PARTS = ("use_case", "training_plan", "scoring", "gate_plan", "quantization_plan", "search_plan")
"""Settings that steps receive, by their names in `Config`."""

ROOT = Path(__file__).resolve().parents[2]

MINIMAL = """\
name: casting
data:
  source:
    kind: folder
    path: images
training:
  epochs: 3
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "case.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_loads(path):
    assert load_config(path).name == path.stem


def test_reads_what_is_written_and_fills_in_defaults(tmp_path):
    config = load_config(written(tmp_path, MINIMAL))
    assert config.data.source == FolderSource(kind="folder", path=Path("images"))
    assert (config.training.epochs, config.training.model) == (3, "yolov8n")


def test_overrides_win_over_the_file(tmp_path):
    overrides = ["training.epochs=5", "validation.severities={leak: error}", "data.source.kind=sample"]
    config = load_config(written(tmp_path, MINIMAL.replace("    path: images\n", "")), overrides)
    assert config.training.epochs == 5
    assert config.validation.severities == {Code.LEAK: Severity.ERROR}
    assert isinstance(config.data.source, SampleSource)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (MINIMAL.replace("epochs", "epoch"), 7, "did you mean 'epochs'?"),
        (MINIMAL + "gates: {}\n", 8, "did you mean 'gate'?"),
        (MINIMAL.replace("path: images", "path: images\n    recursive: true"), 6, "known here: kind, path"),
        (MINIMAL.replace("epochs: 3", "epochs: many"), 7, "training.epochs"),
        (MINIMAL.replace("epochs: 3", "epochs: 0"), 7, "expected 1 or more"),
        (MINIMAL.replace("kind: folder", "kind: ftp"), 3, "'folder', 'archive', 'url', 'package', 'sample'"),
        (MINIMAL.replace("    path: images\n", ""), 3, "'data.source.path' is missing"),
        (MINIMAL.replace("name: casting", "name: Casting Parts"), 1, "name"),
        (MINIMAL + "training: {}\n", 8, "duplicate key 'training'"),
        (MINIMAL + "{{ name }}: 1\n", 8, "a key must be a text"),
        (MINIMAL + "gate: [1\n", 9, "not valid YAML"),
        (MINIMAL + "data.split: {}\n", 8, "unknown key"),
        ("- a\n- b\n", 1, "must be a mapping"),
        ("", 1, "is empty; write a line for each setting, such as 'name: …'"),
        (
            MINIMAL + "gate: {metric: map75}\n",
            8,
            "gate.metric: did you mean 'map50'? detection has map50, map50_95, precision, recall, f1 (got 'map75')",
        ),
        (MINIMAL + "validation:\n  severities: {leek: error}\n", 9, "severities"),
        (
            MINIMAL + "evaluation:\n  resamples: 0\n",
            9,
            "evaluation.resamples: gate.confidence 0.95 needs 100 or more (got 0); raise it, or set gate.confidence: 0",
        ),
        (MINIMAL + "evaluation: {resamples: 499}\ngate: {confidence: 0.99}\n", 8, "0.99 needs 500 or more (got 499)"),
        (MINIMAL + "gate:\n  per_class_minimum: {crazing: 2}\n", 9, "gate.per_class_minimum: must be a number from 0"),
        (MINIMAL + "gate: {per_class_minimum: high}\n", 8, "for each class: {crack: 0.5} (got 'high')"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_fix(tmp_path, text, line, words):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epoch=3", "did you mean 'epochs'?"),
        ("training.epochs=many", "expected a whole number, such as 3"),
        ("training.tiles={size: 640, overlaps: 128}", "did you mean 'overlap'?"),
        ("training.tiles={size: 640, overlap: 400}", "training.tiles: overlap 400 is more than half a tile of 640"),
        ("training.tiles.size=640", "'training.tiles.overlap' is missing"),
        ("training.epochs.x=1", "holds a value"),
        ("training.epochs", "expected key=value"),
        ("=3", "expected key=value"),
        ("gate={minimum: 2}", "expected 1 or less"),
        ("gate=[1", "not valid YAML"),
        ("data.split={val: 0.5, test: 0.5}", "less than a tenth"),
    ],
)
def test_a_wrong_override_is_named(tmp_path, override, words):
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, MINIMAL), [override])
    assert f"--set {override}" in str(caught.value)
    assert words in str(caught.value)


def test_a_gate_without_resamples_must_be_explicit(tmp_path):
    margin_alone = ["evaluation.resamples=0", "gate.confidence=0", "gate.per_class_minimum={crazing: 0.2}"]
    config = load_config(written(tmp_path, MINIMAL), margin_alone)
    assert config.gate.least_resamples == 0
    assert config.gate.per_class_minimum == {"crazing": 0.2}
    assert load_config(written(tmp_path, MINIMAL), ["gate.per_class_minimum=0.2"]).gate.per_class_minimum == 0.2


@pytest.mark.parametrize("part", PARTS)
def test_settings_of_steps_pass_the_same_checks(tmp_path, part):
    strict = load_config(written(tmp_path, MINIMAL), ["evaluation.resamples=10000", "gate.confidence=0.999"])
    given = getattr(strict, part)
    assert type(given).model_validate_json(given.model_dump_json()) == given


def test_a_missing_file_names_the_ones_that_exist(tmp_path):
    written(tmp_path, MINIMAL)
    with pytest.raises(ConfigError, match=r"no such configuration; did you mean .*/case\.yaml\?"):
        load_config(tmp_path / "cases.yaml")


def test_a_use_case_is_found_by_its_name_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    written(tmp_path / "configs", MINIMAL)
    for named in ("case", "configs/case", "case.yml"):
        with pytest.raises(ConfigError, match=rf"^{named}: no such configuration; did you mean configs/case\.yaml\?$"):
            load_config(Path(named))
    with pytest.raises(ConfigError, match=r"^zzz: no such configuration; there are: configs/case\.yaml$"):
        load_config(Path("zzz"))


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "case.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(ConfigError, match="is no text in UTF-8; give a YAML file"):
        load_config(path)


def test_a_folder_is_answered_with_its_files(tmp_path):
    with pytest.raises(ConfigError, match=r"is a folder; give one of its files: it has no \.yaml file$"):
        load_config(tmp_path)
    path = written(tmp_path, MINIMAL)
    with pytest.raises(ConfigError, match=rf"is a folder; give one of its files: {re.escape(path.as_posix())}$"):
        load_config(tmp_path)


def test_a_file_that_may_not_be_read_is_named_with_the_fix(tmp_path, monkeypatch):
    path = written(tmp_path, MINIMAL)

    def refuse(*_: object, **__: object) -> str:  # root may read everything
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError, match=r"no permission to read it; chmod u\+r "):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\ndata:\n\tsource: 1\n", ":3: not valid YAML at column 1: found character '\\t' that cannot start"),
        ("name: x\ndata:\n\tsource: 1\n", "; indent with spaces, not with tabs"),
        (
            "name: x\ndata: {source: {kind: sample}\ngate: {}\n",
            "; a bracket or brace that is opened before is not closed",
        ),
        ("name: a: b\n", ":1: not valid YAML at column 8: mapping values are not allowed here; indent keys alike"),
        ("# nothing\n", ":1: is empty; write a line for each setting"),
        ("just words\n", ":1: must be a mapping of settings; write a line for each setting"),
    ],
)
def test_bad_yaml_is_named_with_line_column_and_fix(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    assert message in str(caught.value)


def test_a_gate_may_judge_by_what_a_run_prints_and_a_search_only_by_what_val_gives(tmp_path):
    assert load_config(written(tmp_path, MINIMAL), ["gate.metric=f1"]).gate_plan.scoring.metric == "f1"
    search = ["gate.metric=f1", "tuning.space={learning_rate: {low: 0.001, high: 0.01}}"]
    with pytest.raises(
        ConfigError, match=r"tuning\.metric: is missing, and gate\.metric f1 is known on test alone; set it"
    ):
        load_config(written(tmp_path, MINIMAL), search)
    assert load_config(written(tmp_path, MINIMAL), [*search, "tuning.metric=recall"]).search_plan.metric == "recall"
    with pytest.raises(
        ConfigError, match=r"tuning\.metric: detection has map50, map50_95, precision, recall \(got 'f1'"
    ):
        load_config(written(tmp_path, MINIMAL), ["tuning.metric=f1"])


def test_steps_receive_only_the_settings_they_read(tmp_path):
    first = load_config(written(tmp_path, MINIMAL), ["gate.minimum=0.9"])
    second = load_config(written(tmp_path, MINIMAL), ["gate.minimum=0.1", "data.source.path=elsewhere"])
    assert first.training_plan == second.training_plan
    assert first.scoring == second.scoring
    assert first.gate_plan != second.gate_plan
    assert first.training_plan.training.epochs == 3
    cut = first.model_copy(update={"validation": first.validation.model_copy(update={"shards": 20})})
    assert cut.validation.without_shards() == first.validation
    assert (cut.training_plan, cut.gate_plan) == (first.training_plan, first.gate_plan)


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_one_clear_line(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "case.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        message = load_config(path).name
    except ConfigError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_use_case_survives_being_written_and_read_as_steps_pass_it(path):
    config = load_config(path)
    for part in (config, config.data, *(getattr(config, name) for name in PARTS)):
        assert type(part).model_validate(part.model_dump(mode="json")) == part
        assert type(part).model_validate(part.model_dump(mode="json", exclude_unset=True)) == part


def test_no_training_seals_int8():
    with pytest.raises(
        ConfigError, match=r"serving\.precision: training does not support int8; .* run --pipeline quantize"
    ):
        load_config(Path("configs/sample.yaml"), ["serving.precision=int8"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("/data/a #1/b", "/data/a #1/b"),
        ("#1/b", "#1/b"),
        ('/data/50% [x] {y}/it\'s "z" & c', '/data/50% [x] {y}/it\'s "z" & c'),
        ("'/data/a #1'", "/data/a #1"),
        ('"./[x] #1"', "[x] #1"),
    ],
)
def test_a_folder_of_any_name_can_be_set(tmp_path, text, value):
    path = tmp_path / "case.yaml"
    path.write_text("name: case\ntask: detection\ndata:\n  source: {kind: folder, path: images}\n")
    assert load_config(path, [f"data.source.path={text}"]).data.source.path == Path(value)
