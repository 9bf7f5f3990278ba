"""How long `algo --help` takes, beside a bare interpreter: medians of several runs, wall time of whole processes.

python benchmarks/help.py
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 9
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "algo --help": [str(Path(sys.executable).parent / "algo"), "--help"],
    "algo research --help": [str(Path(sys.executable).parent / "algo"), "research", "--help"],
}


def median_seconds(command: list[str]) -> float:
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


if __name__ == "__main__":
    bare = median_seconds(COMMANDS["python -c pass"])
    for name, command in COMMANDS.items():
        seconds = median_seconds(command)
        print(f"{name:22} {1000 * seconds:6.0f} ms   {seconds / bare:4.1f} x a bare interpreter")
