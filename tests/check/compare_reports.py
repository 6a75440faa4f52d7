"""Do two versions of vitlib.check say the same of every known mistake and every right answer?

    python tests/check/compare_reports.py save old.json [CHAPTER]      # before a change
    python tests/check/compare_reports.py compare old.json [CHAPTER]   # after it

CHAPTER, such as 03, looks at that one alone. Compared are the verdict, the diagnosis, the names of
the mistakes and the message. In the message, the name of a function or class before a bracket does
not count. Exit code 1 where they differ.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from vitlib import check


def reports(chapter: str = "") -> dict[str, dict[str, Any]]:
    """What each checker says: "exercise.mistake" or "exercise#number of the right answer"."""
    said = {}
    for name, exercise in check.EXERCISES.items():
        if not exercise.chapter.startswith(chapter):
            continue
        right = [exercise.reference, *exercise.accepted]
        answers = {f"{name}#{number}": answer for number, answer in enumerate(right)}
        answers |= {f"{name}.{mutant}": answer for mutant, (answer, _) in exercise.mutants.items()}
        for key, answer in answers.items():
            report = exercise(answer)
            said[key] = {
                "passed": report.passed,
                "diagnosis": report.diagnosis,
                "mutants": sorted(report.mutants),
                "message": report.message,
            }
            mutant = key.partition(".")[2]
            if mutant:
                said[key]["own diagnosis"] = exercise.mutants[mutant][1]
    return said


def without_names(message: str) -> str:
    """`_merge(tensor (2, 3))` and `merge_heads(tensor (2, 3))` are the same."""
    return re.sub(r"(<lambda>|[A-Za-z_][\w.]*)\((\) )?", "(", message)


def differences(old: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]]) -> list[str]:
    """A paragraph for each report that is new, gone or different."""
    found = [f"{key}: only in the old version" for key in sorted(old.keys() - new.keys())]
    found += [f"{key}: only in the new version" for key in sorted(new.keys() - old.keys())]
    for key in sorted(old.keys() & new.keys()):
        for part, was in old[key].items():
            now = new[key][part]
            if was != now and not (part == "message" and without_names(was) == without_names(now)):
                found.append(f"{key}, {part}:\n  was {was!r}\n  now {now!r}")
    return found


def main() -> int:
    """Save what the checkers say, or print how it differs from what was saved."""
    parser = argparse.ArgumentParser(description="Compare what two versions of vitlib.check say.")
    parser.add_argument("verb", choices=["save", "compare"])
    parser.add_argument("path", type=Path, help="a JSON file")
    parser.add_argument("chapter", nargs="?", default="", help="such as 03; default: all")
    args = parser.parse_args()
    new = reports(args.chapter)
    if args.verb == "save":
        args.path.write_text(json.dumps(new, indent=1, ensure_ascii=False), "utf8")
        return 0
    old = json.loads(args.path.read_text("utf8"))
    exercises = {re.split(r"[.#]", key)[0] for key in new}
    found = differences({k: v for k, v in old.items() if re.split(r"[.#]", k)[0] in exercises}, new)
    print("\n".join([*found, f"{len(new)} reports, {len(found)} differences"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
