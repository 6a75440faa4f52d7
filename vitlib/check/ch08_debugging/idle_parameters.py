"""8.2 idle_parameters: which weights the loss does not know."""

from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers
from vitlib.check.probing import draw


def idle_parameters(model, images, labels):
    copy = deepcopy(model).eval()
    copy.zero_grad()
    F.cross_entropy(copy(images), labels).backward()
    idle = []
    for name, p in copy.named_parameters():
        if p.requires_grad and (p.grad is None or not p.grad.any()):
            idle.append(name)
    return idle


def restored(model, images, labels):
    mode = model.training
    before = [p.grad for p in model.parameters()]
    model.eval()
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    idle = []
    for name, p in model.named_parameters():
        if p.requires_grad and (p.grad is None or not p.grad.any()):
            idle.append(name)
    for p, grad in zip(model.parameters(), before, strict=True):
        p.grad = grad
    model.train(mode)
    return idle


def returned(model, images, labels):
    mode = model.training
    model.eval()
    loss = F.cross_entropy(model(images), labels)
    model.train(mode)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    return [n for (n, _), g in zip(named, found, strict=True) if g is None or g.eq(0).all()]


class Odd(nn.Module):
    """An MLP with a layer to spare; what it does with that, `use` says."""

    def __init__(self, use, last=lambda logits: logits):
        super().__init__()
        self.first, self.norm, self.spare = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 5)
        self.drop, self.head = nn.Dropout(1.0), nn.Linear(5, 3)
        self.use, self.last = use, last

    def forward(self, images):
        x = self.norm(self.first(images.flatten(1))).tanh()
        return self.last(self.head(self.use(self, x)))


def unused(model, x):
    return x


def cancelling(model, x):
    a, b, *_ = model.spare.bias
    return x + (a - b) * x**2


def small(model, x):
    return x + 1e-20 * model.spare(x)[:, :1] + 1e-12 * model.spare.bias[0]


def dropping(model, x):
    return x + model.drop(model.spare(x))


def cases(answer) -> Cases:
    given = numbers(6, 1, 2, 2, seed=3), torch.tensor([0, 2, 1, 2, 2, 0])

    def listed(names):
        if isinstance(names, dict):
            raise Refused("a dictionary came back, and a list should")
        return names

    def odd(use, training=True, **options):
        model = fill(Odd(use, **options)).train(training)
        for i, p in enumerate(model.parameters()):
            p.grad = numbers(*p.shape, seed=20 + i)
        return model

    def run(*arguments, frozen=(), **options):
        model = odd(*arguments, **options)
        for name in frozen:
            model.get_parameter(name).requires_grad_(False)
        return listed(call(answer, model, *given))

    def without_gradients():  # by a detour, as `call` would lend them gradients of zeros
        model = odd(lambda model, x: x + 0 * model.norm(model.spare(x)))
        model.extra = nn.Linear(2, 2).double()
        for p in [*model.parameters()][1:]:
            p.grad = None
        names = listed(call(lambda *batch: answer(model, *batch), *given))
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        zero = sum(not grad.any() for grad in grads)
        return {"the names": names, "gradients afterwards": len(grads), "of these, zero": zero}

    def headless():
        model = odd(lambda model, x: model.spare(x))
        nn.init.zeros_(model.head.weight)
        return listed(call(answer, model, *given))

    def two_names():
        model = odd(unused)
        model.again = model.spare
        return listed(call(answer, model, *given))

    yield (
        "a model with an unused layer, and old gradients everywhere",
        lambda: run(unused),
    )
    yield (
        "a model with frozen parameters, two of them unused",
        lambda: run(unused, frozen=["norm.weight", "spare.bias", "head.weight"]),
    )
    yield "a model with a layer times 0, a layer unused, and one old gradient", without_gradients
    yield "a model whose head starts with zeros", headless
    yield (
        "a model with a layer of which one result has a very small effect",
        lambda: run(small),
    )
    yield "a model with gradients whose sum is 0", lambda: run(cancelling)
    yield "a model with a layer that dropout drops", lambda: run(dropping)
    yield "the same model in eval mode", lambda: run(dropping, training=False)
    yield (
        "a model whose logits sum to 0",
        lambda: run(unused, last=lambda x: torch.cat([x, -x], dim=1)),
    )
    yield "a model whose unused layer has two names", two_names


