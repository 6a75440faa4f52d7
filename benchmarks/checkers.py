"""How long every checker takes: `python benchmarks/checkers.py [NAME ...]`, the slowest first.

Process time on one thread, so that what else the machine does hardly counts. "right" is a right
answer; "wrong" is the slowest mutant, which is compared with all the others.
"""

import sys
import time
from collections.abc import Callable, Sequence

import torch

from vitlib import check

LIMIT = 2.0  # seconds, for any answer


def seconds(run: Callable[[], object], repeats: int) -> float:
    """The median process time of `repeats` runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return sorted(times)[len(times) // 2]


def main(names: Sequence[str] = (), repeats: int = 5) -> int:
    """Print the table, of all exercises by default; 1 if a checker takes longer than LIMIT."""
    rows = []
    for exercise in (check.EXERCISES[name] for name in names or check.EXERCISES):
        right = seconds(lambda e=exercise: e(e.reference), repeats)
        wrong = {
            name: seconds(lambda e=exercise, m=mutant: e(m), repeats)
            for name, (mutant, _) in exercise.mutants.items()
        }
        slowest = max(wrong, key=wrong.__getitem__)
        rows.append((max(right, wrong[slowest]), exercise.name, right, wrong[slowest], slowest))
    print(f"{'exercise':<24}{'right':>8}{'wrong':>8}  slowest mutant")
    for _, name, right, wrong_, slowest in sorted(rows, reverse=True):
        print(f"{name:<24}{right:>7.3f}s{wrong_:>7.3f}s  {slowest}")
    worst = max(rows)[0]
    print(f"\n{len(rows)} checkers, the slowest {worst:.3f} s, allowed {LIMIT:.0f} s")
    return int(worst > LIMIT)


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main(sys.argv[1:]))
