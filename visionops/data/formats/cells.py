"""Read tables as rows of text from CSV, TSV, Parquet or Excel files.

Text files are UTF-8, or the encoding of their byte-order mark; fields may be quoted as in RFC 4180. Typed cells become
text by one rule (`cell_text`), so that a table reads the same in each format.
"""

from __future__ import annotations

import codecs
import csv
import datetime
import decimal
import io
import itertools
import json
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from visionops.data.files import describe_os_error
from visionops.data.formats.rules import list_names
from visionops.errors import AnnotationError

__all__ = [
    "DELIMITERS",
    "TABLE_SUFFIXES",
    "cell_text",
    "head_rows",
    "is_text_table",
    "note_unread_sheets",
    "read_rows",
]

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".xlsx")
"""Lower-case suffixes of files that may be tables."""
DELIMITERS = (",", ";", "\t", "whitespace")
"""Possible column separators, the most common first."""

_HEAD_ROWS = 400
_HEAD_BYTES = 65_536
_BATCH_ROWS = 10_000
_MOST_EXCEL_BYTES = 1 << 29
_EXCEL_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors of openpyxl and its libraries for damaged files."""


def cell_text(value: Any) -> str:
    """Return a typed cell as CSV text: 1.0 -> "1", True -> "true", None and NaN -> "", dates in ISO format."""
    if value is None or isinstance(value, str):
        return (value or "").strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | decimal.Decimal):
        return _number_text(value)
    if isinstance(value, datetime.date | datetime.time):
        text = value.isoformat()
        return text.removesuffix("T00:00:00")  # Excel's dates are times at midnight
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)


def _number_text(value: float | decimal.Decimal) -> str:
    if math.isnan(value):
        return ""
    is_whole = math.isfinite(value) and -(2**53) < value < 2**53 and value == int(value)
    return str(int(value)) if is_whole else str(value)


def is_text_table(name: str) -> bool:
    """Return whether a table is text with a delimiter, judged by its name."""
    return not name.lower().endswith((".parquet", ".xlsx", ".xls"))


def read_rows(file: Path, delimiter: str, *, lists: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Read a table row by row, the header first.

    Args:
        file: File whose suffix sets its type; any other than ``.parquet`` and ``.xlsx`` is text.
        delimiter: One character, or ``whitespace``; for text only.
        lists: Whether to read columns of number lists, too, as ``[1.0, 2.0]``; for Parquet only.

    Yields:
        Line number, counted from 1, and stripped cells of each row that is not blank.

    Raises:
        AnnotationError: The file is missing, or does not match its suffix.
    """
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet_rows(file, lists=lists)
    elif suffix == ".xlsx":
        yield from _excel_rows(file)
    elif suffix == ".xls":
        raise AnnotationError(f"{file}: Excel's old format is not read; save the table as .xlsx or CSV")
    else:
        yield from _text_rows(io.StringIO(_read_text(file), newline=""), file, delimiter)


def head_rows(file: Path, delimiter: str, *, lists: bool = False) -> list[tuple[int, list[str]]]:
    """Read the first rows of a table, at most 400 or its first 64 KiB; return an empty list if it cannot be read."""
    try:
        if not is_text_table(file.name):
            return list(itertools.islice(read_rows(file, delimiter, lists=lists), _HEAD_ROWS))
        with file.open("rb") as stream:
            data = stream.read(_HEAD_BYTES)
    except (AnnotationError, OSError, ValueError):
        return []
    text = data.decode(_encoding(data), errors="ignore")
    if len(data) == _HEAD_BYTES:
        text = text[: text.rfind("\n") + 1]
    rows: list[tuple[int, list[str]]] = []
    try:
        rows.extend(itertools.islice(_text_rows(io.StringIO(text, newline=""), file, delimiter), _HEAD_ROWS))
    except AnnotationError:
        return rows if len(data) == _HEAD_BYTES else []  # the cut may be inside a quoted field
    return rows


