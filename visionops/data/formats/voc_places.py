"""Find the image of each annotation file, by the folders and names of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from visionops.data.files import safe_name
from visionops.data.formats.mask_names import is_mask_folder
from visionops.data.formats.names import Bases, Level, Match, NameIndex, plain_name
from visionops.data.formats.splits import split_of_folders
from visionops.data.listing import Listing, folder_of, stem_of, suffix_of
from visionops.inference.image_types import UNREADABLE_IMAGE_SUFFIXES

__all__ = ["Partner", "Partners"]

_IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "jpgimages", "pngimages", "photos", "pictures", "frames"})
_MOST_SIBLINGS = 20


class Partner(NamedTuple):
    """The image of an annotation file."""

    name: str
    """Name of the image if it is not found: its key."""
    match: Match
    other: str = ""
    """Another image that the annotation names, although the file's own name gives `match`."""
    is_unsafe: bool = False
    """Whether the declared name, then in `name`, points outside the data set."""


class Partners:
    """The images of a data set, indexed for annotation files beside them or in a parallel tree."""

    def __init__(self, listing: Listing) -> None:
        readable = listing.images
        images = [n for n in listing.files if n in readable or suffix_of(n) in UNREADABLE_IMAGE_SUFFIXES]
        self._files = NameIndex(images)
        self._by_stem: dict[str, list[str]] = {}
        for name in images:
            self._by_stem.setdefault(stem_of(name), []).append(name)
        self._stems = NameIndex(self._by_stem)
        self._readable = readable
        self._folders = _folders_of(images)
        self._holding = {folder_of(name) for name in images}

    def find(self, labels: Sequence[tuple[str, str]]) -> list[Partner]:
        """Find the image of each annotation file.

        Its own name counts first, then the declared name, in full or without its suffix.

        Args:
            labels: Name of the annotation file, and the name of the image that it declares or ``""``.
        """
        groups: dict[str, list[int]] = {}
        for i, (name, _) in enumerate(labels):
            groups.setdefault(folder_of(name), []).append(i)
        found: list[Partner] = [Partner("", Match(None))] * len(labels)
        for folder, members in groups.items():
            for i, partner in zip(members, self._in_folder(folder, [labels[i] for i in members], groups), strict=True):
                found[i] = partner
        near = {p.match.file for p in found if p.match.file and p.match.level < Level.SUBFOLDER}
        return [
            p._replace(match=Match(None)) if p.match.level is Level.SUBFOLDER and p.match.file in near else p
            for p in found
        ]

    def _in_folder(self, folder: str, labels: Sequence[tuple[str, str]], label_folders: Iterable[str]) -> list[Partner]:
        bases = self._bases(folder, set(label_folders))
        stems = [stem_of(name).rpartition("/")[2] for name, _ in labels]
        declared = [plain_name(text) if text else "" for _, text in labels]
        matches = self._by_own_name(stems, [d or "" for d in declared], bases)
        by_declared = iter(self._files.match([d for d in declared if d], bases, up_to=Level.PREFIX))
        named = [next(by_declared) if d else Match(None) for d in declared]
        self._fill(matches, named, [d or "" for d in declared], bases)
        self._fill_from_afar(matches, stems, [d or "" for d in declared], folder, bases)
        home = next((base for rank in bases for base in rank if base.rstrip("/") in self._holding), bases[0][0])
        partners = []
        for (_, text), stem, name, match, other in zip(labels, stems, declared, matches, named, strict=True):
            if text and name is None:
                partners.append(Partner(text, match, is_unsafe=True))
                continue
            if match.file is not None and safe_name(match.file) is None:
                partners.append(Partner(match.file, match, is_unsafe=True))
                continue
            differs = other.file and match.file and other.file != match.file
            partners.append(Partner(home + (name or stem), match, other.file or "" if differs else ""))
        return partners

    def _by_own_name(self, stems: Sequence[str], declared: Sequence[str], bases: Bases) -> list[Match]:
        """Match by the name of the annotation file: ``a.xml``, or ``a.jpg.xml`` from some tools."""
        matches = self._match_stems(stems, declared, bases)
        rest = [i for i, match in enumerate(matches) if match.file is None and not match.rivals]
        for i, match in zip(rest, self._files.match([stems[i] for i in rest], bases, up_to=Level.PREFIX), strict=True):
            matches[i] = match
        return matches

    def _fill(self, matches: list[Match], named: list[Match], declared: Sequence[str], bases: Bases) -> None:
        """Match by the declared name if the file's own name matches no image."""
        rest = [i for i, match in enumerate(matches) if match.file is None and not match.rivals and declared[i]]
        short = [stem_of(declared[i]) if suffix_of(declared[i]) else declared[i] for i in rest]
        by_stem = self._match_stems(short, [declared[i] for i in rest], bases)
        for i, match in zip(rest, by_stem, strict=True):
            matches[i] = named[i] if named[i].file or named[i].rivals else match

    def _fill_from_afar(
        self, matches: list[Match], stems: Sequence[str], declared: Sequence[str], folder: str, bases: Bases
    ) -> None:
        """Match by either name in any folder if no image is beside the annotations; never in another split."""
        if folder in self._holding:
            return
        split = split_of_folders(f"{folder}/x")
        rest = [i for i, match in enumerate(matches) if match.file is None and not match.rivals]
        far = self._match_stems([stems[i] for i in rest], [declared[i] for i in rest], bases, Level.SUBFOLDER)
        by_declared = self._files.match([declared[i] or stems[i] for i in rest], bases)
        for i, *found in zip(rest, far, by_declared, strict=True):
            matches[i] = next((match for match in found if match.file or match.rivals), Match(None))
            also = split_of_folders(matches[i].file or "")
            if split and also and also is not split:
                matches[i] = Match(None)

    def _match_stems(
        self, stems: Sequence[str], declared: Sequence[str], bases: Bases, up_to: Level = Level.PREFIX
    ) -> list[Match]:
        found = self._stems.match(stems, bases, up_to=up_to)
        return [self._resolve(match, name) for match, name in zip(found, declared, strict=True)]

    def _resolve(self, match: Match, declared: str) -> Match:
        """Resolve a stem to a file; of several with that stem, take the declared one, or the one that can be read."""
        if match.rivals and not match.shared:
            return match._replace(rivals=tuple(sorted(f for stem in match.rivals for f in self._by_stem[stem])))
        if match.file is None:
            return match
        files = self._by_stem[match.file]
        tail = declared.rpartition("/")[2]
        for chosen in (
            [f for f in files if f.rpartition("/")[2] == tail],
            [f for f in files if suffix_of(f) == suffix_of(tail)],
            [f for f in files if f in self._readable],
            files,
        ):
            if len(chosen) == 1:
                return match._replace(file=chosen[0])
        return Match(None, match.level, tuple(sorted(files)))

    def _bases(self, folder: str, label_folders: set[str]) -> Bases:
        """Return folders of images that belong to the annotations of a folder, best first.

        First beside them, then in a parallel tree: with ``JPEGImages``, ``images`` and the like, nothing, or any other
        folder in place of one or more folders of their path.
        """
        here = f"{folder}/" if folder else ""
        if folder in self._holding:
            return ((here,),)
        parts = folder.split("/") if folder else []
        spans = [(i, j) for j in range(len(parts), -1, -1) for i in range(j, -1, -1)]
        spans = [(i, j) for i, j in spans if i < j or j == len(parts)]
        voc: dict[str, list[str]] = {}
        usual: dict[str, list[str]] = {}
        above: list[str] = []
        others: dict[str, list[str]] = {}
        split = split_of_folders(f"{folder}/x")
        for i, j in spans:
            parent, rest = "/".join(parts[:i]), parts[j:]
            children = self._folders.get(parent, ())
            above.append("/".join([*parts[:i], *rest, ""]))
            for child in children:
                tree = "/".join([*parts[:i], child])
                base = "/".join([tree, *rest, ""])
                word = child.lower()
                if word == "jpegimages":
                    voc.setdefault(tree, []).append(base)
                elif word in _IMAGE_FOLDERS:
                    usual.setdefault(tree, []).append(base)
                elif not is_mask_folder(word) and len(children) <= _MOST_SIBLINGS:
                    inside = base.rstrip("/")
                    also = split_of_folders(base)
                    crosses = bool(split and also and split is not also)
                    if inside not in label_folders and not crosses:
                        others.setdefault(tree, []).append(base)
        # Nearer folders come first, one at a time; but two folders with usual names that both hold the image are an
        # error.
        ranks: list[Sequence[str]] = [(base,) for tree in voc.values() for base in self._deepest_first(tree)]
        ranks += self._ranked(usual)
        ranks += [(base,) for base in dict.fromkeys(above) if base.rstrip("/") in self._holding]
        ranks += self._ranked(others)
        return tuple(rank for rank in ranks if rank) or ((here,),)

    def _ranked(self, trees: dict[str, list[str]]) -> list[Sequence[str]]:
        """Return the best folder of each tree, then all others."""
        ordered = [self._deepest_first(tree) for tree in trees.values()]
        best = tuple(dict.fromkeys(tree[0] for tree in ordered))
        return [best, tuple(dict.fromkeys(base for tree in ordered for base in tree[1:] if base not in best))]

    def _deepest_first(self, bases: list[str]) -> list[str]:
        """Sort folders of one tree by how much of the path they mirror and whether they hold images."""
        held = [base for base in bases if base.rstrip("/") in self._holding]
        best = max(held, key=len, default=bases[0])
        return [best, *(base for base in dict.fromkeys(bases) if base != best)]


def _folders_of(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return a mapping of folders to the names of their subfolders with an image at any depth."""
    children: dict[str, dict[str, None]] = {}
    seen: set[str] = set()
    for name in names:
        folder = folder_of(name)
        while folder and folder not in seen:
            seen.add(folder)
            parent, _, tail = folder.rpartition("/")
            children.setdefault(parent, {})[tail] = None
            folder = parent
    return {folder: tuple(sorted(found)) for folder, found in children.items()}
