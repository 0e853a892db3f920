import pytest
from zenml.utils import source_utils

from visionops.batch.answers import BatchAnswers
from visionops.batch.report import BatchSummary
from visionops.data.validation.inspected import InspectedImages
from visionops.data.validation.report import ValidationReport
from visionops.monitoring.drift.report import DriftReport


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        ("visionops.batch.BatchAnswers", BatchAnswers),
        ("visionops.batch.BatchSummary", BatchSummary),
        ("visionops.data.validation.InspectedImages", InspectedImages),
        ("visionops.data.validation.ValidationReport", ValidationReport),
        ("visionops.monitoring.drift.DriftReport", DriftReport),
    ],
)
def test_artifacts_of_earlier_runs_stay_readable(stored, kind):
    """An artifact store names an artifact's class by a module that has since become a package."""
    assert source_utils.load(stored) is kind
