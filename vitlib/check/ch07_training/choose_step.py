"""7.1 choose_step: the test set must not take part."""

import numpy as np

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call


def choose_step(steps, val_accuracy, test_accuracy):
    best = val_accuracy.index(max(val_accuracy))  # the first, if several are equal
    return steps[best], test_accuracy[best]


def by_numpy(steps, val_accuracy, test_accuracy):
    best = np.argmax(val_accuracy)
    return steps[best], test_accuracy[best]


def by_loop(steps, val_accuracy, test_accuracy):
    best = (-1.0, 0, 0.0)
    for step, val, test in zip(steps, val_accuracy, test_accuracy, strict=True):
        if val > best[0]:
            best = (val, step, test)
    return best[1:]


def cases(answer) -> Cases:
    def run(*lists):
        given = [list(values) for values in lists]
        result = call(answer, *given)
        if given != list(map(list, lists)):
            raise Refused("your code changes the lists that it is given: sort a copy, if you sort")
        if isinstance(result, int | float):
            raise Refused("one number came back, and two should: the step and the accuracy")
        return result

    val, test = (0.950, 0.968, 0.975, 0.970, 0.972), (0.948, 0.966, 0.969, 0.978, 0.971)
    yield (
        "five evaluations, best on validation at step 300 and on the test at 400",
        (lambda: run((100, 200, 300, 400, 500), val, test)),
    )
    equal, others = (0.970, 0.985, 0.985, 0.980), (0.968, 0.970, 0.975, 0.976)
    yield (
        "two equal validation accuracies, at steps 1,000 and 1,500",
        (lambda: run((500, 1000, 1500, 2000), equal, others)),
    )
    # every accuracy is above a best of −1, and not above a best of 0
    yield (
        "one evaluation, at step 50, where no validation image is read right",
        (lambda: run((50,), (0.0,), (0.75,))),
    )


MUTANTS = edits(choose_step, """
by_the_test: val_accuracy.index(max(val_accuracy)) → test_accuracy.index(max(test_accuracy))
    The step is chosen by the test set. Then the test set has taken part in the training, and the
    highest of several test accuracies is high by luck, too: the number that you report flatters.
    Choose by the validation accuracy.
roles_swapped: val_accuracy.index(max(val_accuracy)) → test_accuracy.index(max(test_accuracy))
and: test_accuracy[best] → val_accuracy[best]
    The two sets have swapped their roles: the test set chooses here, and the validation set
    reports. Choose on validation, report the test.
best_test: test_accuracy[best] → max(test_accuracy)
    The step is chosen well, but the accuracy that you report is the best on the test set at any
    step, and those are not the weights that are kept. Report the test accuracy at the step that you
    chose.
reports_validation: test_accuracy[best] → val_accuracy[best]
    You report the validation accuracy. It was chosen for being the highest, so it flatters. The
    test accuracy at the same step took no part in the choice: report that.
index: steps[best] → best
    You return the place in the list. The first of the two results should be the step that stands
    there: steps[best].
swapped: steps[best], test_accuracy[best] → test_accuracy[best], steps[best]
    The two results are swapped: the step comes first, then the accuracy.
last: val_accuracy.index(max(val_accuracy)) → -1
    This is the last step, whatever the validation set says. Keep the step at which the validation
    accuracy was highest.
""") | edits(by_numpy, """
by_both: argmax(val_accuracy) → argmax(np.add(val_accuracy, test_accuracy))
    The step is chosen by validation and test together. Half a vote is still a vote: the test set
    may not take part in any choice.
""") | edits(by_loop, """
latest: val > best[0] → val >= best[0]
    Where two steps are equally good, you take the later one. The task asks for the earliest:
    compare with > instead of >=.
""")  # fmt: skip


def probe(answer):
    given = [
        ([10, 20, 30], [0.5, 0.4, 0.3], [0.1, 0.2, 0.3]),
        ([7, 9, 11, 13], [0.2, 0.6, 0.5, 0.6], [0.9, 0.3, 0.8, 0.7]),
        ([5, 6], [0.0, 0.1], [0.2, 0.1]),
        ([3], [0.0], [0.5]),
    ]
    return [lambda g=g: list(answer(*map(list, g))) for g in given]


EXERCISE = Exercise(
    name="choose_step",
    chapter="07_training",
    task="choose_step(steps, val_accuracy, test_accuracy), three lists -> (the step whose weights "
    "to keep, the accuracy to report); the earliest step where several are equally good",
    reference=choose_step,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_numpy, by_loop],
    probe=probe,
)
