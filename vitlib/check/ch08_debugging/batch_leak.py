"""8.3 batch_leak: what an image's answer owes to its neighbours."""

from functools import partial

import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, fill, numbers, one_number
from vitlib.check.probing import draw


def batch_leak(model, images):
    was_training = model.training
    model.eval()
    with torch.no_grad():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    model.train(was_training)
    return (alone - together).abs().max()


@torch.no_grad()
def by_loop(model, images):
    mode = model.training
    model.eval()
    together, worst = model(images), 0.0
    for i in range(len(images)):
        alone = model(images[i : i + 1])[0]
        leak = (alone - together[i]).abs().max().item()
        worst = max(worst, leak)
    model.train(mode)
    return worst


def by_inference(model, images):
    mode = model.training
    try:
        with torch.inference_mode():
            together = model.eval()(images)
            rows = [model(image)[0] for image in images.split(1)]
    finally:
        model.train(mode)
    return torch.dist(torch.stack(rows), together, p=torch.inf).item()


class Leaky(nn.Module):
    """An MLP with dropout and batch norm, and with what `leak` makes of its logits."""

    def __init__(self, leak):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(12, 5), nn.BatchNorm1d(5), nn.Dropout(0.5)
        self.head, self.leak = nn.Linear(5, 3), leak

    def forward(self, images):
        x = self.norm(self.first(images.flatten(1)))
        return self.leak(self.head(self.drop(x.tanh())))


def cases(answer) -> Cases:
    def run(leak, images=4, training=True):
        model = fill(Leaky(leak))
        model(numbers(9, 2, 2, 3, seed=5) + 0.5)  # so that batch norm has statistics of its own
        model.train(training)
        recorded = []
        model.head.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
        number = one_number(call(answer, model, numbers(images, 2, 2, 3, seed=3)))
        return {"the number": number, "gradients": "recorded" if any(recorded) else "not recorded"}

    def mean(x):
        return x - x.mean(dim=0)

    def into(place):  # one number of one image
        def leak(x):
            others = x.clone()
            others[place, 1] -= 2 * x[place + 1, 1] if len(x) > 1 else 0
            return others

        return leak

    yield "a model without a leak, in training mode", lambda: run(lambda x: x)
    yield "the same in eval mode", lambda: run(lambda x: x, training=False)
    yield "a model that subtracts the mean of the batch", lambda: run(mean, training=False)
    yield "a softmax over the batch", lambda: run(lambda x: x.softmax(dim=0), images=3)
    yield "a leak from the first image to the others", lambda: run(lambda x: x - 2 * x[:1], 5)
    yield "a leak from the last image to the others", lambda: run(lambda x: x + 3 * x[-1:], 5)
    yield "a leak into one number of the first image", lambda: run(into(0), 6)
    yield "a leak into one number of the last image", lambda: run(into(-1), 6)
    yield "a model that adds the number of images", lambda: run(lambda x: x + len(x))
    yield "a small leak", lambda: run(lambda x: x + x.mean(dim=0) / 500)


