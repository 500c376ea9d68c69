"""Run one function of the project in a fresh child process that cannot outlive its parent.

TensorFlow must not be forked after it has run, leaks when it trains in a loop, and can die of a signal:
so every computation of a task happens in a child of its own, a new interpreter. It is told what to do as
JSON on standard input, which stays open while the parent lives: when it closes, the child ends at once. It
answers in JSON lines: progress reports and what it logs, then one result or error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from pipeline import errors
from pipeline.errors import ChildFailed, HeadstartError
from pipeline.extensions import load_extensions, resolve
from pipeline.progress import Progress, silent

ALLOWED_PACKAGES = ("pipeline.",)
ORPHAN_CHECK_SECONDS = 0.5
LAST_WORDS = 15  # lines of a child's standard error that its failure is told with
COMMAND = (sys.executable, "-m", "pipeline.children")
QUIET_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "PYTHONUNBUFFERED": "1"}

logger = logging.getLogger(__name__)


def run_in_child(name: str, arguments: dict[str, Any], progress: Progress = silent) -> Any:
    """Return what a function of pipeline/, `module:function`, returns for keyword arguments, run in a child.

    Arguments and result are plain JSON values (paths as text). The function is called with one more
    keyword, `progress`. Raises the child's HeadstartError as the same kind with the same message, and
    ChildFailed when the child dies of a signal, ends without a result, or fails with another exception.
    """
    child = subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, **QUIET_TENSORFLOW, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert child.stdin is not None and child.stderr is not None  # pipes
    said: deque[str] = deque(maxlen=LAST_WORDS)
    listener = threading.Thread(target=said.extend, args=(child.stderr,), daemon=True)
    listener.start()
    with _ended_with_parent(child):
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps({"function": name, "arguments": arguments}) + "\n")
            child.stdin.flush()
        answer = _listen(child, progress)
        status = child.wait()
    listener.join()
    return _outcome(name, answer, status, "\n".join(line.rstrip() for line in said))


def _listen(child: subprocess.Popen[str], progress: Progress) -> dict[str, Any] | None:
    assert child.stdout is not None  # a pipe
    answer = None
    for line in child.stdout:
        try:
            message = json.loads(line)
        except ValueError:  # a library printed: not ours
            continue
        match message:
            case {"progress": report}:
                progress(*report)
            case {"log": record}:
                logger.log(*record)
            case {"result": _} | {"error": _}:
                answer = message
    return answer


def _outcome(name: str, answer: dict[str, Any] | None, status: int, said: str) -> Any:
    tail = f"; it last said:\n{said}" if said else ""
    if status < 0:
        killer = next((known.name for known in signal.Signals if known == -status), f"signal {-status}")
        hint = " (the system may be out of memory)" if killer == "SIGKILL" else ""
        raise ChildFailed(f"{name}: its process was killed by {killer}{hint}{tail}")
    if answer is None:
        raise ChildFailed(f"{name}: its process ended with exit code {status} and no result{tail}")
    if "error" in answer:
        kind = getattr(errors, answer["error"]["kind"], None)
        if isinstance(kind, type) and issubclass(kind, HeadstartError):
            raise kind(answer["error"]["message"])
        raise ChildFailed(f"{name}: failed in its process:\n{answer['error']['message']}")
    if status != 0:
        raise ChildFailed(f"{name}: its process ended with exit code {status} after its result{tail}")
    return answer["result"]


@contextlib.contextmanager
def _ended_with_parent(child: subprocess.Popen[str]) -> Iterator[None]:
    """End child when the block ends early, and when the process that forked this one dies."""
    over = threading.Event()
    master = multiprocessing.parent_process()

    def watch() -> None:
        while master is not None and not over.wait(ORPHAN_CHECK_SECONDS):
            if not master.is_alive():
                child.kill()
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        child.kill()
        child.wait()


def _serve() -> int:
    """Do the one job that standard input describes; the child's side of run_in_child."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print goes to standard error
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; a closed pipe ends this process
    order = json.loads(sys.stdin.readline())
    lock = threading.Lock()

    def end_with_parent() -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdin.read()  # until the parent's end closes
        os._exit(1)

    def say(message: dict[str, Any]) -> None:
        with lock:
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    def progress(stage: str, done: int, total: int, unit: str) -> None:
        say({"progress": [stage, int(done), int(total), unit]})

    threading.Thread(target=end_with_parent, daemon=True).start()
    logging.getLogger("pipeline").addHandler(_Told(say))
    logging.getLogger("pipeline").setLevel(logging.INFO)
    try:
        load_extensions()
        name = order["function"]
        if not name.startswith(ALLOWED_PACKAGES):
            raise ChildFailed(f"{name}: only functions of {', '.join(ALLOWED_PACKAGES)} run in a child")
        say({"result": resolve(name)(**order["arguments"], progress=progress)})
    except HeadstartError as error:
        say({"error": {"kind": type(error).__name__, "message": str(error)}})
    except Exception:
        say({"error": {"kind": "Exception", "message": traceback.format_exc()}})
    return 0


class _Told(logging.Handler):
    """Hands on what this process logs."""

    def __init__(self, say: Callable[[dict[str, Any]], None]):
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say({"log": [record.levelno, "%s", record.getMessage()]})


if __name__ == "__main__":
    code = _serve()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the watching thread and TensorFlow's own threads must not hold the end up
