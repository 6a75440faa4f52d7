"""7.7 accuracy_of: a function to repair."""

from copy import deepcopy
from functools import partial

import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers
from vitlib.check.probing import draw


@torch.no_grad()
def accuracy_of(model, images, labels):
    was_training = model.training
    model.eval()
    right = model(images).argmax(dim=1) == labels
    model.train(was_training)
    return right.float().mean().item()


def by_inference(model, images, labels):
    mode = model.training
    try:
        with torch.inference_mode():
            answers = model.eval()(images).max(dim=-1).indices
    finally:
        model.train(mode)
    return (answers == labels).sum().item() / len(labels)


@torch.no_grad()
def by_loop(model, images, labels):
    mode = model.training
    model.eval()
    right = sum(
        model(image[None])[0].argmax().item() == label
        for image, label in zip(images, labels.tolist(), strict=True)
    )
    model.train(mode)
    return right / len(labels)


def cases(answer) -> Cases:
    def run(training, count, *layers, all_right=False):
        model = fill(nn.Sequential(nn.Flatten(), *layers)).eval()
        images = numbers(count, 1, 2, 3, seed=3) + 1
        with torch.no_grad():
            first = model(images).amax(dim=1).argsort(descending=True)  # the surest one first
            images = images[first]
            labels = model(images).argmax(dim=1)
        wrong = slice(0, 0 if all_right else None, 4)  # a quarter of the answers
        labels[wrong] = (labels[wrong] + 1) % 3
        state = {name: value.clone() for name, value in model.state_dict().items()}
        model.train(training)
        recorded = []
        model[-1].register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
        accuracy = call(answer, model, images, labels)
        if isinstance(accuracy, torch.Tensor):
            raise Refused("a tensor came back, and a float should: .item() makes it one")
        off = not torch.is_grad_enabled()
        torch.set_grad_enabled(True)  # for the next case
        changed = any(not torch.equal(state[k], v) for k, v in model.state_dict().items())
        trainable = all(p.requires_grad for p in model.parameters())
        return {
            "the accuracy": accuracy,
            "the mode afterwards": "training" if model.training else "eval",
            "what it leaves in the model": "changed" if changed else "unchanged",
            "the model's weights": "trainable" if trainable else "frozen",
            "gradients afterwards": "off" if off else "on",
            "gradients": "recorded" if any(recorded) else "not recorded",
        }

    dropout = nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.6), nn.Linear(16, 4)
    yield (
        "40 images and a model with dropout, in the middle of its training",
        (lambda: run(True, 40, *dropout)),
    )
    yield "the same model in eval mode", lambda: run(False, 40, *dropout)
    yield "a model with batch norm", lambda: run(True, 8, nn.BatchNorm1d(6), nn.Linear(6, 3))
    # as many images as classes: an argmax along the wrong axis has the right shape
    yield "3 images and 3 classes", lambda: run(False, 3, nn.Linear(6, 3))
    # what is always 0 is not rounded down
    yield (
        "5 images that are all read right",
        (lambda: run(False, 5, nn.Linear(6, 3), all_right=True)),
    )


