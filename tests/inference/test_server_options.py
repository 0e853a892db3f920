"""The server's command line: deployers write it, and the server reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.serving.settings import Settings
from visionops.errors import ConfigError
from visionops.inference.release_settings import ReleaseConfig
from visionops.inference.server_options import ModelRef, ServerOptions
from visionops.inference.settings import Device, EngineName, ServingConfig
from visionops.options import variable

HEAVY = ("cv2", "fastapi", "numpy", "onnxruntime", "openvino", "PIL", "torch", "zenml")


def number(least: float, most: float, **more: bool) -> st.SearchStrategy[float]:
    return st.floats(least, most, allow_nan=False, **more)


paths = st.text(min_size=1).map(Path)
names = st.text(min_size=1, max_size=128)
megabytes = st.integers(8, 10_000_000)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "bundle": st.none() | paths,
    "name": names,
    "version": names,
    "alias": st.text(max_size=128),
    "engine": st.sampled_from(EngineName),
    "device": st.sampled_from(Device),
    "confidence": st.none() | number(0, 1),
    "iou": st.none() | number(0, 1),
    "max_upload_bytes": st.integers(1, 10**18),
    "models": st.none() | paths,
    "cache": st.none() | paths,
    "smoke_images": st.none() | paths,
    "max_memory_mb": st.integers(0, 10**9),
    "max_pixels": st.integers(1, 10**12),
    "max_batch_files": st.integers(1, 10_000),
    "max_batch_bytes": st.integers(1, 10**12),
    "workers": st.integers(0, 256),
    "queue": st.integers(0, 100_000),
    "timeout": number(0, 3600, exclude_min=True),
    "upload_timeout": number(0, 3600, exclude_min=True),
    "idle_timeout": number(0, 3600, exclude_min=True),
    "max_body_memory": st.integers(1, 10**12),
    "max_connections": st.integers(1, 100_000),
    "max_stream_connections": st.integers(0, 10_000),
    "stream_idle_timeout": number(0, 86_400, exclude_min=True),
    "rate": st.none() | st.text(),
    "streams": st.integers(0, 256),
    "host": st.text(),
    "port": st.integers(0, 65535),
    "fd": st.none() | st.integers(3, 1024),
    "log_file": st.none() | paths,
    "source_url": st.none() | st.from_regex(r"https?://[!-~]+", fullmatch=True),
    "prediction_log": st.none() | paths,
    "prediction_log_max_mb": megabytes,
    "prediction_log_max_days": number(0, 36_500, exclude_min=True),
    "prediction_log_images": number(0, 1),
    "prediction_log_images_max_mb": megabytes,
    "prediction_log_feedback_max_mb": megabytes,
    "prediction_log_store": st.none() | st.sampled_from(["s3://bucket/prefix", "postgresql://log@db:6432/log"]),
    "keys": st.none() | paths,
    "candidate": st.none() | paths,
    "candidate_version": st.sampled_from(["2", "x y"]),
    "release": st.builds(ReleaseConfig, strategy=st.sampled_from(["canary", "shadow"]), share=number(0.01, 1)),
    "open_metrics": st.booleans(),
    "open_ready": st.booleans(),
    # One value of the command line has all of them, separated by commas.
    "cors_origins": st.lists(st.from_regex(r"https?://[a-z.]+(:\d+)?", fullmatch=True)).map(tuple),
}


@st.composite
def options(draw: st.DrawFn) -> ServerOptions:
    values = draw(st.fixed_dictionaries({}, optional=OPTIONS))
    if values.get("bundle"):
        values.pop("models", None)
    if not (values.get("bundle") and values.get("candidate") and {"candidate_version", "release"} <= set(values)):
        for name in ("candidate", "candidate_version", "release"):
            values.pop(name, None)
    if not values.get("prediction_log"):
        values = {key: v for key, v in values.items() if key not in {"prediction_log_images", "prediction_log_store"}}
    return ServerOptions.model_validate(values)


def test_every_option_is_tried():
    assert set(OPTIONS) == set(ServerOptions.model_fields)


@given(options=options(), joined=st.booleans())
def test_what_is_written_is_read(options: ServerOptions, joined: bool):
    assert ServerOptions.parse(options.to_arguments(joined=joined)) == options


def test_what_was_given_stands_there_even_where_it_is_the_default():
    given = ServerOptions(port=8000, engine=EngineName.OPENVINO, alias="", cache=None, open_ready=False)
    assert given.to_arguments() == ["--engine", "openvino", "--port", "8000", "--open-ready", "false"]
    assert ServerOptions().to_arguments() == []


def test_the_order_and_the_form_are_the_callers():
    given = ServerOptions(name="steel", port=0, open_metrics=True)
    assert given.to_arguments(joined=True, order=("open_metrics", "port", "cache")) == [
        "--open-metrics=true",
        "--port=0",
        "--name=steel",
    ]


def test_a_value_is_no_option():
    assert ServerOptions(name="--port").to_arguments() == ["--name=--port"]


def test_secrets_stand_in_no_command_line():
    settings = Settings.parse(["--port", "0"], {variable("admin_key"): "k3y", variable("api_keys"): "a predict x"})
    assert settings.admin_key is not None
    assert settings.to_arguments() == ["--port", "0"]


def test_arguments_win_and_both_are_named_in_errors():
    variables = {variable("port"): "1", variable("queue"): "-1"}
    with pytest.raises(ConfigError, match="VISIONOPS_QUEUE: "):
        ServerOptions.parse(["--port", "2"], variables)
    assert ServerOptions.parse(["--port", "2", "--queue", "3"], variables) == ServerOptions(port=2, queue=3)


def test_a_model_is_served_as_the_configuration_says():
    serving = ServingConfig(engine=EngineName.ONNXRUNTIME, confidence=0.1, iou=0.5, max_upload_bytes=7)
    model = ModelRef.from_serving(serving, bundle=Path("b"), name="steel", version="3", alias="champion")
    assert model.model_dump(mode="json") == {
        "bundle": "b",
        "name": "steel",
        "version": "3",
        "alias": "champion",
        "engine": "onnxruntime",
        "device": "cpu",
        "confidence": 0.1,
        "iou": 0.5,
        "max_upload_bytes": 7,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--candidate", "c"], "--candidate: needs --bundle, --candidate-version and --release"),
        (["--release", "{"], "--release: .*is no JSON"),
        (["--release", '{"share": 2}'], "--release: expected 1 or less"),
        (
            ["--bundle", "b", "--candidate", "c", "--candidate-version", "2", "--release", "{}"],
            "--release: strategy switch takes no candidate",
        ),
    ],
)
def test_a_candidate_that_cannot_be_tried_is_refused_in_one_line(arguments: list[str], message: str):
    with pytest.raises(ConfigError, match=message) as refused:
        ServerOptions.parse(arguments)
    assert "\n" not in str(refused.value)


def test_whoever_writes_a_command_line_loads_no_engine():
    code = f"import sys, visionops.inference.server_options; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
