"""An extension that makes shards small and slow to write, and logs which process published each shard."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pipeline.features import sections, shards

sections.SHARD_BYTES, sections.shard_step = 1, lambda base: 64

_write = shards.ShardWriter._write


def _slowly(writer: shards.ShardWriter, shard: shards.Shard) -> None:
    time.sleep(float(os.environ.get("SHARD_SECONDS", "0.25")))
    _write(writer, shard)
    with Path(os.environ["SHARD_LOG"]).open("a") as log:
        log.write(f"{os.getpid()} {shard.number}\n")


shards.ShardWriter._write = _slowly
