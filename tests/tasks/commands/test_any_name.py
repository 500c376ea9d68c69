"""Every command works with names of any bytes, and writes nothing but the data folder and its output."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_graphs import LITTLE, ROOT
from trees import tree

from pipeline.backbones.engines import ENGINES
from pipeline.datasets.folders import _scan
from tasks.commands import doctor
from tasks.commands.main import COMMANDS

SIGNS = b"a?b#c%20&;'\"=$x$ [z]**{y}\\ caf\xe9 \n\x1b[31m"
ODD = os.fsdecode(SIGNS.ljust(240, b"y"))
CLASSES = tuple(map(os.fsdecode, (b"=1+1 caf\xe9 $\\frac{", b"-<b>\n\x1b[31m|\"'%20?#&;")))
PRESET = """
from pipeline.recipes.presets import PRESETS, Plan, Preset
PLANS = [Plan("head:linear", {"epochs": 2, "layers": ["block1_pool"]})]
PLANS += [Plan("head:ridge", {"layers": ["block1_pool"]})]
PRESETS["little"] = Preset("little", "Two heads", "digits", tuple(PLANS), 100, "random")
"""
# The command line, with a single input size to recommend.
MAIN = """
import sys, tasks.recommendation
from tasks.commands.main import main
tasks.recommendation.SIZES = (32,)
sys.exit(main())
"""
ENVIRONMENTS = {  # by how the data folder is named
    "absolute": {},
    "relative": {"PYTHONIOENCODING": "ascii"},
    "linked": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with empty folders home, tmp and cwd; the data folder is beside them, pictures are in cwd."""
    root = tmp_path / "world"
    for name in ("home", "tmp", "cwd", "rows"):
        (root / name).mkdir(parents=True)
    (root / "rows" / "two_heads.py").write_text(PRESET)
    draws = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        folder = root / "cwd" / ODD / name
        folder.mkdir(parents=True)
        for picture in range(30):
            pixels = draws.integers(0, 100, (32, 32, 3)) + 100 * number
            with (folder / f"{picture}{ODD[:200]}.png").open("wb") as file:
                Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
        (folder / "=2+2\x1b[31m.png").write_text("no picture")
    (root / "link?#%20").symlink_to(root / ODD)
    _scan.cache_clear()
    yield root
    _scan.cache_clear()


def outside(world: Path) -> dict:
    """Return the state of each file, and None for each folder, below a folder but outside the data folder."""
    paths = {path: None if (world / path).is_dir() else state for path, state in tree(world).items()}
    return {path: state for path, state in paths.items() if path.partition("/")[0] != ODD}


def new_outside(world: Path, before: dict) -> set[str]:
    """Return the first two parts of the paths that have been added or changed since."""
    changed = {path for path, state in outside(world).items() if before.get(path, "") != state}
    return {"/".join(path.split("/")[:2]) for path in changed}


def assert_safe(text: str) -> None:
    """No character of a text can control a terminal."""
    assert not re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text), text


