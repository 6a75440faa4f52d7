"""What an answer leaves behind is seen in every exercise, and a task may allow it."""

import re
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Exercise, call, fill, numbers


def model():
    made = fill(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)))
    made[0].weight.grad = torch.ones_like(made[0].weight)
    made[3].weight.requires_grad_(False)
    made[1].scale = 2.0
    return made


def logits(model, x):
    was = model.training
    model.eval()
    result = model(x).detach()
    model.train(was)
    return result


def exercise(may_change=(), reference=logits, mutants=None):
    def cases(answer):
        for training in (True, False):
            yield (
                f"a model with training={training}",
                lambda t=training: call(
                    answer, model().train(t), numbers(5, 3), may_change=may_change
                ),
            )

    return Exercise("logits", "0", "logits(model, x)", reference, cases, mutants or {})


def leaving(act):
    """A right answer that does something else to the model."""

    def answer(model, x):
        result = logits(model, x)
        act(model)
        return result

    return answer


def trains_batch_norm(model):
    was = model.training
    model.train()(numbers(4, 3))
    model.train(was)


def add_to_the_gradient(model):
    model[0].weight.grad += deepcopy(model)(numbers(4, 3)).sum().item()


def fill_gradients(model):
    copied = deepcopy(model).eval()
    copied(numbers(4, 3)).sum().backward()
    model[0].bias.grad = copied[0].bias.grad


def exchange(model):
    model[2] = nn.Identity()


def new_parameter(model):
    model[3].bias = nn.Parameter(model[3].bias.detach().clone())


def own_hook(model):
    model[3].register_forward_hook(lambda *_: None)


def clear_hooks(model):
    for module in model.modules():
        module._forward_hooks.clear()


def write(model):
    with torch.no_grad():
        model[0].bias.add_(1)


def patch(model):
    model[0].forward = lambda x: x


LEFT = {
    "the mode of all": ("mode", lambda m: m.train(not m.training), "in .* mode afterwards, and it"),
    "the mode of one part": ("mode", lambda m: m[2].train(not m[2].training), "`2` is in "),
    "a hook": ("hooks", own_hook, "a hook is left on `3`"),
    "a backward hook": ("hooks", lambda m: m[0].register_full_backward_hook(print), "left on `0`"),
    "no hooks of others": ("hooks", clear_hooks, "had a hook of somebody else's, and it is gone"),
    "frozen": ("requires_grad", lambda m: m.requires_grad_(False), "requires_grad=False"),
    "thawed": ("requires_grad", lambda m: m.requires_grad_(), r"`3.weight` has requires_grad=True"),
    "numbers": ("parameters", write, "the numbers in `0.bias` are not what they were"),
    "batch norm": ("buffers", trains_batch_norm, "the numbers in `1.running_mean`"),
    "a cleared buffer": ("buffers", lambda m: m[1].running_var.zero_(), "`1.running_var`"),
    "no gradient": ("grad", lambda m: m.zero_grad(), "`0.weight.grad` is cleared"),
    "a gradient where none was": ("grad", fill_gradients, "`0.bias.grad` is not what it was"),
    "a gradient": ("grad", add_to_the_gradient, "`0.weight.grad` is not what it was"),
    "a layer": ("submodules", exchange, "`2` is not the one that was there"),
    "a parameter": ("submodules", new_parameter, "`3.bias` is not the one that was there"),
    "one layer more": ("submodules", lambda m: m.append(nn.ReLU()), "`4` is new in the model"),
    "a setting": ("attributes", lambda m: setattr(m[1], "scale", 3.0), "`scale` of `1` is 3.0"),
    "a new attribute": ("attributes", lambda m: setattr(m, "maps", []), "attribute `maps`"),
    "a lost one": ("attributes", lambda m: delattr(m[1], "scale"), "`scale` of `1` is gone"),
    "another forward": ("attributes", patch, "attribute `forward`"),
}  # fmt: skip


@pytest.mark.parametrize("what", LEFT)
def test_a_change_is_seen_and_may_be_allowed(what):
    kind, act, text = LEFT[what]
    report = exercise()(leaving(act))
    assert not report
    assert re.search(text, report.message), report.message
    assert exercise([kind])(leaving(act))


