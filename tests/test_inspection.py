"""`--inspect`: the description of a data set, its pages, and a use case that trains it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import run
from tests.helpers.datasets import coco, write_folders, write_image, write_json, write_taco, write_vision
from visionops import inspection
from visionops.config import load_config
from visionops.data.formats import read_dataset
from visionops.tasks.spec import task_for

ROOT = Path(__file__).resolve().parents[1]


def inspect(path: Path, tmp_path: Path, *flags: str) -> tuple[int, Path]:
    output = tmp_path / "pages"
    return run.main(["--inspect", str(path), "--output", str(output), *flags]), output


def test_a_coco_export_of_two_subsets(tmp_path, capsys):
    root = tmp_path / "My parts_v2"
    for subset, names in (("Train", ["a.jpg", "b.jpg"]), ("Validation", ["c.jpg"])):
        for i, name in enumerate(names):
            write_image(root / f"images/{subset}/{name}", seed=len(subset) + i)
        content = coco(names, {name: [("pit", (1, 2, 8, 9))] for name in names}, ["pit"])
        write_json(root / f"annotations/instances_{subset}.json", content)
    code, pages = inspect(root, tmp_path)
    printed = capsys.readouterr().out
    assert code == 0
    assert printed.startswith("CVAT COCO 1.0, 2 subsets: 3 images, 3 boxes, 1 class; no test split")
    assert "format    coco: annotations/instances_Train.json has images, annotations and categories" in printed
    assert sorted(p.name for p in pages.iterdir()) == ["card.html", "labels.html", "my-parts-v2.yaml", "report.json"]
    assert json.loads((pages / "report.json").read_text())["counts"]["classes"] == {"pit": {"train": 2, "val": 1}}
    assert f"python run.py --config {pages / 'my-parts-v2.yaml'}" in printed
    config = load_config(pages / "my-parts-v2.yaml", [])
    assert read_dataset(root, config.data, config.name, task_for(config.task).fit_dataset).split_counts() == {
        "train": 2,
        "val": 1,
    }
    assert config.training.image_size == 64, "small images are not blown up"


def test_an_archive_and_a_task_of_classes(tmp_path, capsys):
    write_folders(tmp_path / "in/castings", {"train/ok": [1, 2], "train/bad": [3], "val/ok": [4], "val/bad": [5]})
    archive = shutil.make_archive(str(tmp_path / "castings"), "zip", tmp_path / "in")
    code, pages = inspect(Path(archive), tmp_path)
    assert code == 0
    assert "image folders, train, val, each with 2 classes: 5 images, 2 classes; no test" in capsys.readouterr().out
    written = yaml.safe_load((pages / "castings.yaml").read_text())
    assert written["task"] == "classification"
    assert written["data"] == {"source": {"kind": "archive", "path": archive}, "format": "folders"}


def test_several_plausible_readings_are_named_and_one_can_be_chosen(tmp_path, capsys):
    root = write_taco(tmp_path / "taco")
    (root / "notes.xml").write_text(
        "<annotation><filename>x.jpg</filename><size><width>9</width><height>9</height></size></annotation>"
    )
    write_image(root / "x.jpg")
    code, pages = inspect(root, tmp_path)
    error = capsys.readouterr().err
    assert code == 2
    assert "may be read in 2 ways: coco (" in error
    assert "voc (" in error
    assert not pages.exists()
    assert inspect(root, tmp_path, "--set", "data.format=coco")[0] == 0


def test_choices_of_label_studio_are_a_use_case_of_classification(tmp_path):
    tasks = []
    for i in range(12):
        write_image(tmp_path / "parts" / f"{i}.jpg", seed=i)
        value = {"choices": ["ok" if i % 2 else "worn"]}
        result = {"type": "choices", "from_name": "wear", "to_name": "image", "value": value}
        tasks.append({"id": i, "data": {"image": f"{i}.jpg"}, "annotations": [{"result": [result]}]})
    write_json(tmp_path / "parts" / "project.json", tasks)
    status, pages = inspect(tmp_path / "parts", tmp_path)
    config = load_config(pages / "parts.yaml")
    assert (status, config.task, config.data.format.value) == (0, "classification", "label_studio")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "no such folder or archive"),
        (lambda p: p.mkdir(), "no labels that any reader knows (0 files: none)"),
        (lambda p: write_image(p / "a.jpg"), "no labels that any reader knows (1 file: 1 x .jpg); add the labels"),
        (lambda p: write_json(p / "data.zip", {}), "unpack data.zip"),
        (lambda p: p.write_text("hello"), "not a whole"),
    ],
)
def test_an_invalid_data_set_is_one_line(tmp_path, capsys, make, words):
    make(tmp_path / "thing")
    assert inspect(tmp_path / "thing", tmp_path)[0] == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.rstrip().count("\n") == 0 or "inspect" in error


@pytest.mark.parametrize(
    "flags", [["--pipeline", "tuning"], ["--stack", "local"], ["--set", "training.epochs=3"], ["--dry-run"]]
)
def test_flags_of_pipelines_do_not_go_with_it(tmp_path, capsys, flags):
    with pytest.raises(SystemExit):
        run.main(["--inspect", str(tmp_path), *flags])
    assert "--inspect" in capsys.readouterr().err


def test_only_a_part_of_a_large_data_set_is_decoded_and_reported(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(inspection, "MOST_DECODED", 10)
    write_folders(tmp_path / "parts", {"ok": list(range(20)), "bad": list(range(20, 40))})
    (tmp_path / "parts/ok/3.png").write_bytes(b"no image")
    assert inspect(tmp_path / "parts", tmp_path)[0] == 0
    printed = capsys.readouterr().out
    assert "decoded   24 of 40 images; for the others only the headers were read" in printed
    assert "error   not_an_image x 1" in printed, "headers are read of all"
    assert "training would stop on the errors above" in printed


def test_it_starts_neither_zenml_nor_a_trainer(tmp_path):
    write_vision(tmp_path / "vision")
    code = (
        "import sys, run\n"
        f"assert run.main(['--inspect', {str(tmp_path / 'vision')!r}, '--output', {str(tmp_path / 'pages')!r}]) == 0\n"
        "print(json.dumps([m for m in ('zenml', 'torch', 'mlflow', 'ultralytics') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import json\n{code}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
