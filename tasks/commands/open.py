"""Open a report in the browser, by default the index page of all reports, and print its path.

examples:
  headstart open                                  the index of all reports
  headstart open demo                             the report of the demo
"""

import argparse
import sys
import webbrowser

from tasks.commands.shared import match_name, show
from tasks.configuration import data_folder


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("report", metavar="REPORT", nargs="?", help="name of a report, or part of it")


def run(options: argparse.Namespace) -> int:
    from pipeline.report.page.index import publish_index, reports  # loads Matplotlib

    data = data_folder()
    if not options.report:
        path = publish_index(data)
    else:
        files = reports(data)
        path = files[match_name(options.report, list(files), "report")]
    if sys.stdout.isatty():
        webbrowser.open(path.as_uri())
    return show([str(path)])
