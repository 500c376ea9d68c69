"""Kill, stop, starve and damage a graph that three workers compute, and compare what it gives in the end.

    python benchmarks/chaos.py [--rounds N] [--seed N] [--folder FOLDER]

First, the graph of chaos_graph.py is run undisturbed by one process, for reference, and by three workers on
one luigid, as a check of the comparison itself. Then each round

1. starts from a copy of the reference without a random part of its results, sometimes from an empty folder;
2. starts a luigid and three workers, sends signals to random processes at random moments, and fills the disk;
   workers and a luigid that were killed are started again; after a random time, all of them are;
3. flips bits of random files, before or after that;
4. runs what a user would: `headstart verify --repair`, then `headstart run`.

A round has lost what is missing or damaged then, and each command that failed; files that differ from the
reference are counted. Measured seconds and bytes of memory are no results: tables are compared without them,
models by their architecture and weights; figures and pages with seconds in them need only match their
manifests. The choices of a round follow from seed and number, its moments also from the undisturbed seconds.

The disk is a small tmpfs in a mount namespace of its own. Without permission for one, a limit of the size of
files stands for the full disk. Finished rounds are kept in FOLDER/rounds.jsonl: the same command resumes
after the last one. Data and logs of a round with a fault stay in FOLDER/failed/. Needs Linux's /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import DamagedFile
from pipeline.formatting import format_duration
from pipeline.storage import layout, publishing
from pipeline.upkeep import inventory

HERE = Path(__file__).resolve().parent
WORKERS = 3
PRESET = ("--preset", "chaos", "--precision", "float32")
DATA = ("--dataset", "digits", "--subset", "320")
FEATURES = (*DATA, "--weights", "random", "--precision", "float32", "--layers", "block1_pool,block2_pool")
MAKERS = {  # what a finished run no longer reads, and the task that makes it again
    "weights": ("DownloadWeights", "--weights", "random"),
    "dataset": ("PrepareDataset", *DATA),
    "section": ("ExtractFeatures", *FEATURES),
}
DISK_BYTES = 400 << 20  # several times what the graph writes
LIMIT_SECONDS = 900  # of an undisturbed command
END_SECONDS = 8  # until children notice that their parent has died
CONFIGS = {  # the patient settings of Luigi and of luigid.cfg, made quick
    "worker": "[core]\nrpc_retry_wait = 2\n[worker]\nwait_interval = 0.5\nwait_jitter = 0.5\n",
    "luigid": "[scheduler]\nworker_disconnect_delay = 3\nretry_delay = 1\nretry_count = 3\n"
    "prune_on_get_work = true\n",
}

FILL = "disk filled, then freed"
FLIP = "bit flipped in a file"
SIGNALS = {  # disturbance: signal, the role of the process that gets it, and how often it is drawn
    "SIGKILL of a worker": (signal.SIGKILL, "worker", 3),
    "SIGTERM of a worker": (signal.SIGTERM, "worker", 1),
    "SIGINT of a worker": (signal.SIGINT, "worker", 1),
    "SIGKILL of a child": (signal.SIGKILL, "child", 4),
    "SIGTERM of a child": (signal.SIGTERM, "child", 1),
    "SIGKILL of luigid": (signal.SIGKILL, "luigid", 1),
    "SIGTERM of luigid": (signal.SIGTERM, "luigid", 1),
    "SIGSTOP of a worker, then SIGCONT": (signal.SIGSTOP, "worker", 2),
    "SIGSTOP of a child, then SIGCONT": (signal.SIGSTOP, "child", 2),
    "SIGSTOP of luigid, then SIGCONT": (signal.SIGSTOP, "luigid", 1),
}
WEIGHTS = {name: weight for name, (_, _, weight) in SIGNALS.items()} | {FILL: 3}

# Measured values, which differ between undisturbed runs.
MEASURED = {"seconds", "train_seconds", "extract_seconds", "total_seconds", "extract_image_seconds", "stages"}
MEASURED |= {
    "images_per_second",
    "tune_seconds",
    "peak_memory_mb",
    "bytes",
    "date_saved",
    "shared_object_id",
    "seal",
}
EXISTS = "exists"  # stands for the digest of a file that shows measured seconds
WITH_SECONDS = ("index.html", "comparison.md", "comparison.txt", "accuracy_against_cost.png")
WITH_SECONDS += ("accuracy_over_time.png", "loss_over_time.png")


def main() -> int:
    """Run the rounds that are missing; return 1 if anything was lost or differs."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    isolated = _in_own_namespace()
    bench = Bench(options.folder.resolve(), isolated)
    bench.prepare()
    with (bench.folder / "rounds.jsonl").open("a+", encoding="utf-8") as file:
        file.seek(0)
        rows = {row["round"]: row for row in map(json.loads, file) if row["seed"] == options.seed}
        began, missing = time.monotonic(), [n for n in range(1, options.rounds + 1) if n not in rows]
        for done, number in enumerate(missing, start=1):
            rows[number] = Round(bench, options.seed, number).run()
            file.write(json.dumps(rows[number]) + "\n")
            file.flush()
            left = (time.monotonic() - began) / done * (len(missing) - done)
            print(_line(rows[number], options.rounds, left), flush=True)
    chosen = [rows[number] for number in range(1, options.rounds + 1)]
    print("", _table(chosen), "", _facts(chosen, isolated), sep="\n")
    return int(any(row["lost"] or row["differing"] for row in chosen))


