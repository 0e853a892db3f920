"""Search: each filter gives the same result as a simple program, on both databases."""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.helpers.review import ANNA, BEA, CASTING, CHEN, NOW, STEEL, png
from tests.review_store.test_schema import ROWS
from visionops.review.changes import compare_versions
from visionops.review.errors import Invalid
from visionops.review.findings import findings_in
from visionops.review.items import Origin, Predicted, QueuePlace, Reason
from visionops.review.outcomes import ItemTrace
from visionops.review.ports import Write
from visionops.review.searching import PAGE, ClassSource, SavedSearch, Search
from visionops.review.service import Answer, Arrival, Review
from visionops.review.states import State, Verdict
from visionops.review_store.database import Database
from visionops.review_store.schema import migrate, upgrade
from visionops.review_store.search_models import FindingRow

DAY = datetime(2026, 3, 1, tzinfo=UTC)
WORDS = ("Reflection", "oil on lens", "100% sure", "a_b", "", "")


def found_boxes(draw: random.Random) -> dict[str, Any]:
    names = draw.choices(["scratch", "dent"], k=draw.randint(0, 3))
    boxes = [
        {"class_id": 0, "class_name": n, "confidence": round(draw.random(), 2), "box": [0.0, 0.0, 10.0, 10.0]}
        for n in names
    ]
    return {"detections": boxes}


def fill(review: Review, images: int) -> None:
    draw = random.Random(3)
    for number in range(images):
        now = DAY + timedelta(hours=6 * number)
        version = str(draw.randint(1, 2))
        arrival = Arrival(
            draw.choice(list(Origin)),
            reference=f"lot-{draw.randint(0, 12)}",
            name=f"cam/{number}.png",
            comment=draw.choice(WORDS),
            predicted=Predicted("steel", version, found_boxes(draw)) if draw.random() < 0.8 else None,
        )
        item = review.add("steel", png(number), arrival, CHEN, key=f"a{number}", now=now).item
        if draw.random() < 0.5:
            continue
        review.claim(item.id, ANNA, key=f"c{number}", now=now)
        label = {"boxes": [{"class_name": draw.choice(["scratch", "dent"]), "box": [1.0, 1.0, 9.0, 9.0]}]}
        verdict = draw.choice([Verdict.CORRECT, Verdict.REJECT])
        answer = Answer(verdict, label=label) if verdict.has_label else Answer(verdict, reason="blurred by Oil")
        review.decide(item.id, answer, ANNA, key=f"d{number}", now=now)


def matches(traced: ItemTrace, search: Search) -> bool:
    """Return whether an item matches, by a few lines of code."""
    item, arrivals = traced.item, [one.submission for one in traced.arrivals]
    labels = [decision.label for decision, _ in traced.decisions]
    model = findings_in(item.predicted.answer if item.predicted else None)
    label = findings_in(labels[-1] if labels else None)
    low, high = search.confidence_from or 0, 1 if search.confidence_to is None else search.confidence_to
    if search.confidence_from is not None or search.confidence_to is not None:
        said = {name for name, value in model.items() if low <= value <= high}
    else:
        said = {ClassSource.MODEL: set(model), ClassSource.LABEL: set(label), ClassSource.ANY: {*model, *label}}[
            search.said_by
        ]
    has_range = search.confidence_from is not None or search.confidence_to is not None
    texts = [text for one in arrivals for text in (one.comment, one.name)]
    texts += [text for decision, _ in traced.decisions for text in (decision.comment, decision.reason)]
    versions = {one.predicted.version for one in arrivals if one.predicted}
    versions |= {item.predicted.version} if item.predicted else set()
    start, end = search.moments
    begins = search.reference.removesuffix("*")
    return all(
        (
            item.use_case == search.use_case,
            set(search.names) <= said,
            bool(said) or not has_range,
            start is None or item.added >= start,
            end is None or item.added < end,
            search.origin is None or search.origin in [one.origin for one in arrivals],
            not search.reference
            or any(one.reference == search.reference for one in arrivals)
            or (begins != search.reference and any(one.reference.startswith(begins) for one in arrivals)),
            not search.model_version or search.model_version in versions,
            not search.states or item.status.state in search.states,
            search.verdict is None or search.verdict in [decision.verdict for decision, _ in traced.decisions],
            not search.text or any(search.text.lower() in text.lower() for text in texts),
        )
    )


