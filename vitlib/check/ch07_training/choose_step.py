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

    val, test = (0.950, 0.972, 0.975, 0.970, 0.973), (0.948, 0.966, 0.969, 0.978, 0.971)
    yield (
        "five evaluations, best on validation at step 300 and on the test at 400",
        (lambda: run((100, 200, 300, 400, 500), val, test)),
    )
    # who breaks ties by the test takes the middle one, who takes the latest the last
    equal, others = (0.970, 0.985, 0.985, 0.985, 0.980), (0.968, 0.970, 0.975, 0.972, 0.976)
    yield (
        "three equal validation accuracies, at steps 1,000, 1,500 and 2,000",
        (lambda: run((500, 1000, 1500, 2000, 2500), equal, others)),
    )
    # the first peak is nearly as good as the best
    dips = (0.940, 0.9698, 0.955, 0.950, 0.945, 0.952, 0.970, 0.968)
    tests = (0.942, 0.961, 0.980, 0.949, 0.947, 0.977, 0.963, 0.966)
    yield (
        "eight evaluations that dip before their best, at step 700",
        (lambda: run(range(100, 900, 100), dips, tests)),
    )
    yield (
        "two evaluations, the second better",
        (lambda: run((100, 200), (0.91, 0.94), (0.90, 0.92))),
    )
    yield (
        "three evaluations, each worse than the one before",
        (lambda: run((100, 200, 300), (0.94, 0.93, 0.92), (0.91, 0.93, 0.95))),
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
worst: max(val_accuracy) → min(val_accuracy)
    This is the step with the *lowest* validation accuracy. Accuracies should be high (losses low):
    take the maximum.
last_test: test_accuracy[best] → test_accuracy[-1]
    The step is chosen well, but the accuracy that you report is that of the last step, and those
    are not the weights that are kept. Report the test accuracy at the step that you chose.
one_late: val_accuracy.index(max(val_accuracy)) →
→ min(val_accuracy.index(max(val_accuracy)) + 1, len(steps) - 1)
    This is the evaluation after the best one. Places in a list are counted from 0: index() and
    argmax give the place itself, with nothing to be added.
last_never_looked_at: max(val_accuracy) → max(val_accuracy[:-1] or val_accuracy)
    The last evaluation is never looked at. range(n) ends at n − 1 already, and so does len(list) −
    1 as an index: take all of them.
last: val_accuracy.index(max(val_accuracy)) → -1
    This is the last step, whatever the validation set says. Keep the step at which the validation
    accuracy was highest.
""") | edits(by_numpy, """
by_both: argmax(val_accuracy) → argmax(np.add(val_accuracy, test_accuracy))
    The step is chosen by validation and test together. Half a vote is still a vote: the test set
    may not take part in any choice.
ties_by_the_test: best = np.argmax(val_accuracy) → def both(i):
→     return val_accuracy[i], test_accuracy[i]
→ best = max(range(len(steps)), key=both)
    Where several steps are equally good on validation, the test set decides between them. It may
    take part in no choice, not even in this one: take the earliest.
reports_the_mean: test_accuracy[best] → (val_accuracy[best] + test_accuracy[best]) / 2
    You report the mean of validation and test. The validation accuracy was chosen for being the
    highest, so it flatters, also by half. Report the test accuracy at that step alone.
""") | edits(by_loop, """
latest: val > best[0] → val >= best[0]
    Where two steps are equally good, you take the later one. The task asks for the earliest:
    compare with > instead of >=, or take the first of the equal ones.
nearly_as_good: val > best[0] → val > best[0] + 0.005
    A step that is better by only a little is not taken. The task asks for the highest validation
    accuracy, by however little: several steps are equally good where the numbers are equal.
first_peak: if val > best[0]: → if val <= best[0]:
→     break
→ else:
    The search ends where the validation accuracy first stops rising. A curve may dip and rise
    again: look at all the evaluations, and keep the best of them.
""")  # fmt: skip


def probe(answer):
    given = [
        ([10, 20, 30], [0.5, 0.4, 0.3], [0.1, 0.2, 0.3]),
        ([7, 9, 11, 13], [0.2, 0.6, 0.5, 0.6], [0.9, 0.3, 0.8, 0.7]),
        ([5, 6], [0.0, 0.1], [0.2, 0.1]),
        ([3], [0.0], [0.5]),
        ([1, 2, 3, 4, 5], [0.3, 0.5, 0.4, 0.6, 0.6], [0.7, 0.6, 0.9, 0.2, 0.8]),
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