MUTANTS = edits(batch_leak, """
in_training_mode: model.eval() → pass
    The model runs in whichever mode it is. In training mode, dropout draws anew for each call, and
    batch norm lets the images of a batch change each other's answers, which it should: even a model
    without a fault seems to leak. Call model.eval() first. (Setting model.training alone does not
    reach its layers.)
asks_for_training: model.eval() → model.train()
    model.train() does not train the model, it switches to training mode, where dropout and batch
    norm make even a model without a fault seem to leak. Eval mode is asked for: model.eval().
left_in_eval: model.train(was_training) → pass
    The model is left in eval mode. A training run would go on without dropout. Keep
    model.training at the beginning, and give it to model.train(...) at the end. (Setting
    model.training alone does not reach its layers.)
always_training: model.train(was_training) → model.train()
    The model is in training mode afterwards, also where it was in eval mode before. Keep
    model.training at the beginning, and give it to model.train(...) at the end.
gradients: with torch.no_grad() → with torch.enable_grad()
    Gradients are recorded: every intermediate tensor is kept for a backward pass that never comes.
    Call the model under torch.no_grad().
each_with_all: torch.cat([model(image[None]) for image in images]) →
→ torch.stack([model(image[None]) for image in images])
    The logits of one image alone are compared with those of *all* images in the batch. Row i of the
    one belongs to row i of the other. Mind the shapes: torch.cat of rows (1, K) gives (B, K), while
    torch.stack gives (B, 1, K), and that is compared with every row.
joined_along_the_classes: for image in images]) → for image in images], dim=1)
joined_along_the_classes_other_way: for image in images]) → for image in images], dim=1)
and: alone - together → together - alone
    The rows of the single images are joined side by side, along the classes. Join them one below
    the other: torch.cat along axis 0.
first_image_only: in images] → in images[:1]]
and: alone - together → alone - together[:1]
    Only the first image is tried. The leak may be into the others: compare all of them.
first_image_left_out: (alone - together) → (alone - together)[1:]
    The first image is left out. Compare all of them: a loop begins with 0.
last_image_left_out: (alone - together) → (alone - together)[:-1]
    The last image is left out. Compare all of them.
largest_without_abs: .abs().max() → .max()
largest_without_abs_other_way: (alone - together).abs() → (together - alone)
    The largest difference is taken with its sign: large negative ones are missed. Take abs() first.
abs_too_late: .abs().max() → .max().abs()
abs_too_late_other_way: (alone - together).abs().max() → (together - alone).max().abs()
    abs() comes after max(), which has dropped the large negative differences by then. First abs(),
    then max().
mean_difference: .abs().max() → .abs().mean()
    This is the mean of the differences. A leak into one image of many nearly vanishes in it: take
    the largest.
smallest: .abs().max() → .abs().min()
    This is the smallest difference. Take the largest: max().
summed: .abs().max() → .abs().sum()
    The differences are summed. Take the largest of them: max().
squares: .abs().max() → .pow(2).mean()
    This is the mean of the squares. The largest absolute difference is asked for: abs(), then
    max().
squares_summed: .abs().max() → .norm()
    This is the length of all the differences together: the root of the sum of their squares. The
    largest absolute difference is asked for: abs(), then max().
largest_square: .abs().max() → .pow(2).max()
    The difference is squared. Take its absolute value.
mean_over_images: .abs().max() → .abs().amax(dim=1).mean()
    The largest difference of each image is averaged over the images. Take the largest of all.
mean_over_classes: .abs().max() → .abs().mean(dim=1).max()
    The differences are averaged over the classes. Take the largest of all.
summed_over_classes: .abs().max() → .abs().sum(dim=1).max()
    The differences are summed over the classes. Take the largest of all.
longest_row: .abs().max() → .norm(dim=1).max()
    For each image you take the length of its row of differences. Take the largest single one, as
    abs() and max() give it.
from_least_to_most: (alone - together).abs().max() →
→ (alone - together).max() - (alone - together).min()
    This is the largest difference minus the smallest. The largest *absolute* one is asked for:
    abs(), then max().
largest_logits_compared: (alone - together).abs().max() → (alone.max() - together.max()).abs()
    You compare the largest logit of the one with the largest of the other, and these may be of
    different images. First the differences, each with its own, then the largest.
share: .abs().max() → .abs().max() / together.abs().max()
    The difference is divided by the size of the logits. Return the difference itself.
one_per_image: .abs().max() → .abs().amax(dim=1)
    One number per image came back. Take the largest of all.
one_per_logit: .abs().max() → .abs()
    All differences came back. Take the largest of them.
where_it_is: .abs().max() → .abs().argmax()
    This is the place of the largest difference, not the difference: max() instead of argmax().
values_and_places: .abs().max() → .abs().max(dim=1)
    max(dim=1) gives two tensors, values and places, one per image. The largest of all numbers is
    max() without an axis.
yes_or_no: (alone - together).abs().max() → torch.allclose(alone, together)
    This says whether there is a leak. The task asks how large it is.
probabilities: (alone - together) → (alone.softmax(dim=1) - together.softmax(dim=1))
    Probabilities are compared. Compare the logits, as the model gives them.
classes: (alone - together).abs().max() →
→ (alone.argmax(dim=1) != together.argmax(dim=1)).double().mean()
    You count the images whose class changes. Most leaks are too small for that: compare the logits.
rounded: (alone - together).abs().max() → round((alone - together).abs().max().item(), 2)
    The number is rounded. Return it as it is; whoever prints it may round.
no_batch_axis: image[None] → image
    The image has lost its batch axis, and the model takes (1, C, H, W). image[None], unsqueeze(0)
    or images[i : i + 1] keeps it.
twice_the_batch: torch.cat([model(image[None]) for image in images]) → model(images)
    The batch is compared with itself. Give the model each image alone.
copies_of_it: model(image[None]) → model(image.expand_as(images))[:1]
copies_of_it_two: model(image[None]) → model(torch.stack([image, image]))[:1]
    You compare with a batch of copies. Alone means a batch of one: a model may also go by the
    number of images.
with_those_after_it: torch.cat([model(image[None]) for image in images]) →
→ torch.cat([model(images[i:])[:1] for i in range(len(images))])
    The image comes with all those after it: `images[i:]` is the rest of the batch. Alone it is
    images[i : i + 1].
in_halves: torch.cat([model(image[None]) for image in images]) →
→ torch.cat([model(half) for half in images.chunk(2)])
    The batch is cut in two. Alone means a batch of one image.
other_order: torch.cat([model(image[None]) for image in images]) → model(images.flip(0)).flip(0)
    The batch is compared with the same batch in another order. A model that subtracts the mean of
    the batch gives the same there. Give the model each image alone.
freezes_the_model: model.eval() → model.eval().requires_grad_(False)
    The parameters are frozen afterwards (requires_grad=False), and a run that goes on would learn
    nothing more. torch.no_grad() is enough.
""") | edits(by_loop, """
signed_in_a_loop: .abs().max() → .max()
    The largest difference of each image is taken with its sign: large negative ones are missed.
    Take abs() first.
last_image_only: max(worst, leak) → leak
    Only the last image counts: each round of the loop overwrites what was found before. Keep the
    largest.
gradients_off: @torch.no_grad() →
and: mode = model.training → mode = model.training
→ torch.set_grad_enabled(False)
    Gradients are switched off for good: the next loss.backward() fails. `with torch.no_grad():`
    switches them off for its block only.
summed_over_images: max(worst, leak) → worst + leak
    The largest difference of each image is summed over the images. Take the largest of all.
""")  # fmt: skip


