"""5.8 make_head: options that exclude each other."""

from functools import partial

import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, build, call, numbers, twin
from vitlib.check.probing import draw


def make_head(embed_dim, num_classes, representation_size, distilled):
    if representation_size is None:
        return nn.Linear(embed_dim, num_classes)
    if distilled:
        raise ValueError("a distilled model has no representation layer")
    layer = nn.Linear(embed_dim, representation_size)
    head = nn.Linear(representation_size, num_classes)
    return nn.Sequential(layer, nn.Tanh(), head)


class Head(nn.Module):
    def __init__(self, embed_dim, num_classes, representation_size, distilled):
        super().__init__()
        if distilled and representation_size:
            raise ValueError("a distilled model has no representation layer")
        self.layer = nn.Linear(embed_dim, representation_size) if representation_size else None
        self.head = nn.Linear(representation_size or embed_dim, num_classes)

    def forward(self, x):
        return self.head(torch.tanh(self.layer(x)) if self.layer else x)


def by_list(embed_dim, num_classes, representation_size, distilled):
    if distilled and representation_size is not None:
        raise ValueError("distilled or representation_size, not both")
    layers, width = [], embed_dim
    if representation_size is not None:
        layers, width = [nn.Linear(embed_dim, representation_size), nn.Tanh()], representation_size
    return nn.Sequential(*layers, nn.Linear(width, num_classes))


def cases(answer) -> Cases:
    def logits(*sizes):
        return call(twin(answer, make_head, *sizes), numbers(3, sizes[0]))

    def both():
        try:
            return f"a {type(build(answer, 12, 5, 7, True)).__name__}"
        except ValueError:
            return "a ValueError"

    yield "a plain model, D = 12, K = 5", lambda: logits(12, 5, None, False)
    yield "a distilled model without the layer", lambda: logits(12, 5, None, True)
    yield "a representation layer of 7", lambda: logits(12, 5, 7, False)
    yield "a representation layer as wide as the tokens", lambda: logits(6, 4, 6, False)
    yield "both options at once", both