def _options() -> argparse.Namespace:
    folder = Path(tempfile.gettempdir()) / "headstart-chaos"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="rounds in all (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all choices (default: 0)")
    parser.add_argument("--folder", type=Path, default=folder, help=f"working folder (default: {folder})")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds: expected 1 or more, received {options.rounds}")
    return options


def _in_own_namespace() -> bool:
    """Start this process again in a mount namespace of its own; return whether it is in one."""
    if "CHAOS_NAMESPACE" not in os.environ:
        for unshare in (("unshare", "--mount"), ("unshare", "--mount", "--user", "--map-root-user")):
            probe = (*unshare, "mount", "-t", "tmpfs", "none", "/mnt")
            if shutil.which("unshare") and not subprocess.run(probe, capture_output=True).returncode:
                os.environ["CHAOS_NAMESPACE"] = "1"
                os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])
    return "CHAOS_NAMESPACE" in os.environ


class Bench:
    """The working folder: the reference, the data folder of the current round, logs and finished rounds."""

    def __init__(self, folder: Path, isolated: bool):
        self.folder, self.isolated = folder, isolated
        self.data, self.reference = folder / "data", folder / "reference"
        self.logs, self.shard_log = folder / "logs", folder / "shards.log"
        self.seconds, self.digests = 0.0, {}

    def prepare(self) -> None:
        """Make or read the reference, and the seconds of three undisturbed workers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in CONFIGS.items():
            (self.folder / f"{name}.cfg").write_text(text, encoding="utf-8")
        facts = self.folder / "reference.json"
        if not facts.is_file():
            print("undisturbed runs, for reference", flush=True)
            self._make_reference(facts)
        self.seconds = json.loads(facts.read_text(encoding="utf-8"))["seconds"]
        self.digests = digests(self.reference)

    def _make_reference(self, facts: Path) -> None:
        self.start_over()
        self.run("headstart", "run", *PRESET)
        shutil.rmtree(self.reference, ignore_errors=True)
        shutil.copytree(self.data, self.reference)
        self.digests = digests(self.reference)
        self.start_over()
        began, tree = time.monotonic(), Tree(self)
        tree.start()
        while tree.roles().get("worker"):
            time.sleep(0.2)
        seconds = time.monotonic() - began
        tree.end(signal.SIGTERM)
        if difference := [*compare(self.digests, digests(self.data))]:
            sys.exit(f"two undisturbed runs differ, see {self.folder}: {difference}")
        facts.write_text(json.dumps({"seconds": seconds}), encoding="utf-8")

    def start_over(self) -> None:
        """Empty the data folder, which is a disk of its own where that is permitted, and the logs."""
        if self.data.is_mount():
            subprocess.run(["umount", str(self.data)], check=True)
        for folder in (self.data, self.logs):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        if self.isolated:
            size = f"size={DISK_BYTES}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(self.data)], check=True)
        self.shard_log.write_text("", encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of all processes."""
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
            "HEADSTART_DATA_DIR": str(self.data),
            "HEADSTART_EXTENSIONS": "chaos_graph",
            "CHAOS_LOG": str(self.shard_log),
        }

    def start(self, name: str, *command: str) -> subprocess.Popen:
        """Start Python with arguments; its output is appended to a log."""
        config = self.folder / f"{name.rstrip('012')}.cfg"
        with (self.logs / f"{name}.log").open("a", encoding="utf-8") as log:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env={**self.environment, **({"LUIGI_CONFIG_PATH": str(config)} if config.is_file() else {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore it
            )

    def run(self, program: str, *arguments: str) -> str | None:
        """Run headstart or luigi to its end; return what went wrong, or None."""
        module = {"headstart": ("tasks.commands.main",), "luigi": ("luigi", "--module", "tasks")}[program]
        process = self.start("commands", "-m", *module, *arguments)
        with contextlib.suppress(subprocess.TimeoutExpired):
            try:
                process.wait(timeout=LIMIT_SECONDS)
            finally:
                process.kill()
        code = process.wait()
        return f"{program} {arguments[0]}: exit code {code}" if code else None


class Tree:
    """A luigid, its workers and their children."""

    def __init__(self, bench: Bench):
        self.bench, self.luigid, self.workers = bench, None, {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start luigid and all workers."""
        self.start_luigid()
        for number in range(WORKERS):
            self.start_worker(number)

    def start_luigid(self) -> None:
        """Start luigid, and wait until it answers."""
        state = ("--port", str(self.port), "--state-path", str(self.bench.logs / "state"))
        code = "from luigi.cmdline import luigid; luigid()"
        self.luigid = self.bench.start("luigid", "-c", code, "--address", "127.0.0.1", *state)
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=5):
                return
            time.sleep(0.1)
        sys.exit(f"luigid did not answer, see {self.bench.logs}")

    def start_worker(self, number: int) -> None:
        """Start a worker, under the same number as one that has ended."""
        share = ("--ExtractFeatures-parts", str(WORKERS), "--scheduler-url", self.url)
        command = ("-m", "luigi", "--module", "tasks", "CompareSchemes", *PRESET, *share)
        self.workers[number] = self.bench.start(f"worker{number}", *command)

    def restart(self) -> None:
        """Start again what a signal has ended."""
        if self.luigid.poll() is not None:
            self.start_luigid()
        for number, worker in self.workers.items():
            if worker.poll() is not None and worker.returncode < 0:
                self.start_worker(number)

    def roles(self) -> dict[str, list[int]]:
        """Return the running processes by role."""
        own = {worker.pid: "worker" for worker in self.workers.values() if worker.poll() is None}
        if self.luigid.poll() is None:
            own[self.luigid.pid] = "luigid"
        roles: dict[str, list[int]] = {}
        for pid in alive(self.bench.data):
            roles.setdefault(own.get(pid, "child"), []).append(pid)
        return roles

    def send(self, name: str, draw: float) -> bool:
        """Send the signal of a disturbance to a process of its role; return whether there is one."""
        number, role, _ = SIGNALS[name]
        candidates = self.roles().get(role, [])
        if not candidates:
            return False
        pid = candidates[int(draw * len(candidates))]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return True

    def resume(self) -> None:
        """Let all stopped processes go on."""
        for pid in alive(self.bench.data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def end(self, number: int) -> int:
        """Send a signal to luigid and the workers; kill what outlives them, and return how many that were."""
        self.resume()
        processes = [self.luigid, *self.workers.values()]
        for process in processes:
            process.send_signal(number)
        limit = time.monotonic() + END_SECONDS
        for process in processes:
            try:
                process.wait(timeout=max(0.1, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        limit = time.monotonic() + END_SECONDS
        while (left := alive(self.bench.data)) and time.monotonic() < limit:
            time.sleep(0.2)
        for pid in left:
            print(f"left over: {Path(f'/proc/{pid}/cmdline').read_bytes()!r}", flush=True)
            os.kill(pid, signal.SIGKILL)
        return len(left)


def alive(data: Path) -> list[int]:
    """Return the other processes, except zombies, whose environment names a data folder, by number."""
    variable, processes = f"HEADSTART_DATA_DIR={data}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                processes.append(int(folder.name))
    return sorted({*processes} - {os.getpid()})


@dataclass
class Event:
    """A disturbance: when (a share of the round's time), what, to which process, for how long (seconds)."""

    moment: float
    name: str
    draw: float
    seconds: float


@dataclass
class Round:
    """One round; all its choices are drawn from seed and number."""

    bench: Bench
    seed: int
    number: int
    counts: Counter = field(default_factory=Counter)
    flipped: list[Path] = field(default_factory=list)  # relative to the data folder

    def run(self) -> dict[str, Any]:
        """Disturb the graph, finish it as a user would, and return what that gave."""
        began, data, draws = time.monotonic(), self.bench.data, random.Random(f"{self.seed}:{self.number}")
        share = draws.choice((1.0, 0.8, 0.8, 0.6))  # of results to remove
        flips_first, length = draws.random() < 0.5, draws.uniform(0.3, 1.2)
        names = draws.choices(list(WEIGHTS), list(WEIGHTS.values()), k=draws.randint(3, 7))
        events = [Event(draws.random(), name, draws.random(), draws.uniform(1, 8)) for name in names]
        ending = draws.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))

        self.bench.start_over()
        self._copy(share, draws)
        if flips_first:
            self._flip(draws)
        finished = finished_shards(data)
        left_over = self._disturb(events, length * max(share, 0.5) * self.bench.seconds, ending)
        if not flips_first:
            self._flip(draws)
        faults = [fault for fault in self._finish() if fault]
        again = self._computed_twice(finished)
        present = digests(data)
        lost = [*faults, *(f"{name}: missing" for name in self.bench.digests.keys() - present.keys())]
        lost += damaged(data)
        differing = [
            n for n in compare(self.bench.digests, present) if n in present and n in self.bench.digests
        ]
        row = {
            "seed": self.seed,
            "round": self.number,
            "removed": share,
            "disturbances": dict(self.counts),
            "flipped": [str(path) for path in self.flipped],
            "lost": sorted(lost),
            "differing": sorted(differing),
            "shards_computed_twice": again,
            "left_over_processes": left_over,
            "left_over_files": sorted(present.keys() - self.bench.digests.keys()),
            "seconds": round(time.monotonic() - began, 1),
        }
        if row["lost"] or row["differing"] or row["left_over_files"] or left_over:
            self._keep()
        return row

    def _copy(self, share: float, draws: random.Random) -> None:
        """Copy the reference without a random share of its results; of some, half of the files remain."""
        if share == 1:
            return
        shutil.copytree(self.bench.reference, self.bench.data, dirs_exist_ok=True)
        for entry in inventory.entries(self.bench.data):
            if entry.manifest is None or draws.random() > share:
                continue
            (entry.folder / publishing.MANIFEST).unlink()
            keep = draws.choice((0.0, 0.5))
            for path in sorted(path for path in entry.folder.iterdir() if path.is_file()):
                if draws.random() >= keep:
                    path.unlink()

    def _flip(self, draws: random.Random) -> None:
        """Flip a bit in each of one to three files."""
        data = self.bench.data
        files = [path for folder, paths, _ in inventory.walk(data) for path in paths if path.stat().st_size]
        for path in draws.sample(files, min(draws.randint(1, 3), len(files))):
            with path.open("r+b") as file:
                position = draws.randrange(path.stat().st_size)
                file.seek(position)
                (value,) = file.read(1)
                file.seek(position)
                file.write(bytes([value ^ 1 << draws.randrange(8)]))
            self.flipped.append(path.relative_to(data))
            self.counts[FLIP] += 1

    def _disturb(self, events: list[Event], seconds: float, ending: int) -> int:
        """Run the workers with disturbances for some seconds; return how many processes were left over."""
        tree, left_over = Tree(self.bench), 0
        try:
            tree.start()
            self._send(tree, sorted(events, key=lambda event: event.moment), seconds)
        finally:
            self._free()
            left_over = tree.end(ending)
        return left_over

    def _send(self, tree: Tree, events: list[Event], seconds: float) -> None:
        began, undo, restart_at = time.monotonic(), [], 0.0
        while (now := time.monotonic() - began) < seconds and tree.roles().get("worker"):
            while events and now >= events[0].moment * seconds:
                event = events.pop(0)
                if event.name == FILL:
                    self._fill()
                    undo.append((now + event.seconds, self._free))
                elif not tree.send(event.name, event.draw):
                    continue  # there is no such process now
                elif SIGNALS[event.name][0] == signal.SIGSTOP:
                    undo.append((now + event.seconds, tree.resume))
                self.counts[event.name] += 1
            for due, function in [pair for pair in undo if pair[0] <= now]:
                undo.remove((due, function))
                function()
            if now >= restart_at:
                tree.restart()
                restart_at = now + 2
            time.sleep(0.1)

    @property
    def _filler(self) -> Path:
        return self.bench.data / ".filler"

    def _fill(self) -> None:
        """Fill the disk, or forbid the tree's processes to write files of more than a few bytes."""
        if self.bench.isolated:
            with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
                while file.write(bytes(1 << 16)):
                    pass
        else:
            self._limit_files(1 << 10)

    def _free(self) -> None:
        self._filler.unlink(missing_ok=True)
        if not self.bench.isolated:
            self._limit_files(resource.RLIM_INFINITY)

    def _limit_files(self, size: int) -> None:
        for pid in alive(self.bench.data):
            with contextlib.suppress(OSError):
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    def _finish(self) -> list[str | None]:
        """Run what a user would run; return what went wrong."""
        faults = [
            self.bench.run("headstart", "verify", "--sample", "0", "--repair"),
            self.bench.run("headstart", "run", *PRESET),
        ]
        for kind, command in MAKERS.items():  # a finished run does not need these any more
            if not any(entry.kind == kind and entry.manifest for entry in inventory.entries(self.bench.data)):
                faults.append(self.bench.run("luigi", *command, "--local-scheduler"))
        return faults

    def _computed_twice(self, finished: set[str]) -> int:
        """Return how often a shard was computed that was finished already, if its files were not damaged."""
        log = Counter(self.bench.shard_log.read_text(encoding="utf-8").splitlines())
        log.update(finished)
        damaged = {
            f"{path.parent.name} {shard_number(path)}" for path in self.flipped if "shard" in path.name
        }
        return sum(count - 1 for name, count in log.items() if count > 1 and name not in damaged)

    def _keep(self) -> None:
        target = self.bench.folder / "failed" / f"seed{self.seed}-round{self.number}"
        shutil.rmtree(target, ignore_errors=True)
        weights = shutil.ignore_patterns("weights.h5")
        shutil.copytree(self.bench.data, target / "data", ignore=weights)
        shutil.copytree(self.bench.logs, target / "logs")


def shard_number(path: Path) -> int:
    """Return the number of a shard from the name of its file or note."""
    return int(path.stem.partition("-")[2])


def finished_shards(data: Path) -> set[str]:
    """Return `<folder of the section> <number>` for each shard that exists with its note."""
    notes = data.glob("features/*/*/shard-*.json")
    return {f"{note.parent.name} {shard_number(note)}" for note in notes if note.with_suffix(".h5").is_file()}


def damaged(data: Path) -> list[str]:
    """Return the files that do not match their manifests, and why."""
    damages = [damage for entry in inventory.entries(data) for damage in inventory.damages(data, entry)]
    return [f"{damage.path.relative_to(data)}: {damage.why}" for damage in damages]


def digests(data: Path) -> dict[str, str]:
    """Return the digest of what each file holds, without measured values, by path.

    Locks, the notes of shards, Matplotlib's fonts and the speed of the machine are no results.
    """
    result = {}
    for folder, files, links in inventory.walk(data):
        if not {layout.LOCKS, layout.FONTS}.isdisjoint(folder.parts):
            continue
        for path in (*files, *links):
            if path.name != layout.SPEED and not re.fullmatch(r"shard-\d+\.json", path.name):
                result[path.relative_to(data).as_posix()] = _digest(path)
    return result


def compare(expected: dict[str, str], present: dict[str, str]) -> list[str]:
    """Return the paths that differ or are in only one of two results of digests."""
    return [name for name in expected.keys() | present.keys() if expected.get(name) != present.get(name)]


def _digest(path: Path) -> str:
    if path.name in WITH_SECONDS or path.name.startswith("events."):
        return EXISTS
    try:
        if path.suffix == ".json":
            publishing.read_sealed(path)
        return hashlib.sha256(_content(path.name, path.read_bytes())).hexdigest()
    except (ValueError, KeyError, zipfile.BadZipFile, DamagedFile) as error:
        return f"unreadable: {error!r}"


def _content(name: str, content: bytes) -> bytes:
    """Return the content of a file without measured values."""
    if name.endswith(".keras"):
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            return b"".join(_content(member, file.read(member)) for member in sorted(file.namelist()))
    if name.endswith(".json"):
        values = json.loads(content)
        if name == publishing.MANIFEST:  # the digests of files that hold seconds, and those of their readers
            values["files"] = sorted(values["files"])
            values["facts"] = sorted(values["facts"])
        return json.dumps(_without_measured(values), sort_keys=True).encode()
    if name.endswith(".csv"):
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        return json.dumps(_without_measured(rows)).encode()
    return content


def _without_measured(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_measured(part) for name, part in value.items() if name not in MEASURED}
    return [_without_measured(part) for part in value] if isinstance(value, list) else value


def _line(row: dict[str, Any], rounds: int, left: float) -> str:
    """Return the line of a finished round, with the names of what it lost."""
    kinds = ", ".join(f"{count} x {name}" for name, count in row["disturbances"].items() if count)
    line = f"round {row['round']} of {rounds}: {kinds}; lost {len(row['lost'])}, "
    line += f"differing {len(row['differing'])}, {row['seconds']:.0f} s (about {format_duration(left)} left)"
    details = [*row["lost"], *row["differing"], *row["left_over_files"]]
    return "\n  ".join([line, *details])


def _table(rows: list[dict[str, Any]]) -> str:
    """Return the counts by kind of disturbance: how often, in how many rounds, and what those rounds gave."""
    lines = ["| disturbance | times | rounds | lost | differing |", "|---|---:|---:|---:|---:|"]
    for name in (*SIGNALS, FILL, FLIP):
        hit = [row for row in rows if row["disturbances"].get(name)]
        times = sum(row["disturbances"][name] for row in hit)
        lines.append(f"| {name} | {times} | {len(hit)} | {_sum(hit, 'lost')} | {_sum(hit, 'differing')} |")
    times = sum(sum(row["disturbances"].values()) for row in rows)
    lines.append(f"| all | {times} | {len(rows)} | {_sum(rows, 'lost')} | {_sum(rows, 'differing')} |")
    return "\n".join(lines)


def _sum(rows: list[dict[str, Any]], name: str) -> int:
    return sum(row[name] if isinstance(row[name], int) else len(row[name]) for row in rows)


def _facts(rows: list[dict[str, Any]], isolated: bool) -> str:
    from pipeline import machine

    facts, versions = machine.describe(), machine.versions()
    seconds = sorted(row["seconds"] for row in rows)
    disk = "a tmpfs" if isolated else "a limit of file sizes"
    return (
        f"Finished shards computed twice: {_sum(rows, 'shards_computed_twice')}; left over: "
        f"{_sum(rows, 'left_over_processes')} processes, {_sum(rows, 'left_over_files')} files. "
        f"{len(rows)} rounds with seed {rows[0]['seed']}, {seconds[0]:.0f} to {seconds[-1]:.0f} s each; "
        f"the disk is {disk}. {facts['processor']}, {facts['cores']} cores, "
        f"TensorFlow {versions['tensorflow']}."
    )


if __name__ == "__main__":
    sys.exit(main())
