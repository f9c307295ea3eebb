"""What the SDK costs a training program: microseconds per `log`, and the cold import.

    python benchmarks/bench_sdk.py [--calls 20000] [--rounds 5] [--imports 7]

`log` runs inside a task as the agent starts one (journal on disk, nobody reads it). The import is a fresh interpreter
that does `import hostler; hostler.init`, minus one that does nothing. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import machine

AIM_LOG_MICROSECONDS = 10.0
AIM_IMPORT_SECONDS = 0.15
LOG = """
import os, sys, time
folder, calls, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.environ.update(HOSTLER_TASK_ID="1", HOSTLER_ATTEMPT="1", HOSTLER_GENERATION="1", HOSTLER_OUT=folder)
import hostler
hostler.init(project="bench", config={"lr": 0.1})
for number in range(rounds):
    begun, worked = time.perf_counter(), time.thread_time()
    for step in range(calls):
        hostler.log({"loss": 0.5, "accuracy": 0.9}, step=number * calls + step)
    print((time.perf_counter() - begun) / calls * 1e6, (time.thread_time() - worked) / calls * 1e6)
"""
OURS, NOTHING = "import hostler; hostler.init", "pass"


@dataclass(frozen=True)
class Cost:
    """By the clock on the wall, which a loaded machine stretches, and of the processor's time."""

    wall: float
    cpu: float


def log_microseconds(calls: int, rounds: int) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", LOG, folder, str(calls), str(rounds)]
        told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    pairs = [tuple(map(float, line.split())) for line in told.splitlines()]
    return Cost(statistics.median(wall for wall, _ in pairs), statistics.median(cpu for _, cpu in pairs))


def run(program: str) -> Cost:
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def import_seconds(times: int) -> Cost:
    run(OURS)  # the byte code is there from now on
    ours, nothing = [run(OURS) for _ in range(times)], [run(NOTHING) for _ in range(times)]
    return Cost(
        statistics.median(one.wall for one in ours) - statistics.median(one.wall for one in nothing),
        statistics.median(one.cpu for one in ours) - statistics.median(one.cpu for one in nothing),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="cost of the SDK")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--imports", type=int, default=7)
    given = parser.parse_args()
    print(machine.line())
    log = log_microseconds(given.calls, given.rounds)
    cold = import_seconds(given.imports)
    print("                   wall     cpu     aim")
    print(f"log, us/call    {log.wall:7.1f} {log.cpu:7.1f}   <= {AIM_LOG_MICROSECONDS:g}")
    print(f"cold import, s  {cold.wall:7.3f} {cold.cpu:7.3f}   <= {AIM_IMPORT_SECONDS:g}")


if __name__ == "__main__":
    main()
