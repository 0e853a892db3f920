"""Test the check of buckets."""

import boto3
import pytest

from stacks.doctor.s3 import check_s3_store
from tests.helpers.doctor import store, trouble, well
from tests.helpers.s3 import guarded_users

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


ALL = ["s3:ListBucket", "s3:PutObject", "s3:GetObject", "s3:DeleteObject"]


def objects(address: str) -> list[str]:
    client = boto3.client("s3", endpoint_url=address)
    return [found["Key"] for found in client.list_objects_v2(Bucket="vision").get("Contents", ())]


def test_a_bucket_is_listed_written_and_left_as_it_was(s3):
    assert "listed, written, read" in well(check_s3_store(store(s3)))
    assert objects(s3) == []


def test_what_a_store_refuses_is_named(s3):
    rights = {"all": ALL, "reader": ["s3:ListBucket"], "blind": ALL[1:], "keeper": ALL[:3]}
    with guarded_users(s3, rights) as users:

        def seen(user: str, secret: str = "", path: str = "s3://vision/artifacts") -> str:
            key, own = users.get(user, (user, ""))
            return trouble(check_s3_store(store(s3, key, secret or own, path)))

        assert "unknown access key; set the component's key and secret" in seen("AKIAX", "x")
        assert "the secret does not match the access key; set" in seen("all", "wrong")
        assert "s3://other at http" in seen("all", path="s3://other")
        assert "no such bucket; create it: aws s3 mb s3://other" in seen("all", path="s3://other/a")
        assert "can be listed but not written; grant this user s3:PutObject on vision/artifacts*" in seen("reader")
        assert "cannot be listed; grant this user s3:ListBucket" in seen("blind")
        left = seen("keeper")
        assert left.startswith("warning: s3://vision/artifacts/visionops-doctor-")
        assert "cannot be deleted; grant this user s3:DeleteObject" in left
    (key,) = objects(s3)
    boto3.client("s3", endpoint_url=s3).delete_object(Bucket="vision", Key=key)


def test_a_store_that_is_away_is_named(nobody):
    assert "does not answer (connection refused); start the store, or correct" in trouble(check_s3_store(store(nobody)))


def test_credentials_that_are_not_there_are_named(monkeypatch, tmp_path, nobody):
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    seen = trouble(check_s3_store(store(nobody, "", "")))
    assert "missing credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in seen


def test_a_path_without_a_bucket_is_refused():
    assert "/tmp/x: missing bucket; expected s3://" in trouble(check_s3_store(store("http://x", path="/tmp/x")))
