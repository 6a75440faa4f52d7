"""What a ViT is measured against: a small convolutional network, and MLP-Mixer beside its peers."""

from dataclasses import replace

import pytest
import torch
from peers import randomise, timm
from torch import nn
from torch.nn import functional as F

from vitlib import TrainConfig, evaluate, fit, load_data
from vitlib.baselines import MixerBlock, MlpMixer, SmallCNN


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


# --- MLP-Mixer

MIXER = {
    "img_size": 12, "patch_size": 4, "in_chans": 2, "num_classes": 5, "embed_dim": 16, "depth": 3,
}  # fmt: skip


def test_a_mixer_is_timms_by_value_and_by_names():
    ratios = (0.4, 3.0)  # int(0.4 * 16) = 6 for the tokens
    for mlp_ratio, size in ((ratios, 12), ((0.5, 4.0), (8, 12))):
        sizes = MIXER | {"mlp_ratio": mlp_ratio, "img_size": size}
        ours = randomise(MlpMixer(**sizes)).double()
        depth = sizes.pop("depth")
        theirs = timm.models.mlp_mixer.MlpMixer(num_blocks=depth, **sizes).double().eval()
        theirs.load_state_dict(ours.state_dict())  # strict: the same names and shapes
        height, width = (size, size) if isinstance(size, int) else size
        images = torch.randn(3, 2, height, width, dtype=torch.float64)
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-12)
        torch.testing.assert_close(
            ours.forward_features(images), theirs.forward_features(images), rtol=0, atol=1e-12
        )


def test_a_mixer_is_mlp_mixer_pytorchs_by_value():
    """Which flattens a patch as (p, p, c), and gives the factors by the other name each."""
    from mlp_mixer_pytorch import MLPMixer

    theirs = MLPMixer(
        image_size=12, channels=2, patch_size=4, dim=16, depth=3, num_classes=5,
        expansion_factor=1.5, expansion_factor_token=2.0,
    ).double().eval()  # fmt: skip
    randomise(theirs)
    ours = MlpMixer(
        **MIXER, mlp_ratio=(1.5, 2.0), norm_layer=nn.LayerNorm  # its eps is PyTorch's
    ).double()  # fmt: skip
    given = list(theirs.state_dict().values())
    stem, rest = given[0].reshape(16, 4, 4, 2).permute(0, 3, 1, 2), given[1:]
    per_block = ["mlp_tokens.fc1", "mlp_tokens.fc2", "norm1", "mlp_channels.fc1"]
    per_block += ["mlp_channels.fc2", "norm2"]  # in the order in which they were registered there
    names = ["stem.proj.bias"]
    names += [
        f"blocks.{i}.{part}.{kind}"
        for i in range(3)
        for part in per_block
        for kind in ("weight", "bias")
    ]
    names += ["norm.weight", "norm.bias", "head.weight", "head.bias"]
    values = {"stem.proj.weight": stem}
    for name, value in zip(names, rest, strict=True):
        values[name] = value.reshape(ours.get_parameter(name).shape)  # (out, in, 1) convolutions
    ours.load_state_dict(values)
    images = torch.randn(3, 2, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(ours.eval()(images), theirs(images), rtol=0, atol=1e-12)


def test_a_mixer_block_mixes_tokens_in_one_half_and_channels_in_the_other():
    block = randomise(MixerBlock(8, 5)).double()
    x = torch.randn(1, 5, 8, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert not torch.allclose(block(x[:, order]), block(x)[:, order])  # it knows the places
    for parameter in block.mlp_tokens.fc2.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order])
    other = x.clone()
    other[:, 2, 1] += 1
    changed = (block(other) != block(x)).any(dim=2)[0]
    assert changed.tolist() == [False, False, True, False, False]


def test_a_mixer_starts_at_ln_k_and_skips_at_the_rates_asked_for():
    model = MlpMixer(**MIXER, drop_rate=0.1, drop_path_rate=0.2)
    assert torch.equal(model(torch.randn(2, 2, 12, 12)), torch.zeros(2, 5))
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in model.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2])
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.1}
    assert MlpMixer(**MIXER | {"num_classes": 0})(torch.randn(2, 2, 12, 12)).shape == (2, 16)


def test_mixer_b16_has_the_papers_number_of_parameters():
    with torch.device("meta"):
        base = MlpMixer(embed_dim=768, depth=12)
    assert sum(p.numel() for p in base.parameters()) == 59_880_472  # 59 million in its table 1


def test_a_mixer_learns_digits_in_a_few_steps():
    data = load_data("digits")
    torch.manual_seed(0)
    model = MlpMixer(8, 2, in_chans=1, num_classes=10, embed_dim=32, depth=2)
    fit(model, data, TrainConfig(steps=150, warmup_steps=10, augment="none", progress=False))
    assert model.classes == data.classes
    assert evaluate(model, data.test).accuracy > 0.85


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": 13}, "image size 13×13 is not divisible by patch size 4×4"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"num_classes": -1}, "num_classes must be at least 0, got -1"),
        ({"mlp_ratio": (1.0, 2.0, 3.0)}, "mlp_ratio must be one number or two"),
        ({"mlp_ratio": (0.01, 4.0)}, "hidden_features must be at least 1, got 0"),
        ({"drop_path_rate": 1.0}, "drop_path_rate must be at least 0 and below 1, got 1.0"),
    ],
)
def test_mixers_that_cannot_be_built(options, message):
    with pytest.raises(ValueError, match=message):
        MlpMixer(**MIXER | options)


def test_a_mixer_refuses_images_of_another_size():
    with pytest.raises(ValueError, match="12×12"):
        MlpMixer(**MIXER)(torch.zeros(1, 2, 16, 16))
