"""Get a file that is known by its content: from where it lies already, or else from mirrors."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.download.archive import check_archive
from pipeline.download.cifar10 import ARCHIVE, find_existing
from pipeline.download.fetch import fetch
from pipeline.errors import DamagedFile
from pipeline.progress import Progress, silent
from pipeline.storage.publishing import publish_manifest, published

logger = logging.getLogger(__name__)

CIFAR10_ADVICE = (
    "Point to another mirror or to a file with HEADSTART_CIFAR10_URLS (http, https or file:// URLs, "
    "separated by commas) or with [cifar10] urls in luigi.cfg, or put the archive into {raw}. "
    "`make demo` needs no download"
)


def obtain_archive(
    fingerprint: dict[str, Any], folder: str, raw: str, urls: list[str], progress: Progress = silent
) -> str:
    """Publish the CIFAR-10 archive in folder, every member verified; return where it came from.

    raw is the folder in which a user may have put the archive; Keras's cache is looked at, too.
    """
    place = Path(folder)
    came_from = obtain(
        place / ARCHIVE,
        urls=urls,
        existing=[place / ARCHIVE, *find_existing(Path(raw), keras_home())],
        check=check_archive,
        advice=CIFAR10_ADVICE.format(raw=raw),
        progress=progress,
    )
    publish_manifest(place, fingerprint, [ARCHIVE], {"came_from": came_from})
    return came_from


def obtain(
    target: Path,
    *,
    urls: Sequence[str],
    existing: Iterable[Path],
    check: Callable[[Path], None],
    advice: str,
    progress: Progress = silent,
) -> str:
    """Make target and return where it came from: a path that was there, or the URL of a mirror.

    The first of the existing files that check accepts is linked or copied and left as it is; one that it
    refuses (DamagedFile) or that cannot be read is passed over. Raises DownloadFailed, with advice, when no
    mirror gives the file.
    """
    for path in existing:
        if not path.is_file():
            continue
        try:
            check(path)
        except (DamagedFile, OSError) as error:
            logger.warning("%s is passed over: %s", path, error)
            continue
        if path.resolve() != target.resolve():
            with published(target) as scratch:
                try:
                    os.link(path.resolve(), scratch)
                except OSError:  # another file system, or one without links
                    shutil.copyfile(path, scratch)
        return str(path)
    return fetch(urls, target, check, progress=progress, advice=advice)


def keras_home() -> Path:
    """Return the folder in which Keras keeps its downloads, without importing Keras."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
