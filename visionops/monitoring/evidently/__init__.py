"""Run Evidently beside our own verdict: its reports, plots, history and, optionally, its own tests.

Importing a module of this package imports Evidently, which takes seconds and is not installed in servers. Only the
drift step imports them, when it runs.

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

# Set before Evidently is imported, because its telemetry is on by default.
os.environ.setdefault("DO_NOT_TRACK", "1")

with warnings.catch_warnings():
    # Ignore its import warnings about outdated names in NumPy and Litestar, which only concern its authors.
    warnings.simplefilter("ignore")
    import evidently.ui.workspace  # noqa: F401
