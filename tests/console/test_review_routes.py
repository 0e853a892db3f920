"""Routes of the review page: concurrent reviewers, repeated keys, and refusals."""

from __future__ import annotations

import dataclasses
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.console.conftest import Server
from tests.console.reviewing import CASTING, fill, opened_review
from visionops.review.service import Answer, Review
from visionops.review.states import Actor, State, Verdict

CONFIRM = {"verdict": "confirm", "seconds": 0.5}


@pytest.fixture(scope="module")
def review(console: Server) -> Iterator[Review]:
    with opened_review(console.home) as found:
        yield found


@pytest.fixture
def client(console: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{console.url}/api/review", timeout=60) as found:
        yield found


@pytest.fixture
def queued(review: Review, request: pytest.FixtureRequest) -> Callable[[int], list[str]]:
    """Put images into the queue of a use case for this test only."""
    return lambda count: fill(review, dataclasses.replace(CASTING, name=request.node.name), count)


def claim(client: httpx.Client, use_case: str, count: int, *resume: str, key: str = "") -> dict[str, Any]:
    body = {"use_case": use_case, "count": count, "resume": list(resume)}
    answer = client.post("/claim", json=body, headers={"Idempotency-Key": key or uuid.uuid4().hex})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_ten_reviewers_share_a_queue_without_doing_anything_twice(
    console: Server, review: Review, queued: Callable[[int], list[str]], request: pytest.FixtureRequest
):
    items = queued(40)

    def work(_: int) -> list[str]:
        done = []
        with httpx.Client(base_url=f"{console.url}/api/review", timeout=60) as own:
            while given := claim(own, request.node.name, 3)["items"]:
                for item in given:
                    answer = own.post(f"/items/{item['id']}/decide", json=CONFIRM)
                    assert answer.status_code == 200, answer.text
                    done.append(item["id"])
        return done

    with ThreadPoolExecutor(10) as pool:
        done = Counter(item for found in pool.map(work, range(10)) for item in found)
    assert done == Counter(items)
    assert all(review.store.item(item).status.state is State.DECIDED for item in items)


def test_claim_sent_again_gives_the_same_items(
    client: httpx.Client, queued: Callable[[int], list[str]], request: pytest.FixtureRequest
):
    items = queued(4)
    first = claim(client, request.node.name, 2, key="k1")
    again = claim(client, request.node.name, 2, key="k1")
    assert [one["id"] for one in first["items"]] == [one["id"] for one in again["items"]] == items[:2]
    assert first["num_next"] == 2
    assert claim(client, request.node.name, 5)["num_next"] == 2


def test_resumed_items_are_held_and_lost_ones_named(
    client: httpx.Client, queued: Callable[[int], list[str]], request: pytest.FixtureRequest
):
    held, decided, given_back = queued(3)
    claim(client, request.node.name, 3)
    client.post(f"/items/{decided}/decide", json=CONFIRM).raise_for_status()
    answer = client.post("/release", json={"items": [given_back, decided]}).json()
    assert answer["released"] == [given_back]
    assert [one["code"] for one in answer["refused"]] == ["wrong_state"]

    answer = claim(client, request.node.name, 0, held, decided, given_back)
    assert [one["id"] for one in answer["items"]] == [held, given_back]
    assert [(one["item"], one["code"]) for one in answer["lost"]] == [(decided, "wrong_state")]


def test_item_of_another_use_case_is_not_claimed(
    client: httpx.Client, review: Review, queued: Callable[[int], list[str]], request: pytest.FixtureRequest
):
    (item,) = queued(1)
    (other,) = fill(review, dataclasses.replace(CASTING, name="elsewhere"), 1)
    answer = claim(client, request.node.name, 1, other)
    assert [one["id"] for one in answer["items"]] == [item]
    assert [(one["item"], one["code"]) for one in answer["lost"]] == [(other, "not_found")]


def test_items_come_with_what_the_page_draws(
    client: httpx.Client, queued: Callable[[int], list[str]], request: pytest.FixtureRequest
):
    queued(2)
    first, second = claim(client, request.node.name, 2)["items"]
    assert first["predicted_label"] == {"class_name": "defective"}
    assert client.get(first["image"]["url"].removeprefix("/api/review")).status_code == 404
    assert (first["proposed"], first["comments"], first["opinions"]) == (None, [], [])
    (near,) = client.get(f"/items/{first['id']}/similar").json()
    assert near["item"] == second["id"]
    assert 0 < near["distance"] <= 2


def test_decision_sent_again_is_kept_once(
    client: httpx.Client, review: Review, queued: Callable[[int], list[str]], request: pytest.FixtureRequest
):
    (item,) = queued(1)
    claim(client, request.node.name, 1)
    answers = [
        client.post(f"/items/{item}/decide", json=CONFIRM, headers={"Idempotency-Key": "once"}) for _ in range(2)
    ]
    assert [one.status_code for one in answers] == [200, 200]
    assert [one.verdict for one in review.store.decisions(item)] == [Verdict.CONFIRM]


def test_first_opinion_stays_hidden_from_the_page(
    client: httpx.Client, review: Review, queued: Callable[[int], list[str]], request: pytest.FixtureRequest
):
    (item,) = queued(1)
    review.set_second_share(request.node.name, 1)
    now = datetime.now(UTC)
    for name, verdict in (("anna", Verdict.CONFIRM), ("bea", Verdict.REJECT)):
        review.claim(item, Actor(name), key="c", now=now)
        answer = Answer(verdict, reason="torn" if verdict is Verdict.REJECT else "")
        review.decide(item, answer, Actor(name), key="d", now=now)
        (given,) = claim(client, request.node.name, 1)["items"]
        texts = [(one["reviewer"], one["verdict"]) for one in given["opinions"]]
        assert texts == ([] if name == "anna" else [("", "confirm"), ("", "reject")])
        client.post("/release", json={"items": [item]}).raise_for_status()


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/claim", {"use_case": "unknown", "count": 1}, 404, "not_found"),
        ("/claim", {"use_case": "unknown", "count": 1000}, 422, "bad_body"),
        ("/claim", {"use_case": "a\x00b", "count": 1}, 404, "not_found"),
        ("/items/none/decide", {"verdict": "confirm"}, 404, "not_found"),
        ("/items/none/decide", {"verdict": "confirm", "seconds": -1}, 422, "bad_body"),
        ("/items/none/claim", {}, 404, "not_found"),
    ],
)
def test_what_cannot_be_done_is_refused(client: httpx.Client, path: str, body: Any, status: int, code: str):
    answer = client.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_page_of_another_origin_is_refused(client: httpx.Client):
    answer = client.post("/release", json={"items": []}, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
