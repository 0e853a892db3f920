"""List the accepted image types for data sets, batches and the server.

Accepted are all types that the installed Pillow opens, and HEIC where pillow-heif is installed, except the few types
below that cannot be read safely or correctly. The header determines the type of a file; a suffix only marks a file in a
folder as an image.
"""

from __future__ import annotations

import types
from collections.abc import Mapping

from PIL import Image, features

__all__ = ["FORMATS", "HAS_HEIF", "IMAGE_SUFFIXES", "UNREADABLE_IMAGE_SUFFIXES", "preferred_suffix", "suffixes_of"]


def _register_heif() -> bool:
    """Add HEIC to Pillow's types; return whether the library is installed, which has no wheels for some platforms."""
    try:
        import pillow_heif
    except ImportError:
        return False
    # A thumbnail inside the file may show something else than the image, so it is ignored.
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return True


HAS_HEIF = _register_heif()
"""Whether HEIC can be read."""

_REFUSED = {
    "EPS": "is run by Ghostscript, another program",
    "WMF": "can only be drawn by Windows, as can EMF",
    "BUFR": "is recognised by Pillow, but cannot be decoded",
    "GRIB": "is recognised by Pillow, but cannot be decoded",
    "HDF5": "is recognised by Pillow, but cannot be decoded",
    "MPEG": "is a video; Pillow cannot decode it",
    "IPTC": "wraps a file of any type, even a refused one, whose size is not in the header",
    "BLP": "is decoded pixel by pixel in Python, which would block a server, and wraps JPEGs of any size",
    "FITS": "has a scale and an offset for its values, which Pillow ignores",
    "IM": "is deprecated by Pillow, which warns about each file and will drop it",
    "SPIDER": "has no signature, so any file might be one, and only float pixels",
    "IMT": "has no signature, so any file might be one",
}
"""Reason for which a type is not accepted, keyed by Pillow's name. All other types that Pillow opens are accepted."""

_FIRST = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")  # tried first, because nearly all files have these types
_LAST = ("TGA",)  # tried last, because it has no signature and would accept files of any other type
_OTHERS_SUFFIXES = {
    ".gbr",  # Gerber, the drawing of a circuit board; Pillow uses the suffix for GIMP brushes
    ".pcd",  # a point cloud; Pillow uses the suffix for Photo CD
    ".vst",  # a Visio template; Pillow uses the suffix for TGA
}
"""Suffixes of Pillow that nearly always mean another kind of file beside images. The headers of such files still
count."""

_PREFERRED = {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2", "HEIF": ".heic", "MPO": ".jpg"}
_ALSO = {"MPO": (".jpg", ".jpeg"), "BMP": (".dib",)}  # Pillow uses these suffixes for one of two related types

_RAW = "a raw camera file"
_KNOWN = {
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".hif": "HEIC",
    ".avif": "AVIF",
    ".jp2": "JPEG 2000",
    ".j2k": "JPEG 2000",
    ".webp": "WebP",
    ".jxl": "JPEG XL",
    ".jxr": "JPEG XR",
    ".wdp": "JPEG XR",
    ".jls": "JPEG-LS",
    ".psd": "Photoshop",
    ".psb": "Photoshop",
    ".xcf": "GIMP",
    ".kra": "Krita",
    ".svg": "SVG",
    ".svgz": "SVG",
    ".ai": "Illustrator",
    ".eps": "EPS",
    ".ps": "PostScript",
    ".wmf": "WMF",
    ".emf": "EMF",
    ".exr": "OpenEXR",
    ".hdr": "Radiance HDR",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".nii": "NIfTI",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".nrrd": "NRRD",
    ".fits": "FITS",
    ".czi": "Zeiss CZI",
    ".lif": "Leica LIF",
    ".nd2": "Nikon ND2",
    ".svs": "Aperio SVS",
    ".ndpi": "Hamamatsu NDPI",
    ".djvu": "DjVu",
    ".blp": "BLP",
    ".bpg": "BPG",
    ".flif": "FLIF",
    ".ktx": "KTX",
    ".ktx2": "KTX",
    **dict.fromkeys((".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq"), _RAW),
    **dict.fromkeys((".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw"), _RAW),
    **dict.fromkeys((".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"), _RAW),
}
"""Type of image for each common suffix, including types that may not be readable."""


def _formats() -> tuple[str, ...]:
    Image.init()
    accepted = [name for name in sorted(Image.OPEN) if name not in _REFUSED]
    if not features.check("avif"):  # registered all the same
        accepted.remove("AVIF")
    between = [name for name in accepted if name not in _FIRST + _LAST]
    return (*(name for name in _FIRST if name in accepted), *between, *(name for name in _LAST if name in accepted))


def _suffixes() -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {name: set(_ALSO.get(name, ())) for name in (*FORMATS, "MPO")}
    for suffix, name in Image.registered_extensions().items():
        if name in found:
            found[name].add(suffix.lower())
    return {name: tuple(sorted(suffixes)) for name, suffixes in found.items()}


FORMATS: tuple[str, ...] = _formats()
"""Pillow's names of the accepted types, in the order in which they are tried. MPO is opened as JPEG."""

_SUFFIXES = _suffixes()

IMAGE_SUFFIXES: frozenset[str] = frozenset(suffix for of in _SUFFIXES.values() for suffix in of) - _OTHERS_SUFFIXES
"""Lower-case suffixes by which a file in a folder counts as an image."""

UNREADABLE_IMAGE_SUFFIXES: Mapping[str, str] = types.MappingProxyType(
    {suffix: name for suffix, name in _KNOWN.items() if suffix not in IMAGE_SUFFIXES}
)
"""Description of images that cannot be read here, such as ``a raw camera file``, keyed by lower-case suffix."""


def suffixes_of(name: str) -> tuple[str, ...]:
    """Return the lower-case suffixes of a type, given by Pillow's name, sorted; empty where it has no usual one."""
    return _SUFFIXES.get(name, ())


def preferred_suffix(name: str) -> str:
    """Return the usual suffix of a type, given by Pillow's name; "" where it has none."""
    usual = _PREFERRED.get(name, f".{name.lower()}")
    suffixes = suffixes_of(name)
    return usual if usual in suffixes else next(iter(suffixes), "")
