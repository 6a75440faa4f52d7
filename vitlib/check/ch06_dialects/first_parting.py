"""6.7 first_parting: a ladder of stages."""

from functools import partial

import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw


def first_parting(ours, theirs, tolerance):
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape or not (a - b).abs().max() <= tolerance:  # nan is not <= anything
            return name
    return None


def by_allclose(ours, theirs, tolerance):
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape or not torch.allclose(a, b, rtol=0, atol=tolerance):
            return name


def by_next(ours, theirs, tolerance):
    def apart(a, b):
        if a.shape != b.shape:
            return True
        largest = (a - b).abs().max().item()
        return largest > tolerance or largest != largest  # nan is not equal to itself

    parted = (name for name in ours if apart(ours[name], theirs[name]))
    return next(parted, None)


def by_list(ours, theirs, tolerance):
    parted = []
    for (name, mine), other in zip(ours.items(), theirs.values(), strict=True):
        try:
            torch.testing.assert_close(mine, other, rtol=0, atol=tolerance)
        except AssertionError:
            parted.append(name)
    return parted[0] if parted else None


def by_distances(ours, theirs, tolerance):
    def distance(a, b):
        return (a - b).abs().max().nan_to_num(torch.inf) if a.shape == b.shape else torch.inf

    far = {name: distance(ours[name], theirs[name]) for name in ours}
    parted = [name for name in far if far[name] > tolerance]
    return parted[0] if parted else None


def cases(answer) -> Cases:
    names = "patches", "tokens", "attention", "block", "logits"

    def run(change, tolerance=1e-3, offset=0.0, both=False):
        """Two equal ladders, of which `change` changes the second, or both."""
        ours = {name: numbers(2, 5, 4, seed=i) + offset for i, name in enumerate(names)}
        theirs = {name: stage.clone() for name, stage in ours.items()}
        for ladder in (ours, theirs) if both else (theirs,):
            for name, changed in change.items():
                ladder[name] = changed(ladder[name])
        result = call(answer, ours, theirs, tolerance)
        return "None: they never part" if result is None else result

    def off(by, where=(1, 2, 3)):
        def changed(stage):
            stage[where] += by
            return stage

        return changed

    def nan_from(n):
        return dict.fromkeys(names[n:], off(torch.nan))

    three = (0, slice(3), 2)
    growing = {"attention": off(0.01), "block": off(0.5), "logits": off(9.0)}
    fading = {"tokens": off(-9.0), "attention": off(0.5), "block": off(0.01)}
    ladders: list[tuple] = [
        ("two ladders that are equal", {}),
        ("a difference that begins in attention and grows", growing),
        ("the same with a tolerance that lets its beginning pass", growing, 0.1),
        ("one that begins in tokens and fades, negative at first", fading),
        ("one of 0.01 in all logits, downwards", {"logits": lambda x: x - 0.01}),
        ("differences as small as rounding errors", dict.fromkeys(names, lambda x: x + 1e-9)),
        ("three numbers off by half the tolerance", dict.fromkeys(names, off(5e-4, three))),
        ("all numbers off by half the tolerance", dict.fromkeys(names, lambda x: x + 5e-4)),
        ("the first number of patches off by 5 tolerances", {"patches": off(5e-3, (0, 0, 0))}),
        ("numbers in the thousands, one of them 0.01 off", {"tokens": off(0.01)}, 1e-3, 3000),
        ("numbers in the thousands, one of them 0.5 off", {"tokens": off(0.5)}, 1e-3, 3000),
        ("nan in both from the block on", nan_from(3), 1e-3, 0, True),
        ("a stage with one token more", {"tokens": lambda x: x[:, [0, 0, 1, 2, 3, 4]]}),
    ]
    for label, change, *options in ladders:
        yield label, partial(run, change, *options)

    def beside(*shapes):
        ours = {"patches": numbers(2, 3), "tokens": torch.ones(2, 1, 4), "logits": numbers(2, 3)}
        return {
            f"ones of shape {shape}": call(answer, ours, ours | {"tokens": torch.ones(shape)}, 0.1)
            for shape in shapes
        }

    def nan_on_one_side():
        ours = {name: numbers(2, 3, seed=i) for i, name in enumerate(names)}
        theirs = ours | {name: ours[name] * torch.nan for name in names[2:]}
        return {
            "in theirs": call(answer, ours, theirs, 0.1),
            "in ours": call(answer, theirs, ours, 0.1),
        }

    def exactly(apart):
        ours = {name: torch.arange(6.0) for name in names}
        theirs = ours | {"tokens": torch.arange(6.0) + apart}
        return call(answer, ours, theirs, 0.5) is None

    yield "nan on one side from attention on", nan_on_one_side
    label = "ones of shape (2, 1, 4) beside others"
    yield label, lambda: beside((2, 5, 4), (1, 2, 4), (2, 1, 1, 4))
    yield (
        "numbers as far apart as the tolerance, and no further: is it None?",
        partial(exactly, 0.5),
    )