@pytest.mark.parametrize("what", LEFT)
def test_what_the_reference_changes_an_answer_may_change(what):
    _, act, _ = LEFT[what]
    assert exercise(reference=leaving(act))(leaving(act))
    assert exercise(reference=leaving(act))(logits)


def put_back(model):
    forward = model[0].forward
    model[0].forward = forward
    model[1].scale = 2.0
    hook = model[0].register_forward_hook(print)
    hook.remove()
    model[3].weight.requires_grad_(True).requires_grad_(False)


def test_what_is_lent_for_the_time_of_a_call_is_taken_back():
    given = model()
    call(logits, given, numbers(5, 3))
    assert given[0].bias.grad is None
    assert not any(module._forward_hooks for module in given.modules())
    assert given[0].weight.grad.equal(torch.ones(4, 3, dtype=torch.float64))


def test_what_is_put_back_is_no_change():
    assert exercise()(leaving(put_back))
    assert exercise()(partial(logits))


def test_a_kind_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"may_change takes mode, .*; got moods"):
        call(logits, model(), numbers(5, 3), may_change=["moods"])


# --- lists, dictionaries and the answer's own module


def first(tensors, names):
    return tensors[0] * len(names["all"])


def first_cases(answer):
    def run():
        return call(answer, [numbers(2), numbers(3)], {"all": ["a", "b"], "x": numbers(1)})

    yield "two tensors", run
    yield "the same, bound", lambda: call(partial(answer, [numbers(2)]), {"all": ["a"]})


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda tensors, names: tensors[-1].add_(1), "a tensor in what your code was given"),
        (lambda tensors, names: tensors.reverse(), "the list that your code was given is changed"),
        (lambda tensors, names: names.pop("x", 0), "the dictionary that your code was given"),
        (lambda tensors, names: names["all"].append("c"), "the list that your code was given"),
    ],
)
def test_lists_and_dictionaries_are_left_alone(act, text):
    def answer(tensors, names):
        result = first(tensors, names)
        if len(tensors) > 1:
            act(tensors, names)
        return result

    of_lists = Exercise("first", "0", "first(tensors, names)", first, first_cases, {})
    assert text in of_lists(answer).message
    assert of_lists(first)


class Keeps(nn.Module):
    """A module may keep what it wants in its attributes, but not its mode or weights."""

    def __init__(self, act=lambda module: None):
        super().__init__()
        self.weight, self.act = nn.Parameter(torch.ones(3, dtype=torch.float64)), act

    def forward(self, x):
        out = x * self.weight
        self.last = out
        self.act(self)
        return out


def test_the_answers_own_module_keeps_its_mode_and_weights():
    def cases(answer):
        yield "five tokens", lambda: call(answer, numbers(5, 3))

    own = Exercise("keeps", "0", "x -> x", Keeps(), cases, {})
    assert own(Keeps())
    assert "in eval mode afterwards" in own(Keeps(lambda module: module.eval())).message
    assert "`weight`" in own(Keeps(lambda module: module.weight.data.zero_())).message


# --- what all code shares


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda: torch.set_grad_enabled(False), "gradients are switched off for good"),
        (lambda: torch.set_default_dtype(torch.float64), "the default dtype is torch.float64"),
        (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "threads afterwards"),
        (lambda: torch.set_autocast_enabled("cpu", True), "autocast is on afterwards"),
        (lambda: torch.use_deterministic_algorithms(True), "is on afterwards, and it was off"),
        (lambda: torch.autograd.set_detect_anomaly(True), "anomaly detection is on afterwards"),
        (lambda: torch.manual_seed(0), "torch.manual_seed was called"),
        (lambda: torch.manual_seed(42), "torch.manual_seed was called"),
    ],
)
def test_what_all_code_shares_is_left_alone(act, text):
    def answer(model, x):
        result = logits(model, x)
        act()
        return result

    threads = torch.get_num_threads()
    report = exercise()(answer)
    assert not report
    assert text in report.message
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_seed_may_be_set_where_it_ends():
    def answer(model, x):
        with torch.random.fork_rng():
            torch.manual_seed(0)
        return logits(model, x)

    assert exercise()(answer)


# --- beside a known mistake


MUTANTS = edits(logits, """
left_in_eval: model.train(was) →
    The model is left in eval mode.
negated: result = model → result = -model
    The sign is wrong.
""")  # fmt: skip


