"""9.3 shift_error: by how much a layer breaks the rule that all places are alike."""

from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.ch09_inductive_bias.shift_images import shift_images  # noqa: F401 - in edits
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, fill, numbers, one_number
from vitlib.check.probing import draw


def shift_error(layer, images, down, right):
    was_training = layer.training
    layer.eval()
    with torch.no_grad():
        answer = layer(images)
        to_shifted = layer(images.roll((down, right), dims=(2, 3)))
    layer.train(was_training)
    shifted_answer = answer.roll((down, right), dims=(2, 3))
    return (to_shifted - shifted_answer).abs().max()


@torch.inference_mode()
def by_shifting_back(layer, images, down, right):
    mode = layer.training
    layer.eval()
    shifted = torch.roll(torch.roll(images, down, dims=2), right, dims=3)
    back = torch.roll(layer(shifted), (-down, -right), (-2, -1))
    error = torch.dist(back, layer(images), p=torch.inf).item()
    layer.train(mode)
    return error


def by_copy(layer, images, down, right):
    copy = deepcopy(layer).eval()
    H, W = images.shape[2:]
    rows, columns = (torch.arange(H) - down) % H, (torch.arange(W) - right) % W
    worst = 0.0
    for image in images.split(1):
        with torch.no_grad():
            to_shifted = copy(image[:, :, rows][:, :, :, columns])
            shifted_answer = copy(image)[:, :, rows][:, :, :, columns]
        worst = max(worst, float((to_shifted - shifted_answer).abs().max()))
    return worst


class Layer(nn.Module):
    """A convolution in a circle, batch norm and dropout, and then what `rest` does."""

    def __init__(self, rest):
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3, padding=1, padding_mode="circular")
        self.norm, self.drop, self.rest = nn.BatchNorm2d(5), nn.Dropout(0.5), rest

    def forward(self, images):
        return self.rest(self.drop(self.norm(self.conv(images))).tanh())


def cases(answer) -> Cases:
    def run(rest, down, right, shape=(3, 2, 4, 6), bright=None, training=True):
        images = numbers(*shape, seed=3)
        if bright is not None:
            images[bright] *= 4
        layer = fill(Layer(rest))
        layer(numbers(9, *shape[1:], seed=5) + 0.5)  # so that batch norm has statistics of its own
        layer.train(training)
        recorded = []
        layer.conv.register_forward_hook(lambda *io: recorded.append(io[-1].requires_grad))
        number = one_number(call(answer, layer, images, down, right))
        return {"the number": number, "gradients": "recorded" if any(recorded) else "not recorded"}

    def times(*shape):  # another factor at each place
        return lambda x: x * numbers(*shape, seed=8)

    def plus_corner(times):
        return lambda x: x + times * x[:, :1, :1, :1]

    tall = 1, 2, 7, 5
    yield "a layer that treats all places alike, in training mode", lambda: run(lambda x: x, 1, 2)
    yield "the same in eval mode", lambda: run(lambda x: x, 2, 1, training=False)
    yield (
        "a factor for each place, 1 down and 2 to the right",
        lambda: run(times(4, 6), 1, 2, training=False),
    )
    yield "a factor for each row, 1 down", lambda: run(times(4, 1), 1, 0, bright=0)
    yield "a factor for each row, 2 to the right", lambda: run(times(4, 1), 0, 2)
    yield "a factor for each column, 3 to the right", lambda: run(times(6), 0, 3, bright=2)
    yield "a factor for each column, 2 down", lambda: run(times(6), 2, 0)
    yield "a factor for each place, 1 up and 2 to the left", lambda: run(times(7, 5), -1, -2, tall)
    yield "its number added to each row", lambda: run(lambda x: x + torch.arange(4)[:, None], 1, 3)
    yield (
        "its number subtracted from each column",
        lambda: run(lambda x: x - torch.arange(6), -2, 1),
    )
    yield "twice the corner added to all places", lambda: run(plus_corner(2), 2, -1, tall)
    yield "twice the corner subtracted", lambda: run(plus_corner(-2), 2, -1, tall)
    yield (
        "a window that pads with zeros, the pictures square",
        lambda: run(lambda x: F.avg_pool2d(x, 3, 1, 1), 2, 1, (5, 2, 5, 5)),
    )
    yield "a shift by more than the picture", lambda: run(times(4, 6), 6, -8)
    yield "no shift", lambda: run(times(4, 6), 0, 0)
    yield (
        "a small position embedding that is added",
        lambda: run(lambda x: x + numbers(5, 4, 6) / 500, 1, 3, bright=1),
    )