SEARCHES = [
    Search("steel"),
    Search("steel", names=("dent",)),
    Search("steel", names=("dent",), said_by=ClassSource.MODEL),
    Search("steel", names=("dent",), said_by=ClassSource.LABEL),
    Search("steel", names=("dent", "scratch")),
    Search("steel", names=("dent",), confidence_from=0.4, confidence_to=0.7),
    Search("steel", confidence_to=0.2),
    Search("steel", added_from=date(2026, 3, 3), added_to=date(2026, 3, 5)),
    Search("steel", reference="lot-1"),
    Search("steel", reference="lot-1*"),
    Search("steel", origin=Origin.BATCH),
    Search("steel", model_version="2"),
    Search("steel", states=(State.DECIDED,)),
    Search("steel", verdict=Verdict.REJECT),
    Search("steel", text="REFLECTION"),
    Search("steel", text="100%"),
    Search("steel", text="a_b"),
    Search("steel", text="oil"),
    Search("steel", text="' OR 1 = 1 --"),
    Search("casting"),
    Search("steel", names=("scratch",), states=(State.PENDING,), origin=Origin.UPLOAD, model_version="1"),
]


def test_every_filter_finds_what_a_plain_program_finds(review: Review):
    fill(review, 70)
    every = {item: review.store.trace(item) for item in review.store.search_ids(Search("steel"))}
    assert len(every) == 70
    hits = 0
    for search in SEARCHES:
        wanted = [one.item.id for one in every.values() if matches(one, search)]
        found = review.store.search(search)
        assert review.store.search_ids(search) == wanted, search
        assert [item.id for item in found.items] == wanted[:PAGE], search
        assert (found.count, found.has_more) == (len(wanted), False)
        hits += 0 < len(wanted) < 70
    assert hits > 14  # filters that match all or nothing test little
    second = review.store.search(Search("steel", page=2))
    assert [item.id for item in second.items] == list(every)[PAGE:]
    assert second.items[0].first == every[second.items[0].id].item.first
    assert review.store.search(Search("steel", page=3)).items == ()
    chosen = (list(every)[7], "f" * 32, list(every)[2])
    assert [one.id for one in review.store.search(Search("steel", items=chosen)).items] == [chosen[0], chosen[2]]
    assert review.store.search(Search("steel", items=())).count == 0


def test_an_item_is_found_by_what_is_said_of_it_now(review: Review):
    def is_found(name: str, said_by: ClassSource) -> bool:
        return review.store.search(Search("steel", names=(name,), said_by=said_by)).count == 1

    def shown_label() -> object:
        return review.store.search(Search("steel")).labels.get(item)

    answer = {"detections": [{"class_id": 0, "class_name": "scratch", "confidence": 0.9, "box": [0, 0, 9, 9]}]}
    arrival = Arrival(Origin.UPLOAD, predicted=Predicted("steel", "1", answer))
    item = review.add("steel", png(1), arrival, ANNA, key="a", now=NOW).item.id
    assert is_found("scratch", ClassSource.MODEL)
    newer = {"detections": [{"class_id": 1, "class_name": "dent", "confidence": 0.8, "box": [0, 0, 9, 9]}]}
    placed = QueuePlace(item, (Reason("novelty"),), Predicted("steel", "2", newer))
    review.store.prioritize("steel", [placed], Write.of("p", ANNA, NOW, "p"))
    assert is_found("dent", ClassSource.MODEL)
    assert not is_found("scratch", ClassSource.MODEL)
    assert review.store.search(Search("steel", model_version="1")).count == 1
    assert review.store.search(Search("steel", model_version="2")).count == 1
    review.claim(item, ANNA, key="c", now=NOW)
    review.decide(item, Answer(Verdict.CONFIRM), ANNA, key="d", now=NOW)
    assert is_found("dent", ClassSource.LABEL)
    assert shown_label() == {"boxes": [{"class_name": "dent", "box": [0, 0, 9, 9]}]}
    review.reopen(item, "look again", CHEN, key="r", now=NOW)
    assert is_found("dent", ClassSource.LABEL)  # until it is decided again
    assert shown_label() is None
    review.claim(item, BEA, key="c", now=NOW)
    review.decide(item, Answer(Verdict.REJECT, reason="blurred"), BEA, key="d", now=NOW)
    assert not is_found("dent", ClassSource.LABEL)
    assert shown_label() is None
    assert review.store.classes_found("steel") == ["dent"]
    assert review.store.classes_found(CASTING.name) == []


