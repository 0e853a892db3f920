"""Unpack zip, tar and 7z archives from anywhere: within limits, below one folder, whole or not at all.

What a file is, its first bytes decide, not its suffix. In all three formats the same holds:

* A name is a plain path below the archive. In zip and 7z a backslash separates folders, as PowerShell 5 writes it.
* Two members of one name are refused; names that differ in case or Unicode form only where the disk cannot hold both.
* ``__MACOSX`` and AppleDouble files (``._x``), which Finder adds, are left out.
* Links come last and end at a file of the archive.

A zip entry without the flag for UTF-8 says nothing about its encoding. All such names of an archive are read as UTF-8
if they are valid UTF-8 (Finder); else as CP932 if all that is not ASCII are two-byte characters of it and code page 437
would show box drawings or Greek (Japanese Windows); else as code page 437, which is the standard's.
"""
