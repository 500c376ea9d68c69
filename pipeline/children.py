"""Run functions of the project in a new child process that cannot outlive its parent.

TensorFlow must not be forked after it has run, leaks memory when it trains in a loop, and can crash: so each
task computes in its own child process, a new interpreter. The child reads requests as lines of JSON from
standard input, which stays open while the parent is alive: when it closes, the child ends immediately. For
each request it writes lines of JSON: progress reports and log records, then one result or error.
"""

import contextlib
import json
import logging
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline import errors
from pipeline.errors import ChildFailed, HeadstartError
from pipeline.extensions import load_extensions, resolve
from pipeline.progress import Progress, silent

ALLOWED_PACKAGES = ("pipeline.",)
ORPHAN_CHECK_SECONDS = 0.5
STDERR_LINES = 15  # last lines of a child's standard error in the error message
COMMAND = (sys.executable, "-P", "-m", "pipeline.children")  # -P: no modules from the working directory
QUIET_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "PYTHONUNBUFFERED": "1"}
KERAS_CACHE = "HEADSTART_KERAS_CACHE"  # for children, because Keras writes a keras.json into its KERAS_HOME
UNSET = (  # starts of the names of variables that would change results
    *("TF_", "XLA_", "ONEDNN_", "DNNL_", "NVIDIA_TF32_OVERRIDE", "PYTHONOPTIMIZE"),
    *("OMP_", "OPENBLAS_", "GOTO_", "MKL_", "NPY_", "ATEN_", "TORCH_", "PYTORCH_"),  # threads and kernels
)

logger = logging.getLogger(__name__)


def run_in_child(name: str, arguments: dict[str, Any], progress: Progress = silent) -> Any:
    """Run a function of pipeline/, `module:function`, with keyword arguments in a child; return its result.

    Arguments and result are plain JSON values; paths arrive as text. The function also gets the argument
    `progress`. A HeadstartError of the child is raised again with the same type and message; ChildFailed is
    raised when the child is killed by a signal, ends without a result, or fails with another exception.
    """
    with open_child() as run:
        return run(name, arguments, progress)


@contextlib.contextmanager
def open_child() -> Iterator[Callable[..., Any]]:
    """Yield a function like run_in_child that uses one child for all calls; it ends with the block.

    What modules keep in memory is still there in the next call. After ChildFailed, the child may have ended.
    """
    stderr: deque[str] = deque(maxlen=STDERR_LINES)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        child = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",  # libraries print names as they are
            env={"MPLCONFIGDIR": folder, **_environment(), "TMPDIR": folder},  # libraries leave files
        )
        assert child.stderr is not None  # a pipe
        listener = threading.Thread(target=stderr.extend, args=(child.stderr,), daemon=True)
        listener.start()

        def run(name: str, arguments: dict[str, Any], progress: Progress = silent) -> Any:
            assert child.stdin is not None  # a pipe
            with contextlib.suppress(BrokenPipeError):
                request = {"function": name, "arguments": arguments}
                child.stdin.write(json.dumps(request, default=os.fspath) + "\n")
                child.stdin.flush()
            reply = _listen(child, progress)
            if reply is None:
                child.wait()
                listener.join()
            return _result(name, reply, child.returncode or 0, "\n".join(line.rstrip() for line in stderr))

        finished, parent = threading.Event(), multiprocessing.parent_process()

        def end_with_parent() -> None:
            while parent is not None and not finished.wait(ORPHAN_CHECK_SECONDS):
                if not parent.is_alive():  # the process that forked this one
                    child.kill()
                    os._exit(1)

        threading.Thread(target=end_with_parent, daemon=True).start()
        try:
            yield run
        finally:
            finished.set()
            child.kill()
            child.wait()


def _environment() -> dict[str, str]:
    """Return the environment of a child, without what would change results or where modules come from."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(UNSET)}
    kept |= {KERAS_CACHE: str(keras_home()), "KERAS_HOME": os.devnull}
    return {**kept, **QUIET_TENSORFLOW, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}


def keras_home() -> Path:
    """Return the folder of the user's Keras cache, without importing Keras."""
    return Path(os.environ.get(KERAS_CACHE) or os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def _listen(child: subprocess.Popen[str], progress: Progress) -> dict[str, Any] | None:
    """Return the next result or error of a child, None if it ends without one."""
    assert child.stdout is not None  # a pipe
    for line in child.stdout:
        try:
            message = json.loads(line)
        except ValueError:  # printed by a library
            continue
        match message:
            case {"progress": report}:
                progress(*report)
            case {"log": record}:
                logger.log(*record)
            case {"result": _} | {"error": _}:
                return dict(message)
    return None


def _result(name: str, reply: dict[str, Any] | None, status: int, stderr: str) -> Any:
    tail = f"; its last output:\n{stderr}" if stderr else ""
    if reply is None and status < 0:
        killer = next((number.name for number in signal.Signals if number == -status), f"signal {-status}")
        hint = " (the system may be out of memory)" if killer == "SIGKILL" else ""
        raise ChildFailed(f"{name}: child process was killed by {killer}{hint}{tail}")
    if reply is None:
        raise ChildFailed(f"{name}: child process ended with exit code {status} and no result{tail}")
    if "error" in reply:
        kind = getattr(errors, reply["error"]["kind"], None)
        if isinstance(kind, type) and issubclass(kind, HeadstartError):
            raise kind(reply["error"]["message"])
        raise ChildFailed(f"{name}: failed in the child process:\n{reply['error']['message']}")
    return reply["result"]


def _serve() -> int:
    """Run the functions requested on standard input; the child's side of open_child."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # send the output of libraries to standard error
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it; a closed pipe ends this process
    lock = threading.Lock()

    def end_with_parent() -> None:
        pipe = select.poll()
        pipe.register(0, 0)
        pipe.poll()  # blocks until the parent closes the pipe
        os._exit(1)

    def send(message: dict[str, Any]) -> None:
        with lock:
            output.write(json.dumps(message) + "\n")
            output.flush()

    def progress(stage: str, done: int, total: int, unit: str) -> None:
        send({"progress": [stage, int(done), int(total), unit]})

    threading.Thread(target=end_with_parent, daemon=True).start()
    logging.getLogger("pipeline").addHandler(_SendLogs(send))
    logging.getLogger("pipeline").setLevel(logging.INFO)
    for line in sys.stdin:
        try:
            load_extensions()
            request = json.loads(line)
            name = request["function"]
            if not name.startswith(ALLOWED_PACKAGES):
                allowed = ", ".join(ALLOWED_PACKAGES)
                raise ChildFailed(f"{name}: only functions of {allowed} can run in a child")
            send({"result": resolve(name)(**request["arguments"], progress=progress)})
        except HeadstartError as error:
            send({"error": {"kind": type(error).__name__, "message": str(error)}})
        except Exception:
            send({"error": {"kind": "Exception", "message": traceback.format_exc()}})
    return 0


class _SendLogs(logging.Handler):
    """Sends the log records of this process to its parent."""

    def __init__(self, send: Callable[[dict[str, Any]], None]):
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send({"log": [record.levelno, "%s", record.getMessage()]})


if __name__ == "__main__":
    code = _serve()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # do not wait for the watching thread or TensorFlow's threads
