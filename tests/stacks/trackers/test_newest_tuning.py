"""Test that `--tuned` finds the newest result among ZenML's artifacts with any tracker."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from materializers.tuning import TuningMaterializer
from stacks.apply import apply
from steps.tuned import newest_tuning
from visionops.errors import VisionOpsError
from visionops.tuning.result import Trial, TrialState, TuningResult

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


@pytest.fixture
def keep(zenml_home: Path, tmp_path: Path):
    """Return a function that stores a result as the step `search` does and returns the artifact."""
    from zenml import save_artifact
    from zenml.client import Client

    apply("local")
    Client().activate_stack("local")

    def keep(use_case: str, settings: dict[str, Any]) -> Any:
        folder = tmp_path / f"{use_case}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        trials = (Trial(number=0, state=TrialState.COMPLETE, settings=settings, value=0.5),)
        result = TuningResult(
            folder=folder,
            use_case=use_case,
            study="s",
            metric="map50",
            settings=settings,
            best=0,
            value=0.5,
            trials=trials,
        )
        result.save(folder)
        for name in ("report.html", "history.png"):
            (folder / name).write_bytes(b"")
        return save_artifact(result, name="tuning", materializer=TuningMaterializer)

    return keep


def test_the_newest_result_of_the_use_case_counts(keep):
    keep("toy", {"batch": 8})
    keep("toy", {"batch": 12, "learning_rate": 0.012345678901234})
    keep("other", {"batch": 99})
    found = newest_tuning("toy")
    assert found.settings == {"batch": 12, "learning_rate": 0.012345678901234}
    assert type(found.settings["batch"]) is int


def test_a_result_of_an_earlier_release_is_known_by_its_file(keep, monkeypatch):
    extract = TuningMaterializer.extract_metadata

    def of_before(self, data):
        return {key: value for key, value in extract(self, data).items() if key != "use_case"}

    monkeypatch.setattr(TuningMaterializer, "extract_metadata", of_before)
    keep("toy", {"batch": 8})
    gone = keep("other", {"batch": 99})
    assert newest_tuning("toy").settings == {"batch": 8}
    shutil.rmtree(gone.uri)
    assert newest_tuning("toy").settings == {"batch": 8}


def test_none_yet_is_one_line_with_what_to_do(keep):
    keep("other", {})
    with pytest.raises(VisionOpsError, match=r"--tuned: toy has no finished tuning; run .* --pipeline tuning$"):
        newest_tuning("toy")


def test_a_result_whose_files_are_gone_is_one_line(keep):
    keep("toy", {"batch": 4})
    shutil.rmtree(keep("toy", {"batch": 8}).uri)
    with pytest.raises(VisionOpsError, match=r"--tuned: toy: the files of the newest tuning are gone from /") as caught:
        newest_tuning("toy")
    assert "\n" not in str(caught.value)