MUTANTS = edits(idle_parameters, """
none_only: (p.grad is None or not p.grad.any()) → p.grad is None
    Only gradients that are None are found. A parameter can be used and have no effect, for instance
    behind a factor of 0: then its gradient is there, and all zero. Ask for that, too.
zero_only: (p.grad is None or not p.grad.any()) → not p.grad.any()
zero_only_by_abs: (p.grad is None or not p.grad.any()) → p.grad.abs().sum() == 0
zero_only_by_all: (p.grad is None or not p.grad.any()) → (p.grad == 0).all()
zero_only_by_norm: (p.grad is None or not p.grad.any()) → p.grad.norm() == 0
zero_only_by_sum: (p.grad is None or not p.grad.any()) → p.grad.sum() == 0
zero_only_by_function: (p.grad is None or not p.grad.any()) → not torch.any(p.grad)
    The gradient of a parameter that is not used is None, and no tensor: it has no any(), abs() or
    sum(). Ask first whether it is None.
unused_passed_over: (p.grad is None or not p.grad.any()) →
→ (p.grad is not None and not p.grad.any())
    Parameters whose gradient is None are passed over. These are the ones that are not used at all:
    name them, too.
zero_somewhere: .any() → .all()
    A parameter is listed as soon as *one* entry of its gradient is 0. All of them have to be: `not
    p.grad.any()`, or `(p.grad == 0).all()`.
gradients_cancel: not p.grad.any() → p.grad.sum() == 0
    You add up the entries of a gradient, and they can cancel: a positive and a negative one. Ask
    whether each of them is 0.
small_is_idle: not p.grad.any() → p.grad.abs().max() < 1e-8
    A small gradient is taken for none. A weak dependence is one, too: ask for exactly 0. (allclose
    and isclose have a tolerance, and so does rounding.)
negative_is_idle: not p.grad.any() → p.grad.max() == 0
    The largest entry of a gradient can be 0, and others negative. Ask whether each of them is 0.
frozen_listed: p.requires_grad and (p.grad is None or not p.grad.any()) →
→ p.grad is None or not p.grad.any()
    Frozen parameters are in your list. They have no gradient because nobody wants one: leave out
    those with requires_grad=False.
used_listed: (p.grad is None or not p.grad.any()) → not (p.grad is None or not p.grad.any())
    These are the parameters that *have* a gradient. The others are asked for.
training_mode: .eval() →
    The model runs in training mode. There, dropout cuts off parameters that are in use, at random.
    Call eval() first, which reaches every layer. (Setting `training` on the model alone does not.)
asks_for_training: .eval() → .train()
    train() does not train the model, it switches to training mode: dropout cuts off parameters that
    are in use. Eval mode is asked for: eval().
originals_gradients: copy.named_parameters() → model.named_parameters()
    The backward pass runs through the copy, and then the gradients of the original are read: those
    are old. Go through copy.named_parameters().
from_the_state_dict: copy.named_parameters() → copy.state_dict().items()
    The tensors in a state_dict are cut off from their parameters: they want no gradient, and have
    none. Go through named_parameters().
parameters_themselves: append(name) → append(p)
    The parameters themselves came back. Return their names, as named_parameters() gives them.
names_of_layers: append(name) → append(name.rpartition(".")[0])
    These are the names of layers, not of parameters. Return each name as named_parameters() gives
    it: with `.weight` or `.bias` at the end.
weights_only: if p.requires_grad and → if "weight" in name and p.requires_grad and
    Only weights are looked at. Biases are parameters, too: go through all of named_parameters().
biases_only: if p.requires_grad and → if "bias" in name and p.requires_grad and
    Only biases are looked at. Go through all of named_parameters().
a_dictionary: return idle → return dict.fromkeys(idle)
    A dictionary came back. Return a list of names.
a_set: return idle → return set(idle)
    A set has no order. Return a list, in the order of named_parameters().
sorted_names: return idle → return sorted(idle)
    The names are in alphabetical order. Keep the order of named_parameters().
how_many: return idle → return len(idle)
    Only their number came back. Return the names.
names_joined: return idle → return ", ".join(idle)
    The names came back as one text. Return a list of them.
no_loss: F.cross_entropy(copy(images), labels) → copy(images).sum()
    You go by the sum of the logits, and not by the loss. What the sum does not see, such as a
    change that raises one logit and lowers another, the loss can see: F.cross_entropy.
without_gradients: F.cross_entropy(copy(images), labels).backward() → with torch.no_grad():
→     loss = F.cross_entropy(copy(images), labels)
→ loss.backward()
    Under torch.no_grad() nothing is recorded, and backward() has nothing to go through. Here
    gradients are wanted.
no_backward: .backward() →
    No new gradient reaches the parameters: either there is no backward pass, or `detach` or `.data`
    cuts the loss off from them. Call backward() on the loss itself.
after_a_step: idle = [] → before = deepcopy(copy.state_dict())
→ torch.optim.SGD(copy.parameters(), lr=1.0).step()
→ idle = []
and: (p.grad is None or not p.grad.any()) → p.equal(before[name])
    You look at which weights an optimiser step changes. A gradient can be so small that the step is
    lost in rounding. Look at the gradients themselves.
""") | edits(restored, """
old_ones_added: model.zero_grad() → pass
and: p.grad = grad → pass
old_ones_added_and_put_back: model.zero_grad() → pass
old_ones_added_to_and_put_back_from_copies: model.zero_grad() → pass
and: p.grad for p in → None if p.grad is None else p.grad.clone() for p in
    Old gradients count: a parameter that has one from an earlier step seems to be in use, since
    backward() *adds* to what is there. Work on a deepcopy, or keep the gradients, set them to None,
    and put them back at the end.
new_ones_left: p.grad = grad → pass
    The new gradients stay in the model in place of the old ones. Put back what each parameter had,
    work on a deepcopy, or use torch.autograd.grad, which leaves .grad alone.
cleared: p.grad = grad → p.grad = None
    The gradients that the model had before are gone. Whoever called your function may need them:
    put them back, work on a deepcopy, or use torch.autograd.grad.
set_to_zero: p.grad = grad → p.grad = torch.zeros_like(p)
    Every gradient is 0 afterwards, whatever it was. Put back what each parameter had, None
    included, or work on a deepcopy.
small_is_idle_and_new_ones_left: not p.grad.any() → p.grad.abs().max() < 1e-8
and: p.grad = grad → pass
    Two things. A small gradient is taken for none: ask for exactly 0. And the new gradients stay in
    the model in place of the old ones: work on a deepcopy, or put back what each parameter had.
kept_without_a_copy: model.zero_grad() → model.zero_grad(set_to_none=False)
    What you keep of a gradient is the tensor itself, and you write zeros into it. Set p.grad = None
    in its place, as zero_grad() does, or keep a clone.
not_back_to_none: p.grad = grad → p.grad = p.grad if grad is None else grad
    Where a parameter had no gradient, the new one stays. Set it back to None.
none_has_no_clone: p.grad for p in → p.grad.clone() for p in
    A parameter that has no gradient yet has None, and None has no clone(). Ask first
    whether there is one.
none_is_not_zeroed: model.zero_grad() → for p in model.parameters():
→     p.grad.zero_()
    A parameter that has no gradient yet has None, and None has no zero_(). Set p.grad =
    None instead.
list_of_the_chapter: model.eval() → pass
and: model.train(mode) → pass
and: p.grad = grad → pass
and: p.requires_grad and (p.grad is None or not p.grad.any()) → p.grad is None or not p.grad.any()
list_of_the_chapter_in_eval: model.train(mode) → pass
and: p.grad = grad → pass
and: p.requires_grad and (p.grad is None or not p.grad.any()) → p.grad is None or not p.grad.any()
    This is without_gradient, as the chapter has it. Here more is asked: leave out the frozen
    parameters, run the model in eval mode, and leave everything behind as it was, its mode and its
    old gradients, too. A deepcopy in eval mode does both.
left_in_eval: model.train(mode) → pass
    The model is left in eval mode. A training run would go on without dropout. Keep model.training
    at the beginning, and give it to model.train(...) at the end.
always_training: model.train(mode) → model.train()
    The model is in training mode afterwards, also where it was in eval mode. Keep model.training at
    the beginning, and give it to model.train(...) at the end.
run_in_training_mode: model.eval() → pass
    The model itself runs in training mode. Dropout cuts off parameters that are in use, and batch
    norm learns from these images. Call model.eval() first, and restore the mode at the end.
a_step_taken: idle = [] → idle = []
→ torch.optim.SGD(model.parameters(), lr=0.1).step()
    An optimiser step changes the weights. backward() alone gives the gradients.
""") | edits(returned, """
unused_not_allowed: , allow_unused=True →
    torch.autograd.grad stops at the first parameter that is not used, and those are the ones that
    you look for. Give it allow_unused=True: then it returns None for them.
frozen_asked_for: .named_parameters() if p.requires_grad] → .named_parameters()]
    torch.autograd.grad is asked for the gradient of a frozen parameter, and refuses. Leave out the
    parameters with requires_grad=False.
""")  # fmt: skip