def probe(answer):
    class Model(nn.Module):
        def __init__(self, leak):
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Dropout(0.3))
            self.norm, self.leak = nn.BatchNorm1d(5), leak

        def forward(self, x):
            return self.leak(self.norm(self.layers(x)))

    def run(leak, B, training):
        torch.manual_seed(2)
        model = Model(leak).double()
        model(draw(8, 2, 2, seed=1))
        state = {n: v.clone() for n, v in model.train(training).state_dict().items()}
        recorded = []
        model.norm.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
        number = one_number(answer(model, draw(B, 2, 2)))
        same = all(v.equal(state[n]) for n, v in model.state_dict().items())
        modes = [m.training for m in model.modules()]
        return number, same, any(recorded), modes, torch.is_grad_enabled()

    leaks = [lambda x: x, lambda x: x + x[:1], lambda x: x.cumsum(0), lambda x: x - x.amax(0)]
    return [partial(run, f, 3 + i, i % 2 == 0) for i, f in enumerate(leaks)]


EXERCISE = Exercise(
    name="batch_leak",
    chapter="08_debugging",
    task="batch_leak(model, images) -> one number: the largest absolute difference between the "
    "logits of each image alone and in the batch, in eval mode and without recording gradients; "
    "afterwards the model is as it was, its mode included",
    reference=batch_leak,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_loop, by_inference],
    probe=probe,
)
