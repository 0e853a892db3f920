"""Exports of tools that no reader reads: what each is, and what to export from the tool in its place.

They are looked for where nothing better fits than class folders or an attribute table, so that labels that cannot be
read never pass for a data set without them. Files are known by their content: the keys of JSON, the shape of lines.
"""

from __future__ import annotations

from visionops.data.formats.foreign.files import Foreign
from visionops.data.formats.foreign.known_json import find_json, find_json_lines
from visionops.data.formats.foreign.known_tables import find_records, find_tables
from visionops.data.formats.foreign.known_texts import find_texts
from visionops.data.formats.foreign.unknown import find_kinds, find_lists, find_masks_only, find_mentions, find_unknown
from visionops.data.listing import Listing

__all__ = ["Foreign", "find_foreign"]


def find_foreign(listing: Listing, *, masks: bool = True) -> Foreign | None:
    """Find labels of another tool; None where nothing looks like any.

    Args:
        masks: Whether masks of the images are such labels, too; not where the images have classes.
    """
    finders = [find_json, find_json_lines, find_tables, find_records, find_texts, find_unknown, find_mentions]
    finders += [find_masks_only, find_kinds, find_lists] if masks else []
    return next((found for find in finders if (found := find(listing))), None)