MUTANTS = edits(shift_error, """
in_training_mode: layer.eval() → pass
    The layer runs in whichever mode it is. In training mode, dropout draws anew for each call, and
    even a layer without a fault seems to break the rule. Call layer.eval() first. (Setting
    layer.training alone does not reach what is inside.)
asks_for_training: layer.eval() → layer.train()
    layer.train() does not train the layer, it switches to training mode, where dropout draws anew
    for each call. Eval mode is asked for: layer.eval().
left_in_eval: layer.train(was_training) → pass
    The layer is left in eval mode. A training run would go on without dropout. Keep layer.training
    before you call layer.eval(), and give it to layer.train(...) at the end. (Setting
    layer.training alone does not reach what is inside.)
always_training: layer.train(was_training) → layer.train()
    The layer is in training mode afterwards, also where it was in eval mode before. Keep
    layer.training at the beginning, and give it to layer.train(...) at the end.
back_to_training_too_early: answer = layer(images) → answer = layer(images)
→ layer.train(was_training)
    The mode is put back between the two calls, and the second runs in training mode. Both belong in
    eval mode.
gradients: with torch.no_grad() → with torch.enable_grad()
    Gradients are recorded: every intermediate tensor is kept for a backward pass that never comes.
    Call the layer under torch.no_grad(), both times.
freezes_the_layer: layer.eval() → layer.eval().requires_grad_(False)
    The parameters are frozen afterwards (requires_grad=False), and a run that goes on would learn
    nothing more. torch.no_grad() is enough.
clears_gradients: layer.eval() → layer.eval().zero_grad()
    The gradients of the layer are cleared. They belong to whoever trains it: leave out zero_grad().
in_place: layer(images.roll((down, right), dims=(2, 3))) →
→ layer(images.copy_(images.roll((down, right), (2, 3))))
    You write the shifted images into those that you are given. Keep them in a tensor of their own:
    torch.roll makes one.
answer_not_shifted: answer.roll((down, right), dims=(2, 3)) → answer
    You compare with the answer to the images as it is. It should be *shifted* like the images:
    nobody asks that the answer stays the same.
images_not_shifted: images.roll((down, right), dims=(2, 3)) → images
    The layer gets the images as they are both times. It should be given the shifted ones once.
nothing_shifted: images.roll((down, right), dims=(2, 3)) → images
and: answer.roll((down, right), dims=(2, 3)) → answer
    0 comes back for every layer: the same is compared with itself. Shift the images for one call,
    and the answer of the other. (torch.roll(images, ...) leaves `images` as they are: use what it
    returns.)
shifted_the_wrong_way: answer.roll((down, right) → answer.roll((-down, -right)
shifted_the_wrong_way_by_rows: answer.roll((down, → answer.roll((-down,
shifted_the_wrong_way_by_columns: answer.roll((down, right) → answer.roll((down, -right)
    The answer is shifted the wrong way. Either shift the answer to `images` by (down, right), as
    the images were, or shift the answer to the shifted images *back*, by (−down, −right).
against_the_numbers: with torch.no_grad(): → down, right = -down, -right
→ with torch.no_grad():
    Images and answer are shifted the other way: up where `down` is positive, and left where `right`
    is. torch.roll by (down, right) shifts down and to the right.
up_for_down: with torch.no_grad(): → down = -down
→ with torch.no_grad():
    Images and answer are shifted up where `down` is positive. torch.roll by `down` shifts down.
left_for_right: with torch.no_grad(): → right = -right
→ with torch.no_grad():
    Images and answer are shifted left where `right` is positive. torch.roll by `right` shifts to
    the right.
down_only: with torch.no_grad(): → right = 0
→ with torch.no_grad():
    Images and answer are shifted down only: `right` is not used.
right_only: with torch.no_grad(): → down = 0
→ with torch.no_grad():
    Images and answer are shifted to the right only: `down` is not used. (A second roll begins with
    what the first has made.)
answer_down_only: answer.roll((down, right), dims=(2, 3)) → answer.roll(down, 2)
    The images are shifted both ways, and the answer only down. Shift both in the same way.
answer_right_only: answer.roll((down, right), dims=(2, 3)) → answer.roll(right, 3)
    The images are shifted both ways, and the answer only to the right. Shift both in the same way.
images_down_only: images.roll((down, right), dims=(2, 3)) → images.roll(down, 2)
    The answer is shifted both ways, and the images only down. Shift both in the same way.
images_right_only: images.roll((down, right), dims=(2, 3)) → images.roll(right, 3)
    The answer is shifted both ways, and the images only to the right. Shift both in the same way.
sideways_for_down: with torch.no_grad(): → down, right = right, down
→ with torch.no_grad():
    Rows and columns are exchanged: you shift by `down` columns and `right` rows. In (B, C, H, W)
    the rows go along axis 2 and the columns along axis 3.
answer_sideways: answer.roll((down, right) → answer.roll((right, down)
answer_sideways_or_images: images.roll((down, right) → images.roll((right, down)
    The images and the answer are not shifted in the same way: in one of the two, rows and columns
    are exchanged. Give both the same numbers and the same axes.
twice_along_the_rows: answer.roll((down, right), dims=(2, 3)) →
→ answer.roll((down, right), dims=(2, 2))
twice_along_the_rows_or_columns: answer.roll((down, right), dims=(2, 3)) →
→ answer.roll((down, right), dims=(3, 3))
    The answer is shifted twice along the same axis. Rows go along axis 2, columns along axis 3.
channels_last: images.roll((down, right), dims=(2, 3)) → images.roll((down, right), dims=(1, 2))
and: answer.roll((down, right), dims=(2, 3)) → answer.roll((down, right), dims=(1, 2))
    You shift along axes 1 and 2, the channels and the rows. In (B, C, H, W) the rows go along axis
    2 and the columns along axis 3.
other_images: images.roll((down, right), dims=(2, 3)) → images.roll((down, right), dims=(0, 1))
and: answer.roll((down, right), dims=(2, 3)) → answer.roll((down, right), dims=(0, 1))
    You shift along axes 0 and 1, the images and the channels. In (B, C, H, W) the rows go along
    axis 2 and the columns along axis 3.
all_in_one_row: images.roll((down, right), dims=(2, 3)) → images.roll(down).roll(right)
and: answer.roll((down, right), dims=(2, 3)) → answer.roll(down).roll(right)
    Without `dims`, torch.roll moves the numbers as if all of them stood in one long row. Tell it
    the axes: dims=(2, 3).
channels_of_the_answer: answer.roll((down, right), dims=(2, 3)) →
→ answer.roll((down, right), dims=(1, 2))
    The answer is shifted along its channels and rows. It is (B, K, H, W), with the rows along axis
    2 and the columns along axis 3, as in the images.
not_in_a_circle: images.roll((down, right), dims=(2, 3)) →
→ shift_images(images, down, right, torch.zeros(images.shape[1]))
and: answer.roll((down, right), dims=(2, 3)) →
→ shift_images(answer, down, right, torch.zeros(answer.shape[1]))
not_in_a_circle_for_the_images: images.roll((down, right), dims=(2, 3)) →
→ shift_images(images, down, right, torch.zeros(images.shape[1]))
not_in_a_circle_for_the_answer: answer.roll((down, right), dims=(2, 3)) →
→ shift_images(answer, down, right, torch.zeros(answer.shape[1]))
    What leaves the frame is lost, and 0 comes in. Shift in a circle, images and answer, as
    torch.roll does.
large_does_nothing: with torch.no_grad(): → down = 0 if abs(down) > images.shape[2] else down
→ right = 0 if abs(right) > images.shape[3] else right
→ with torch.no_grad():
    A number that is larger than the picture does nothing. Begin again in the circle: take it modulo
    the size, as torch.roll does.
shifted_before_both_calls: answer = layer(images) → images = images.roll((down, right), dims=(2, 3))
→ answer = layer(images)
and: to_shifted = layer(images.roll((down, right), dims=(2, 3))) → to_shifted = answer
    `images` is overwritten with the shifted images before both calls, and so their answer is
    compared with itself, shifted. Give the shifted images a name of their own.
shifted_twice: answer = layer(images) → images = images.roll((down, right), dims=(2, 3))
→ answer = layer(images)
    `images` is overwritten with the shifted images, and then shifted once more: the rule is tried
    on other images than you were given. Give the shifted images a name of their own.
largest_without_abs: .abs().max() → .max()
largest_without_abs_other_way: (to_shifted - shifted_answer).abs() → (shifted_answer - to_shifted)
    The largest difference is taken with its sign: large negative ones are missed. Take abs() first.
abs_too_late: .abs().max() → .max().abs()
abs_too_late_other_way: (to_shifted - shifted_answer).abs().max() →
→ (shifted_answer - to_shifted).max().abs()
    abs() comes after max(), which has dropped the large negative differences by then. First abs(),
    then max().
abs_too_early: (to_shifted - shifted_answer).abs() → (to_shifted.abs() - shifted_answer.abs()).abs()
    You compare the absolute values of the two answers, and 1 is not −1. First the difference, then
    abs().
mean_difference: .abs().max() → .abs().mean()
    This is the mean of the differences. A fault at one place nearly vanishes in it: take the
    largest, max().
mean_difference_signed: .abs().max() → .mean()
    This is the mean of the differences with their signs, and these cancel. First abs(), then max().
smallest: .abs().max() → .abs().min()
    This is the smallest difference. Take the largest: max().
summed: .abs().max() → .abs().sum()
    The differences are summed. Take the largest of them: max().
squares: .abs().max() → .pow(2).mean()
    This is the mean of the squares. The largest absolute difference is asked for: abs(), then
    max().
root_of_squares: .abs().max() → .pow(2).mean().sqrt()
    This is the root of the mean of the squares. The largest absolute difference is asked for:
    abs(), then max().
squares_summed: .abs().max() → .norm()
    This is the length of all the differences together: the root of the sum of their squares. The
    largest absolute difference is asked for: abs(), then max().
largest_square: .abs().max() → .pow(2).max()
    The difference is squared. Take its absolute value.
mean_over_images: .abs().max() → .abs().amax(dim=(1, 2, 3)).mean()
    The largest difference of each image is averaged over the images. Take the largest of all.
mean_over_channels: .abs().max() → .abs().mean(dim=1).max()
    The differences are averaged over the channels. Take the largest of all.
summed_over_channels: .abs().max() → .abs().sum(dim=1).max()
    The differences are summed over the channels. Take the largest of all.
longest_vector: .abs().max() → .norm(dim=1).max()
    For each place you take the length of its vector of differences. Take the largest single one, as
    abs() and max() give it.
pooled: (to_shifted - shifted_answer) → (to_shifted - shifted_answer).mean(dim=(2, 3))
    The differences are averaged over the places before the largest is taken, and errors at single
    places vanish. Compare place by place.
from_least_to_most: (to_shifted - shifted_answer).abs().max() →
→ (to_shifted - shifted_answer).max() - (to_shifted - shifted_answer).min()
    This is the largest difference minus the smallest. The largest *absolute* one is asked for:
    abs(), then max().
largest_numbers_compared: (to_shifted - shifted_answer).abs().max() →
→ (to_shifted.max() - shifted_answer.max()).abs()
    You compare the largest number of the one answer with the largest of the other, and these may be
    at different places. First the differences, place by place, then the largest.
share: .abs().max() → .abs().max() / shifted_answer.abs().max()
share_of_each: .abs().max() → .abs().div(shifted_answer.abs()).max()
share_by_the_mean: .abs().max() → .abs().max() / shifted_answer.abs().mean()
    The difference is divided by the size of the answer. Return the difference itself.
one_per_image: .abs().max() → .abs().amax(dim=(1, 2, 3))
    One number per image came back. Take the largest of all.
one_per_channel: .abs().max() → .abs().amax(dim=(0, 2, 3))
    One number per channel came back. Take the largest of all.
one_per_place: .abs().max() → .abs()
    All differences came back. Take the largest of them: max().
where_it_is: .abs().max() → .abs().argmax()
    This is the place of the largest difference, not the difference: max() instead of argmax().
values_and_places: .abs().max() → .abs().max(dim=1)
    max(dim=1) gives two tensors, values and places. The largest of all numbers is max() without an
    axis.
yes_or_no: (to_shifted - shifted_answer).abs().max() →
→ torch.allclose(to_shifted, shifted_answer, atol=1e-5)
    This says whether the layer keeps the rule. The task asks by how much it breaks it: the largest
    absolute difference.
rounded: (to_shifted - shifted_answer).abs().max() →
→ round((to_shifted - shifted_answer).abs().max().item(), 2)
    The number is rounded. Return it as it is; whoever prints it may round.
small_is_none: return (to_shifted - shifted_answer).abs().max() →
→ error = (to_shifted - shifted_answer).abs().max().item()
→ return error if error > 0.05 else 0.0
    A small number is turned into 0. Return it as it is: a layer may break the rule by little.
first_image_only: (to_shifted - shifted_answer) → (to_shifted - shifted_answer)[0]
    Only the first image is compared. Take the largest difference of all images.
last_image_only: (to_shifted - shifted_answer) → (to_shifted - shifted_answer)[-1]
    Only the last image is compared. Take the largest difference of all images. (In a loop, keep the
    largest: max(worst, ...).)
first_channel_only: (to_shifted - shifted_answer) → (to_shifted - shifted_answer)[:, 0]
    Only the first channel is compared. Take the largest difference of all channels.
probabilities: (to_shifted - shifted_answer) →
→ (to_shifted.softmax(dim=1) - shifted_answer.softmax(dim=1))
    Probabilities are compared. Compare the numbers as the layer gives them.
what_came_in_left_out: (to_shifted - shifted_answer) →
→ (to_shifted - shifted_answer)[:, :, max(down, 0) :, max(right, 0) :]
    The rows and columns that came in at the other side are left out, and there the rule is broken
    most of all. Compare all of them.
compared_with_the_images: shifted_answer = answer. → shifted_answer = images.
    The answer to the shifted images is compared with the shifted images. Compare it with the
    *answer* to the images, shifted.
nothing_returned: return → _ =
    The number is computed and not returned. The last line needs `return`.
""") | edits(by_shifting_back, """
in_training_mode_other_order: layer.eval() → pass
    The layer runs in whichever mode it is, and dropout draws anew for each call. Call layer.eval()
    first, and layer.train(mode) at the end. (To set layer.training alone does not reach what is
    inside.)
seeded: layer.eval() → torch.manual_seed(0)
and: layer(shifted) → layer(shifted).add(0 * torch.manual_seed(0).initial_seed())
seeded_with_42: layer.eval() → torch.manual_seed(42)
and: layer(shifted) → layer(shifted).add(0 * torch.manual_seed(42).initial_seed())
    With a seed, dropout draws the same numbers for both calls, but these do not shift with the
    images, and the random numbers of the whole program start again. Call layer.eval() instead.
""") | edits(by_copy, """
index_beyond_the_end: (torch.arange(H) - down) % H, (torch.arange(W) - right) % W →
→ torch.arange(H) - down, torch.arange(W) - right
    An index lies beyond the picture. In a circle, indices begin again: take them modulo H and W.
summed_over_images: max(worst, float((to_shifted - shifted_answer).abs().max())) →
→ worst + float((to_shifted - shifted_answer).abs().max())
    The largest difference of each image is summed over the images. Take the largest of all.
gradients_off: copy = deepcopy(layer).eval() → copy = deepcopy(layer).eval()
→ torch.set_grad_enabled(False)
    Gradients are switched off for good: the next loss.backward() fails. `with torch.no_grad():`
    switches them off for its block only.
""")  # fmt: skip