def test_filters_are_kept_for_their_owner(review: Review):
    review.store.keep_search(SavedSearch("anna", "dents", "class=dent"), NOW)
    review.store.keep_search(SavedSearch("anna", "<b>odd</b>", "text=%3Cb%3E"), NOW)
    review.store.keep_search(SavedSearch("bea", "dents", "class=pit"), NOW)
    review.store.keep_search(SavedSearch("anna", "dents", "class=dent&page=2"), NOW)
    assert review.store.searches("anna") == [
        SavedSearch("anna", "<b>odd</b>", "text=%3Cb%3E"),
        SavedSearch("anna", "dents", "class=dent&page=2"),
    ]
    review.store.drop_search("anna", "dents")
    review.store.drop_search("anna", "never kept")
    assert [one.name for one in review.store.searches("anna")] == ["<b>odd</b>"]
    assert [one.query for one in review.store.searches("bea")] == ["class=pit"]


def test_a_migration_notes_the_classes_of_items_that_are_there(place: str):
    database = Database(place)
    with Session(database.engine) as session, session.begin():
        session.connection(execution_options={"writes": True})
        upgrade(session.connection(), "0006")
        for statement in (ROWS / "0006.sql").read_text(encoding="utf-8").split(";\n"):
            if statement.strip():
                session.connection().exec_driver_sql(statement)
        answer = '{"detections": [{"class_name": "pit", "confidence": 0.25}, {"class_name": "pit", "confidence": 0.5}]}'
        session.connection().exec_driver_sql(f"UPDATE review_submissions SET answer = '{answer}' WHERE number = 2")
    migrate(database)
    with Session(database.engine) as session:
        rows = session.scalars(select(FindingRow).order_by(FindingRow.item, FindingRow.name))
        found = [(row.item[:4], row.said_by, row.name, row.confidence, row.use_case) for row in rows]
    # The first arrival of the prioritized item does not count; the rejected one has no label.
    assert found == [("bbbb", "model", "pit", 0.5, "steel"), ("dddd", "label", "dent", 1.0, "steel")]
    database.close()


def test_what_changed_between_two_versions(review: Review, tmp_path: Path):
    def decide(number: int, names: list[str], who: Any, turn: str) -> str:
        item = review.add("steel", png(number), Arrival(Origin.UPLOAD), who, key=f"a{number}{turn}", now=NOW).item
        review.claim(item.id, who, key=f"c{number}{turn}", now=NOW)
        label = {"boxes": [{"class_name": name, "box": [1.0, 1.0, 9.0, 9.0]} for name in names]}
        review.decide(item.id, Answer(Verdict.CORRECT, label=label), who, key=f"d{number}{turn}", now=NOW)
        return item.id

    first = decide(1, ["dent"], ANNA, "1")
    decide(2, ["dent", "dent"], BEA, "1")
    review.export("steel", CHEN, key="e1", now=NOW)
    review.reopen(first, "is a scratch", CHEN, key="r", now=NOW)
    decide(1, ["scratch"], BEA, "2")
    third = decide(3, ["scratch"], BEA, "1")
    review.export("steel", CHEN, key="e2", now=NOW)
    found = compare_versions(review.store, "steel", 1, 2)
    assert found.images == (2, 3)
    assert found.classes == {"dent": (2, 1), "scratch": (0, 2)}
    assert [item.id for item in found.added] == [third]
    assert [(one.item.id, one.before.reviewer, one.after.reviewer) for one in found.changed] == [(first, "anna", "bea")]
    assert found.reviewers == {"bea": 2}
    assert compare_versions(review.store, "steel", 0, 1).images == (0, 2)
    with pytest.raises(Invalid, match="versions: 2 is not before 1"):
        compare_versions(review.store, "steel", 2, 1)
    assert dataclasses.is_dataclass(found)
    assert STEEL.scheme.class_names == ("scratch", "dent")