MUTANTS = edits(make_head, """
ignored_when_distilled: is None → is None or distilled
    With distilled=True the representation_size is ignored in silence: whoever asked for the layer
    gets a model without it, and nobody is told. Two options that exclude each other want a
    ValueError.
both_at_once: raise ValueError → ValueError
    Both options at once are accepted. A distilled model's two heads read their tokens directly, so
    there is no place for the layer: raise a ValueError.
error_returned: raise ValueError → return ValueError
    The ValueError is made and returned. raise it: whoever calls the function would take what comes
    back for a head.
asserted: raise ValueError( → raise AssertionError(
    An assert raises an AssertionError, and python -O leaves it out. What a caller did wrong is told
    with a ValueError.
another_error: raise ValueError( → raise RuntimeError(
another_error_of_types: raise ValueError( → raise TypeError(
another_error_of_absence: raise ValueError( → raise NotImplementedError(
    Another error is raised than a ValueError, which is the one for arguments that do not fit.
layer_never_built: nn.Sequential(layer, nn.Tanh(), head) → nn.Linear(embed_dim, num_classes)
    The representation layer is missing: there is one linear layer where there should be two, with a
    tanh between them.
no_tanh: nn.Tanh(), →
    The tanh is missing. Two linear layers in a row are no more than one.
relu: Tanh → ReLU
    Between the two layers stands a ReLU; the paper's representation layer has a tanh.
gelu: Tanh → GELU
    Between the two layers stands a GELU, as in the blocks; the paper's representation layer has a
    tanh.
tanh_on_the_logits: nn.Tanh(), head → head, nn.Tanh()
    The tanh comes after the last layer and squeezes the logits between −1 and 1. It belongs between
    the two linear layers.
tanh_on_the_logits_too: head) → head, nn.Tanh())
    There is a second tanh after the last layer, which squeezes the logits between −1 and 1. One is
    wanted, between the two linear layers.
tanh_in_the_plain_head: return nn.Linear(embed_dim, num_classes) →
→ return nn.Sequential(nn.Linear(embed_dim, num_classes), nn.Tanh())
    The plain head has a tanh. It is a linear layer alone; the tanh belongs to the representation
    layer.
tanh_in_all_heads: return nn.Linear(embed_dim, num_classes) →
→ return nn.Sequential(nn.Linear(embed_dim, num_classes), nn.Tanh())
and: nn.Tanh(), head) → nn.Tanh(), head, nn.Tanh())
    Every head ends in a tanh, which squeezes the logits between −1 and 1. One is wanted, between
    the two layers where there is a representation layer.
layer_in_the_plain_head: return nn.Linear(embed_dim, num_classes) →
→ wide = nn.Linear(embed_dim, embed_dim)
→ return nn.Sequential(wide, nn.Tanh(), nn.Linear(embed_dim, num_classes))
    Without a representation_size there is a second layer as well. The head is a single linear layer
    then.
one_layer_too_many: layer, nn.Tanh() →
→ layer, nn.Linear(representation_size, representation_size), nn.Tanh()
    There are three linear layers with a representation layer. It is two, with a tanh between them.
tanh_before_both: layer, nn.Tanh(), head → nn.Tanh(), layer, head
    The tanh stands before the first layer. It belongs between the two linear layers.
sigmoid: Tanh → Sigmoid
    Between the two layers stands a sigmoid; the paper's representation layer has a tanh.
softmax_at_the_end: head) → head, nn.Softmax(dim=-1))
    Probabilities come back. Logits are wanted: cross_entropy takes the softmax itself.
first_layer_without_bias: representation_size) → representation_size, bias=False)
    The first layer has no bias. A linear layer has one, as nn.Linear has by default.
last_layer_without_bias: nn.Linear(representation_size, num_classes) →
→ nn.Linear(representation_size, num_classes, bias=False)
    The last layer has no bias. A linear layer has one, as nn.Linear has by default.
plain_head_without_bias: nn.Linear(embed_dim, num_classes) →
→ nn.Linear(embed_dim, num_classes, bias=False)
    The head has no bias. A linear layer has one, as nn.Linear has by default.
no_biases: nn.Linear(embed_dim, num_classes) → nn.Linear(embed_dim, num_classes, bias=False)
and: representation_size) → representation_size, bias=False)
and: nn.Linear(representation_size, num_classes) →
→ nn.Linear(representation_size, num_classes, bias=False)
    The linear layers have no bias. They have one, as nn.Linear has by default.
width_and_classes_exchanged: nn.Linear(embed_dim, num_classes) → nn.Linear(num_classes, embed_dim)
    Inputs and outputs of the head are exchanged: nn.Linear takes the numbers that go in first,
    embed_dim, and then those that come out, num_classes.
no_module_returned: return nn.Sequential(layer, nn.Tanh(), head) → return [layer, nn.Tanh(), head]
    With a representation layer no module comes back: a list of layers or a function is none, and
    without `return` there is nothing. nn.Sequential makes one module of several.
two_heads_in_a_list: return nn.Linear(embed_dim, num_classes) →
→ one = nn.Linear(embed_dim, num_classes)
→ return nn.ModuleList([one, nn.Linear(embed_dim, num_classes)]) if distilled else one
    A distilled model gets two heads at once. The function returns one, and is called once for each
    token.
head_from_embed_dim: nn.Linear(representation_size, → nn.Linear(embed_dim,
    The last layer takes embed_dim numbers, but behind the representation layer it is given
    representation_size of them. The two happen to fit only where they are equal.
""") | edits(by_list, """
refused_without_the_layer: distilled and representation_size is not None →
→ distilled and representation_size is None
    The condition is turned round: a distilled model without a representation layer is refused, and
    one with it is not. Refuse the two together.
distilled_refused: distilled and representation_size is not None → distilled
    Every distilled model is refused. Only the two options *together* contradict each other: ask for
    both in the condition.
""")  # fmt: skip


def probe(answer):
    def after(width, classes, size, distilled, seed=0):
        head = answer(width, classes, size, distilled).double()
        order = sorted(head.parameters(), key=lambda p: tuple(p.shape))
        for number, parameter in enumerate(order):
            parameter.data = draw(*parameter.shape, seed=seed + number)
        return head(draw(4, width)).detach()

    def refuses():
        try:
            answer(9, 2, 4, True)
        except ValueError:
            return "refused"
        return "accepted"

    sizes = [(5, 3, None, False), (5, 3, None, True), (9, 2, 4, False), (3, 6, 8, False)]
    return [*[partial(after, *g) for g in sizes], refuses]


EXERCISE = Exercise(
    name="make_head",
    chapter="05_model",
    task="make_head(embed_dim, num_classes, representation_size, distilled) -> a module from "
    "(B, D) to logits (B, K): a linear layer; with a representation_size that is not None, linear "
    "layer, tanh, linear layer; a ValueError if it is to be distilled as well",
    reference=make_head,
    cases=cases,
    mutants=MUTANTS,
    accepted=[Head, by_list],
    probe=probe,
)
