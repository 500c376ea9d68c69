"""Looking after the data folder: check it, repair it, and clear away what nobody needs."""

from __future__ import annotations

import time
from pathlib import Path

from pipeline.cleaning import Leftover, Needs, leftovers, remove
from pipeline.progress import Progress
from pipeline.publishing import MANIFEST
from pipeline.verification import ComparedRows, Verification, repair, verify
from pipeline.wording import plain
from tasks.explaining import needs_of, preset_graphs
from tasks.wording import aligned, counted, readable_bytes


def verify_lines(
    data: Path, *, sample: int, seed: int, mend: bool, progress: Progress
) -> tuple[list[str], bool]:
    """Return what `headstart verify` prints, and whether all is sound; with mend after a repair."""
    found = verify(data, sample=sample, seed=seed, progress=progress)
    lines = _verification_lines(data, found)
    if not (mend and found.damages):
        return lines, not found.damages
    done = repair(data, found, stamp=time.strftime("%Y%m%d-%H%M%S"), progress=progress)
    moved = [("moved", _place(data, source), f"to {_place(data, target)}") for source, target in done.moved]
    lines += ["", *aligned(moved), *(f"repair  {plain(words)}" for words in done.words)]
    again = verify(data, sample=sample, seed=seed, progress=progress)
    return [*lines, "", "After the repair:", *_verification_lines(data, again)], not again.damages


def clean_lines(data: Path, *, agreed: bool) -> list[str]:
    """Return what `headstart clean` prints; nothing is removed unless agreed."""
    found = leftovers(data, needs_of_all_presets())
    kept = [("kept", *_row(data, one)) for one in found.kept]
    if not found.removable:
        return [*aligned(kept), "nothing to clean: presets and runs need all that is there"]
    total = readable_bytes(sum(one.bytes for one in found.removable))
    if not agreed:
        rows = [("unneeded", *_row(data, one)) for one in found.removable]
        what = counted(len(found.removable), "entry")
        return [*aligned(rows + kept), "", f"{what}, {total}; `headstart clean --yes` removes them"]
    gone, busy = remove(data, found.removable)
    rows = [("removed", *_row(data, one)) for one in gone]
    rows += [("kept", *_row(data, one)[:2], "a process works on it") for one in busy]
    freed = readable_bytes(sum(one.bytes for one in gone))
    return [*aligned(rows + kept), "", f"{counted(len(gone), 'entry')} removed, {freed} freed"]


def needs_of_all_presets() -> Needs:
    """Return what any preset needs with its own options or any named weights."""
    return needs_of([root for roots in preset_graphs().values() for root in roots])


def _verification_lines(data: Path, found: Verification) -> list[str]:
    rows = [("rows", _place(data, one.folder), _on_rows(one)) for one in found.compared]
    for damage in found.damages:
        rows.append(("damaged", _place(data, damage.path), damage.why))
    unfinished = {entry.folder for entry in found.entries if not (entry.manifest or entry.fault)}
    for path in found.unlisted:
        reason = "no manifest lists it"
        if path.is_symlink():
            reason = "a link; it is not followed"
        elif path.parent in unfinished:
            reason = f"its folder is unfinished: it has no {MANIFEST}"
        rows.append(("unlisted", _place(data, path), reason))
    finished = [entry for entry in found.entries if entry.manifest]
    files = sum(len(entry.manifest.files) for entry in finished)
    size = readable_bytes(sum(entry.manifest.bytes for entry in finished))
    what = f"{counted(files, 'file')} of {counted(len(finished), 'finished folder')}, {size}"
    verdict = f"{len(found.damages)} damaged" if found.damages else "all sound"
    return [*aligned(rows), f"{what}: {verdict}, {len(found.unlisted)} not listed"]


def _on_rows(one: ComparedRows) -> str:
    if one.refused:
        return f"rows were not recomputed: {one.refused}"
    layers = [
        f"{name} {absolute:.1e} (relative {relative:.1e})" if absolute else f"{name} 0"
        for name, (absolute, relative) in one.layers.items()
    ]
    return f"{counted(one.rows, 'row')} recomputed, largest difference: {', '.join(layers)}"


def _row(data: Path, one: Leftover) -> tuple[str, str, str]:
    return readable_bytes(one.bytes), _place(data, one.path), one.words


def _place(data: Path, path: Path) -> str:
    return path.relative_to(data).as_posix()
