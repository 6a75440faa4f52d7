"""5.6 init_head: the bias that never arrives."""

import math
from functools import partial

import torch
from torch import nn

from vitlib.check.ch05_model._filled_in_place import filled_in_place
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, fill


def init_head(head, nlhb):
    bias = -math.log(head.out_features) if nlhb else 0.0
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, bias)


@torch.no_grad()
def in_place(head, nlhb):
    head.weight.zero_()
    head.bias.zero_()
    if nlhb:
        head.bias -= torch.tensor(float(len(head.bias))).log().to(head.bias.dtype)


def by_copy(head, nlhb):
    classes = head.weight.shape[0]
    state = {"weight": torch.zeros_like(head.weight), "bias": torch.zeros_like(head.bias)}
    state["bias"] += math.log(1 / classes) * nlhb
    head.load_state_dict(state)


def repaired(head, nlhb):
    """The stub of the chapter, with its bug mended."""
    start = {"weight": 0.0, "bias": -math.log(head.out_features) if nlhb else 0.0}

    def fill(linear, weight=0.0, bias=0.0):
        nn.init.constant_(linear.weight, weight)
        nn.init.constant_(linear.bias, bias)

    fill(head, start["weight"], start["bias"])


def cases(answer) -> Cases:
    def observe(width, classes, nlhb):
        head = fill(nn.Linear(width, classes)).float()
        parameters = list(head.parameters())
        filled_in_place(answer, head, nlhb)
        same = all(a is b for a, b in zip(parameters, head.parameters(), strict=True))
        trainable = all(p.requires_grad for p in head.parameters())
        return {
            "weight": head.weight,
            "bias": head.bias,
            "whether they are the same parameters": same,
            "whether they are still to be trained": trainable,
        }

    yield "nn.Linear(6, 10), nlhb=True", lambda: observe(6, 10, True)
    yield "nn.Linear(6, 10), nlhb=False", lambda: observe(6, 10, False)
    yield "nn.Linear(7, 3), nlhb=True", lambda: observe(7, 3, True)