# A wrong distance comes in three forms: on guard for nan and shapes, for shapes only, for neither.
MUTANTS = edits(first_parting, """
signed: .abs() →
signed_and_nan: not (a - b).abs().max() <= → (a - b).max() >
signed_unguarded: a.shape != b.shape or not (a - b).abs().max() <= → (a - b).max() >
    Differences have a sign, and those below zero count as small. Take the absolute value before you
    look for the largest.
signed_the_other_way: (a - b).abs() → (b - a)
signed_the_other_way_and_nan: not (a - b).abs().max() <= → (b - a).max() >
signed_the_other_way_unguarded: a.shape != b.shape or not (a - b).abs().max() <= → (b - a).max() >
    Differences have a sign, and where theirs is the smaller one it counts as close. Take the
    absolute value before you look for the largest.
nan_passes: not (a - b).abs().max() <= → (a - b).abs().max() >
    A stage full of nan counts as equal: every comparison with nan is False, `>` as well. Ask it the
    other way round, whether all differences are `<=` the tolerance.
nan_in_ours_only: not (a - b).abs().max() <= tolerance →
→ a.isnan().any() or (a - b).abs().max() > tolerance
    nan is looked for in ours only. It may be in theirs as well: ask whether the largest difference
    is `<=` the tolerance, which no nan is.
nan_in_theirs_only: not (a - b).abs().max() <= tolerance →
→ b.isnan().any() or (a - b).abs().max() > tolerance
    nan is looked for in theirs only. It may be in ours as well: ask whether the largest difference
    is `<=` the tolerance, which no nan is.
squared: abs().max() → square().max()
    The square of the difference is compared with the tolerance. Compare the difference itself.
root_mean_square: (a - b).abs().max() → (a - b).square().mean().sqrt()
    The root of the mean square is compared. One wrong token among many right ones disappears in it:
    look at the largest difference.
median: abs().max() → abs().median()
    The median of the differences is compared. Half of the numbers may be wrong then: look at the
    largest difference.
first_number_only: (a - b).abs().max() → (a - b).abs().flatten()[0]
    Only the first number of each stage is compared. All of them have to be close: look at the
    largest difference.
shapes_raise: if a.shape != b.shape or → assert a.shape == b.shape
→ if
    Stages of different shapes raise an error. The two have parted there: return the name.
mean: max() → mean()
mean_and_nan: not (a - b).abs().max() <= → (a - b).abs().mean() >
mean_unguarded: a.shape != b.shape or not (a - b).abs().max() <= → (a - b).abs().mean() >
    The mean of the differences is compared. One wrong token among many right ones disappears in it:
    every number has to be close, so look at the largest.
mean_square: (a - b).abs().max() → ((a - b) ** 2).mean()
mean_square_and_nan: not (a - b).abs().max() <= → ((a - b) ** 2).mean() >
mean_square_unguarded: a.shape != b.shape or not (a - b).abs().max() <= → ((a - b) ** 2).mean() >
    The mean of the squared differences is compared. One wrong token among many right ones
    disappears in it, and squares of small numbers are tiny: look at the largest difference.
all_for_any: not (a - b).abs().max() <= tolerance → ((a - b).abs() > tolerance).all()
    A stage counts as parted only where *all* its numbers are far off. One is enough: `any`, not
    `all`. (And ask it with `<=`, since nan is never `>` anything.)
sum: max() → sum()
sum_and_nan: not (a - b).abs().max() <= → (a - b).abs().sum() >
sum_unguarded: a.shape != b.shape or not (a - b).abs().max() <= → (a - b).abs().sum() >
    The sum of the differences is compared: the more numbers a stage has, the sooner it fails. Look
    at the largest.
norm: abs().max() → norm()
norm_and_nan: not (a - b).abs().max() <= → (a - b).norm() >
norm_unguarded: a.shape != b.shape or not (a - b).abs().max() <= → (a - b).norm() >
    The length of the difference is compared, the root of its sum of squares: the more numbers a
    stage has, the sooner it fails. Look at the largest.
sizes_of_the_largest: (a - b).abs().max() → (a.abs().max() - b.abs().max()).abs()
    The largest size of one is compared with the largest of the other. All other numbers may differ:
    subtract number by number, and look for the largest after that.
lengths: (a - b).abs().max() → (a.norm() - b.norm()).abs()
    The lengths of both are compared. The numbers themselves may differ all the same: subtract
    number by number, and look for the largest difference.
maxima: (a - b).abs().max() → (a.max() - b.max()).abs()
maxima_and_nan: not (a - b).abs().max() <= → (a.max() - b.max()).abs() >
maxima_unguarded: a.shape != b.shape or not (a - b).abs().max() <= → (a.max() - b.max()).abs() >
    The largest number of one is compared with the largest of the other. All the others may differ:
    subtract number by number, and look for the largest after that.
relative_difference: (a - b).abs().max() → (a - b).abs().max() / b.abs().max()
relative_difference_and_nan: not (a - b).abs().max() <= → ((a - b).abs() / b.abs()).max() >
    The difference is divided by the size of the numbers. Where they are large, a large difference
    passes, and where they are near 0, none does. Compare the difference itself.
count_for_shape: a.shape != b.shape → a.numel() != b.numel()
    You compare how *many* numbers there are. (2, 1, 4) and (1, 2, 4) have as many, and are
    stretched to fit. Compare the shapes.
length_for_shape: a.shape != b.shape → len(a) != len(b)
    You compare the first axis only. The others may differ as well: compare the shapes.
axes_for_shape: a.shape != b.shape → a.ndim != b.ndim
    You compare the number of axes only. (2, 1, 4) and (2, 5, 4) have three each: compare the
    shapes.
shapes_ignored: a.shape != b.shape or →
    The shapes are not compared. Where they clash, the subtraction raises an error; where they can
    be stretched, (2, 1, 4) beside (2, 5, 4), it says nothing. Compare the shapes first.
shapes_ignored_and_nan: a.shape != b.shape or not (a - b).abs().max() <= → (a - b).abs().max() >
    Two things get through. Shapes that clash raise an error, and shapes that can be stretched pass,
    (2, 1, 4) beside (2, 5, 4): compare them first. And nan is not `>` anything: ask whether the
    largest difference is `<=` the tolerance.
shapes_skipped: a.shape != b.shape or → a.shape == b.shape and
    A stage with other shapes is passed over. Where the shapes differ the two have parted: return
    that stage.
only_the_first: return None →     return None
    Only the first stage is looked at. Say None after the loop, when all of them have been seen, and
    not inside it.
first_that_agrees: a.shape != b.shape or not → a.shape == b.shape and
    This is the first stage that agrees. Asked for is the first that does not.
tolerance_excluded: <= tolerance → < tolerance
    Numbers that are exactly as far apart as the tolerance count as parted. Only those that are
    further apart have: ask with `<=`, or with `>` and a look for nan.
number_for_name: return name → return list(ours).index(name)
    This is the number of the stage. Return its name.
nothing_returned: return name → break
    Nothing is ever returned but None. `print` shows a name and returns none: `return name`.
difference_for_name: return name → return (a - b).abs().max()
    A number comes back, how far they are apart. Return the name of the stage.
last_for_none: return None → return name
    Where they never part, the last stage comes back. Return None then.
false_for_none: return None → return False
    Where they never part, False comes back. Return None then.
true_for_name: return name → return True
    It says only that they part. Return the name of the stage.
by_the_alphabet: ours.items() → sorted(ours.items())
    The names are sorted, and the first of the alphabet is returned. The order of the dictionary is
    the order in which a model passes through its stages.
""") | edits(by_allclose, """
nan_beside_nan: atol=tolerance → atol=tolerance, equal_nan=True
    Where both sides have nan, you call them equal. A ladder is climbed to find a bug, and there it
    is: a nan counts as parting.
relative_too: rtol=0, →
relative_too_unguarded: rtol=0, →
and: a.shape != b.shape or →
    torch.allclose also allows rtol, by default 1e-5 of the size of the numbers: where these are in
    the thousands, that is more than the tolerance. Say rtol=0.
tolerance_ignored: , rtol=0, atol=tolerance →
    The tolerance that is given is never used: torch.allclose and torch.isclose have their own,
    unless they are told rtol=0 and atol=tolerance.
relative_only: rtol=0, atol=tolerance → rtol=tolerance, atol=0
    The tolerance is taken as a share of the numbers. Where they are large, a large difference
    passes, and where they are near 0, none does. Compare the difference itself.
exactly_equal: torch.allclose(a, b, rtol=0, atol=tolerance) → a.equal(b)
    Numbers have to be equal to the last bit. Two ways of computing the same thing round
    differently: allow the tolerance.
""") | edits(by_list, """
all_of_them: parted[0] if parted else None → parted
all_of_them_or_none: parted[0] if parted else None → parted or None
    All stages that differ come back, in a list. Return the name of the first.
""") | edits(by_distances, """
last: parted[0] → parted[-1]
    This is the last stage that differs. The bug is where they *first* part; what comes after it
    only carries it on.
worst: parted[0] → max(parted, key=far.get)
worst_and_nan: parted[0] → max(parted, key=far.get)
and: .nan_to_num(torch.inf) →
    This is the stage that differs most. A small difference grows on its way, or fades: the bug is
    where it begins. Stop at the first.
one_before_or_none: return parted[0] if parted else None → names = [None, *far]
→ return names[names.index(parted[0]) - 1] if parted else None
    This is the stage before the one where they part. Return the first that does not agree.
one_before: return parted[0] if parted else None → names = list(far)
→ return names[max(0, names.index(parted[0]) - 1)] if parted else names[-1]
    This is the last stage that still agrees. Asked for is the first that does not, and None where
    they all do.
""")  # fmt: skip


