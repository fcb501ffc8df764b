"""Plans for many checkpoints with every rule at once, to show that the cost stays linear.

    python tests/bench/rules.py [COUNT]...

No disk is touched: what a scan would have found is made here. The collector is set as a command sets it.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time

from ckptctl.matching import Values
from ckptctl.model import ABSENT, Checkpoint, Directory, File, Format, Status
from ckptctl.plan import plan
from ckptctl.policy import (
    AtStep,
    Best,
    Calendar,
    Every,
    EverySteps,
    Mode,
    Newest,
    PerCalendar,
    Policy,
    Within,
)

_MINUTE = 60.0
_BEGAN = 1_700_000_000.0
_BYTES = 1_000_000


def _directory(count: int) -> Directory:
    """One checkpoint a minute and a hundred steps."""
    checkpoints = []
    for number in range(1, count + 1):
        name, saved = f"ckpt-{number}", _BEGAN + _MINUTE * number
        written = int(saved * 1e9)
        checkpoints.append(
            Checkpoint(
                name,
                Format.V2,
                Status.COMPLETE,
                step=100 * number,
                step_from="optimizer/_iterations",
                saved=saved,
                index=File(f"{name}.index", 500, written, 2 * number),
                shards=(File(f"{name}.data-00000-of-00001", _BYTES, written, 2 * number + 1),),
            )
        )
    return Directory("run", ABSENT, tuple(checkpoints))


def _policy(count: int) -> Policy:
    numbers = range(1, count + 1)
    values = Values(
        [100 * number for number in numbers], [float(number * 7919 % count) for number in numbers]
    )
    rules = (
        Newest(3),
        EverySteps(10_000),
        Every(6 * 3600.0),
        PerCalendar(Calendar.HOURLY, 48),
        PerCalendar(Calendar.DAILY, 30),
        PerCalendar(Calendar.WEEKLY, 52),
        Within(7200.0),
        AtStep(4200),
        Best(10, "loss", values),
        Best(10, "accuracy", values, Mode.MAX, 1000),
    )
    return Policy(rules, max_bytes=500 * _BYTES)


def measure(count: int, runs: int = 3) -> dict[str, float]:
    """Times one size.

    Args:
        count: How many checkpoints.
        runs: How often; the best counts.

    Returns:
        Seconds for the plan, and how many checkpoints stay.
    """
    directory, policy = _directory(count), _policy(count)
    took = []
    kept = 0
    for _ in range(runs):
        began = time.perf_counter()
        kept = len(plan(directory, policy, now=_BEGAN).keep)
        took.append(time.perf_counter() - began)
    return {"checkpoints": count, "rules": len(policy.rules), "kept": kept, "plan": round(min(took), 3)}


def main() -> None:
    """Prints one line a size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("counts", metavar="COUNT", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    gc.set_threshold(100_000)
    for count in parser.parse_args().counts:
        sys.stdout.write(json.dumps(measure(count)) + "\n")


if __name__ == "__main__":
    main()
