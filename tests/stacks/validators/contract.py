"""Check the contract of every data validator on images and on traffic, as steps use it.

A validator passes when `check_validator` does for a component of its flavor.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zenml.data_validators.base_data_validator import BaseDataValidator, BaseDataValidatorFlavor
from zenml.enums import StackComponentType

from stacks.validators.active import ValidatorRole, has_role
from tests.helpers import images
from tests.helpers.images import dataset_of
from tests.monitoring.test_drift import records
from visionops.data.findings import Code, Finding
from visionops.data.settings import ValidationPolicy
from visionops.data.validation.inspected import InspectedImages
from visionops.data.validation.report import ValidationReport
from visionops.data.validation.validator import validate_by
from visionops.monitoring.drift.report import DriftReport
from visionops.monitoring.settings import DriftSettings

POLICY = ValidationPolicy(min_images=1, min_instances=0)
QUICK = DriftSettings(permutations=199)


def component(flavor: BaseDataValidatorFlavor, **settings: Any) -> Any:
    """Create a data validator as ZenML does when it loads a stack."""
    now = datetime.now(UTC)
    return flavor.implementation_class(
        name="mine",
        id=uuid.uuid4(),
        config=flavor.config_class(**settings),
        flavor=flavor.name,
        type=StackComponentType.DATA_VALIDATOR,
        user=None,
        created=now,
        updated=now,
    )


def check_validator(validator: Any, folder: Path) -> None:
    """Validate images in one part and in several, then look for drift."""
    assert isinstance(validator, BaseDataValidator)
    assert all(has_role(type(validator), role) for role in ValidatorRole)
    _check_images(validator, folder)
    _check_drift(validator)


def _check_images(validator: Any, folder: Path) -> None:
    files = {f"{seed}.jpg": images.jpeg(seed) for seed in range(5)}
    boxes = [("1.jpg", 0, (5.0, 5.0, 20.0, 20.0))]
    dataset = dataset_of(folder / "images", files | {"cut.jpg": images.truncated_jpeg()}, boxes=boxes)
    assert isinstance(validator.identity, str)
    counts: list[int] = []
    whole = validate_by(validator, dataset, POLICY, counts.append)
    assert counts[-1] == dataset.num_images
    assert whole.facts["key"].to_pylist() == dataset.column("key")

    findings = validator.data_validation(dataset, policy=POLICY)
    assert findings == whole.findings
    assert all(isinstance(finding, Finding) for finding in findings)
    (truncated,) = validator.data_validation(dataset, policy=POLICY, check_list=[Code.TRUNCATED])
    assert truncated.where == "cut.jpg"

    card = validator.data_profiling(dataset, policy=POLICY)
    assert card == whole.card
    assert card.lstrip().lower().startswith("<!doctype html>")

    parts = []
    for shard in (1, 0):  # in any order, each on a machine with only these images
        kept = folder / f"shard-{shard}"
        kept.mkdir()
        validator.inspect_images(dataset.shard(shard, 2), POLICY).save(kept)
        parts.append(InspectedImages.load(kept))
    paths = dict(zip(dataset.column("key"), dataset.column("path"), strict=True))
    elsewhere = dataset.replace_column("path", [""] * dataset.num_images)
    joined = validator.validate_images(
        elsewhere, parts, POLICY, lambda some: some.replace_column("path", [paths[key] for key in some.column("key")])
    )
    assert joined == whole
    assert joined.card == whole.card
    whole.save(folder / "report")
    assert ValidationReport.load(folder / "report") == whole


def _check_drift(validator: Any) -> None:
    reference, darker = records(100), records(60, 1, brightness=0.2)
    found = validator.detect_drift(reference, darker, QUICK, "steel")
    assert "feature_brightness" in {column.name for column in found.report.drifted_columns}
    assert found.problem == ""
    assert "brightness" in found.page
    report = validator.data_validation(reference, darker, settings=QUICK, use_case="steel")
    assert isinstance(report, DriftReport)
    assert report.columns == found.report.columns
    assert "brightness" in validator.data_profiling(reference, darker, settings=QUICK, use_case="steel")
    assert not validator.data_validation(reference, reference, settings=QUICK).drifted
