"""Reviews over HTTP: the life cycle of an item, and refusals."""

from __future__ import annotations

import json

import pytest

from deploy.control.routes.context import Control
from deploy.http.keys import KeyRole
from tests.control.conftest import BEA, TestClient, header
from tests.helpers.review import BOX, png

ANNA, ADMIN = header(KeyRole.REVIEW), header(KeyRole.ADMIN)
LINE = header(KeyRole.FEEDBACK)
BEAS = {"X-API-Key": BEA[0]}


def upload(client: TestClient, number: int = 1, **parameters: str):
    params = {"use_case": "steel", **parameters}
    headers = LINE | {"Content-Type": "image/png", "Idempotency-Key": f"up-{number}"}
    return client.post("/review/items", params=params, content=png(number), headers=headers)


def test_an_item_from_upload_to_data_version_and_back(client: TestClient):
    added = upload(client, comment="bent?", label=json.dumps(BOX))
    assert (added.status_code, added.json()["is_new"]) == (201, True)
    assert upload(client, comment="bent?", label=json.dumps(BOX)).json()["id"] == added.json()["id"]
    item = f"/review/items/{added.json()['id']}"
    claimed = client.post("/review/steel/claim", headers=ANNA, json={"lease_seconds": 60}).json()["item"]
    assert (claimed["id"], claimed["holder"], claimed["proposed"]) == (added.json()["id"], "the-review", BOX)
    held = client.post(f"{item}/claim", headers=BEAS)
    assert (held.status_code, held.json()["error"]["code"]) == (409, "held_by_another")
    assert client.post(f"{item}/decide", headers=BEAS, json={"verdict": "confirm"}).status_code == 409
    assert client.post(f"{item}/renew", headers=ANNA).json()["state"] == "claimed"
    answer = {"verdict": "correct", "label": BOX, "comment": "a dent"}
    for _ in range(2):  # the second time is the same write
        decided = client.post(f"{item}/decide", headers=ANNA | {"Idempotency-Key": "d1"}, json=answer)
        assert (decided.status_code, decided.json()["state"]) == (200, "decided"), decided.text
    assert client.get("/review/steel/stats", headers=ANNA).json()["unused"] == 1
    version = client.post("/review/steel/export", headers=ADMIN).json()["version"]
    assert (version["number"], version["num_items"], version["by"]) == (1, 1, "the-admin")
    assert client.post("/review/steel/export", headers=ADMIN).json() == {"version": None}
    assert client.post(f"{item}/reopen", headers=ADMIN, json={"reason": "look again"}).json()["round"] == 2
    found = client.get(item, headers=ANNA).json()
    assert [row["action"] for row in found["history"]] == ["add", "claim", "renew", "decide", "export", "reopen"]
    assert [one["label"] for one in found["decisions"]] == [BOX]
    assert [one["comment"] for one in found["arrivals"]] == ["bent?"]


def test_items_are_filtered_and_paged(client: TestClient):
    ids = [upload(client, number, reference=f"lot-{number}").json()["id"] for number in range(3)]
    listed = client.get("/review/items", headers=ANNA, params={"use_case": "steel", "limit": 2}).json()
    rest = client.get("/review/items", headers=ANNA, params={"after": listed[-1]["id"]}).json()
    assert {one["id"] for one in listed + rest} == set(ids)
    assert len(listed) == 2
    by_reference = client.get("/review/items", headers=ANNA, params={"reference": "lot-1"}).json()
    assert [one["id"] for one in by_reference] == [ids[1]]
    assert client.get("/review/items?state=decided&state=exported", headers=ANNA).json() == []
    for query in ("state=x", "origin=x", "sha256=zz", "limit=0", "limit=1001"):
        assert client.get(f"/review/items?{query}", headers=ANNA).status_code == 422, query
    assert client.get("/review/items?after=nope", headers=ANNA).status_code == 404
    assert client.get("/review/items?use_case=%00", headers=ANNA).json() == []


def test_an_image_is_served_with_a_tag_and_may_be_kept(client: TestClient):
    item = upload(client, 7).json()
    image = client.get(item["image"]["url"], headers=ANNA)
    assert (image.content, image.headers["content-type"]) == (png(7), "image/png")
    assert "immutable" in image.headers["cache-control"]
    assert image.headers["etag"] == f'"{item["image"]["sha256"]}"'
    again = client.get(item["image"]["url"], headers=ANNA | {"If-None-Match": image.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/review/items/{item['id']}", headers=ANNA).headers["cache-control"] == "no-store"


TRICKS = [
    "'; DROP TABLE review_items; --",
    "../../../etc/passwd",
    "%s%n{{7*7}}",
    "<script>alert(1)</script>",
    "🦺" * 50,
]


@pytest.mark.parametrize("text", TRICKS)
def test_texts_are_kept_as_they_are(client: TestClient, text: str):
    item = upload(client, comment=text, name=text, reference=text).json()
    found = client.get(f"/review/items/{item['id']}", headers=ANNA).json()
    assert (found["comment"], found["name"], found["reference"]) == (text, text, text)
    client.post(f"/review/items/{item['id']}/claim", headers=ANNA)
    rejected = {"verdict": "reject", "reason": text, "comment": text}
    assert client.post(f"/review/items/{item['id']}/decide", headers=ANNA, json=rejected).status_code == 200
    assert client.get(f"/review/items/{item['id']}", headers=ANNA).json()["decisions"][0]["reason"] == text
    for url in (f"/review/{text.replace('/', '%2f')}/stats", f"/review/items/{text.replace('/', '%2f')}"):
        assert client.get(url, headers=ANNA).status_code == 404


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"verdict": "correct", "label": {"boxes": [{"class_name": "hole", "box": [1, 2, 3, 4]}]}}, "bad_label"),
        ({"verdict": "correct", "label": {"boxes": [{"class_name": "dent", "box": [1, 2, 99, 4]}]}}, "bad_label"),
        ({"verdict": "correct"}, "invalid"),
        ({"verdict": "reject"}, "invalid"),
        ({"verdict": "confirm"}, "wrong_state"),
        ({"verdict": "perhaps"}, "bad_body"),
        ({"verdict": "reject", "reason": "x", "comment": "y" * 4001}, "invalid"),
        ({"verdict": "reject", "reason": "x", "comment": "\x00"}, "invalid"),
        ({"verdict": "reject", "reason": "x", "comment": "y" * 3_000_000}, "upload_too_large"),
    ],
)
def test_answers_that_do_not_fit_are_refused_and_nothing_changes(client: TestClient, answer: dict, code: str):
    item = f"/review/items/{upload(client).json()['id']}"
    client.post(f"{item}/claim", headers=ANNA)
    before = client.get(item, headers=ANNA).json()
    refused = client.post(f"{item}/decide", headers=ANNA, json=answer)
    assert (refused.status_code in {409, 413, 422}, refused.json()["error"]["code"]) == (True, code), refused.text
    assert client.get(item, headers=ANNA).json() == before


