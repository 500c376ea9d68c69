"""An extension that makes every file lock succeed, as where locks hold on one machine only."""

from __future__ import annotations

import fcntl

fcntl.flock = lambda *_: None