MUTANTS = edits(init_head, """
bias_never_passed_on: constant_(head.bias, bias) → zeros_(head.bias)
    The bias is 0 although nlhb is True. If you compute −ln K, see where it goes: a value that is
    worked out and not passed on changes nothing, and the softmax loss looks right all the same. The
    sigmoid loss starts at 0.693 instead of 0.326.
nothing_without_nlhb: bias = -math.log(head.out_features) if nlhb else 0.0 →
→ if not nlhb:
→     return
→ bias = -math.log(head.out_features)
    With nlhb=False nothing is written. PyTorch starts a layer at random: set weight and bias to 0.
logarithm_of_the_rest: -math.log(head.out_features) → math.log(1 - 1 / head.out_features)
    This is ln(1 − 1/K), the logarithm of the probability of all other classes. It is −ln K.
sign: -math → math
    The bias is +ln K. Every sigmoid would start near K/(K + 1), certain of every class at once. It
    is *minus* the logarithm of K.
logarithm_of_the_width: out_features → in_features
    This is −ln D, with the width that goes in. K is the number of classes, the numbers that come
    out.
logarithm_to_base_ten: math.log → math.log10
    This is the logarithm to the base ten. The natural one is meant, math.log.
one_class_less: out_features → out_features - 1
    This is −ln(K − 1), whose sigmoid is 1/K to the last digit. A good thought; but the scheme has
    −ln K, with 1/(K + 1), and a checkpoint or a test compares with that.
one_class_more: out_features → out_features + 1
    This is −ln(K + 1), the logarithm of the probability that the bias leads to. The bias itself is
    −ln K.
bias_in_the_weight: zeros_(head.weight) → zeros_(head.bias)
and: constant_(head.bias, → constant_(head.weight,
    −ln K stands in the weight, and the bias is 0. Look at the order of the arguments.
one_over_classes: -math.log(head.out_features) → 1 / head.out_features
    The bias is 1/K. A logit is not a probability: the logit whose sigmoid is near 1/K is −ln K.
weight_left: nn.init.zeros_(head.weight) →
    The weight is as it was. It should be 0, so that every image starts with the same logits.
flag_ignored:  if nlhb else 0.0 →
    The bias is −ln K whatever nlhb says. With nlhb=False it should be 0.
flag_turned_round: if nlhb → if not nlhb
    The two cases are exchanged: −ln K belongs to nlhb=True, and 0 to nlhb=False.
bias_left: nn.init.constant_(head.bias, bias) → if nlhb: nn.init.constant_(head.bias, bias)
    With nlhb=False the bias is as it was. PyTorch starts it at random: set it to 0.
logarithm_to_base_two: math.log → math.log2
    This is the logarithm to the base two. The natural one is meant, math.log.
logarithm_of_a_fixed_number: math.log(head.out_features) → math.log(10)
    The bias is −ln 10 for any number of classes. K is what the head has: head.out_features.
logarithm_of_all_weights: head.out_features → head.weight.numel()
    This is the logarithm of all weights, K·D. K is the number of classes, head.out_features.
no_logarithm: -math.log(head.out_features) → -float(head.out_features)
    The bias is −K. Its logarithm is wanted: −ln K.
one_over_the_logarithm: -math.log(head.out_features) → -1 / math.log(head.out_features)
    The bias is −1 / ln K. It is −ln K.
logarithm_rounded: -math.log(head.out_features) → -float(round(math.log(head.out_features)))
    The logarithm is rounded to a whole number. Write −ln K as it is.
root_of_classes: -math.log(head.out_features) → -math.sqrt(head.out_features)
    The bias is −√K. It is −ln K.
minus_one_over_classes: -math.log(head.out_features) → -1 / head.out_features
    The bias is −1/K. A logit is not a probability: the logit whose sigmoid is near 1/K is −ln K.
shared_among_classes: math.log(head.out_features) → math.log(K := head.out_features) / K
    −ln K is divided by the number of classes. Each class has the whole −ln K.
one_class_only: constant_(head.bias, bias) → constant_(nn.init.zeros_(head.bias)[:1], bias)
    −ln K stands in the bias of the first class only, and the others are 0. Each class needs it.
weight_at_one: zeros_(head.weight) → ones_(head.weight)
    The weight is 1. It should be 0, so that every image starts with the same logits.
weight_at_random: zeros_(head.weight) → normal_(head.weight, std=0.02)
weight_at_random_uniform: zeros_(head.weight) → xavier_uniform_(head.weight)
    The weight starts at random. Here it should be 0, so that every image starts with the same
    logits.
bias_in_both: zeros_(head.weight) → constant_(head.weight, bias)
    −ln K stands in the weight as well. The weight should be 0, and only the bias −ln K.
bias_not_written: nn.init.constant_(head.bias, bias) →
    The bias is as it was, a random number. It should be −ln K, or 0 with nlhb=False.
nothing_written: nn.init.zeros_(head.weight) →
and: nn.init.constant_(head.bias, bias) → head = nn.Linear(head.in_features, head.out_features)
    Weight and bias of the head that was given are as they were. Write into its own tensors: a copy,
    or another head under the same name, is not seen outside of the function.
not_to_be_trained: nn.init.constant_(head.bias, bias) →
→ nn.init.constant_(head.bias, bias)
→ head.requires_grad_(False)
    The numbers are right, but the head is no longer trained: requires_grad is off. Only its start
    is asked for here.
""") | edits(in_place, """
written_while_recorded: @torch.no_grad() → @torch.enable_grad()
    PyTorch lets nobody write into a parameter while it records gradients. Do it inside
    `with torch.no_grad():`, or use a function of nn.init, which sees to that itself.
number_for_the_parameter: head.bias.zero_() → head.bias = 0.0
    A number is put in the place of a parameter, which PyTorch does not allow. Write into the
    parameter that is there: nn.init.constant_(head.bias, ...).
""") | edits(by_copy, """
new_parameters: load_state_dict(state) → load_state_dict(state, assign=True)
    The numbers are right, but they stand in new parameters. An optimiser that was built before
    holds the old ones. Write into the parameters that are there.
""") | edits(repaired, """
numbers_not_unpacked: start["weight"], start["bias"] → start
    fill gets the dictionary, or the names in it, where it takes numbers. Pass the two numbers one
    by one, or let fill(head, **start) pass each under its name.
fill_takes_the_head: fill(head, start["weight"], start["bias"])
→ fill(head.weight, start["weight"])
→ fill(head.bias, start["bias"])
    fill takes a linear layer and looks for its weight and bias. Pass the head itself, with both
    numbers.
""")  # fmt: skip


def probe(answer):
    def after(width, classes, nlhb):
        head = nn.Linear(width, classes)
        answer(head, nlhb)
        return [(p.detach(), p.requires_grad, p.is_leaf) for p in head.parameters()]

    return [partial(after, *g) for g in [(4, 7, True), (4, 7, False), (9, 2, True), (3, 1, True)]]


EXERCISE = Exercise(
    name="init_head",
    chapter="05_model",
    task="init_head(head, nlhb): in place, weight 0 and bias −ln K where nlhb is True; weight 0 "
    "and bias 0 where it is False. head is nn.Linear(D, K)",
    reference=init_head,
    cases=cases,
    mutants=MUTANTS,
    accepted=[in_place, by_copy, repaired],
    probe=probe,
)
