"""7.2 normalise_for: whose statistics?"""

import math
from functools import partial

import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call
from vitlib.check.probing import draw
from vitlib.data import ImageSet


def normalise_for(model, images, mean, std):
    mean, std = (model.mean, model.std) if model.mean is not None else (mean, std)
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return (images.float() / 255 - mean) / std


def by_channel(model, images, mean, std):
    mean, std = (model.mean, model.std) if model.mean is not None else (mean, std)
    channels = [(images[:, c] / 255 - mean[c]) / std[c] for c in range(images.shape[1])]
    return torch.stack(channels, dim=1)


def by_image_set(model, images, mean, std):
    if model.mean is not None:
        mean, std = model.mean, model.std
    image_set = ImageSet(images, torch.zeros(len(images), dtype=torch.long), mean, std)
    return image_set.normalize(image_set.batch(torch.arange(len(images)))[0])


def cases(answer) -> Cases:
    def run(own, mean, std, *shape):
        model = nn.Identity()
        model.mean, model.std = own
        images = (torch.arange(math.prod(shape)) * 37 % 256).to(torch.uint8).reshape(shape)
        result = call(answer, model, images, mean, std)
        if (model.mean, model.std) != own:
            raise Refused("your code changes model.mean or model.std: only look at them")
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise Refused("float64 came back, and should be float32: .float() makes it so")
        return result

    half, photos = ((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    yield (
        "two colour images of 4 × 5 pixels and a model that has not been trained",
        (lambda: run((None, None), *photos, 2, 3, 4, 5)),
    )
    yield (
        "colour images that a model sees which was trained with mean and std 0.5",
        (lambda: run(half, *photos, 2, 3, 4, 5)),
    )
    # a mean that is laid along the columns does not raise here
    yield (
        "colour images that are 3 pixels wide",
        (lambda: run(photos, *half, 2, 3, 4, 3)),
    )
    yield (
        "grey images and a model trained on others",
        (lambda: run(((0.13,), (0.31,)), (0.29,), (0.35,), 3, 1, 4, 5)),
    )


MUTANTS = edits(normalise_for, """
statistics_of_the_data: (model.mean, model.std) if model.mean is not None else →
    You use the data's statistics although the model brings its own. Its weights were learned on
    pixels that were shifted and scaled by model.mean and model.std, and they must go on seeing such
    pixels. Nothing fails when they don't; the answers only get worse.
statistics_of_the_model_only: if model.mean is not None else (mean, std) →
    A model that has not been trained has no statistics: its mean and std are None. Then use those
    that are given.
half_and_half: (model.mean, model.std) → (model.mean, std)
    The mean is the model's and the standard deviation the data's. The two belong together: take
    both from the same place.
statistics_of_the_batch: return (images.float() / 255 - mean) / std →
→ pixels, axes = images / 255, (0, 2, 3)
→ return (pixels - pixels.mean(axes, keepdim=True)) / pixels.std(axes, keepdim=True)
    Every batch is shifted and scaled by its own statistics. So what a model sees of an image
    depends on its neighbours in the batch. The mean and the deviation are fixed numbers.
bytes: / 255 →
    The statistics are those of pixels between 0 and 1, and yours are still bytes between 0 and 255.
    Divide by 255 first.
by_256: 255 → 256
    You divide by 256. Bytes run from 0 to 255, and white should be 1: divide by 255.
brackets: (images.float() / 255 - mean) / std → images.float() / 255 - mean / std
    Only the mean is divided by the deviation, since / binds tighter than −. Put brackets around the
    subtraction.
first_channel: [:, None, None] → [0]
    All channels get the statistics of the first. That does no harm to grey images; a colour image
    has three means and three deviations.
tuples: (torch.tensor(values)[:, None, None] for values in (mean, std)) → mean, std
    mean and std are tuples, and Python cannot subtract a tuple from a tensor. Make tensors of them
    first, with torch.tensor, and give these the shape (C, 1, 1).
rows: [:, None, None] → [:, None]
    The statistics are laid along the second axis from the right, the rows of pixels. They belong to
    the channels, one axis further left. Give them the shape (C, 1, 1).
last_axis: [:, None, None] →
    The statistics are laid along the last axis, the columns of pixels: that is how tensors of
    different size are matched. They belong to the channels. Give them the shape (C, 1, 1). Only an
    image as wide as it has channels hides this.
twice: images.float() / 255 - mean → (images.float() / 255 - mean) / std - mean
    The images are normalised twice. It happens where a data set normalises its images already and
    the loop does it again. Subtract and divide once.
whole_number_division: images.float() / 255 → images // 255
    // divides and rounds down: all that is not white becomes 0. Divide with /.
by_the_largest: / 255 → / images.max()
    You divide by the largest pixel of the batch. So what a model sees of an image depends on its
    neighbours. Divide by 255, always.
no_statistics: (images.float() / 255 - mean) / std → images.float() / 255
    The pixels lie between 0 and 1, and that is all. Subtract the mean, and divide by the standard
    deviation.
condition_turned_round: is not None else → is None else
    The condition is turned round: the model's statistics are taken where it has none, and left
    alone where it has some.
cut_to_0_and_1: (images.float() / 255 - mean) / std →
→ ((images.float() / 255 - mean) / std).clamp(0, 1)
    The result is cut to [0, 1]. Normalised pixels lie around 0, half of them below: leave out
    clamp.
turned_back: (images.float() / 255 - mean) / std → images.float() / 255 * std + mean
    This is the way back, from normalised pixels to [0, 1]. Subtract the mean, then divide by the
    deviation.
one_for_all_channels: [:, None, None] → .mean()
    The statistics are averaged over the channels. Each channel has its own: give them the shape (C,
    1, 1).
no_std: (images.float() / 255 - mean) / std → images.float() / 255 - mean
    The mean is subtracted, and nothing is divided by the standard deviation.
no_mean: (images.float() / 255 - mean) / std → images.float() / 255 / std
    The pixels are divided by the standard deviation, and the mean is not subtracted before.
divided_first: (images.float() / 255 - mean) / std → images.float() / 255 / std - mean
    The pixels are divided by the deviation before the mean is subtracted. The mean is one of pixels
    as they were: subtract first, then divide.
variance: - mean) / std → - mean) / std**2
    You divide by the square of the standard deviation, the variance. Divide by `std` itself.
root: - mean) / std → - mean) / std.sqrt()
    You divide by the root of the standard deviation. It is the root of the variance already: divide
    by `std` itself.
multiplied: - mean) / std → - mean) * std
    You multiply by the standard deviation. To make the deviation 1, divide by it.
added: 255 - mean → 255 + mean
    The mean is added. Subtract it, so that the mean becomes 0.
divided_by_255_last: images.float() / 255 - mean) / std → images.float() - mean) / std / 255
    The division by 255 comes last, so that the mean of pixels in [0, 1] is subtracted from bytes.
    Divide the bytes by 255 before you subtract.
from_minus_one_to_one: images.float() / 255 - mean → images.float() / 127.5 - 1 - mean
    Your pixels lie between −1 and 1 before the mean is subtracted. The statistics are those of
    pixels between 0 and 1: divide by 255.
statistics_of_each_image: return (images.float() / 255 - mean) / std →
→ pixels, axes = images / 255, (2, 3)
→ return (pixels - pixels.mean(axes, keepdim=True)) / pixels.std(axes, keepdim=True)
    Every image is shifted and scaled by its own statistics, so that a dark image and a bright one
    look the same to the model. The mean and the deviation are fixed numbers, those of a whole data
    set.
swapped: for values in (mean, std) → for values in (std, mean)
    Mean and standard deviation are swapped: subtract the mean, divide by the deviation.
""") | edits(by_channel, """
statistics_of_the_model_only_by_channel: if model.mean is not None else (mean, std) →
    A model that has not been trained has no statistics: its mean and std are None. Then use those
    that are given.
""")  # fmt: skip


def probe(answer):
    def run(own, mean, std, *shape):
        model = nn.Identity()
        model.mean, model.std = own
        pixels = (draw(*shape).abs() * 90).clamp(max=255).to(torch.uint8)
        return answer(model, pixels, mean, std)

    a, b = ((0.4, 0.3), (0.2, 0.1)), ((0.6, 0.1), (0.3, 0.5))
    one = ((0.45,), (0.26,))
    return [
        partial(run, (None, None), *a, 3, 2, 4, 5),
        partial(run, b, *a, 3, 2, 5, 4),
        partial(run, a, *b, 1, 2, 3, 2),
        partial(run, one, (0.7,), (0.9,), 2, 1, 3, 4),
    ]


EXERCISE = Exercise(
    name="normalise_for",
    chapter="07_training",
    task="normalise_for(model, images, mean, std) -> float32 (B, C, H, W): bytes to pixels in "
    "[0, 1], minus the mean, divided by the standard deviation of each channel: the model's own "
    "where model.mean is not None, else the given ones",
    reference=normalise_for,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_channel, by_image_set],
    probe=probe,
)
