"""Search for better settings with a converted data set."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from materializers.tuning import TuningMaterializer
from stacks.tracking import active_run
from steps.progress import announce, progress
from steps.tuning_log import RunTuningLog
from visionops.data.dataset import Split
from visionops.data.shards import StoredDataset
from visionops.tasks.converted import ConvertedDataset
from visionops.tasks.spec import task_for
from visionops.tuning.data import SearchData
from visionops.tuning.result import TuningResult
from visionops.tuning.search import tune, tuning_folder
from visionops.tuning.settings import SearchPlan

__all__ = ["search"]


# Not cached: the study stores every trial, and the newest result has the best settings so far.
@step(enable_cache=False, experiment_tracker=True, output_materializers={"tuning": TuningMaterializer})
def search(converted: ConvertedDataset, prepared: StoredDataset, plan: SearchPlan) -> Annotated[TuningResult, "tuning"]:
    """Search for settings, or resume an interrupted search.

    Only trials that change settings of the conversion convert ``prepared`` again, and only then are its images fetched.
    """
    trials = len(plan.tuning.grid) or plan.tuning.trials
    with progress("tune", trials) as report:
        log = RunTuningLog(active_run(), report, plan.metric)
        data = SearchData(converted, lambda: prepared.only(Split.TRAIN, Split.VAL))
        result = tune(task_for(plan.plan.task), data, plan, tuning_folder(converted.dataset, plan), log)
    log.finish(result)
    log_metadata({"study": result.study})
    announce(f"best val {result.metric} {result.value:.4f} in trial {result.best} of {len(result.trials)}")
    return result
