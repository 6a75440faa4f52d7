"""14.15 load_trained: a trained head stays behind, and a random one answers."""

import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill
from vitlib.check.probing import draw, refuses


def load_trained(model, state):
    model.load_state_dict(state)
    return model


def by_keys(model, state):
    own = model.state_dict()
    if own.keys() != state.keys():
        raise ValueError(f"these weights do not fit: {sorted(own.keys() ^ state.keys())}")
    for name, weight in state.items():
        if weight.shape != own[name].shape:
            raise ValueError(f"{name}: expected {own[name].shape}, got {weight.shape}")
    model.load_state_dict(state, strict=False)
    return model


def by_what_is_left(model, state):
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise RuntimeError(f"missing: {missing}, unexpected: {unexpected}")
    return model


def one_by_one(model, state):
    left = dict(state)
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            if left[name].shape != weight.shape:
                raise ValueError(name)
            weight.copy_(left.pop(name))
    if left:
        raise KeyError(*left)
    return model


def small(seed, classes=4):
    model = nn.Sequential()
    model.add_module("blocks", nn.Linear(3, 5))
    model.add_module("norm", nn.BatchNorm1d(5))
    model.add_module("head", nn.Linear(5, classes))
    return fill(model, seed)


def cases(answer) -> Cases:
    def loaded():
        trained = small(1)
        trained(torch.randn(6, 3).double())  # its buffers are no longer those of the start
        model = small(0)
        back = call(answer, model, trained.state_dict(), may_change=["parameters", "buffers"])
        return {"what comes back": "the model" if back is model else "something else"} | dict(
            model.state_dict()
        )

    def refused(change):
        state = dict(small(1).state_dict())
        change(state)
        model, fresh = small(0), small(0)
        try:
            call(answer, model, state, may_change=["parameters", "buffers"])
        except Refused:
            raise
        except Exception:
            return "an error"
        pairs = zip(model.parameters(), fresh.parameters(), strict=True)
        return f"no error, with {sum(a.equal(b) for a, b in pairs)} weights left random"

    def renamed(state):
        state["fc.weight"], state["fc.bias"] = state.pop("head.weight"), state.pop("head.bias")

    yield "a head under another name", lambda: refused(renamed)
    yield "weights that fit", loaded
    yield "a weight that is missing", lambda: refused(lambda state: state.pop("blocks.bias"))
    yield "a weight too many", lambda: refused(lambda state: state.update(scale=torch.ones(5)))
    yield (
        "a head for 9 classes",
        lambda: refused(lambda state: state.update(small(1, 9).state_dict())),
    )


MUTANTS = edits(load_trained, """
unchanged: model.load_state_dict(state) → own = model.state_dict()
→ fitting = {
→     name: weight
→     for name, weight in state.items()
→     if name in own and weight.shape == own[name].shape
→ }
→ model.load_state_dict(fitting, strict=False)
    The symptom is still there: everything loads without an error, and the answers are at chance.
    Take a state in which one weight has another name. How would you notice?
not_strict: (state) → (state, strict=False)
    Another shape is an error now. But strict=False is silent about names: a head under another name
    is left out, and the model keeps its random one.
missing_only: model.load_state_dict(state) → missing, _ = model.load_state_dict(state, strict=False)
→ if missing:
→     raise ValueError(missing)
    You look at what the model misses, and not at what is left over in the file. A weight that finds
    no place means that another model was trained.
unexpected_only: model.load_state_dict(state) → _, more = model.load_state_dict(state, strict=False)
→ if more:
→     raise ValueError(more)
    You look at what is left over in the file, and not at what the model misses: a weight that is
    not in the file stays random.
zeros: model.load_state_dict(state) → state = {k: v for k, v in state.items() if k in
→     model.state_dict() and v.shape == model.state_dict()[k].shape}
→ zeros = {k: v * 0 for k, v in model.state_dict().items()}
→ model.load_state_dict(zeros | state)
    What is missing is filled with zeros. The answers no longer differ from run to run, and they are
    as worthless as before. Raise an error.
head_only: model.load_state_dict(state) → if "head.weight" not in state:
→     raise ValueError("no head")
→ model.load_state_dict(state, strict=False)
    Only the head is asked for. Any other weight can still be missing without a word.
another_model: return model → return None
    Nothing comes back. Return the model.
""")  # fmt: skip


def probe(answer):
    def model(seed, width=5):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, width), nn.LayerNorm(width)).double()

    def loaded():
        one = model(0)
        answer(one, model(1).state_dict())
        return one(draw(2, 4))

    state = model(1).state_dict()
    less = {k: v for k, v in state.items() if k != "0.bias"}
    return [
        loaded,
        refuses(lambda: answer(model(0), less)),
        refuses(lambda: answer(model(0), state | {"more": torch.ones(1)})),
        refuses(lambda: answer(model(0), model(1, 6).state_dict())),
    ]


EXERCISE = Exercise(
    name="load_trained",
    chapter="14_bug_clinic",
    task="load_trained(model, state): the model with all the weights of `state`; an error if one "
    "is missing, has no place in the model, or has another shape",
    reference=load_trained,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_keys, by_what_is_left, one_by_one],
    probe=probe,
)
