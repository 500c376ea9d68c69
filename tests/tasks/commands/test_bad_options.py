"""Every option of every command answers a bad value with one line and exit code 2."""

from __future__ import annotations

import argparse

import pytest
from trees import only

from pipeline.recipes.schemes import SCHEMES
from tasks.commands import build, main

FREE = ("--out", "--output")  # any text is a value; test_any_name has those that cannot be written
ANY_TEXT = {("compare", "--name"): ("misspelt",)}  # kinds of text that are values of an option
BAD = {
    "of the wrong kind": "x,1;",
    "out of range": "-987654321",
    "misspelt": "idntity",
    "too long": "y" * 5000,
}
REQUIRED = {  # arguments without which a command reports something else first
    "embed": ["--out", "features.h5", "--dataset", "digits"],
    "compare": ["a", "b"],
    "delete": ["a"],
    "export": ["a", "model.keras"],
    "predict": ["a", "picture.png"],
    "show": ["a"],
    "completion": ["bash"],
    "why": ["features/a"],
}


def commands() -> list[list[str]]:
    """Return each command with each of its sub-commands."""
    schemes = [["train", name] for name in SCHEMES]
    return [*([name] for name in main.COMMANDS if name != "train"), *schemes]


def options_of(command: list[str]) -> list[argparse.Action]:
    """Return the options of a command that take a value."""
    parser = main.parser_for(command)
    for word in command:
        (subparsers,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
        parser = subparsers.choices[word]
    return [one for one in parser._actions if one.option_strings and one.nargs != 0]


QUICK = ("plan", "runs", "predict")  # of the others, what is in groups of options is the same; see test-all
CASES = [
    pytest.param(
        command,
        option.option_strings[-1],
        kind,
        id=f"{' '.join(command)} {option.option_strings[-1]} {kind}",
        marks=() if kind == "misspelt" and command[0] in QUICK else pytest.mark.slow,
    )
    for command in commands()
    for option in options_of(command)
    if option.option_strings[-1] not in FREE
    for kind in BAD
    if kind not in ANY_TEXT.get((command[0], option.option_strings[-1]), ())
]
PLACES = {  # of the arguments that name something
    "show": ["{}"],
    "delete": ["{}"],
    "compare": ["{}", "b"],
    "export": ["{}", "model.keras"],
    "predict": ["a", "{}"],
    "predict RUN": ["{}", "picture.png"],
    "embed": ["{}", "--out", "features.h5"],
    "embed --dataset": ["--dataset", "folder:{}", "--out", "features.h5"],
    "why": ["{}"],
    "open": ["{}"],
    "recipes": ["{}"],
}


@pytest.mark.parametrize(("command", "option", "kind"), CASES)
def test_a_bad_value_is_one_line_and_exit_code_2(command, option, kind, headstart, capsys, monkeypatch):
    for module in ("run", "train", "recommend", "embed"):
        monkeypatch.setattr(f"tasks.commands.{module}.build", lambda *_, **__: pytest.fail("accepted"))
    try:
        code, output, errors = headstart(*command, *REQUIRED.get(command[0], []), f"{option}={BAD[kind]}")
    except SystemExit as ended:  # by argparse
        code, output, errors = ended.code, *capsys.readouterr()
    assert code == 2, (output, errors)
    assert len(errors.strip().splitlines()) == 1 and errors.startswith("headstart: error: ")
    assert len(errors) < 1000 or kind == "too long"


@pytest.mark.parametrize("text", ["", "y" * 5000, "no-such-name", "/etc/passwd/x"])
@pytest.mark.parametrize("place", PLACES)
def test_a_bad_name_is_one_line_and_exit_code_2(place, text, headstart, little):
    if (place, text) in (("open", ""), ("recipes", "")):
        pytest.skip("all of them")
    words = [word.format(text) for word in PLACES[place]]
    if place == "predict":
        words[0] = only(little, "runs/*").name
    code, output, errors = headstart(place.split()[0], *words)
    assert (code, output) == (2, ""), errors
    assert len(errors.strip().splitlines()) == 1 and errors.startswith("headstart: error: ")


@pytest.mark.parametrize("command", ["runs", "plan", "open", "verify"])
@pytest.mark.parametrize("folder", ["/etc/passwd", "/etc/passwd/data", "/" + "y" * 5000])
def test_a_data_folder_that_cannot_be_one_is_one_line_and_exit_code_2(
    command, folder, headstart, monkeypatch
):
    monkeypatch.setenv("HEADSTART_DATA_DIR", folder)
    code, output, errors = headstart(command)
    assert (code, output) == (2, ""), errors
    assert len(errors.strip().splitlines()) == 1 and errors.startswith("headstart: error: ")


def test_a_data_folder_in_the_home_of_an_unknown_user_is_a_folder(headstart, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_DATA_DIR", "~nobody-of-this-name/data")
    assert headstart("runs")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ["rnu"],
        ["run", "--presett", "demo"],
        ["train", "haed"],
        ["show", "no-such-run"],
        ["recipes", "head:x"],
    ],
)
def test_a_misspelt_word_is_one_line_and_exit_code_2(words, headstart, capsys):
    try:
        code, _, errors = headstart(*words)
    except SystemExit as ended:
        code, errors = ended.code, capsys.readouterr().err
    assert code == 2
    assert len(errors.strip().splitlines()) == 1


def test_the_cases_cover_every_command_with_options():
    covered = {" ".join(case.values[0]) for case in CASES}
    assert covered >= {"run", "plan", "why", "embed", "recommend", "train head", "train fine-tune"}
    assert len(CASES) > 400 and build
