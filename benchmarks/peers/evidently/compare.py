"""``python compare.py PAIRS.parquet``: what Evidently's ``DataDriftPreset`` says of each pair of tables, as JSON lines.

Columns of the file: ``pair`` (a number), ``is_current`` (False: the reference's side), and the features to compare.
"""

from __future__ import annotations

import json
import os
import sys
import warnings

os.environ["DO_NOT_TRACK"] = "1"  # before the import, which would otherwise report home

import pandas as pd
from evidently import Report
from evidently.metrics.column_statistics import ValueDriftCalculation
from evidently.presets import DataDriftPreset

warnings.filterwarnings("ignore")
# Its drawings take four fifths of the time and decide nothing.
ValueDriftCalculation._render = lambda *_: []
DataDriftPreset.render = lambda *_, **__: []


def main(path: str) -> None:
    """A line for each pair, in their order: ``{"drifted": true, "columns": ["sharpness"]}``."""
    for _, both in pd.read_parquet(path).groupby("pair"):
        reference, current = (both[both.is_current == side].drop(columns=["pair", "is_current"]) for side in (0, 1))
        print(json.dumps(compare(reference, current)), flush=True)


def compare(reference: pd.DataFrame, current: pd.DataFrame) -> dict[str, object]:
    """By the status of the tests: which way a score points depends on the method that was chosen for a column."""
    found = Report([DataDriftPreset()], include_tests=True).run(current, reference).dict()
    failed = [test["metric_config"]["params"] for test in found["tests"] if test["status"] == "FAIL"]
    return {
        "drifted": any(params["type"].endswith("DriftedColumnsCount") for params in failed),
        "columns": [params["column"] for params in failed if params["type"].endswith("ValueDrift")],
    }


if __name__ == "__main__":
    main(sys.argv[1])