def probe(answer):
    names = ["a", "b", "c"]

    def run(where, by, tolerance, offset=0.0):
        ours = {n: draw(3, 4, seed=i) + offset for i, n in enumerate(names)}
        theirs = {n: stage.clone() for n, stage in ours.items()}
        for name, difference in zip(where, by, strict=True):
            theirs[name][2, 1] += difference
        return answer(ours, theirs, tolerance)

    def both_nan():
        ours = {n: draw(3, 4, seed=i) for i, n in enumerate(names)}
        ours["b"][0, 3] = torch.nan
        return answer(ours, {n: stage.clone() for n, stage in ours.items()}, 0.1)

    def other_shape(*shape, name="b"):
        ours = {n: torch.ones(3, 4) for n in names}
        return answer(ours, ours | {name: torch.ones(*shape)}, 0.5)

    differences = [("", []), ("a", [0.2]), ("abc", [-0.05, 0.2, 3.0]), ("bc", [-5.0, 0.3]),
                   ("c", [-0.2]), ("ac", [0.09, -0.08]), ("b", [torch.nan])]  # fmt: skip
    shapes = [(3, 5), (1, 4), (3, 1), (4,), (2, 2)]
    return [
        *[partial(run, *d, 0.1) for d in differences],
        lambda: run("c", [0.01], 1e-3, offset=5000.0),
        lambda: run("b", [1e-6], 1e-7),
        both_nan,
        *[partial(other_shape, *shape) for shape in shapes],
        lambda: other_shape(3, 9, name="c"),
    ]


EXERCISE = Exercise(
    name="first_parting",
    chapter="06_dialects",
    task="first_parting(ours, theirs, tolerance) -> the name of the first stage where the shapes "
    "differ, or any number is further than the tolerance from its partner, or is nan; None if "
    "there is no such stage",
    reference=first_parting,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_allclose, by_next, by_list, by_distances],
    probe=probe,
)
