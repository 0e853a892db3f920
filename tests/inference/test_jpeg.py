from __future__ import annotations

import functools
import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from visionops.inference.image import read_header
from visionops.inference.jpeg import read_simple_jpeg


@functools.cache
def encode(mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10)).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"comment": "x", "dpi": (72, 72)}])
def test_reads_usual_files_as_pillow_does(mode, options):
    data = encode(mode, **options)
    assert read_simple_jpeg(data) == read_header(data)
    assert read_simple_jpeg(data).is_plain


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode("CMYK"),
        encode(exif=exif(6)),
        encode(icc_profile=b"profile"),
        encode(xmp=b'<x tiff:Orientation="6"/>'),
        encode()[:100],
        encode().replace(b"\x00\x06\x00\x0a\x03", b"\x00\x00\x00\x0a\x03"),
        encode().replace(b"\x00\x06\x00\x0a\x03", b"\xff\xff\xff\xff\x03"),
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_leaves_others_to_pillow(data):
    assert read_simple_jpeg(data) is None


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


@settings(max_examples=400, deadline=None)
@given(
    base=st.sampled_from([encode("L"), encode(), encode(progressive=True), encode("CMYK"), encode(exif=exif(6))]),
    edits=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=3),
    extra=st.one_of(
        st.none(),
        st.builds(segment, st.integers(0xC0, 0xFE), st.binary(max_size=80)),
        st.builds(lambda o: segment(0xE1, b"Exif\0\0" + exif(o).removeprefix(b"Exif\0\0")), st.integers(0, 9)),
    ),
    cut=st.integers(0, 2000),
)
@example(base=encode(), edits=[], extra=segment(0xE0, b"JFIF"), cut=2000)
@example(base=encode(), edits=[], extra=segment(0xDB, b"\x00" * 64), cut=2000)
@example(base=encode(), edits=[], extra=segment(0xC0, b"\x08\x00\x01\x00\x01\x01\x01\x11\x00"), cut=2000)
def test_never_answers_otherwise_than_pillow(base, edits, extra, cut):
    data = bytearray(base)
    for at, value in edits:
        data[at % len(data)] = value
    if extra:
        data[2:2] = extra
    data = bytes(data[:cut])
    header = read_simple_jpeg(data)
    assert header is None or header == read_header(data)
