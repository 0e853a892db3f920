"""Recognize exports of tools that no reader supports, and name the export to use instead.

They are searched only if nothing better than class folders or an attribute table fits, so that unsupported labels are
never mistaken for a data set without labels. Files are recognized by content: the keys of JSON, the shape of lines.
"""

from __future__ import annotations

from visionops.data.formats.foreign.files import UnsupportedLabels
from visionops.data.formats.foreign.known_json import find_json, find_json_lines
from visionops.data.formats.foreign.known_tables import find_records, find_tables
from visionops.data.formats.foreign.known_texts import find_texts
from visionops.data.formats.foreign.unknown import find_kinds, find_lists, find_masks_only, find_mentions, find_unknown
from visionops.data.listing import Listing

__all__ = ["UnsupportedLabels", "find_foreign"]


def find_foreign(listing: Listing, *, masks: bool = True) -> UnsupportedLabels | None:
    """Find labels of another tool; return None if there are none.

    Args:
        masks: Whether masks of the images count as such labels; False if the images have classes.
    """
    finders = [find_json, find_json_lines, find_tables, find_records, find_texts, find_unknown, find_mentions]
    finders += [find_masks_only, find_kinds, find_lists] if masks else []
    return next((found for find in finders if (found := find(listing))), None)