def probe(answer):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
            self.gate, self.idle = nn.Parameter(torch.zeros(4)), nn.Linear(3, 1)
            self.side, self.drop, self.norm = nn.Linear(4, 4), nn.Dropout(1.0), nn.BatchNorm1d(4)

        def forward(self, x):
            x = self.norm(self.body(x.flatten(1)))
            x = x + self.drop(1e-11 * x * self.body.bias)
            return self.head(x + self.gate * self.side(x) ** 2)

    def run(training, frozen, old):
        torch.manual_seed(1)
        model = Model().double().train(training)
        for i, (name, p) in enumerate(model.named_parameters()):
            p.requires_grad_(name not in frozen)
            p.grad = draw(*p.shape, seed=i) if i % 2 < old else None
        grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        state = {n: v.clone() for n, v in model.state_dict().items()}
        names = answer(model, draw(5, 1, 3), torch.tensor([0, 1, 1, 0, 1]))
        pairs = zip(grads, model.parameters(), strict=True)
        kept = [p.grad is None if g is None else g.equal(p.grad) for g, p in pairs]
        same = all(v.equal(state[n]) for n, v in model.state_dict().items())
        return names, kept, same, model.training

    given = [(True, (), 1), (False, ("idle.bias", "head.bias"), 2), (True, ("gate",), 0)]
    return [partial(run, *g) for g in given]


EXERCISE = Exercise(
    name="idle_parameters",
    chapter="08_debugging",
    task="idle_parameters(model, images, labels) -> list of the names, in the order of "
    "named_parameters(), of those trainable parameters whose gradient of the cross-entropy in eval "
    "mode is None or exactly zero; the model's gradients, weights, buffers and mode stay as they "
    "were",
    reference=idle_parameters,
    cases=cases,
    mutants=MUTANTS,
    accepted=[restored, returned],
    probe=probe,
)
