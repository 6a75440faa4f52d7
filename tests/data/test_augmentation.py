"""vitlib.data.augmentation: recipes, mixup and cutmix."""

import random

import numpy as np
import pytest
import torch

from vitlib.data.augmentation import RECIPES, Strokes, augment, cutmix, mixup


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(9, 1, 28, 28), (9, 3, 32, 24), (1, 1, 8, 8)])
def test_augment_keeps_shape_dtype_and_range(recipe, dtype, shape):
    images = torch.rand(shape, dtype=dtype)
    before = images.clone()
    out = augment(recipe, shape[2:])(images)
    assert out.shape == images.shape
    assert out.dtype == dtype
    assert 0 <= out.min() <= out.max() <= 1
    assert not out.requires_grad
    assert torch.equal(images, before)


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "none"])
def test_augment_draws_from_torch_alone_and_for_each_image(recipe):
    images = torch.rand(1, 3, 32, 32).expand(32, -1, -1, -1).clone()
    module = augment(recipe, 32)
    torch.manual_seed(0)
    others = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    module(images)
    state = torch.get_rng_state()
    second = module(images)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == others  # noqa: NPY002
    assert len(second.flatten(1).unique(dim=0)) > 25
    # A run that is resumed builds the module anew, and other generators stand elsewhere.
    torch.set_rng_state(state)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert torch.equal(augment(recipe, 32)(images), second)


def test_randaugment_does_not_change_a_batch_all_alike():
    """kornia's own draws its operations once a batch: then all or none are inverted."""
    torch.manual_seed(0)
    images = torch.rand(200, 3, 8, 8)
    out = augment("randaugment", 8)[2](images)  # after flip and crop, before erasing
    inverted = ((1 - images) - out).flatten(1).abs().max(1).values < 1e-5
    assert 0 < inverted.sum() < 60


