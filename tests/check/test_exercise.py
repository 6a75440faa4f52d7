"""The checkers' engine: what it says of every kind of answer."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vitlib import check
from vitlib.check.exercise import Exercise, Refused, build, call, numbers, twin
from vitlib.check.report import Report
from vitlib.check.sandbox import is_stub

HALF = "It is halved where it should be doubled."
MUTANTS = {
    "half": (lambda x: x / 2, HALF),
    "also_half": (lambda x: x * 0.5, "It is multiplied by 0.5."),
    "same": (lambda x: x + 0, "It is not doubled."),
}


def double_cases(answer):
    yield "five numbers", lambda: call(answer, numbers(5))
    yield "a table of 2 × 3", lambda: call(answer, numbers(2, 3))


double = Exercise("double", "0", "double(x) -> 2x", lambda x: 2 * x, double_cases, MUTANTS)


class Scale(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        return x * self.weight + self.bias


def scale_cases(answer):
    yield "3 channels", lambda: call(twin(answer, Scale, 3), numbers(4, 3))


scale = Exercise("scale", "0", "Scale(dim)", Scale, scale_cases, {})


# --- answers of every kind


class Doubles:
    def __call__(self, x):
        return 2 * x


class DoublesAsModule(nn.Module):
    def forward(self, x):
        return x.mul(2)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x + x,
        partial(torch.mul, other=2),
        Doubles,
        Doubles(),
        Doubles().__call__,
        DoublesAsModule,
        DoublesAsModule(),
        torch.no_grad()(lambda x: 2 * x),
    ],
)
def test_functions_modules_classes_and_instances_are_accepted(answer):
    report = double(answer)
    assert report
    assert report.passed
    assert report.message == "Tried on: five numbers; a table of 2 × 3."


@pytest.mark.parametrize("answer", [Scale, Scale(7), lambda dim: Scale(dim), partial(Scale)])
def test_modules_come_from_classes_factories_and_instances(answer):
    assert scale(answer)


@pytest.mark.parametrize("answer", [3, None, ..., torch.ones(2), "double"])
def test_what_cannot_be_called_is_no_answer(answer):
    report = double(answer)
    assert not report
    assert "expected a function, a module or a class, got" in report.message
    assert "check.double(my_answer)" in report.message


# --- stubs


def with_docstring(x):
    """(B,) -> (B,)"""
    ...  # your code


def with_pass(x):
    pass


def not_implemented(x):
    raise NotImplementedError("todo")


def returns_dots(x):
    return ...


def half_filled(x):
    y = ...
    return x * y


def half_filled_call(x):
    weight = ...
    return F.linear(x, weight)


def half_filled_einops(x):
    x = ...
    return rearrange(x, "a b -> b a")


def half_filled_method(x):
    x = ...
    return x.reshape(3)


class NoBody(nn.Module):
    pass


class NoForward(nn.Module):
    def forward(self, x):
        """Doubles."""
        ...


class NoInit(nn.Module):
    def __init__(self): ...

    def forward(self, x):
        return self.two * x


class RaisesInForward(nn.Module):
    def forward(self, x):
        raise NotImplementedError


class NoCall:
    def __call__(self, x): ...


STUBS = [
    with_docstring, with_pass, not_implemented, returns_dots, half_filled, half_filled_call,
    half_filled_einops, half_filled_method, NoBody, NoForward, NoForward(), NoInit, RaisesInForward,
    NoCall, NoCall(), lambda: ..., lambda x: ..., lambda x: None, partial(with_docstring),
]  # fmt: skip


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: getattr(stub, "__name__", "instance"))
def test_a_stub_is_not_attempted(stub):
    report = double(stub)
    assert not report
    assert report.diagnosis == "not attempted"
    assert "not attempted" in str(report)
    assert "not attempted" in report._repr_html_()
    assert double.task in report.message
    assert report.mutants == ()


def test_a_stub_of_every_exercise_is_not_attempted():
    class Stub(nn.Module):
        def __init__(self, *sizes):
            super().__init__()

        def forward(self, *tensors): ...

    for exercise in check.EXERCISES.values():
        assert exercise(with_docstring).diagnosis == "not attempted", exercise
        assert exercise(Stub).diagnosis == "not attempted", exercise


def test_a_forgotten_return_is_no_stub():
    def forgotten(x):
        x = 2 * x

    report = double(forgotten)
    assert report.diagnosis == "Nothing comes back: a `return` is missing."
    assert "None (is a `return` missing?) came back" in report.message


def test_what_all_cases_have_in_common_is_a_diagnosis():
    assert double(lambda x: 5 * x).diagnosis == (
        "In every case, all numbers are 2.5 times what they should be."
    )
    axes = double(lambda x: 2 * x[None])  # an axis too many, which is told with each case
    assert axes.diagnosis == ""
    pairs = Exercise(
        "pairs",
        "0",
        "2x",
        lambda x: 2 * x,
        lambda f: iter([("a table", lambda: call(f, numbers(2, 3)))]),
        {},
    )
    assert pairs(lambda x: 2 * x.T).diagnosis == "The numbers are right, and their axes are not."
    assert pairs(lambda x: 5 * x).diagnosis == ""  # one case says too little


def table_cases(answer):
    yield "a table of 3 × 4", lambda: call(answer, numbers(3, 4))
    yield "one row", lambda: call(answer, numbers(1, 4))
    yield "a table of 5 × 6", lambda: call(answer, numbers(5, 6))


table = Exercise("table", "0", "table(x) -> 2x", lambda x: 2 * x, table_cases, {})


def but(wrong, *index):
    """2x, but at this index it is `wrong`."""

    def answer(x):
        y = 2 * x
        y[index] = wrong(x)[index]
        return y

    return answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: -2 * x, "all numbers have the wrong sign"),
        (lambda x: 2 * x / x.shape[0] / 3, "the numbers are right up to one factor"),
        (lambda x: 2 * x + x.shape[0], "the numbers are right up to one shift, which is"),
        (lambda x: 2 * x.flip(0), "what stands along axis 0 is right, in another order"),
        (lambda x: 2 * x.roll(1, 0), "what stands along axis 0 is right, in another order"),
        (but(torch.exp, slice(1, None)), "only the first index of axis 0 is right"),
        (but(torch.exp, slice(None), 0), "only the first index of axis 1 is wrong"),
        (but(torch.exp, slice(None), -1), "only the last index of axis 1 is wrong"),
    ],
)
def test_the_kind_that_all_wrong_cases_share_is_told(answer, said):
    assert table(answer).diagnosis.startswith(f"In every case that differs, {said}")


def test_no_kind_is_told_of_what_the_cases_do_not_share():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        report = table(lambda x: torch.randn(x.shape, dtype=x.dtype, generator=generator))
        assert (report.passed, report.diagnosis) == (False, "")
    assert table(lambda x: -2 * x if len(x) > 3 else 2 * x + 1).diagnosis == ""
    assert table(lambda x: 2 * x.flip(0) if len(x) > 3 else 2 * x).diagnosis == ""  # one case


@pytest.mark.parametrize("made", [torch.Tensor.tolist, list, tuple])
def test_right_numbers_in_a_list_are_told(made):
    said = "The numbers are right, but they come back in a list, and a tensor is asked for."
    assert table(lambda x: made(2 * x)).diagnosis == said
    assert table(lambda x: made(3 * x)).diagnosis == ""
    assert table(lambda x: made(2 * x)[:1]).diagnosis == ""
    assert table(lambda x: [[made]]).diagnosis == ""


def picture_cases(answer):
    for height, width in [(4, 6), (5, 3), (3, 3)]:
        yield f"{height} × {width} pixels", lambda h=height, w=width: call(answer, numbers(2, h, w))


pictures = Exercise("pictures", "0", "pictures(x) -> 2x", lambda x: 2 * x, picture_cases, {})


def transposed_in_memory(x):
    return 2 * x.transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: 2 * x * x.shape[1] / x.shape[2], "It is right where height and width are equal"),
        (lambda x: 2 * x.flatten(1).view(2, *2 * x.shape[1:2]), "It is right where height and"),
        (transposed_in_memory, "In every case that differs, the numbers are the right ones, and "
         "stand in wrong places along axis 1 and 2."),
        (lambda x: transposed_in_memory(x).flatten().roll(1).view(x.shape), "In every case that "
         "differs, the numbers are the right ones, and stand in wrong places."),
    ],
)  # fmt: skip
def test_right_at_square_sizes_and_numbers_in_wrong_places_are_told(answer, said):
    assert pictures(answer).diagnosis.startswith(said)


def test_square_sizes_are_told_only_where_all_others_are_wrong():
    assert pictures(lambda x: 2 * x + (x.shape[1] == 4)).diagnosis == ""
    assert "height" not in pictures(lambda x: -2 * x).diagnosis


def test_what_only_looks_like_a_stub_is_said_as_it_is():
    class Misspelled(nn.Module):
        def foward(self, x):
            return 2 * x

    assert 'missing the required "forward" function' in double(Misspelled).message
    assert "Expression may contain dots" in double(lambda x: rearrange(x, ". -> .")).message
    assert "single ellipsis" in double(lambda x: x.numpy()[..., ...]).message
    assert not is_stub(partial(torch.mul, other=3))
    assert not is_stub(torch.relu)


# --- the reader's errors are shown as theirs


def test_a_crash_shows_the_readers_error_and_line():
    def crash(x):
        y = 2 * x
        return y.reshape(7)  # this line

    report = double(crash)
    assert not report
    assert "Your code raised an error on five numbers: RuntimeError: shape '[7]'" in report.message
    assert "of crash: return y.reshape(7)  # this line" in report.message
    assert "vitlib" not in report.message


def test_a_crash_inside_vitlib_or_torch_shows_the_line_that_called_it(unchecked):
    def in_vitlib(x):
        return check.EXERCISES["patchify"].reference(x, 4)  # my call

    def in_torch(x):
        return nn.Linear(3, 4).double()(x)  # my call

    for answer in (in_vitlib, in_torch):
        message = double(answer).message
        assert f"of {answer.__name__}: return" in message
        assert message.split("\n\n")[0].endswith("# my call")


class ClassCrash(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.layer = nn.Linear(dim)


def test_a_crash_while_building_shows_its_line():
    assert "of __init__: self.layer = nn.Linear(dim)" in scale(ClassCrash).message


@pytest.mark.parametrize("error", [SystemExit, StopIteration, RecursionError, KeyError, Warning])
def test_whatever_is_raised_is_reported(error):
    def crash(x):
        raise error("odd")

    assert f"{error.__name__}" in double(crash).message


def test_a_wrong_number_of_arguments_is_told_with_the_call():
    message = double(lambda: 1).message
    assert "takes 0 positional arguments but 1 was given" in message
    assert "(it was called as <lambda>(tensor (5,)))" in message
    assert "NoForward() takes no arguments" not in double(NoForward).message
    assert "(it was called as Doubles(3))" in scale(Doubles).message


def test_code_without_source_is_reported_too():
    namespace = {}
    exec("def crash(height, width, patch_size):\n    return height.missing", namespace)
    assert "line 2 of crash" in check.count_patches(namespace["crash"]).message


def test_a_change_of_the_input_is_refused():
    def in_place(x):
        x *= 2
        return x

    report = double(in_place)
    assert report.diagnosis.startswith("Your code changes the tensor that it is given")
    assert report.message == f"{report.diagnosis}\n\nSeen on five numbers."
    assert report.mutants == ()


def test_a_module_is_asked_for_where_one_is_needed():
    assert "<lambda>(3) should make an nn.Module" in scale(lambda dim: 1).message


# --- parameters are matched by name, else by order


class Renamed(Scale):
    def __init__(self, dim):
        nn.Module.__init__(self)
        self.factor, self.shift = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        return x * self.factor + self.shift


class OtherOrder(Scale):
    def __init__(self, dim):
        nn.Module.__init__(self)
        self.bias, self.weight = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.ones(dim))


class WithoutBias(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = torch.zeros(dim)

    def forward(self, x):
        return x * self.weight + self.bias


def test_parameters_are_matched_by_name_or_by_order():
    for module in (Renamed, OtherOrder):
        assert scale(module)
        made = twin(module, Scale, 3)
        assert all(p.dtype == torch.float64 and p.std() > 0 for p in made.parameters())


def test_other_parameters_are_refused_by_name():
    message = scale(WithoutBias).message
    assert "the learned parameters (nn.Parameter) should be weight (3,), bias (3,)" in message
    assert "yours are weight (3,)." in message


def test_two_refusals_are_alike_only_if_the_parameters_are():
    class MoreParameters(Scale):
        def __init__(self, dim):
            super().__init__(dim)
            self.more = nn.Parameter(torch.ones(2))

    table = {"without_bias": (WithoutBias, "The bias is not learned.")}
    exercise = Exercise("scale", "0", "Scale(dim)", Scale, scale_cases, table)
    renamed = type("Other", (WithoutBias,), {})
    assert exercise(renamed).mutants == ("without_bias",)
    assert exercise(MoreParameters).mutants == ()


def test_two_errors_of_torch_are_alike_only_if_their_sizes_are():
    table = {"reshapes": (lambda x: x.reshape(7), "It is reshaped.")}
    exercise = Exercise("double", "0", "2x", lambda x: 2 * x, double_cases, table)
    assert exercise(lambda x: (2 * x).view(7)).mutants == ("reshapes",)
    assert exercise(lambda x: x @ torch.ones(9, 9).double()).mutants == ()


# --- what a case can say


def test_build_takes_an_instance_for_its_class():
    assert type(build(Scale(2), 3)) is Scale
    with pytest.raises(Refused, match="should make an"):
        build(dict)


def test_a_report_marks_up_code_and_stress_and_nothing_else():
    message = "One *column* of `x.T` has shape (B, N, C*P*P): (1,) * (x.ndim - 1), dim ** -0.5."
    shown = Report("double", False, message)._repr_html_()
    assert "One <em>column</em> of <code>x.T</code> has shape (B, N, C*P*P)" in shown
    assert "(1,) * (x.ndim - 1), dim ** -0.5." in shown
    assert message in str(Report("double", False, message))
