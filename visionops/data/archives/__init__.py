"""Unpack zip, tar and 7z archives: within limits, into one folder, completely or not at all.

The first bytes of a file decide its type, not its suffix. These rules hold for all three formats:

* A name must be a plain path inside the archive. In zip and 7z a backslash separates folders, as PowerShell 5 writes
it.
* Duplicate names are refused; names that differ in case or Unicode form only if the disk cannot hold both.
* ``__MACOSX`` and AppleDouble files (``._x``), which Finder adds, are left out.
* Links are created last and must end at a file of the archive.

A zip entry without the flag for UTF-8 does not declare its encoding. All such names of an archive are read as UTF-8 if
they are valid UTF-8 (Finder); else as CP932 if all non-ASCII characters are two-byte characters of it and code page 437
would show box drawings or Greek (Japanese Windows); else as code page 437, the default in the standard.
"""
