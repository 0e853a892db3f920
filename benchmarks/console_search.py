"""Time searches of the console over many images: ``python -m benchmarks.console_search [--images N] [PLACE ...]``.

It fills each PLACE with a review of synthetic rows, without images. A PLACE is a new SQLite file or an empty PostgreSQL
database (``postgresql://user@host/database``, password in PGPASSWORD); existing rows are reused. It prints the median
and the 95th percentile of each filter and of all filters, and the CPU time of this process, which is more reliable on a
busy machine for SQLite, as SQLite runs inside the process.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from visionops.review.checks import digest_of
from visionops.review.findings import findings_in
from visionops.review.items import Origin, UseCase, decision_id, item_id
from visionops.review.searching import ClassSource, Search
from visionops.review.states import State, Verdict
from visionops.review_store.database import Database
from visionops.review_store.models import DecisionRow, ImageRow, ItemRow, SubmissionRow
from visionops.review_store.search_models import LABEL, MODEL, FindingRow
from visionops.review_store.store import SqlReviewStore
from visionops.tasks.labelling import LabelScheme

CLASSES = tuple(f"defect-{number}" for number in range(12))
START = datetime(2026, 1, 1, tzinfo=UTC)
BLOCK = 2000
WORDS = (
    "scratch",
    "near",
    "edge",
    "reflection",
    "dirt",
    "lens",
    "bent",
    "part",
    "wrong",
    "unsure",
    "repeat",
    "worn",
    "oil",
)
SEARCHES = {
    "everything": Search("steel"),
    "page 500": Search("steel", page=500),
    "frequent class": Search("steel", names=("defect-0",)),
    "rare class": Search("steel", names=("defect-11",)),
    "class of a label": Search("steel", names=("defect-3",), said_by=ClassSource.LABEL),
    "two classes": Search("steel", names=("defect-0", "defect-5")),
    "confidence 0.45 to 0.55": Search("steel", confidence_from=0.45, confidence_to=0.55),
    "class and confidence": Search("steel", names=("defect-2",), confidence_from=0.3, confidence_to=0.5),
    "one day": Search("steel", added_from=date(2026, 3, 1), added_to=date(2026, 3, 1)),
    "lot": Search("steel", reference="lot-0042"),
    "lots that begin with": Search("steel", reference="lot-00*"),
    "origin": Search("steel", origin=Origin.UPLOAD),
    "model version": Search("steel", model_version="2"),
    "pending": Search("steel", states=(State.PENDING,)),
    "verdict": Search("steel", verdict=Verdict.REJECT),
    "word in comments": Search("steel", text="reflection"),
    "rare words in comments": Search("steel", text="operator 77"),
    "nothing found": Search("steel", text="no such words", names=("defect-0",)),
    "all at once": Search(
        "steel",
        names=("defect-0",),
        confidence_from=0.2,
        added_from=date(2026, 2, 1),
        origin=Origin.TRAFFIC,
        model_version="2",
        states=(State.PENDING, State.DECIDED),
        text="edge",
    ),
}


def main() -> int:
    """Fill each place, time the searches, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="*", help="databases; a temporary SQLite file when absent")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=20, help="repetitions of each filter")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for place in options.places or [str(Path(folder) / "review.db")]:
            database = Database(place)
            store = SqlReviewStore(database)
            store.put_use_case(UseCase("steel", "detection", LabelScheme(class_names=CLASSES)))
            if not store.search(Search("steel")).count:
                fill(database, options.images)
            print(f"{'PostgreSQL' if database.is_postgres else 'SQLite'}, {options.images} images", flush=True)
            report(store, options.repeat)
            database.close()
    return 0


def report(store: SqlReviewStore, repeat: int) -> None:
    """Print a line for each filter, in ms."""
    every: list[float] = []
    used: list[float] = []
    print(f"{'filter':<26}{'found':>8}{'p50 ms':>9}{'p95 ms':>9}{'CPU p50':>9}{'CPU p95':>9}")
    for name, search in SEARCHES.items():
        times, processor = [], []
        for _ in range(repeat):
            began, busy = time.perf_counter(), time.thread_time()
            found = store.search(search)
            times.append((time.perf_counter() - began) * 1000)
            processor.append((time.thread_time() - busy) * 1000)
        every += times
        used += processor
        count = f"{found.count}{'+' if found.has_more else ''}"
        print(f"{name:<26}{count:>8}{_percentiles(times)}{_percentiles(processor)}", flush=True)
    print(f"{'all filters':<34}{_percentiles(every)}{_percentiles(used)}", flush=True)


