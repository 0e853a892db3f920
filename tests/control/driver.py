"""``python -m tests.control.driver DATABASE FOLDER EVENTS``: run a service without routes, for tests that kill it.

Queue, launcher, child and runs are real; a run only writes when it begins and ends.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.control.runs.processes import ProcessLauncher
from deploy.control.runs.runner import Runner
from tests.conftest import ROOT
from visionops.review_store.database import Database
from visionops.review_store.runs import SqlRunStore
from visionops.runs.states import Run

WORK = """
import json, os, sys, time
events, run, use_case, seconds, how = sys.argv[1:6]
def tell(what):
    with open(events, "a") as file:
        file.write(json.dumps({"what": what, "run": run, "use_case": use_case, "at": time.time()}) + "\\n")
tell("begin")
try:
    for i in range(10):
        print(f"  train: {i}/10", file=sys.stderr, flush=True)
        time.sleep(float(seconds) / 10)
except KeyboardInterrupt:
    if how == "stubborn":
        time.sleep(600)
    tell(f"interrupted, {os.environ.get('VISIONOPS_INTERRUPT')}")
    sys.exit(130)
if how == "fails":
    sys.exit("error: steel: no images")
with open(sys.argv[-1], "w") as file:
    json.dump({"use_case": use_case}, file)
tell("end")
"""


def runner(database: str, folder: Path, events: Path, grace: float = 1.0) -> tuple[Runner, SqlRunStore]:
    store = SqlRunStore(Database(database))

    def command(run: Run) -> list[str]:
        seconds, _, how = run.request.reason.partition(" ")
        return [sys.executable, "-c", WORK, str(events), run.id, run.request.use_case, seconds, how]

    made = Runner(
        store,
        ProcessLauncher(folder, ROOT),
        f"{os.getpid()}",
        command,
        lambda: datetime.now(UTC),
        grace=timedelta(seconds=grace),
        lease=timedelta(seconds=1),
        tick_seconds=0.05,
    )
    return made, store


if __name__ == "__main__":
    driven, _ = runner(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    driven.start()
    print("started", flush=True)  # noqa: T201
    while True:
        time.sleep(60)
