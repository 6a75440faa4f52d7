"""5.7 reset_head: the width that the head really sees."""

from copy import deepcopy  # noqa: F401 - in an edit
from functools import partial

import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, numbers
from vitlib.check.probing import draw
from vitlib.model import VisionTransformer


def reset_head(model, num_classes):
    model.head = nn.Linear(model.num_features, num_classes)
    if model.distilled:
        model.head_dist = nn.Linear(model.num_features, num_classes)
    model.num_classes = num_classes
    return model


def by_method(model, num_classes):
    model.reset_classifier(num_classes)
    return model


def by_old_width(model, num_classes):
    for name in ("head", "head_dist"):
        old = getattr(model, name, None)
        if isinstance(old, nn.Linear):
            setattr(model, name, nn.Linear(old.in_features, num_classes))
    model.num_classes = num_classes
    return model


def cases(answer) -> Cases:
    images = numbers(2, 1, 8, 8, dtype=torch.float32)

    def after(observe, **options):
        torch.manual_seed(1)
        model = VisionTransformer(8, 4, 1, 5, embed_dim=12, depth=1, num_heads=3, **options)
        before = model.forward_features(images).detach()
        result = call(answer, model, 3)
        if not isinstance(result, VisionTransformer):
            said = "nothing" if result is None else f"a {type(result).__name__}"
            raise Refused(f"your function should return the model; it returned {said}")
        return observe(result, before) if observe else result is model

    def heads(model, _):
        return {n: str(tuple(p.shape)) for n, p in model.named_parameters() if n.startswith("head")}

    def logits(model, _):
        return tuple(model(images).shape)

    kinds: dict[str, dict] = {
        "a plain model": {},
        "a model with a representation layer of 7": {"representation_size": 7},
        "a distilled model": {"distilled": True},
    }
    for kind, options in kinds.items():
        yield f"the heads of {kind}, D = 12", partial(after, heads, **options)
        yield f"the shape of its logits, {kind}", partial(after, logits, **options)
    yield "model.num_classes afterwards", lambda: after(lambda m, _: m.num_classes)
    label = "whether the body is as it was"
    yield label, lambda: after(lambda m, before: torch.equal(m.forward_features(images), before))
    yield "whether it is the model itself that comes back", lambda: after(None)
    label = "whether all of the model can still be trained"
    yield label, lambda: after(lambda m, _: all(p.requires_grad for p in m.parameters()))
    label = "whether the two heads of a distilled model are two"
    yield label, lambda: after(lambda m, _: m.head is not m.head_dist, distilled=True)

    def frozen():
        model = VisionTransformer(8, 4, 1, 5, embed_dim=12, depth=1, num_heads=3)
        body = {n: p for n, p in model.named_parameters() if not n.startswith("head")}
        for parameter in body.values():
            parameter.requires_grad_(False)
        now = dict(call(answer, model, 3).named_parameters())
        return {
            "the same parameters": all(now.get(n) is p for n, p in body.items()),
            "trainable": sorted({n.split(".")[0] for n, p in now.items() if p.requires_grad}),
        }

    yield "a model whose body was frozen before", frozen


