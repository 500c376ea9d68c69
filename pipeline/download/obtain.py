"""Obtain a file with known content: from a local copy if there is one, else from mirrors."""

import functools
import logging
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline.children import keras_home
from pipeline.download.archive import check_archive, pack_folder
from pipeline.download.cifar import ARCHIVES, Archive
from pipeline.download.fetch import fetch
from pipeline.errors import DamagedFile
from pipeline.progress import Progress
from pipeline.storage.publishing import publish_manifest, published

logger = logging.getLogger(__name__)

ADVICE = (
    "Set another mirror or a local file with HEADSTART_{variable}_URLS (http, https or file:// URLs, "
    "separated by commas) or with [{name}] urls in luigi.cfg, or put {file} into {raw}."
)
SAMPLE_ADVICE = " `--dataset cifar10-sample` needs no download"


def obtain_archive(
    name: str, fingerprint: dict[str, Any], folder: str, raw: str, urls: list[str], progress: Progress
) -> str:
    """Publish the archive of a data set in folder, every member verified; return where it came from.

    name is that of the data set in ARCHIVES; raw is the folder where users can put the archive or the
    extracted folder; the Keras cache is searched, too. A file URL can also name an extracted folder. The
    first valid local copy is used and not modified; one that is damaged or cannot be read is skipped. Raises
    DownloadFailed, with advice, when no mirror provides the archive.
    """
    row, target = ARCHIVES[name], Path(folder) / ARCHIVES[name].file
    local = [Path(url2pathname(urlsplit(url).path)) for url in urls if url.startswith("file:")]
    for path in (target, *find_existing(row, Path(raw)), *filter(Path.is_dir, local)):
        if path.exists() and _copied(row, path, target):
            came_from = str(path)
            break
    else:
        check = functools.partial(check_archive, row)
        file = f"the archive or the extracted folder {row.folder}"
        advice = ADVICE.format(variable=name.upper(), name=name, file=file, raw=raw) + SAMPLE_ADVICE
        came_from = fetch(urls, target, check, progress=progress, content=row.title, advice=advice)
    publish_manifest(target.parent, fingerprint, [row.file], {"came_from": came_from})
    return came_from


def find_existing(row: Archive, raw: Path) -> list[Path]:
    """Return the archives and extracted folders in raw and the Keras cache, most likely ones first."""
    # Keras 3, Keras 2, and what was copied by hand.
    cached = [f"{row.folder}-target_archive", f"{row.folder}.tar.gz", row.file]
    cached += [f"{row.folder}-target/{row.folder}", row.folder]
    in_cache = (keras_home() / "datasets" / name for name in dict.fromkeys(cached))
    return list(filter(Path.exists, (raw / row.file, raw / row.folder, *in_cache)))


def _copied(row: Archive, path: Path, target: Path) -> bool:
    """Link, copy or pack an archive or extracted folder into target; return False if it is not valid."""
    try:
        if path.is_dir():
            with published(target) as scratch:
                pack_folder(row, path, scratch)
                check_archive(row, scratch)
            return True
        check_archive(row, path)
        if path.resolve() != target.resolve():
            with published(target) as scratch:
                try:
                    os.link(path.resolve(), scratch)
                except OSError:  # another file system, or one without hard links
                    shutil.copyfile(path.resolve(), scratch)
    except (DamagedFile, OSError) as error:
        logger.warning("skipping %s: %s", path, error)
        return False
    return True