def start(world: Path, place: str, arguments: list[str]) -> subprocess.CompletedProcess:
    places = {"absolute": world / ODD, "relative": f"../{ODD}", "linked": world / "link?#%20"}
    kept = ("KERAS_HOME", "MPLCONFIGDIR", "PYTHONUTF8", "PYTHONIOENCODING", "LC_ALL", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in kept}
    environment |= {"HOME": str(world / "home"), "TMPDIR": str(world / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"PYTHONPATH": f"{ROOT}:{world / 'rows'}", "HEADSTART_EXTENSIONS": "two_heads"}
    environment |= {"HEADSTART_DATA_DIR": str(places[place]), **ENVIRONMENTS[place]}
    command = [sys.executable, "-c", MAIN, *arguments]
    options = {"cwd": world / "cwd", "env": environment, "capture_output": True, "timeout": 300}
    return subprocess.run(command, text=True, encoding="utf-8", errors="surrogateescape", **options)


def commands_of(runs: list[str]) -> list[tuple[list[str], set[str], int]]:
    """Return arguments of every command but doctor, the outputs that they name, and the exit code."""
    data = ["--dataset", f"folder:{ODD}", "--image-size", "32"]
    features = ["--weights", "random", "--layers", "block1_pool", "--precision", "float32"]
    out = ODD[:230]
    card = {f"{out}.{end}" for end in ("keras", "class_names.json", "card.md")}
    return [
        (["run", "--preset", "little", "--precision", "float32", *data], set(), 0),
        (["plan", "--preset", "little", "--precision", "float32", *data], set(), 0),
        (["why", "TrainHead", "--preset", "little", "--precision", "float32", *data], set(), 0),
        (["train", "head", "--recipe", "ridge", *features, *data], set(), 0),
        (["recommend", "--weights", "random", "--budget", "10", *data], set(), 0),
        (["runs"], set(), 0),
        (["runs", "--json"], set(), 0),
        (["show", *runs[:1]], set(), 0),
        (["open"], set(), 0),
        (["verify", "--sample", "2"], set(), 0),
        (["clean", "--keep", "1kB"], set(), 0),
        (["compare", *runs, "--name", "mine"], set(), 0),
        (["recipes"], set(), 0),
        (["completion", "bash"], set(), 0),
        (["predict", *runs[:1], ODD, "--output", f"{out}.csv"], {f"{out}.csv"}, 1),
        (["predict", *runs[:1], ODD, "--format", "json"], set(), 1),
        (["embed", ODD, "--out", f"{out}.npy", *features], {f"{out}.npy", f"{out}.names.json"}, 1),
        (["embed", "--out", f"{out}.h5", *features, *data], {f"{out}.h5"}, 0),
        (["export", *runs[:1], f"{out}.keras"], card, 0),
    ]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_command_works_with_any_name_and_leaves_nothing_elsewhere(world):
    (world / ODD).mkdir()
    assert {arguments[0] for arguments, _, _ in commands_of([])} == set(COMMANDS) - {"doctor", "delete"}
    for place in ENVIRONMENTS:
        for number in range(len(commands_of([]))):
            runs = sorted(path.parent.name for path in (world / ODD).glob("runs/*/manifest.json"))
            arguments, outputs, code = commands_of(runs)[number]
            before = outside(world)
            done = start(world, place, arguments)
            assert done.returncode == code, (place, arguments, done.stderr)
            assert "Traceback" not in done.stderr
            if arguments[0] != "completion":
                assert_safe(done.stdout + done.stderr)
            assert new_outside(world, before) == {f"cwd/{name}" for name in outputs}, arguments
            for name in outputs:
                (world / "cwd" / name).rename(world / "rows" / f"last{Path(name).suffix}")
    for run in runs:
        before = outside(world)
        done = start(world, place, ["delete", run, "--yes"])
        assert done.returncode == 0 and new_outside(world, before) == set()
    with (world / "rows" / "last.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert len(rows) == 60 and len({row[0] for row in rows}) == 60
    assert {row[1] for row in rows} == {r"'=1+1 caf\xe9 $\frac{", r"'-<b>\n\x1b[31m|" + "\"'%20?#&;"}


@pytest.mark.parametrize("place", ["absolute", "relative", "linked"])
def test_commands_for_finished_runs_work_in_a_data_folder_of_any_name(
    little, world, place, headstart, monkeypatch
):
    little.rename(world / ODD)
    places = {"absolute": world / ODD, "relative": f"../{ODD}", "linked": world / "link?#%20"}
    monkeypatch.setenv("HEADSTART_DATA_DIR", str(places[place]))
    monkeypatch.setenv("HOME", str(world / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(world / "tmp"))
    monkeypatch.chdir(world / "cwd")
    monkeypatch.setattr(doctor, "ENGINES", {"tensorflow": ENGINES["tensorflow"]})
    (run,) = (path.parent for path in (world / ODD).glob("runs/*/manifest.json"))
    before = outside(world)
    for arguments in (
        ["plan", "--preset", LITTLE.name, "--precision", "float32", "--dataset", f"folder:{ODD}"],
        ["run", "--preset", LITTLE.name, "--precision", "float32"],
        ["why", "TrainHead", "--preset", LITTLE.name],
        ["runs"],
        ["runs", "--json"],
        ["show", run.name],
        ["open"],
        ["open", LITTLE.name],
        ["verify", "--sample", "0"],
        ["clean"],
        ["recipes"],
        ["doctor", "--offline"],
        ["delete", run.name, "--yes"],
    ):
        code, output, errors = headstart(*arguments)
        assert code == 0, (arguments, errors)
        assert_safe(output + errors)
        assert new_outside(world, before) == set(), arguments
    assert json.loads(headstart("runs", "--json")[1]) == []


@pytest.mark.parametrize("words", [["run", "--dataset", f"folder:{ODD}"], ["show", ODD], ["rnu", ODD]])
def test_an_error_about_any_name_is_one_line(words, headstart, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code, _, errors = headstart(*words)
    except SystemExit as ended:
        code, errors = ended.code, capsys.readouterr().err
    assert code == 2
    assert_safe(errors)


@pytest.mark.parametrize("out", ["nowhere/out", ".", "y" * 256, "/proc/out", "/dev/null"])
@pytest.mark.parametrize(
    ("command", "suffix"),
    [
        (["predict", "head-linear", "a.png", "--output"], ".csv"),
        (["embed", "a.png", "--out"], ".h5"),
        (["embed", "--dataset", "digits", "--out"], ".npy"),
    ],
)
def test_an_unusable_output_is_refused_before_any_work(
    little, headstart, tmp_path, monkeypatch, command, suffix, out
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    for module in ("predict", "embed"):
        monkeypatch.setattr(f"tasks.commands.{module}.run_in_child", lambda *_: pytest.fail("has begun"))
    monkeypatch.setattr("tasks.commands.embed.build", lambda *_: pytest.fail("has begun"))
    if out == ".":
        (tmp_path / f"out{suffix}").mkdir()
        out = "out"
    before = tree(tmp_path)
    code, _, errors = headstart(*command, out if out == "/dev/null" else f"{out}{suffix}")
    assert code == 2
    assert re.search("expected a file (in an existing folder that can be written|that ends in)", errors)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("out", ["nowhere/m.keras", "y" * 250 + ".keras", "folder.keras", "/proc/m.keras"])
def test_an_export_checks_where_its_files_go_before_it_reads_the_run(out, tmp_path, monkeypatch):
    from pipeline.errors import BadInput
    from pipeline.use.export import export

    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(BadInput, match="expected a file in an existing folder that can be written"):
        export("no run", None, "no data", out, ["keras"])


def test_a_url_in_luigis_configuration_may_contain_percent_signs(call, tmp_path):
    (tmp_path / "luigi.cfg").write_text("[cifar10]\nurls = http://127.0.0.1:9/a%20b.tar.gz\n")
    code = "from tasks.configuration import mirrors; print(mirrors('cifar10'))"
    assert call("-c", code).stdout == "['http://127.0.0.1:9/a%20b.tar.gz']\n"
