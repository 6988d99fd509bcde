"""A pytest plugin: one line per test in the file $OUTCOMES, which says how it ended."""

import os

FILE = open(os.environ["OUTCOMES"], "w", encoding="utf-8")


def pytest_runtest_logreport(report):
    # Set-up and tear-down count only when they fail.
    if report.when == "call" or report.outcome != "passed":
        test = report.nodeid.replace("\n", "\\n")
        print(report.outcome, test, file=FILE, flush=True)


def pytest_collectreport(report):
    if report.failed:
        print("failed", report.nodeid or "collection", file=FILE, flush=True)
