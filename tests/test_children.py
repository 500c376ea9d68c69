"""A child returns its result or a clear error, never hangs, and does not outlive its parent."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path

import functions_in_child as functions
import pytest

from pipeline import children
from pipeline.children import open_child, run_in_child
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.datasets.store import ImageStore
from pipeline.errors import ChildFailed, DamagedFile

HERE = Path(__file__).parent
COMMAND = (sys.executable, str(HERE / "functions_in_child.py"))

PARENT = """
import multiprocessing, sys, time
from pathlib import Path
from pipeline import children
sys.path.append({here!r})
children.COMMAND = {command!r}

def work():
    children.run_in_child("functions_in_child:sleep", {{"pid_file": sys.argv[1]}})

if {forked}:
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    print(worker.pid, flush=True)
    worker.join()
else:
    work()
"""


@pytest.fixture
def run(monkeypatch):
    """Return run_in_child for the functions in this folder."""
    monkeypatch.setattr(children, "COMMAND", COMMAND)
    return run_in_child


@pytest.fixture
def reports():
    return []


@pytest.fixture
def progress(reports):
    return lambda *report: reports.append(report)


def test_a_childs_log_records_are_logged_by_its_parent(run, caplog):
    with caplog.at_level(logging.INFO, logger="pipeline"):
        run("functions_in_child:log", {})
    records = {(record.levelname, record.getMessage()) for record in caplog.records}  # twice with Luigi
    assert records == {("WARNING", "took 50 % — é")}


def test_the_result_is_returned_from_another_process(run):
    result = run("functions_in_child:add", {"first": 1, "second": 2.5})
    assert result.pop("pid") != os.getpid()
    assert result == {"sum": 3.5, "text": "é"}


def test_a_function_of_the_project_runs_and_reports_progress(tmp_path, progress, reports):
    fingerprint = dataset_fingerprint("digits", subset=100, split_seed=0)
    arguments = {"fingerprint": fingerprint, "source": None, "folder": str(tmp_path)}
    facts = run_in_child("pipeline.datasets.store:prepare", arguments, progress)
    assert facts["counts"] == ImageStore(tmp_path).counts
    assert ("read digits", 0, 1, "files") in reports


@pytest.mark.parametrize(("name", "value"), [("OMP_NUM_THREADS", "1"), ("OPENBLAS_CORETYPE", "Nehalem")])
def test_variables_that_change_rounding_do_not_reach_a_child(run, monkeypatch, name, value):
    undisturbed = run("functions_in_child:solve", {})
    monkeypatch.setenv(name, value)
    assert run("functions_in_child:solve", {}) == undisturbed


def test_a_child_keeps_its_assertions(run, monkeypatch):
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    assert run("functions_in_child:optimized", {}) == 0


def test_the_calls_of_one_child_run_in_one_process_also_after_an_error(monkeypatch):
    monkeypatch.setattr(children, "COMMAND", COMMAND)
    with open_child() as call:
        first = call("functions_in_child:add", {"first": 1, "second": 2})
        with pytest.raises(DamagedFile, match="expected 7 rows"):
            call("functions_in_child:raise_damaged_file", {})
        second = call("functions_in_child:add", {"first": 3, "second": 4})
        assert (first["sum"], second["sum"]) == (3, 7)
        assert first["pid"] == second["pid"]
        assert functions.process_is_alive(first["pid"])
    assert not functions.process_is_alive(first["pid"])


def test_progress_arrives_in_order(run, progress, reports):
    assert run("functions_in_child:report", {}, progress) is None
    assert reports == [("count", done, 3, "sheep") for done in range(3)]


def test_output_printed_by_a_function_is_ignored(run, progress, reports):
    assert run("functions_in_child:print_noise", {}, progress) == "the result"
    assert reports == []


def test_an_error_of_the_project_keeps_its_type_and_message(run):
    with pytest.raises(DamagedFile, match="^a.h5: expected 7 rows, found 6 — é$"):
        run("functions_in_child:raise_damaged_file", {})


def test_an_error_of_an_unknown_type_keeps_its_message(run):
    with pytest.raises(ChildFailed, match="a readable message"):
        run("functions_in_child:raise_private_error", {})


def test_any_other_exception_is_reported_with_its_traceback(run):
    message = "(?s)raise_zero_division: failed in the child process:.*ZeroDivisionError: a traceback"
    with pytest.raises(ChildFailed, match=message):
        run("functions_in_child:raise_zero_division", {})


def test_a_result_that_is_not_json_is_an_error(run):
    with pytest.raises(ChildFailed, match="set is not JSON serializable"):
        run("functions_in_child:return_a_set", {})


@pytest.mark.parametrize(
    ("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM"), (40, "signal 40")]
)
def test_fault_18_a_killed_child_is_reported_with_the_signal_and_its_last_output(run, number, name):
    with pytest.raises(ChildFailed, match=f"(?s)kill_itself: .* was killed by {name}.*last output"):
        run("functions_in_child:kill_itself", {"number": number})


def test_fault_18_a_sigkill_hints_at_memory(run):
    with pytest.raises(ChildFailed, match="may be out of memory"):
        run("functions_in_child:kill_itself", {"number": 9})


@pytest.mark.parametrize("code", [0, 7])
def test_fault_19_a_child_that_ends_without_a_result_is_an_error_in_bounded_time(run, code):
    start = time.monotonic()
    with pytest.raises(ChildFailed, match=f"child process ended with exit code {code} and no result"):
        run("functions_in_child:end_without_result", {"code": code})
    assert time.monotonic() - start < 20


def test_fault_19_progress_reports_are_not_a_result(run, progress, reports):
    with pytest.raises(ChildFailed, match="exit code 0 and no result"):
        run("functions_in_child:end_after_reports", {}, progress)
    assert reports == [("count", 1, 3, "sheep")]


def test_a_function_outside_the_project_is_refused():
    with pytest.raises(ChildFailed, match=r"^json:dumps: only functions of pipeline\. can run in a child$"):
        run_in_child("json:dumps", {"obj": 1})


def test_a_child_ends_when_its_caller_is_interrupted(run, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("functions_in_child:report_and_sleep", {"pid_file": str(tmp_path / "pid")}, interrupt)
    assert not functions.process_is_alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("forked", "name"),
    [(False, "SIGKILL"), (False, "SIGTERM"), (False, "SIGINT"), (True, "SIGKILL"), (True, "SIGTERM")],
)
def test_fault_20_no_child_outlives_its_parent(tmp_path, start_script, wait_for, forked, name):
    pid_file = tmp_path / "pid"
    code = PARENT.format(here=str(HERE), command=COMMAND, forked=forked)
    parent = start_script(code, pid_file)
    workers = [int(parent.stdout.readline())] if forked else []
    wait_for(pid_file.is_file)
    descendants = [int(pid_file.read_text()), *workers]
    assert all(map(functions.process_is_alive, descendants))
    parent.send_signal(getattr(signal, name))
    wait_for(lambda: not any(map(functions.process_is_alive, descendants)), seconds=5)