MUTANTS = edits(accuracy_of, """
training_mode: @torch.no_grad() →
and: model.eval() →
training_mode_no_grad: model.eval() →
    The model answers in training mode. Dropout and stochastic depth switch parts of it off at
    random, and batch norm lets the images of a batch change each other's answers, and learns from
    them. Nothing fails, but the accuracy differs. Call model.eval() before the model answers, and
    go back to training only after that. (Setting model.training alone does not reach its layers.)
asks_for_training: model.eval() → model.train()
asks_for_training_and_leaves_it: model.eval() → model.train()
and: model.train(was_training) →
    model.train() switches to training mode, and does not train: dropout is on, and batch norm
    learns from the images. For an evaluation the model should be in eval mode: model.eval().
left_in_eval: @torch.no_grad() →
and: model.train(was_training) →
left_in_eval_no_grad: model.train(was_training) →
    The model is left in eval mode. If this is called in the middle of a training run, the run goes
    on without dropout and stochastic depth, silently. Keep model.training at the beginning, and
    restore it with model.train(...) at the end.
always_training: @torch.no_grad() →
and: model.train(was_training) → model.train()
always_training_no_grad: model.train(was_training) → model.train()
    The model is always left in training mode, even if it was in eval mode before. Keep
    model.training at the beginning, and restore that.
gradients: @torch.no_grad() →
    The answer is right, but gradients are recorded: every intermediate tensor is kept in memory for
    a backward pass that never comes. Call the model under torch.no_grad().
freezes_the_model: @torch.no_grad() →
and: model.eval() → model.eval().requires_grad_(False)
    The model's weights are frozen afterwards (requires_grad=False): the run goes on, and nothing is
    learned. Call the model under torch.no_grad() instead.
gradients_left_off: @torch.no_grad() →
and: model.eval() → model.eval()
→ torch.set_grad_enabled(False)
    Gradients are switched off for good: the next loss.backward() fails. `with torch.no_grad():`
    switches them off for its block only.
wrong_axis: dim=1 → dim=0
    argmax runs along the batch: it looks for the best image of each class. The classes are the
    second axis of the logits (B, K).
percent: .item() → .item() * 100
    This is in per cent. The share of right answers lies between 0 and 1: leave out the 100.
share_of_errors: == labels → != labels
    This is the share of *wrong* answers. Compare with ==.
largest_logits_compared: argmax(dim=1) → amax(dim=1)
    The largest logits themselves are compared with the labels, which are class numbers. Where the
    largest stands, argmax tells (of max(dim=1), it is the indices).
one_answer_for_all: argmax(dim=1) → argmax()
    argmax without an axis looks at the whole table, and gives one number for all images. The
    classes are the second axis: dim=1.
smallest_logit: argmax → argmin
    The class with the *smallest* logit is taken. The model's answer is the largest: argmax.
probability_of_the_label: argmax(dim=1) == labels →
→ softmax(dim=1)[torch.arange(len(labels)), labels]
    This is the mean probability of the right class. Accuracy counts: an answer is right or wrong,
    argmax(dim=1) == labels.
divided_by_classes: right = model(images) → logits = model(images)
→ right = logits
and: .mean() → .sum().div(logits.shape[1])
    The number of right answers is divided by the number of classes. Divide by the number of images:
    the first axis of the logits (B, K).
rounded: right.float().mean().item() → round(right.float().mean().item(), 2)
    The accuracy is rounded. Return it as it is; whoever prints it may round.
whole_number: right.float().mean().item() → right.float().mean().item() // 1
    The share is rounded down to a whole number: // or int() leave 0 of all that is below 1. Divide
    with /.
tensor: .item() →
    A tensor came back, and a float is asked for: .item() makes it one.
counts: .mean() → .sum()
    This is the number of right answers. Divide by the number of images.
""")  # fmt: skip


def probe(answer):
    def after(training, *layers):
        torch.manual_seed(6)
        model = nn.Sequential(nn.Flatten(), *layers, nn.Linear(8, 4)).double().eval()
        images = draw(30, 2, 4) + 0.5
        labels = model(images).argmax(1)
        labels[::3] = (labels[::3] + 1) % 4
        state = {n: v.clone() for n, v in model.state_dict().items()}
        model.train(training)
        recorded = []
        model[-1].register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
        accuracy = answer(model, images, labels)
        kept = all(v.equal(state[n]) for n, v in model.state_dict().items())
        return float(accuracy), model.training, kept, any(recorded)

    extra = [nn.Dropout(0.7)], [nn.BatchNorm1d(8)]
    return [partial(after, mode, *deepcopy(e)) for mode in (True, False) for e in extra]


EXERCISE = Exercise(
    name="accuracy_of",
    chapter="07_training",
    task="accuracy_of(model, images, labels) -> a float: the share of images whose largest logit "
    "is at the label, in eval mode, without gradients, and with the model's mode as before "
    "afterwards",
    reference=accuracy_of,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_inference, by_loop],
    probe=probe,
)
