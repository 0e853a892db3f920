"""Check that buckets can be listed, written, read and cleared with the credentials of a run."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from stacks.doctor.findings import CheckResult, Examined, broken, ok, warning
from stacks.doctor.web import NO_ANSWER_SECONDS, no_answer

__all__ = ["check_bucket", "check_s3_store"]

_ABSENT = frozenset({"NoSuchBucket", "404"})
_STRANGER = frozenset({"InvalidAccessKeyId"})
_FORGED = frozenset({"SignatureDoesNotMatch"})
_EXPIRED = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestExpired"})
_DENIED = frozenset({"AccessDenied", "403", "AllAccessDisabled"})
_SKEWED = frozenset({"RequestTimeTooSkewed"})
_ELSEWHERE = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "301", "IllegalLocationConstraintException"}
)


def check_s3_store(examined: Examined) -> Iterator[CheckResult]:
    """Check the bucket of an artifact store, with the settings that s3fs uses."""
    own = examined.component.configuration
    names = {"key": "aws_access_key_id", "secret": "aws_secret_access_key", "token": "aws_session_token"}
    credentials = {names[name]: own[name] for name in names if own.get(name)}
    client = {**(own.get("client_kwargs") or {}), **credentials}
    whose = "the component's key and secret" if credentials else "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    yield from check_bucket(str(own.get("path", "")), client, dict(own.get("config_kwargs") or {}), whose=whose)


def check_bucket(
    uri: str,
    client: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    whose: str = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
) -> Iterator[CheckResult]:
    """Check that objects at ``s3://bucket/prefix`` can be listed, written, read and deleted.

    Args:
        client: Arguments of boto3's client.
        config: Arguments of its configuration.
        whose: Source of the credentials, for messages.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    place = urlsplit(uri)
    bucket, prefix = place.netloc, place.path.strip("/")
    if place.scheme != "s3" or not bucket:
        yield broken(f"{uri}: missing bucket", "expected s3://bucket/prefix")
        return
    at = f"s3://{bucket}"
    limits = {"connect_timeout": 3, "read_timeout": NO_ANSWER_SECONDS, "retries": {"total_max_attempts": 1}}
    try:
        # boto3's default session is not thread-safe.
        store = boto3.session.Session().client("s3", **client, config=Config(**{**config, **limits}))
        at = f"s3://{bucket} at {store.meta.endpoint_url}"
        yield from _try(store, bucket, prefix, at, whose)
    except (BotoCoreError, ValueError, TypeError) as error:
        yield _failed(error, at, whose)


def _try(store: Any, bucket: str, prefix: str, at: str, whose: str) -> Iterator[CheckResult]:
    from botocore.exceptions import ClientError

    try:
        store.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/" if prefix else "", MaxKeys=1)
    except ClientError as error:
        finding = _refused(error, at, whose)
        yield finding
        if _code(error) not in _DENIED:
            return
        listed = False
    else:
        listed = True
    key = f"{prefix}/visionops-doctor-{secrets.token_hex(6)}".lstrip("/")
    try:
        store.put_object(Bucket=bucket, Key=key, Body=b"visionops.doctor")
    except ClientError as error:
        if _code(error) in _DENIED:
            can = "can be listed but not written" if listed else "cannot be written"
            yield broken(f"{at}: {can}", f"grant this user s3:PutObject on {bucket}/{prefix or ''}*")
        else:
            yield _refused(error, at, whose)
        return
    try:
        store.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        yield broken(f"{at}: can be written but not read ({_code(error)})", "grant this user s3:GetObject")
    else:
        if listed:
            yield ok(f"{at}: listed, written, read")
    finally:
        yield from _clear(store, bucket, key)


def _clear(store: Any, bucket: str, key: str) -> Iterator[CheckResult]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        store.delete_object(Bucket=bucket, Key=key)
    except (ClientError, BotoCoreError):
        yield warning(
            f"s3://{bucket}/{key}: cannot be deleted", "grant this user s3:DeleteObject, then remove the object"
        )


def _refused(error: Any, at: str, whose: str) -> CheckResult:
    code, said = _code(error), error.response.get("Error", {})
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = said.get("Region") or headers.get("x-amz-bucket-region") or "that of the bucket"
    pair = f"set {whose} to a valid pair"
    known = {
        _ABSENT: ("no such bucket", f"create it: aws s3 mb {at.partition(' ')[0]}, or correct the name"),
        _STRANGER: ("unknown access key", pair),
        _FORGED: ("the secret does not match the access key", pair),
        _EXPIRED: (f"the session token has expired ({code})", f"log in again and set {whose} to the new values"),
        _DENIED: ("cannot be listed", "grant this user s3:ListBucket, or set other credentials"),
        _SKEWED: ("this machine's clock is wrong", "set the clock"),
        _ELSEWHERE: ("is in another region", f"set AWS_DEFAULT_REGION to {region}"),
    }
    for codes, (observed, fix) in known.items():
        if code in codes:
            return broken(f"{at}: {observed}", fix)
    words = " ".join(str(said.get("Message", "")).split())[:160]
    return broken(f"{at}: refuses the request ({f'{code} {words}'.strip()})", "fix the cause named here")


def _failed(error: Exception, at: str, whose: str) -> CheckResult:
    name = type(error).__name__
    if name in {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}:
        return broken(f"{at}: missing credentials", f"set {whose}")
    if name in {"ParamValidationError", "InvalidEndpointConfigurationError", "ValueError", "TypeError"}:
        return broken(f"{at}: {' '.join(str(error).split())[:200]}", "correct the component's settings")
    return broken(
        f"{at}: does not answer ({no_answer(getattr(error, 'kwargs', {}).get('error') or error)})",
        "start the store, or correct its address (VISIONOPS_S3_ENDPOINT, AWS_ENDPOINT_URL)",
    )


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