def _text_rows(stream: io.StringIO, file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    if delimiter == "whitespace":
        for number, line in enumerate(stream, start=1):
            if cells := line.split():
                yield number, cells
        return
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    while True:
        line_before = reader.line_num
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise AnnotationError(
                f"{file}:{line_before + 1}: not a row of a CSV ({error}); correct its quotes, or set data.delimiter"
            ) from error
        if row is None:
            return
        if any(row):
            yield line_before + 1, [cell.strip() for cell in row]


def _encoding(data: bytes) -> str:
    return "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        beside = sorted(file.parent.iterdir()) if file.parent.is_dir() else []
        others = [path.name for path in beside if path.suffix.lower() in TABLE_SUFFIXES]
        raise AnnotationError(f"{file}: not found; set data.table; there are: {list_names(others)}") from error
    except (OSError, ValueError) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
        raise AnnotationError(f"{file}: cannot be read ({reason})") from error


def _read_text(file: Path) -> str:
    data = _read_bytes(file)
    encoding = _encoding(data)
    fix = "save the table as UTF-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        is_utf16 = encoding == "utf-16"
        what = "not UTF-16, as its first bytes say" if is_utf16 else f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise AnnotationError(f"{file}:{line}: {what}; {fix}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise AnnotationError(f"{file}:{line}: holds zero bytes, as UTF-16 without a byte-order mark does; {fix}")
    return text


def _parquet_rows(file: Path, *, lists: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield rows, with the header as line 1. Columns of lists, records and bytes are not labels and are skipped."""
    if not file.exists():
        _read_bytes(file)
    try:
        with pq.ParquetFile(file) as table:
            flat = [field.name for field in table.schema_arrow if _is_plain(field) or (lists and _is_numbers(field))]
            yield 1, [name.strip() for name in flat]
            number = 2
            for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=flat):
                for cells in zip(*(map(cell_text, column.to_pylist()) for column in batch.columns), strict=True):
                    if any(cells):
                        yield number, list(cells)
                    number += 1
    except (pa.ArrowException, OSError, ValueError, ArithmeticError, LookupError) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
        raise AnnotationError(f"{file}: not a Parquet file that can be read ({_one_line(reason)})") from error


def _is_plain(field: Any) -> bool:
    kind = field.type
    nested = pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return not nested and not field.name.startswith("__index_level_")  # pandas writes these for row numbers


def _is_numbers(field: Any) -> bool:
    kind = field.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)))


def note_unread_sheets(file: Path, place: str) -> list[str]:
    """Return a note on the sheets of an Excel file that `read_rows`, which reads the first non-empty one, skips.

    Args:
        place: Name of the file in the note.
    """
    if file.suffix.lower() != ".xlsx":
        return []
    _, *others = (title for title, rows in _sheets(file) if rows)
    return [f"Sheets of {place} that are not read: {list_names(others)}."] if others else []


def _excel_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of the first sheet with any cell."""
    rows = next((rows for _, rows in _sheets(file) if rows), [])
    width = len(rows[0][1]) if rows else 0
    for number, cells in rows:
        yield number, cells + [""] * (width - len(cells))


def _sheets(file: Path) -> Iterator[tuple[str, list[tuple[int, list[str]]]]]:
    """Yield the title and the rows of each sheet."""
    try:
        import openpyxl
    except ImportError as error:
        raise AnnotationError(f"{file}: Excel tables need openpyxl; run pip install openpyxl, or save a CSV") from error
    data = _read_bytes(file)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST_EXCEL_BYTES:
                raise ValueError("it unpacks to more than 512 MiB")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for styles and validations that openpyxl drops
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
            for sheet in book.worksheets:
                yield str(sheet.title), _sheet_rows(sheet)
    except _EXCEL_FAULTS as error:
        raise AnnotationError(f"{file}: not an Excel table that can be read ({_one_line(str(error))})") from error


def _sheet_rows(sheet: Any) -> list[tuple[int, list[str]]]:
    sheet.reset_dimensions()  # some programs write wrong dimensions
    rows = []
    for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
        cells = [cell_text(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            rows.append((number, cells))
    return rows


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
