"""Obtain a file with known content: from a local copy if there is one, else from mirrors."""

from __future__ import annotations

import functools
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline.download.archive import check_archive, pack_folder
from pipeline.download.cifar import ARCHIVES, Archive, find_existing
from pipeline.download.fetch import fetch
from pipeline.errors import DamagedFile
from pipeline.progress import Progress, silent
from pipeline.storage.publishing import publish_manifest, published

logger = logging.getLogger(__name__)

ADVICE = (
    "Set another mirror or a local file with HEADSTART_{variable}_URLS (http, https or file:// URLs, "
    "separated by commas) or with [{name}] urls in luigi.cfg, or put the archive or the extracted folder "
    "{folder} into {raw}. `--dataset cifar10-sample` needs no download"
)


def obtain_archive(
    name: str, fingerprint: dict[str, Any], folder: str, raw: str, urls: list[str], progress: Progress
) -> str:
    """Publish the archive of a data set in folder, every member verified; return where it came from.

    name is that of the data set in ARCHIVES; raw is the folder where users can put the archive or the
    extracted folder; the Keras cache is searched, too. A file URL can also name an extracted folder.
    """
    row = ARCHIVES[name]
    target = Path(folder) / row.file
    local = [Path(url2pathname(urlsplit(url).path)) for url in urls if url.startswith("file:")]
    came_from = obtain(
        target,
        row=row,
        urls=urls,
        existing=[target, *find_existing(row, Path(raw), keras_home()), *filter(Path.is_dir, local)],
        check=functools.partial(check_archive, row),
        advice=ADVICE.format(variable=name.upper(), name=name, folder=row.folder, raw=raw),
        progress=progress,
    )
    publish_manifest(target.parent, fingerprint, [row.file], {"came_from": came_from})
    return came_from


def obtain(
    target: Path,
    *,
    row: Archive,
    urls: Sequence[str],
    existing: Iterable[Path],
    check: Callable[[Path], None],
    advice: str,
    progress: Progress = silent,
) -> str:
    """Create the archive target and return its origin: the path of a local copy, or the URL of a mirror.

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
                    _copy(row, path.resolve(), scratch)
                    if path.is_dir():
                        check(scratch)
            return str(path)
        except (DamagedFile, OSError) as error:
            logger.warning("skipping %s: %s", path, error)
    return fetch(urls, target, check, progress=progress, content=row.title, advice=advice)


def _copy(row: Archive, source: Path, target: Path) -> None:
    """Create target as a link or copy of a file, or as an archive of an extracted folder."""
    if source.is_dir():
        pack_folder(row, source, target)
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def keras_home() -> Path:
    """Return the folder of the Keras cache, without importing Keras."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