def test_what_a_right_answer_leaves_is_its_diagnosis():
    report = exercise()(leaving(own_hook))
    assert report.diagnosis.startswith("What comes back is right, but a hook is left on `3`.")
    assert report.diagnosis in report.message
    assert "Seen on a model with training=True." in report.message


def test_a_known_mistake_is_named_beside_what_is_left():
    def answer(model, x):
        result = -logits(model, x)
        model.requires_grad_(False)
        return result

    report = exercise(mutants=MUTANTS)(answer)
    assert report.mutants == ("negated",)
    assert "Two things at once. First: The sign is wrong.\n\nSecond: " in report.diagnosis
    assert "requires_grad=False" in report.diagnosis


def test_a_mutant_is_told_from_one_that_restores():
    report = exercise(mutants=MUTANTS)(leaving(lambda m: m.eval()))
    assert report.mutants == ("left_in_eval",)
    both = exercise(mutants=MUTANTS)(lambda m, x: -m.eval()(x).detach())
    assert both.mutants == ("left_in_eval", "negated") or both.mutants == (
        "negated",
        "left_in_eval",
    )
    assert "Two things at once. First: The sign is wrong.\n\nSecond: The model is" in both.diagnosis


LEAVING = edits(logits, """
frozen: model.train(was) → model.train(was)
→ model[0].requires_grad_(False)
    The first layer is frozen.
shifted: model.train(was) → model.train(was)
→ model[0].bias.data += 1
    One is added to the bias.
kept: model.train(was) → model.train(was)
→ model.seen = x
    The input is kept.
hooked: model.train(was) → model.train(was)
→ model[3].register_forward_hook(print)
    A hook is left.
trained: model.train(was) → model.train(was)
→ model[0].bias.grad = torch.ones(4).double()
    A gradient is left.
scaled: model.train(was) → model.train(was)
→ model[1].scale = 1.0
    The scale is left.
""")  # fmt: skip


def set_bias_gradient(number):
    return lambda m: setattr(m[0].bias, "grad", torch.full((4,), number, dtype=torch.float64))


def add_to_bias(number):
    return lambda m: m[0].bias.data.add_(number)


@pytest.mark.parametrize(
    ("act", "named"),
    [
        (lambda m: [p.requires_grad_(False) for p in m[0].parameters()], ("frozen",)),
        (lambda m: m[3].requires_grad_(False), ()),  # of the same kind, at another place
        (add_to_bias(1), ("shifted",)),
        (add_to_bias(2), ()),  # at the same place, another number
        (lambda m: setattr(m, "memory", 3), ("kept",)),  # its name is free
        (lambda m: setattr(m[1], "seen", 3), ()),
        (lambda m: m[3].register_forward_hook(lambda *_: None), ("hooked",)),
        (lambda m: m[2].register_forward_hook(print), ()),
        (set_bias_gradient(1.0), ("trained",)),
        (set_bias_gradient(2.0), ()),
        (lambda m: setattr(m[1], "scale", 1.0), ("scaled",)),
        (lambda m: setattr(m[1], "scale", 4.0), ()),
    ],
)
def test_a_mistake_is_told_by_kind_place_and_value_of_what_it_leaves(act, named):
    report = exercise(mutants=LEAVING)(leaving(act))
    assert report.mutants == named
    assert bool(named) is not report.diagnosis.startswith("What comes back is right, but ")


CHANGING = edits(first, """
another_x: return → names["x"] = 0
→ return
    Another x.
turned: return tensors[0] → last = tensors[0]
→ if len(tensors) > 1:
→     tensors.reverse()
→ return last
    The order of the list.
""")  # fmt: skip


@pytest.mark.parametrize(
    ("act", "named"),
    [
        (lambda tensors, names: names.__setitem__("x", 0), ("another_x",)),
        (lambda tensors, names: names.__setitem__("x", 1), ()),
        (lambda tensors, names: names.clear(), ()),
        (lambda tensors, names: len(tensors) > 1 and tensors.reverse(), ("turned",)),
        (lambda tensors, names: len(tensors) > 1 and tensors.pop(), ()),
    ],
)
def test_a_mistake_is_told_by_what_a_list_or_dictionary_holds_afterwards(act, named):
    def answer(tensors, names):
        result = first(tensors, names)
        act(tensors, names)
        return result

    of_lists = Exercise("first", "0", "first(tensors, names)", first, first_cases, CHANGING)
    assert of_lists(answer).mutants == named
