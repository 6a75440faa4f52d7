"""`check.training` passes models of every kind that can learn, and says which line a bug breaks."""

import math
from dataclasses import replace

import pytest
import torch
from peers import timm, transformers
from torch import nn
from torch.nn import functional as F

import vitlib
from vitlib import MlpMixer, SmallCNN, VisionTransformer, check, load_data
from vitlib.runs.train_mistakes import never_mix

DATA = load_data("digits")  # 8 × 8 grey
SIZES = {"img_size": 8, "patch_size": 2, "in_chans": 1, "num_classes": 10}


def vit(**options):
    torch.manual_seed(0)
    sizes = SIZES | {"embed_dim": 32, "depth": 2, "num_heads": 2, "weight_init": "jax"}
    return VisionTransformer(**sizes | options)


def hugging_face():
    config = transformers.ViTConfig(
        image_size=8, patch_size=2, num_channels=1, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=64, num_labels=10,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


HEALTHY = {
    "vitlib": vit,
    "vitlib, distilled, with registers": lambda: vit(distilled=True, reg_tokens=2),
    "average pooling, dropout": lambda: vit(
        global_pool="avg", drop_rate=0.1, drop_path_rate=0.1, attn_drop_rate=0.1
    ),
    "SmallCNN": lambda: SmallCNN(img_size=8, width=8),
    "MlpMixer": lambda: MlpMixer(8, 2, 1, 10, embed_dim=32, depth=2),
    "timm": lambda: timm.create_model(
        "vit_tiny_patch16_224", img_size=8, patch_size=2, in_chans=1, num_classes=10, depth=2
    ),
    "timm's ResNet": lambda: timm.create_model("resnet10t", in_chans=1, num_classes=10),
    "Hugging Face": hugging_face,
    "by hand": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10)
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_models_that_learn_pass(name):
    torch.manual_seed(0)
    checklist = check.training(HEALTHY[name](), DATA)
    assert checklist, str(checklist)
    assert len(checklist.lines) == 9
    assert "-0.00" not in str(checklist)  # a mean that is rounded to zero has no sign


def test_a_trained_model_is_told_from_a_fresh_one():
    data = load_data("mnist5k")
    model = vitlib.create_model("vit_nano_patch7_28", pretrained=True)
    checklist = check.training(model, data)
    assert checklist
    assert "has been trained already" in str(checklist)


# --- bugs, and the line that finds each


def without_mixing(**options):
    model = vit(**options)
    never_mix(model)
    return model


class Wrapped(nn.Module):
    """A model whose answer, or whose input, goes through a function."""

    def __init__(self, model, before=nn.Identity(), after=nn.Identity()):  # noqa: B008
        super().__init__()
        self.model, self.before, self.after = model, before, after
        self.patch_size = 2

    def forward(self, images):
        return self.after(self.model(self.before(images)))


def large_start():
    model = vit()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def never_used():
    model = vit()
    model.extra = nn.Linear(3, 3)
    return model


def cut():
    model = vit()
    model.norm.register_forward_hook(lambda *args: args[2].detach())
    return model


def without_the_last_row(images):
    images = images.clone()
    images[:, :, 6:] = 0
    return images


def lone_answer():
    """The head's bias, whatever the image."""
    model = vit()
    return Wrapped(model, before=torch.zeros_like)


BUGS = {
    "weights of deviation 1": (large_start, "loss at the start"),
    "a layer never used": (never_used, "gradients"),
    "a detach": (cut, "gradients"),
    "the class token meets nobody": (without_mixing, "parts of the image"),
    "tokens never mix": (lambda: without_mixing(global_pool="avg"), "tokens mix"),
    "the last patches dropped": (
        lambda: Wrapped(vit(), before=without_the_last_row),
        "parts of the image",
    ),
    "no positions": (lambda: vit(pos_embed="none"), "order"),
    "softmax over the batch": (
        lambda: Wrapped(vit(), after=lambda z: z - z.logsumexp(dim=0)),
        "batch",
    ),
    "dropout in eval mode": (
        lambda: Wrapped(vit(), before=lambda x: F.dropout(x, 0.2)),
        "eval mode",
    ),
    "one answer for all": (lone_answer, "one batch by heart"),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_breaks_its_line(name):
    make, line = BUGS[name]
    checklist = check.training(make(), DATA)
    assert not checklist
    assert line in checklist.failed, str(checklist)
    others = {
        "a detach": ["one batch by heart"],
        "the class token meets nobody": ["one batch by heart", "gradients", "tokens mix", "order"],
        "tokens never mix": ["gradients"],  # the class token's, which nobody reads
        "dropout in eval mode": ["batch"],
        "one answer for all": ["gradients", "parts of the image", "tokens mix", "order"],
    }
    assert set(checklist.failed) <= {line, *others.get(name, [])}


@pytest.mark.parametrize("classes", [3, 10])
def test_a_softmax_at_the_end_is_named_and_no_other_line_is_misled(classes):
    few = DATA.train.subset((DATA.train.labels < classes).nonzero().flatten())
    data = replace(DATA, train=few, test=few, classes=DATA.classes[:classes])
    checklist = check.training(Wrapped(vit(num_classes=classes), after=nn.Softmax(dim=1)), data)
    assert checklist.failed == ["one batch by heart"], str(checklist)
    assert "is there a softmax at the end of the model?" in str(checklist)
    assert "softmax at the end" not in str(check.training(without_mixing(), DATA))


def data_with(mean, std):
    train, test = (replace_statistics(part, mean, std) for part in (DATA.train, DATA.test))
    return replace(DATA, train=train, test=test, mean=mean, std=std)


def replace_statistics(part, mean, std):
    return vitlib.ImageSet(part.images, part.labels, mean, std)


def test_pixels_that_nobody_normalised_are_seen():
    checklist = check.training(vit(), data_with((0.0,), (1 / 255,)))
    assert checklist.failed[0] == "input statistics"
    model = vit()
    model.mean, model.std = (0.5,), (0.5,)
    checklist = check.training(model, DATA)
    assert checklist.failed == ["input statistics"]
    assert "expect pixels with mean (0.5,)" in str(checklist)
    model.mean, model.std = (tuple(math.nextafter(x, 1) for x in t) for t in (DATA.mean, DATA.std))
    assert check.training(model, DATA)  # another processor rounds so


# --- what it leaves, shows and refuses


def test_nothing_is_left_behind():
    model = vit(drop_rate=0.1).train()
    model.blocks[0].requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    checklist = check.training(model, DATA)
    assert torch.equal(torch.rand(2), expected)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert "but the 12 frozen tensors" in str(checklist)
    assert str(check.training(model, DATA)) == str(checklist)  # the same images, the same answer


def test_shows_one_row_per_line():
    html = check.training(vit(pos_embed="none"), DATA)._repr_html_()
    assert html.count("<tr ") == 9
    assert html.count("✗") == 1
    assert "<strong>order</strong>" in html


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (VisionTransformer, DATA, "expected a model, a torch.nn.Module, got type"),
        (nn.Conv2d(1, 3, 3), DATA, r"expected logits of shape \(32, K\) for 32 images, got"),
        (nn.Flatten(), DATA, "the model has no parameter that could be trained"),
        (nn.Linear(8, 10), DATA.train, "expected data as load_data gives them, got ImageSet"),
        (VisionTransformer(**SIZES | {"in_chans": 3}, depth=1), DATA, "the images have 1 channels"),
    ],
)
def test_what_it_cannot_look_at(model, data, message):
    with pytest.raises(ValueError, match=message):
        check.training(model, data)
