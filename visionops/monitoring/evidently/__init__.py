"""Evidently beside our own verdict: its reports, plots, history and, by choice, its own tests.

Importing a module of this package brings Evidently, which takes seconds and is in no server: only the step that looks
for drift imports them, when it runs.

    frames      records as the data frames that Evidently reads
    stattests   our tests, registered with Evidently
    report      one `Report`: drift of each column, their number, summary statistics and missing values
    preset      the verdict by Evidently's own choice of tests and thresholds
    workspace   snapshots, for `evidently ui`
    page        our verdict, and below it Evidently's report
"""

from __future__ import annotations

import os
import warnings

# Before Evidently is imported: its telemetry is on otherwise.
os.environ.setdefault("DO_NOT_TRACK", "1")

with warnings.catch_warnings():
    # What it warns of while it is imported concerns its authors: NumPy's and Litestar's old names.
    warnings.simplefilter("ignore")
    import evidently.ui.workspace  # noqa: F401
