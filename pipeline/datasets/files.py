"""Picture files: their formats, and the files in and below a folder."""

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BadInput
from pipeline.formatting import printable

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "AVIF", "PPM")  # Pillow's names
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".avif", ".pbm", ".pgm", ".ppm", ".pnm"),
)
# Of pictures that Pillow does not read, or of which it reads a small preview (raw files of cameras).
OTHER_SUFFIX = re.compile(
    r"\.(hei[cf]|hif|jxl|jp2|j2k|svgz?|ps[bd]|xcf|eps|tga|ico|3fr|arw|cr[23w]|dcr|dng|erf|iiq|kdc|mef|mrw"
    r"|nef|nrw|orf|pef|raf|raw|rw2|srw|x3f)",
    re.IGNORECASE,
)
ARRAYS = ".npz"  # suffix of a NumPy file of images and labels
SPLIT_WORDS = {
    "train": ("training",),
    "val": ("valid", "validation", "dev"),
    "test": ("testing", "eval", "evaluation"),
}
SPLIT_NAMES = {  # every spelling of a split, in lower case
    f"{word}{end}": split
    for split, words in SPLIT_WORDS.items()
    for word in (split, *words)
    for end in ("", "_set", "-set", "set")
}
LEFT_BEHIND = (  # by operating systems and network drives
    *("__macosx", "temporary items", "network trash folder", "lost+found", "system volume information"),
    *("$recycle.bin", "recycler", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),
)


@dataclass(frozen=True)
class PictureFile:
    """A picture of a data set: a file, or a row (counted from 1) of the arrays in a NumPy file.

    name is its POSIX path relative to the folder or as in the table; split is "" if the source gives none.
    Pictures of one group, unless it is "", go to one split. weight is that of the picture in the loss.
    """

    name: str
    path: Path
    class_name: str
    split: str = ""
    group: str = ""
    weight: float = 1.0
    row: int = 0

    @property
    def entry(self) -> str:
        """What is part of the data set's identity beside the bytes of the file."""
        weight = [self.weight] if self.weight != 1 else []
        return json.dumps([self.name, self.class_name, self.split, self.group, *weight])


def split_in(name: str) -> str:
    """Return the split that a word in a folder's name means, such as train in 01_train_images; else ""."""
    splits = {SPLIT_NAMES[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else ""


def text_of_name(name: str) -> str:
    """Return a file name with bytes that are not UTF-8, and control characters, as escapes."""
    return printable(os.fsencode(name).decode("utf-8", "backslashreplace"))


def check_class_names(source: Path, names: Iterable[str]) -> None:
    """Raise BadInput if two names of classes look the same: in case, spaces, forms of letters, or escapes."""
    seen: dict[str, str] = {}
    for name in sorted(set(names)):
        look = " ".join(unicodedata.normalize("NFKC", text_of_name(name)).split()).casefold()
        if seen.setdefault(look, name) != name:
            same = f"{text_of_name(seen[look])!r} and {text_of_name(name)!r}"
            raise BadInput(f"{source}: expected names of classes that look different, found {same}")


def pictures_below(folder: Path) -> Iterator[Path]:
    """Yield the picture files in and below a folder, sorted; skip hidden files and links to folders."""
    return (path for path in files_below(folder) if path.suffix.lower() in SUFFIXES and path.is_file())


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in and below a folder, sorted; skip hidden entries and do not follow folder links."""
    for path in entries_of(folder):
        if path.is_dir() and not path.is_symlink():
            yield from files_below(path)
        else:
            yield path


def entries_of(folder: Path) -> list[Path]:
    """Return the entries of a folder, sorted, without hidden ones and what operating systems leave behind."""
    entries = (path for path in folder.iterdir() if path.name.lower() not in LEFT_BEHIND)
    return sorted(path for path in entries if not path.name.startswith("."))


def is_picture(path: Path) -> bool:
    """Return whether the name of a file is that of a picture, of a format that is read or not."""
    return path.suffix.lower() in SUFFIXES or why_unread(path) is not None


def why_unread(path: Path) -> str | None:
    """Return why a picture's format is not read and what to do, None for any other file."""
    unread = OTHER_SUFFIX.fullmatch(path.suffix)
    return f"{path.suffix} is not read; convert it to PNG or JPEG" if unread else None