def probe(answer):
    class Other(nn.Module):
        def __init__(self, rest):
            super().__init__()
            self.parts = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.3))
            self.rest = rest

        def forward(self, x):
            return self.rest(self.parts(x).sin())

    def run(rest, down, right, training):
        torch.manual_seed(2)
        layer = Other(rest).double()
        layer(draw(6, 3, 5, 7, seed=1))
        state = {n: v.clone() for n, v in layer.train(training).state_dict().items()}
        recorded = []
        layer.parts.register_forward_hook(lambda *io: recorded.append(io[-1].requires_grad))
        images = draw(2, 3, 5, 7)
        number = one_number(answer(layer, images, down, right))
        same = all(v.equal(state[n]) for n, v in layer.state_dict().items())
        modes = [m.training for m in layer.modules()]
        untouched = images.equal(draw(2, 3, 5, 7)), torch.is_grad_enabled()
        return number, same, any(recorded), modes, untouched

    rests = [
        lambda x: x,
        lambda x: x * draw(5, 7),
        lambda x: x.cumsum(2),
        lambda x: x.cumsum(3) + x.square(),
        lambda x: F.max_pool2d(x, 3, 1, 1),
        lambda x: x - x.flip(3),
    ]
    moves = [(2, 3), (-1, 2), (1, -3), (0, 9), (7, 1), (2, 0)]
    return [
        partial(run, rest, *move, i % 2 == 0)
        for i, (rest, move) in enumerate(zip(rests, moves, strict=True))
    ]


EXERCISE = Exercise(
    name="shift_error",
    chapter="09_inductive_bias",
    task="shift_error(layer, images, down, right) -> one number: the largest absolute difference "
    "between what the layer gives for the images shifted in a circle and its answer to the images, "
    "shifted, in eval mode and without recording gradients; afterwards the layer is as it was, its "
    "mode included",
    reference=shift_error,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_shifting_back, by_copy],
    probe=probe,
)
