"""`python -m hostler.fleet.chaos --seed 7 --hours 8 --faults all`: run a seed, and tell the story of what broke."""

from __future__ import annotations

import argparse
import sys
import time

from .runs import run
from .story import tell
from .weather import FAULTS, parse
from .world import Orders


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        faults = parse(options.faults)
    except ValueError as error:
        parser.error(str(error))
    broken = 0
    for seed in range(options.seed, options.seed + options.seeds):
        orders = Orders(
            seed=seed,
            hours=options.hours,
            faults=faults,
            whole=options.whole,
            stop_at=options.stop_at,
            whole_api=options.whole_api,
        )
        began = time.process_time()
        outcome = run(orders)
        sys.stdout.write(tell(outcome, time.process_time() - began, lines=options.lines) + "\n")
        broken += bool(outcome.violations)
        if broken and options.first:
            break
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hostler.fleet.chaos",
        description="Runs the fleet in virtual time against failing clouds. The same seed is the same run.",
        epilog="faults: " + "; ".join(f"{name}: {words}" for name, words in FAULTS.items()),
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds, from --seed on")
    parser.add_argument("--first", action="store_true", help="end with the first seed that breaks")
    parser.add_argument("--hours", type=float, default=4.0, help="under faults; a calm follows (%(default)s)")
    parser.add_argument("--faults", default="all", help="all, none, or names: all,-crashes (%(default)s)")
    parser.add_argument("--whole", action="store_true", help="all of them, not the half that the seed draws")
    parser.add_argument("--stop-at", type=int, help="the daemon dies at this effect, counted from the start")
    parser.add_argument(
        "--whole-api", action="store_true", help="agents go through the whole HTTP application"
    )
    parser.add_argument("--lines", type=int, default=40, help="of the story before what broke (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
