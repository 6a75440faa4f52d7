"""The small convolutional network that teaches, and against which a ViT is measured."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vitlib import TrainConfig, evaluate, fit, load_data
from vitlib.baselines import SmallCNN


def small(**options):
    torch.manual_seed(0)
    sizes = {"img_size": (9, 16), "in_chans": 2, "num_classes": 5, "width": 3}
    return SmallCNN(**sizes | options)


def test_logits_are_those_of_its_layers_written_out():
    model = small().double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 1, generator=generator)  # running statistics, too
    images = x = torch.randn(4, 2, 9, 16, dtype=torch.float64, generator=generator)
    layers = [m for m in model.features if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    for conv, norm, channels in zip(layers[::2], layers[1::2], (3, 6, 6), strict=True):
        x = F.conv2d(x, conv.weight, padding=1)
        assert x.shape[1] == channels
        x = (x - norm.running_mean[:, None, None]) / (norm.running_var + 1e-5)[:, None, None].sqrt()
        x = F.max_pool2d((x * norm.weight[:, None, None] + norm.bias[:, None, None]).relu(), 2)
    assert x.shape[-2:] == (1, 2)
    expected = x.flatten(1) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(images), expected, rtol=0, atol=1e-12)


def test_a_shift_of_the_image_is_a_shift_of_its_features():
    """What a convolution knows beforehand; by whole steps of the three poolings."""
    model = small(img_size=40).eval()
    images = torch.zeros(1, 2, 40, 40)
    images[..., 16:22, 16:22] = torch.rand(2, 6, 6)
    shifted = model.features(images.roll((8, -8), (2, 3)))
    torch.testing.assert_close(shifted, model.features(images).roll((1, -1), (2, 3)))


def test_carries_what_fit_and_evaluate_ask_a_model_for():
    model = small()
    assert (model.img_size, model.in_chans, model.num_classes) == ((9, 16), 2, 5)
    assert model.mean is model.std is model.classes is None
    sizes = SmallCNN()
    assert (sizes.img_size, sizes.in_chans, sizes.num_classes) == ((28, 28), 1, 10)
    assert sum(p.numel() for p in sizes.parameters()) == 61_674


def test_learns_digits_in_a_few_steps():
    data = load_data("digits")
    torch.manual_seed(0)
    model = SmallCNN(img_size=8, width=8)
    config = TrainConfig(steps=120, warmup_steps=10, augment="none", progress=False)
    fit(model, data, replace(config, ema_decay=None, lr=1e-2))
    assert model.mean == data.mean
    assert evaluate(model, data.test).accuracy > 0.85


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": 7}, "img_size must be at least 8, to be halved 3 times: got 7"),
        ({"img_size": (28, 7)}, r"to be halved 3 times: got \(28, 7\)"),
        ({"img_size": 0}, "img_size must be a positive integer"),
        ({"in_chans": 0}, "in_chans must be at least 1, got 0"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"width": -2}, "width must be at least 1, got -2"),
    ],
)
def test_sizes_that_no_network_has(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_other_images_are_refused():
    model = small()
    with pytest.raises(ValueError, match="expected 2 channels, got 3"):
        model(torch.zeros(1, 3, 9, 16))
    with pytest.raises(ValueError, match="9×16"):
        model(torch.zeros(1, 2, 16, 9))
