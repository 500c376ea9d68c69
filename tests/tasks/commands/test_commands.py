"""The command line gives useful help, one clear line for a mistake, and the right exit code."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
from luigi.cmdline_parser import CmdlineParser
from small_graphs import ROOT

from pipeline.recipes.schemes import SCHEMES
from tasks.commands.main import parser_for

LUIGI = ("-m", "luigi", "--module", "tasks")
HEADSTART = ("-m", "tasks.commands.main")
DEAD_MIRROR = "http://127.0.0.1:9/cifar-10-python.tar.gz"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CompareSchemes", "--preset", "huge"], "unknown preset 'huge': expected one of demo, full, quick"),
        (
            ["TrainHead", "--dataset", "mnist"],
            "unknown dataset 'mnist': expected one of cifar10, cifar10-sample, cifar100, csv:PATH, digits",
        ),
        (["TrainHead", "--epochs", "many"], "setting epochs: expected a whole number from 0 to 10000"),
        (["TrainHead", "--seed", "one"], "--seed: expected a whole number, received 'one'"),
        (["TrainHead", "--seed", "-1"], "--seed: expected 0 to 2147483647, received -1"),
        (["TrainHead", "--recipe", "huge"], "unknown head recipe 'huge': expected one of dense"),
        (
            ["TuneFromScratch", "--space", '{"speed": [1]}'],
            "unknown setting 'speed' for ScratchRecipe: expected one of label_budget",
        ),
        (
            ["TuneFineTune", "--trials", "0"],
            "expected --trials or --minutes of 1 or more, received 0 for both",
        ),
        (["BlockStudy", "--conv-blocks", "conv - lstm"], "'lstm' in block 'conv - lstm'"),
        (["CompareSeeds", "--schemes", "nobody"], "unknown scheme 'nobody': expected such as head:linear"),
        (["TrainHead", "--layers", "block9_pool"], "block9_pool"),
        (
            ["FineTune", "--freeze-through", "9"],
            "setting freeze_through: expected a whole number from 0 to 5",
        ),
        (["TrainFromScratch", "--conv-blocks", "conv - maxpol"], "'maxpol' in block 'conv - maxpol'"),
        (["ScoreRun", "--scheme", "head"], "unknown scheme 'head': expected such as head:"),
        (["ScoreRun", "--settings", "{"], "settings: expected a JSON object"),
        (["ExtractFeatures", "--precision", "int8"], "unknown precision 'int8'"),
        (["ExtractFeatures", "--parts", "0"], "--parts: expected 1 to 2147483647, received 0"),
        (["ExtractFeatures", "--input-size", "16"], "expected 32 to 224 pixels, received 16"),
        (["ExtractFeatures", "--views", "upside"], "view 'upside': expected identity, or hflip"),
        (["ExtractFeatures", "--layers", "conv1"], "layers 'conv1': expected names among block1_pool"),
        (["DownloadWeights", "--weights", "nowhere.h5"], "expected a weights file, but nowhere.h5 is not"),
        (["DownloadWeights", "--weights", "https://example.org/w.h5"], "expected a path; download the file"),
        (["PrepareDataset", "--subset", "3"], "subset of cifar10: expected 0"),
    ],
)
def test_a_bad_value_gets_one_clear_line_and_exit_code_2(call, arguments, message):
    done = call(*LUIGI, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_parameter_is_named_by_luigi_itself(call):
    done = call(*LUIGI, "TrainHead", "--epocs", "3")
    assert done.returncode == 2
    assert "unrecognized arguments: --epocs 3" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "unknown preset 'huge'"),
        (["--weights", "nothing"], "unknown weights 'nothing'"),
        (["--seeds", "a,b"], "--seeds: expected whole numbers separated by commas, received 'a,b'"),
        (["--subset", "7"], "subset of cifar10-sample: expected 0"),
        (["--workers", "0"], "--workers: expected 1 or more, received 0"),
    ],
)
def test_headstart_run_reports_a_bad_value_in_one_line(call, arguments, message):
    done = call(*HEADSTART, "run", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_fault_04_dead_mirrors_are_listed_with_reasons_and_advice_and_the_exit_code_is_30(call):
    urls = f"{DEAD_MIRROR},file:///nowhere/archive.tar.gz"
    done = call(*LUIGI, "DownloadCifar10", HEADSTART_CIFAR10_URLS=urls)
    assert done.returncode == 30
    assert f"{DEAD_MIRROR}: " in done.stderr
    assert "file:///nowhere/archive.tar.gz: " in done.stderr
    assert "HEADSTART_CIFAR10_URLS" in done.stderr
    assert "cifar10-sample` needs no download" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_headstart_run_exits_with_30_and_the_reason_when_a_task_fails(call, workers):
    options = ("--preset", "quick", "--workers", workers)
    done = call(*HEADSTART, "run", *options, HEADSTART_CIFAR10_URLS=DEAD_MIRROR)
    assert done.returncode == 30
    assert DEAD_MIRROR in done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("headstart: cifar-10-python.tar.gz: no mirror provided the file. Set another")


def test_every_task_has_help_with_its_settings(call):
    done = call(*LUIGI, "FineTune", "--help")
    assert "--freeze-through" in done.stdout
    assert "number of frozen blocks" in done.stdout


def test_an_error_about_a_missing_extension_names_it(call):
    done = call(*HEADSTART, "run", HEADSTART_EXTENSIONS="no_such_rows")
    assert done.returncode == 2
    assert "HEADSTART_EXTENSIONS: no module 'no_such_rows'" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_setting_is_an_abbreviation_of_one_of_luigis_own_options():
    """Luigi's parser rejects such a flag as ambiguous before it knows the task."""
    options = CmdlineParser._build_parser()._option_string_actions
    flags = {f"--{name.replace('_', '-')}" for scheme in SCHEMES.values() for name in scheme.settings}
    assert len(flags) > 30
    for flag in flags:
        assert [option for option in options if option.startswith(flag) and option != flag] == []


def test_main_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        parser_for([]).parse_args(["--help"])
    assert "examples:\n  headstart run " in capsys.readouterr().out


def test_every_command_has_help_with_examples(capsys):
    commands = next(iter(parser_for([])._subparsers._group_actions)).choices
    assert {"run", "runs", "show", "compare", "predict", "export", "doctor", "completion"} <= set(commands)
    for name, parser in commands.items():
        text = parser.format_help()
        assert f"examples:\n  headstart {name}" in text
        for example in re.findall(r"^  headstart (.+?)(?:   +.*| > .*)?$", text, flags=re.MULTILINE):
            if "--help" not in example:
                words = shlex.split(example)
                assert parser_for(words).parse_args(words).command == name


def test_a_closed_pipe_ends_the_command_without_a_stack_trace(call, tmp_path):
    code = "import sys; from tasks.commands.main import main; sys.exit(main(['completion', 'bash']))"
    script = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr and done.stdout.strip() in ("141", "0")
