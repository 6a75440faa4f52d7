"""Do two versions of vitlib.check say the same of every known mistake and every right answer?

    python tests/check/compare_reports.py save old.json        # in the one version
    python tests/check/compare_reports.py compare old.json     # in the other; exit code 1 if not

Compared are verdict, diagnosis, the names of the mistakes, and the message. In the message, a name
that vitlib gave to a function or a class of its own does not count.
"""

import json
import re
import sys
from pathlib import Path

from vitlib import check


def reports(only: str = "") -> dict[str, dict[str, object]]:
    """What each checker says: "exercise.mutant" or "exercise#number of the right answer"."""
    said = {}
    for name, exercise in check.EXERCISES.items():
        if only and not exercise.chapter.startswith(only):
            continue
        right = [exercise.reference, *exercise.accepted]
        answers = {f"{name}#{number}": answer for number, answer in enumerate(right)}
        answers |= {f"{name}.{mutant}": exercise.mutants[mutant][0] for mutant in exercise.mutants}
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


def nameless(message: str) -> str:
    return re.sub(r"(<lambda>|\b_?[A-Za-z]\w*(\.\w+)*)\(\)? ?", "·(", message)


def main(verb: str, path: str, only: str = "") -> int:
    new = reports(only)
    if verb == "save":
        Path(path).write_text(json.dumps(new, indent=1, ensure_ascii=False))
        return 0
    old = json.loads(Path(path).read_text())
    if only:
        chapters = {n: e.chapter for n, e in check.EXERCISES.items()}
        old = {k: v for k, v in old.items() if chapters.get(re.split(r"[.#]", k)[0], "").startswith(only)}
    wrong = 0
    for key in sorted(old.keys() | new.keys()):
        if key not in old or key not in new:
            print(f"{key}: only in the {'new' if key in new else 'old'} version")
            wrong += 1
            continue
        for part in old[key]:
            was, now = old[key][part], new[key][part]
            if was != now and not (part == "message" and nameless(was) == nameless(now)):
                print(f"{key}, {part}:\n  was {was!r}\n  now {now!r}")
                wrong += 1
    print(f"{len(new)} reports, {wrong} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
