"""Open a report in the browser, by default the index page of all reports, and print its path.

examples:
  headstart open                                  the index of all reports
  headstart open demo                             the report of the demo
"""

import argparse
import os
import sys
import webbrowser

from tasks.commands.shared import match_name, show
from tasks.configuration import data_folder


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("report", metavar="REPORT", nargs="?", help="name of a report, or part of it")


def run(options: argparse.Namespace) -> int:
    from pipeline.report.page.templating import publish_index, reports  # loads pandas

    data = data_folder()
    files = reports(data)
    if options.report or (files and not os.access(data, os.W_OK)):  # by default, the newest that there is
        path = files[match_name(options.report or next(iter(files)), list(files), "report")]
    else:
        path = publish_index(data)
    if sys.stdout.isatty():
        webbrowser.open(path.as_uri())
    return show([str(path)])
