"""Runs the scenarios of a driver: each by several tasks at once, each task on a connection of its own.

A scenario is `async def name(connection, task)`. All of them run, whatever fails, so that one run tells everything.
"""

import asyncio
import sys
import time
import traceback

TASKS = 8
PATIENCE = 60

SCENARIOS = []


def scenario(function):
    """Registers a scenario; they run in the order of the file."""
    SCENARIOS.append(function)
    return function


async def one_task(function, connect, disconnect, task):
    connection = await connect()
    try:
        await function(connection, task)
    finally:
        await disconnect(connection)


async def run_all(connect, disconnect):
    failed = []
    for function in SCENARIOS:
        tasks = [one_task(function, connect, disconnect, task) for task in range(TASKS)]
        started = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                results = await asyncio.gather(*tasks, return_exceptions=True)
        except TimeoutError as error:
            results = [error]
        errors = [result for result in results if isinstance(result, BaseException)]
        took = time.monotonic() - started
        print(f"{'FAILED' if errors else 'ok'} {function.__name__} ({took:.2f} s)", flush=True)
        for error in errors[:2]:
            traceback.print_exception(error, file=sys.stdout)
        if errors:
            failed.append(function.__name__)
    if failed:
        print(f"{len(failed)} of {len(SCENARIOS)} scenarios failed: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


def main(connect, disconnect):
    sys.exit(asyncio.run(run_all(connect, disconnect)))


async def fails_with(error, awaitable):
    """The awaitable raises this error, which is returned."""
    try:
        await awaitable
    except error as raised:
        return raised
    raise AssertionError(f"{error.__name__} was not raised")