def _percentiles(times: list[float]) -> str:
    return f"{share(times, 0.5):>9.1f}{share(times, 0.95):>9.1f}"


def share(times: list[float], part: float) -> float:
    """Return the quantile ``part`` of the times."""
    return sorted(times)[min(len(times) - 1, int(len(times) * part))]


def fill(database: Database, images: int) -> None:
    """Insert synthetic rows, as if from intake, a model and three reviewers."""
    draw = random.Random(19)
    for first in range(0, images, BLOCK):
        tables: dict[type[Any], list[dict[str, Any]]] = {
            one: [] for one in (ImageRow, ItemRow, SubmissionRow, DecisionRow, FindingRow)
        }
        for number in range(first, min(images, first + BLOCK)):
            for table, row in rows(number, draw):
                tables[table].append(row)
        with Session(database.engine) as session, session.begin():
            session.connection(execution_options={"writes": True})
            for table, found in tables.items():
                if found:
                    session.execute(insert(table), found)
    with database.engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()


def rows(number: int, draw: random.Random) -> Iterator[tuple[type[Any], dict[str, Any]]]:
    """Yield the rows of one image."""
    sha256 = digest_of("benchmark", number)
    item, added = item_id("steel", sha256), START + timedelta(minutes=2 * number)
    names = draw.choices(CLASSES, [1 / (rank + 1) ** 1.5 for rank in range(len(CLASSES))], k=draw.randint(0, 4))
    boxes = [{"class_name": n, "confidence": round(draw.random(), 4), "box": [1.0, 2.0, 30.0, 40.0]} for n in names]
    answer = {"detections": [{"class_id": CLASSES.index(box["class_name"]), **box} for box in boxes]}
    label = {"boxes": [{"class_name": n, "box": [1.0, 2.0, 30.0, 40.0]} for n in names]}
    verdict = draw.choices([None, *Verdict], [5, 3, 1.5, 0.5])[0]
    model = {"model": "steel", "model_version": str(number * 4 // 100_000 + 1), "answer": answer}
    decided = verdict is not None
    yield ImageRow, {"sha256": sha256, "num_bytes": 90_000, "width": 640, "height": 480, "format": "JPEG"}
    yield (
        ItemRow,
        {
            "id": item,
            "use_case": "steel",
            "sha256": sha256,
            "added": added,
            "priority": draw.random(),
            "state": (State.DECIDED if decided else State.PENDING).value,
            "round": 1,
            "revision": 1,
            "holder": "anna" if decided else None,
            "verdict": verdict and verdict.value,
        },
    )
    yield (
        SubmissionRow,
        {
            "item": item,
            "is_first": True,
            "at": added,
            "actor": "intake",
            "origin": draw.choices([one.value for one in Origin], [90, 4, 4, 2])[0],
            "reference": f"lot-{number // 200:04d}",
            "name": f"cam-{number % 4}/{number:06d}.jpg",
            "comment": " ".join(draw.choices(WORDS, k=6)) if draw.random() < 0.3 else "",
            "reasons": [],
            **model,
        },
    )
    common = {"item": item, "use_case": "steel", "added": added}
    for name, confidence in findings_in(answer).items():
        yield FindingRow, {**common, "said_by": MODEL, "name": name, "confidence": confidence}
    if verdict is None:
        return
    yield (
        DecisionRow,
        {
            "id": decision_id(item, 1),
            "item": item,
            "round": 1,
            "reviewer": draw.choice(["anna", "bea", "chen"]),
            "at": added + timedelta(hours=1),
            "verdict": verdict.value,
            "label": label if verdict.has_label else None,
            "reason": "" if verdict.has_label else "blurred",
            "comment": f"operator {draw.randint(0, 999)}: {draw.choice(WORDS)}" if draw.random() < 0.3 else "",
        },
    )
    if verdict.has_label:
        for name, confidence in findings_in(label).items():
            yield FindingRow, {**common, "said_by": LABEL, "name": name, "confidence": confidence}


if __name__ == "__main__":
    sys.exit(main())
