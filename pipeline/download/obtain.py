"""Obtain a file with known content: from a local copy if there is one, else from mirrors."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline.download.archive import check_archive, pack_folder
from pipeline.download.cifar10 import ARCHIVE, find_existing
from pipeline.download.fetch import fetch
from pipeline.errors import DamagedFile
from pipeline.progress import Progress, silent
from pipeline.storage.publishing import publish_manifest, published

logger = logging.getLogger(__name__)

CIFAR10_ADVICE = (
    "Set another mirror or a local file with HEADSTART_CIFAR10_URLS (http, https or file:// URLs, "
    "separated by commas) or with [cifar10] urls in luigi.cfg, or put the archive or the extracted folder "
    "cifar-10-batches-py into {raw}. `--dataset cifar10-sample` needs no download"
)


def obtain_archive(
    fingerprint: dict[str, Any], folder: str, raw: str, urls: list[str], progress: Progress = silent
) -> str:
    """Publish the CIFAR-10 archive in folder, every member verified; return where it came from.

    raw is the folder where users can put the archive or the extracted folder; the Keras cache is searched,
    too. A file URL can also name an extracted folder.
    """
    target = Path(folder)
    local = [Path(url2pathname(urlsplit(url).path)) for url in urls if url.startswith("file:")]
    came_from = obtain(
        target / ARCHIVE,
        urls=urls,
        existing=[target / ARCHIVE, *find_existing(Path(raw), keras_home()), *filter(Path.is_dir, local)],
        check=check_archive,
        advice=CIFAR10_ADVICE.format(raw=raw),
        progress=progress,
    )
    publish_manifest(target, fingerprint, [ARCHIVE], {"came_from": came_from})
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
    """Create target and return where it came from: the path of a local copy, or the URL of a mirror.

    The first of the existing files and folders that passes check is linked, copied or packed, not modified.
    One that fails (DamagedFile) or cannot be read is skipped. Raises DownloadFailed, with advice, when no
    mirror provides the file.
    """
    for path in filter(Path.exists, existing):
        try:
            if path.is_file():
                check(path)
            if path.resolve() != target.resolve():
                with published(target) as scratch:
                    _copy(path.resolve(), scratch)
                    if path.is_dir():
                        check(scratch)
            return str(path)
        except (DamagedFile, OSError) as error:
            logger.warning("skipping %s: %s", path, error)
    return fetch(urls, target, check, progress=progress, advice=advice)


def _copy(source: Path, target: Path) -> None:
    """Create target as a link or copy of a file, or as an archive of an extracted folder of CIFAR-10."""
    if source.is_dir():
        pack_folder(source, target)
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def keras_home() -> Path:
    """Return the folder of the Keras cache, without importing Keras."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