MUTANTS = edits(reset_head, """
body_frozen: model.head = nn.Linear → model.requires_grad_(False)
→ model.head = nn.Linear
    The heads are right, but the body is frozen: its parameters take no gradients any more. It
    should stay as it is, and be trained or not as its owner decides.
body_thawed: return model → model.requires_grad_(True)
→ return model
    The body takes gradients afterwards, although it was frozen before. It should stay as trainable
    as it was: touch only the heads.
body_rebuilt: model.head = nn.Linear → body = model.state_dict()
→ model.__init__(**model.config | {"num_classes": num_classes})
→ model.load_state_dict({n: w for n, w in body.items() if "head" not in n}, strict=False)
→ model.head = nn.Linear
    The body has the right values, but in new parameters: what held the old ones, such as an
    optimiser, or which of them were frozen, is lost. Replace the heads and touch nothing else.
a_copy: model.head = nn.Linear → model = deepcopy(model)
→ model.head = nn.Linear
    A copy of the model gets the new heads and comes back, and the model itself keeps the old ones.
    Change the model that is given.
width_from_embed_dim: head = nn.Linear(model.num_features → head = nn.Linear(model.embed_dim
    The new head takes embed_dim numbers in. Behind a representation layer it sees another width,
    and the next forward fails. Ask the model: model.num_features, or the old head:
    model.head.in_features.
head_returned: return model → return model.head
    The new head comes back, and the model should. End with `return model`.
second_head_for_all: if model.distilled: → if True:
    A plain model got a second head, which nothing ever reads. Only a distilled model has one: ask
    model.distilled.
number_not_updated: model.num_classes = num_classes →
    The heads are right, but model.num_classes still says the old number. Checkpoints and loss
    functions may rely on it.
body_restarted: return model →
→ return VisionTransformer(**model.config | {"num_classes": num_classes})
    The body is not what it was: the same image gives other features, and what the model had learned
    is lost. Replace the heads and touch nothing else.
one_head_for_both: head_dist = nn.Linear(model.num_features, num_classes) → head_dist = model.head
    Both tokens share one head now. The distillation token needs its own, with its own weights.
no_bias: model.head = nn.Linear(model.num_features, num_classes) →
→ model.head = nn.Linear(model.num_features, num_classes, bias=False)
no_bias_in_both: model.head = nn.Linear(model.num_features, num_classes) →
→ model.head = nn.Linear(model.num_features, num_classes, bias=False)
and: head_dist = nn.Linear(model.num_features, num_classes) →
→ head_dist = nn.Linear(model.num_features, num_classes, bias=False)
    The new head has no bias. The old one has, as nn.Linear has by default.
head_not_assigned: model.head = nn.Linear → head = nn.Linear
    A new head is built and not put into the model: model.head is the old one. Assign it to
    model.head.
returns_nothing: return model →
    The model is changed, but nothing comes back. End with `return model`.
""") | edits(by_old_width, """
second_head_forgotten: ("head", "head_dist") → ["head"]
    A distilled model has a second head, head_dist, and it still has the old classes: the mean of
    both heads cannot be taken.
width_from_the_old_classes: nn.Linear(old.in_features → nn.Linear(old.out_features
    The new head takes as many numbers as the old one gave. It stands in the old one's place and
    takes what that took: old.in_features.
layer_removed: model.num_classes = num_classes → model.num_classes = num_classes
→ model.pre_logits = nn.Identity()
and: nn.Linear(old.in_features → nn.Linear(model.embed_dim
    The representation layer is taken out. It belongs to the body, which stays as it is: make the
    head as wide as what that layer gives, model.num_features.
attribute_only: setattr(model, name, nn.Linear(old.in_features, num_classes)) →
→ old.out_features = num_classes
    The heads still have their old weights. Writing to num_classes or out_features changes what a
    model or a layer says of itself and nothing else. Build a new nn.Linear.
new_layer_on_top: nn.Linear(old.in_features, num_classes) →
→ nn.Sequential(old, nn.Linear(old.out_features, num_classes))
    The new layer stands behind the old head, so it sees the old classes' logits and not the
    features. Put it in the old head's place.
""")  # fmt: skip


def probe(answer):
    def after(**options):
        torch.manual_seed(4)
        model = VisionTransformer(6, 3, 2, 4, embed_dim=8, depth=1, num_heads=2, **options)
        body = {n: v.clone() for n, v in model.state_dict().items() if not n.startswith("head")}
        result = answer(model, 7)
        heads = {n: tuple(p.shape) for n, p in result.named_parameters() if n.startswith("head")}
        now = result.state_dict()
        kept = all(n in now and now[n].equal(v) for n, v in body.items())
        logits = tuple(result(draw(3, 2, 6, 6, dtype=torch.float32)).shape)
        two = getattr(result, "head_dist", None) is not result.head
        return result is model, heads, kept, len(now), logits, two, result.num_classes

    kinds = [{}, {"representation_size": 5}, {"distilled": True}, {"global_pool": "avg"}]
    return [partial(after, **options) for options in kinds]


EXERCISE = Exercise(
    name="reset_head",
    chapter="05_model",
    task="reset_head(model, num_classes) -> the same model with new heads, and model.num_classes "
    "set; the body stays as it is",
    reference=reset_head,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_method, by_old_width],
    excluded=["vitlib.VisionTransformer.reset_classifier"],
    probe=probe,
)