def test_a_lease_that_ended_is_refused_with_a_clear_answer(client: TestClient, control: Control):
    item = f"/review/items/{upload(client).json()['id']}"
    client.post(f"{item}/claim", headers=ANNA, json={"lease_seconds": 0.001})
    refused = client.post(f"{item}/decide", headers=ANNA, json={"verdict": "reject", "reason": "blurred"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "lease_expired")
    assert "claim it again" in refused.json()["error"]["message"]
    assert client.post(f"{item}/claim", headers=BEAS).json()["holder"] == "bea"


def test_invalid_images_are_refused(client: TestClient):
    headers = LINE | {"Content-Type": "image/png"}
    for params, body, status in (
        ({"use_case": "steel"}, b"no image", 422),
        ({"use_case": "steel"}, b"", 422),
        ({"use_case": "steel"}, png(1)[:40], 422),
        ({"use_case": "nope"}, png(1), 404),
        ({}, png(1), 422),
        ({"use_case": "steel", "label": "{"}, png(1), 422),
        ({"use_case": "steel", "label": "[]"}, png(1), 422),
        ({"use_case": "steel", "comment": "x" * 4001}, png(1), 422),
        ({"use_case": "steel"}, bytes(20_000_001), 413),
    ):
        answer = client.post("/review/items", params=params, content=body, headers=headers)
        assert answer.status_code == status, (params, answer.text)
    assert client.get("/review/items", headers=ANNA).json() == []


def test_known_images_that_resemble_one_are_found(client: TestClient):
    first = upload(client, 1).json()
    assert (first["likeness"]["nearest"], first["is_held_out"]) == (None, False)
    for params in ({"item": first["id"]}, {"sha256": first["image"]["sha256"]}):
        (found,) = client.get("/similar", headers=ANNA, params={"use_case": "steel", **params}).json()
        assert (found["item"], found["state"], found["distance"]) == (first["id"], "pending", 0)
    sent = client.post(
        "/similar", headers=ANNA | {"Content-Type": "image/png"}, params={"use_case": "steel"}, content=png(1)
    )
    assert [one["item"] for one in sent.json()] == [first["id"]]
    assert client.get("/review/steel/stats", headers=ANNA).json()["states"]["pending"] == 1  # what was sent is not kept
    for params, status in (
        ({"use_case": "steel"}, 422),
        ({"use_case": "steel", "item": first["id"], "sha256": first["image"]["sha256"]}, 422),
        ({"use_case": "nothing", "item": first["id"]}, 404),
        ({"use_case": "steel", "item": "nothing"}, 404),
        ({"use_case": "steel", "sha256": "a" * 64}, 404),
    ):
        assert client.get("/similar", headers=ANNA, params=params).status_code == status, params


def test_a_second_reviewer_sees_no_answer_before_both_have_given_theirs(client: TestClient, control: Control):
    control.review.set_second_share("steel", 1.0)
    item = f"/review/items/{upload(client).json()['id']}"
    for headers in (ANNA, BEAS):
        assert client.post(f"{item}/claim", headers=headers).status_code == 200
        answer = {"verdict": "correct", "label": BOX, "comment": "a dent"}
        decided = client.post(f"{item}/decide", headers=headers, json=answer).json()
        if headers is ANNA:
            assert (decided["state"], decided["num_opinions"], decided["verdict"]) == ("pending", 1, None)
            seen = client.get(item, headers=BEAS)
            assert (seen.json()["opinions"], seen.json()["decisions"]) == ([], [])
            assert "a dent" not in seen.text
            assert [one["label"] for one in client.get(item, headers=ADMIN).json()["opinions"]] == [BOX]
            refused = client.post(f"{item}/claim", headers=ANNA)
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "opinion_given")
    assert decided["state"] == "decided"
    agreement = client.get("/review/steel/agreement", headers=ANNA).json()
    assert agreement["overall"]["agreed"]["value"] == 1
    assert [pair["reviewers"] for pair in agreement["pairs"]] == [["bea", "the-review"]]
