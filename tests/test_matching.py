"""Whether a model and pictures fit each other, and pictures made to fit."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vitlib import VisionTransformer
from vitlib.data import ImageData, ImageSet
from vitlib.matching import (
    as_vision_transformer,
    check_explainable,
    check_explains_pictures,
    check_fits,
    check_inputs,
    match_model,
    normalised_for,
    picture_channels,
)


def small(**options) -> VisionTransformer:
    size = {"img_size": (8, 12), "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2}
    model = VisionTransformer(**size | {"in_chans": 3, "num_classes": 4} | options)
    model.mean, model.std = (0.5,) * model.in_chans, (0.25,) * model.in_chans
    return model


def pictures(channels: int = 3, size: tuple[int, int] = (8, 12), count: int = 8) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, channels, *size), generator=generator).byte()
    return ImageSet(images, torch.arange(count) % 4, (0.1,) * channels, (0.2,) * channels)


def refusal(check, *arguments) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are what it returns
        check(*arguments)
    return str(caught.value)


# Models


def test_a_compiled_model_is_the_model_inside():
    model = small()
    compiled = torch.compile(model, backend="eager")
    for check in (as_vision_transformer, check_explainable, check_explains_pictures):
        assert check(compiled) is check(model) is model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 0}, "pets has no head (num_classes=0), so it has no answer to explain"),
        ({"depth": 0}, "pets has no blocks (depth=0)"),
    ],
)
def test_what_has_no_answer_is_refused_by_its_name(change, message):
    for check in (check_explainable, check_explains_pictures):
        assert refusal(check, small(**change), "pets") == message
        assert refusal(check, small(**change)) == message.replace("pets", "the model")


def test_to_explain_pictures_a_model_must_say_how_they_are_prepared():
    check_explainable(small(in_chans=4))
    message = "pets takes images of 4 channels, pictures have 1 or 3"
    assert refusal(check_explains_pictures, small(in_chans=4), "pets") == message
    assert refusal(picture_channels, small(in_chans=4), "pets") == message
    assert [picture_channels(small(in_chans=channels)) for channels in (1, 3)] == [1, 3]
    for name in ("mean", "std"):
        model = small()
        setattr(model, name, None)
        assert check_explainable(model) is model
        assert refusal(check_explains_pictures, model, "pets") == (
            "pets does not say by what mean and std its images were normalised: set model.mean "
            "and model.std"
        )


# A batch of tensors


def test_a_batch_that_fits_passes_and_another_is_refused_with_both_sides(unchecked):
    model, good = small(), torch.randn(5, 3, 8, 12)
    check_inputs(model, good)
    check_inputs(model, good.double())
    broken = good.clone()
    broken[1, 0, 0, 0], broken[3, 2, 7, 11] = torch.nan, -torch.inf
    for bad, message in [
        (good.numpy(), "expected a tensor of images (B, C, H, W), got ndarray"),
        (good[0], "got (3, 8, 12); for one image add the batch axis"),
        (good[:, :1], "expected 3 channels, got 1 in shape (5, 1, 8, 12)"),
        (good.permute(0, 2, 3, 1), "channels seem to come last: use images.permute(0, 3, 1, 2)"),
        (good.mT, "expected images of 8×12 pixels, got 12×8: resize them, or build the model"),
        (good.byte(), "expected floating-point images, got torch.uint8"),
        (good[:0], "expected at least one image, got none"),
        (broken, "images hold NaN or infinity: 2 of 5, first number 1"),
    ]:
        assert message in refusal(check_inputs, model, bad)


def test_of_any_size_the_patch_must_still_divide_it():
    model = small(dynamic_img_size=True)
    check_inputs(model, torch.randn(1, 3, 16, 4))
    bad = torch.randn(1, 3, 9, 12)
    assert "image size 9×12 is not divisible by patch size 4×4" in refusal(check_inputs, model, bad)


# A whole set


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"in_chans": 1}, "the images have 3 channels, the model takes 1"),
        (
            {"img_size": 16},
            "the images are 8×12, the model takes 16×16: build it with img_size=(8, 12), or load "
            "the data with img_size=(16, 16)",
        ),
        ({"num_classes": 0}, "no head: call model.reset_classifier(n), n at least 4 here"),
        (
            {"num_classes": 3},
            "the labels go from 0 to 3, but the model has num_classes=3, for labels from 0 to 2",
        ),
    ],
)
def test_a_set_that_does_not_fit_is_refused_with_both_sides(model, message):
    check_fits(small(), pictures())
    assert message in refusal(check_fits, small(**model), pictures())


def test_an_empty_set_is_refused():
    assert refusal(check_fits, small(), pictures(count=0)) == "the data hold no images"


def test_a_foreign_model_is_asked_only_for_what_it_says_of_itself():
    model = nn.Linear(2, 2)
    check_fits(model, pictures())
    model.img_size = 8
    assert "the images are 8×12, the model takes 8×8" in refusal(check_fits, model, pictures())
    model.dynamic_img_size = True
    check_fits(model, pictures())
    model.num_classes = 2
    assert "the labels go from 0 to 3" in refusal(check_fits, model, pictures())


# Made to fit


def test_images_are_normalised_as_the_model_wants_where_it_says_how():
    given = pictures()
    matched = normalised_for(small(), given)
    assert (matched.mean, matched.std) == ((0.5,) * 3, (0.25,) * 3)
    assert matched.images is given.images
    assert matched.labels is given.labels
    for name in ("mean", "std"):
        model = small()
        setattr(model, name, None)
        assert normalised_for(model, given) is given
    assert normalised_for(nn.Linear(2, 2), given) is given


def made(channels: int) -> ImageData:
    parts = (pictures(channels), pictures(channels, count=4))
    mean, std = parts[0].mean, parts[0].std
    return ImageData("made", *parts, tuple("abcd"), mean, std, ("broken.png",))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_data_come_in_the_models_channels_and_scale(channels, in_chans):
    data, model = made(channels), small(in_chans=in_chans)
    matched = match_model(data, model)
    for part, before in ((matched.train, data.train), (matched.test, data.test)):
        assert part.images.shape == (len(before), in_chans, 8, 12)
        assert part.images.dtype == torch.uint8
        assert torch.equal(part.labels, before.labels)
        assert (part.mean, part.std) == (model.mean, model.std)
    assert (matched.mean, matched.std) == (model.mean, model.std)
    assert (matched.name, matched.classes) == ("made", data.classes)
    assert matched.skipped == ("broken.png",)
    found, before = matched.train.images[3].numpy(), data.train.images[3].numpy()
    if channels == in_chans:
        assert np.array_equal(found, before)
    elif in_chans == 3:
        assert np.array_equal(found, np.concatenate([before] * 3))
    else:
        grey = Image.fromarray(before.transpose(1, 2, 0)).convert("L")
        assert np.array_equal(found[0], np.asarray(grey))


def test_where_the_model_does_not_know_mean_and_std_the_training_images_tell_them():
    model = small(in_chans=1)
    model.mean = model.std = None
    matched = match_model(made(3), model)
    pixels = matched.train.images.double() / 255
    assert matched.mean == pytest.approx((pixels.mean().item(),))
    assert matched.std == pytest.approx((pixels.std(correction=0).item(),))
    assert (matched.test.mean, matched.test.std) == (matched.mean, matched.std)


def test_no_picture_has_two_channels():
    message = "the model takes images of 2 channels, pictures have 1 or 3"
    with pytest.raises(ValueError, match=re.escape(message)):
        match_model(made(3), small(in_chans=2))
