"""What the instruments say of models known to be right: where their limits come from.

    python benchmarks/instruments.py [--seeds 10]

Runs every instrument over tiny models of all plain ViT architectures of timm and transformers
(tests/tiny_vits.py makes them), with ten seeds each, and writes instruments.json beside this file:
for each model and instrument the lowest and highest value, and the seeds at which something was
found. Results are kept in _build/instruments, so that a run that was stopped goes on.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import torch

from vitlib.check.instruments import findings
from vitlib.runs.in_parallel import one_core_each

ROOT = Path(__file__).parents[1]
LOG = Path(__file__).with_suffix(".json")
sys.path.insert(0, str(ROOT / "tests"))  # the peers that the tests compare with


def measure(name: str, seed: int, images: int = 7) -> list[tuple[str, bool | None, float, str]]:
    """Name, outcome, value and words of every instrument, for one model and seed."""
    from tiny_vits import IMG_SIZE, make

    torch.manual_seed(seed)
    model = make(name)
    noise = torch.randn(images, 3, IMG_SIZE, IMG_SIZE)
    rows = [(f.name, f.found, f.value, str(f)) for f in findings(model, noise, seed=seed)]
    print(name, seed, [row[3] for row in rows if row[1]], flush=True)
    return rows


def summary(seeds: int) -> dict:
    """The log: what was found, by model and instrument."""
    from peers import timm, transformers
    from tiny_vits import all_names

    names = all_names()
    jobs = [(name, seed) for seed in range(seeds) for name in names]
    keep = ROOT / "_build" / "instruments"
    keep.mkdir(parents=True, exist_ok=True)
    results = one_core_each(measure, jobs, keep=keep)
    values: dict = defaultdict(lambda: defaultdict(list))
    found: dict = defaultdict(dict)
    for (name, seed), rows in zip(jobs, results, strict=True):
        for instrument, outcome, value, words in rows:
            if outcome is not None:
                values[instrument][name].append(value)
            if outcome:
                found[instrument].setdefault(name, {"seeds": [], "words": words})["seeds"].append(
                    seed
                )
    return {
        "torch": torch.__version__,
        "timm": timm.__version__,
        "transformers": transformers.__version__,
        "seeds": seeds,
        "models": names,
        "values": {
            instrument: {
                name: [float(f"{x:.4g}") for x in (min(v), max(v))] for name, v in by_model.items()
            }
            for instrument, by_model in values.items()
        },
        "found": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    log = summary(parser.parse_args().seeds)
    LOG.write_text(json.dumps(log, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf8")
    print(f"{len(log['models'])} models, {log['seeds']} seeds, found: {dict(log['found'])}")


if __name__ == "__main__":
    main()