def test_randaugment_leaves_grey_grey():
    torch.manual_seed(0)
    images = torch.rand(40, 1, 12, 12)
    operation = augment("randaugment", 12)[2]
    torch.manual_seed(1)
    grey = operation(images)
    torch.manual_seed(1)
    colour = operation(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(colour, grey.expand(-1, 3, -1, -1))


def test_affine_never_flips_a_digit():
    torch.manual_seed(0)
    image = torch.zeros(64, 1, 28, 28)
    image[..., 6:22, 6:10] = 1  # a bar in the left half
    left = augment("affine", 28)(image)[..., :14].sum((1, 2, 3))
    assert (left > 0.9 * 64 * 0.85**2 * 0.5).all()


def test_handwriting_shifts_half_of_the_digits_far():
    torch.manual_seed(0)
    image = torch.zeros(400, 1, 28, 28)
    image[..., 11:17, 11:17] = 1
    moved = []
    for recipe in ("affine", "handwriting"):
        out = augment(recipe, 28)(image)
        column = (out.sum((1, 2)) * torch.arange(28)).sum(1) / out.sum((1, 2, 3))
        moved.append(((column - 13.5).abs() > 3.2).float().mean())
    assert moved[0] == 0
    assert 0.12 < moved[1] < 0.35  # of a half, those that leave affine's range of 2.24 clearly


def test_strokes_become_thicker_thinner_and_coarser_and_some_stay():
    torch.manual_seed(0)
    image = torch.zeros(4000, 1, 28, 28)
    image[..., 4:24, 12:15] = 1  # a stroke, three pixels wide
    out = Strokes()(image)
    across = out[:, 0, 14]  # (B, 28), through the middle of the stroke
    stays = (across == image[:, 0, 14]).all(1)
    thicker = (across[:, 11] > 0) & (across[:, 13] == 1) & (across[:, 10] == 0)
    thinner = (across[:, 12] < 1) & (across[:, 13] == 1) & (across[:, 11] == 0)
    coarser = ~(stays | thicker | thinner)
    for kind in (stays, thicker, thinner, coarser):
        assert 900 < kind.sum() < 1100
    assert across[coarser][:, 9:18].sum(1).sub(3).abs().max() < 1  # ink is spread, not added
    assert thicker.sum() + thinner.sum() + coarser.sum() + stays.sum() == 4000
    assert 0.4 < across[thicker][:, 11].mean() < 0.6  # a random share


def test_flip_crop_flips_half_and_shifts_by_an_eighth():
    torch.manual_seed(0)
    image = torch.zeros(400, 1, 32, 32)
    image[:, :, 16, 8] = 1
    out = augment("flip_crop", 32)(image)
    rows, columns = out.flatten(1).argmax(1) // 32, out.flatten(1).argmax(1) % 32
    assert (rows.min(), rows.max()) == (12, 20)
    assert sorted(columns.unique().tolist()) == [*range(4, 13), *range(19, 28)]
    assert 150 < (columns > 16).sum() < 250


def test_unknown_recipe():
    with pytest.raises(ValueError, match=r"unknown augmentation 'afine'.* Did you mean 'affine'\?"):
        augment("afine", 28)


# mixup and cutmix --------------------------------------------------------------------------------


@pytest.fixture
def tagged() -> tuple[torch.Tensor, torch.Tensor]:
    """Eight images, number k of value k / 8 everywhere, each its own class."""
    return (torch.arange(8) / 8)[:, None, None, None].expand(-1, 2, 20, 16).clone(), torch.eye(8)


def test_mixup_blends_images_and_targets_alike(tagged):
    images, targets = tagged
    torch.manual_seed(0)
    lambdas = []
    for _ in range(1500):
        mixed, soft = mixup(images, targets, 0.4)
        torch.testing.assert_close(mixed[:, 0, 0, 0], soft @ (torch.arange(8) / 8))
        torch.testing.assert_close(soft.sum(1), torch.ones(8))
        one_lam = [row.max() if (row > 0).sum() > 1 else None for row in soft]
        lambdas += [float(value) for value in one_lam if value is not None][:1]
    # The larger of λ and 1 - λ, for λ ~ Beta(0.4, 0.4): mean 0.840.
    assert np.mean(lambdas) == pytest.approx(0.840, abs=0.015)
    assert torch.equal(images, tagged[0])


def test_cutmix_mixes_targets_by_the_pasted_area(tagged):
    images, targets = tagged
    torch.manual_seed(0)
    areas = []
    for _ in range(1000):
        mixed, soft = cutmix(images, targets, 1.0)
        torch.testing.assert_close(mixed.mean((1, 2, 3)), soft @ (torch.arange(8) / 8))
        torch.testing.assert_close(soft.sum(1), torch.ones(8))
        pasted = (mixed != images)[:, 0]
        areas.append(float(pasted.flatten(1).sum(1).max()) / (20 * 16))
        if areas[-1]:
            changed = pasted[pasted.flatten(1).any(1)][0].nonzero()
            low, high = changed.min(0).values, changed.max(0).values
            assert len(changed) == (high - low + 1).prod()  # one whole box
    # Uniform λ asks for half the image on average; the border cuts a fifth off.
    assert np.mean(areas) == pytest.approx(0.302, abs=0.03)


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_mixing_follows_torch_generator_and_leaves_its_input(mix, tagged):
    images, targets = tagged
    before = images.clone(), targets.clone()
    torch.manual_seed(3)
    first = mix(images, targets, 1.0)
    torch.manual_seed(3)
    second = mix(images, targets, 1.0)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])
    single = mix(images[:1], targets[:1], 1.0)
    torch.testing.assert_close(single, (images[:1], targets[:1]))
    for alpha in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="alpha of mixup and cutmix must be positive, got"):
            mix(images, targets, alpha)


@pytest.mark.parametrize("channels", range(1, 7))
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_takes_its_channels_or_says_which_does(recipe, channels):
    images = torch.rand(4, channels, 16, 16)
    if recipe == "randaugment" and channels not in (1, 3):
        message = rf"'randaugment' .* 1 or 3 channels, got {channels}: 'flip_crop', 'affine' and"
        with pytest.raises(ValueError, match=message):
            augment(recipe, 16, channels)
        with pytest.raises(ValueError, match=message):
            augment(recipe, 16)(images)  # who forgot to say it learns it from the images
    else:
        assert augment(recipe, 16, channels)(images).shape == images.shape
