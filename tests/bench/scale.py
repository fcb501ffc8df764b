"""Scans and plans directories of many checkpoints, to show that the cost is linear.

    python tests/bench/scale.py [COUNT]...

TensorFlow's reader is loaded before the clock starts. Each checkpoint is whole and holds its step.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bundle_writer import BundleWriter

from ckptctl import tensorflow
from ckptctl.plan import plan
from ckptctl.policy import Newest, Policy
from ckptctl.scan import scan

_STEP = b"optimizer/_iterations/.ATTRIBUTES/VARIABLE_VALUE"
_INT64 = 9


def _fill(directory: str, count: int, listed: int) -> None:
    names = [f"ckpt-{step}" for step in range(1, count + 1)]
    for step, name in enumerate(names):
        bundle = BundleWriter()
        bundle.add(_STEP, _INT64, (), (100 * step).to_bytes(8, "little"))
        bundle.write(Path(directory), name)
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names[-listed:]]
    times = [time.time() + step for step in range(count - listed, count)]
    lines += [f"all_model_checkpoint_timestamps: {moment}" for moment in times]
    with open(os.path.join(directory, "checkpoint"), "w", encoding="utf-8") as state:
        state.write("\n".join(lines) + "\n")


def measure(count: int, listed: int, runs: int = 3) -> dict[str, float]:
    """Times one size.

    Args:
        count: How many checkpoints.
        listed: How many of them the state lists, with timestamps: TensorFlow's reading costs 15 us each.
        runs: How often; the best counts.

    Returns:
        Seconds for the scan, of which most is TensorFlow's reading of the state, and for the plan.
    """
    with tempfile.TemporaryDirectory() as directory:
        _fill(directory, count, listed)
        scans, plans = [], []
        for _ in range(runs):
            began = time.perf_counter()
            found = scan(directory)
            scanned = time.perf_counter()
            planned = plan(found, Policy((Newest(3),)))
            plans.append(time.perf_counter() - scanned)
            scans.append(scanned - began)
            if len(planned.delete) != count - 3:
                raise SystemExit(f"planned {len(planned.delete)} deletions of {count}")
    return {
        "checkpoints": count,
        "listed": listed,
        "scan": round(min(scans), 3),
        "plan": round(min(plans), 3),
    }


def main() -> None:
    """Prints one line a size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("counts", metavar="COUNT", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    tensorflow.load_alone()
    tensorflow.preload()
    for count in parser.parse_args().counts:
        for listed in (1, count):
            sys.stdout.write(json.dumps(measure(count, listed)) + "\n")


if __name__ == "__main__":
    main()
