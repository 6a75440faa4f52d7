"""The instruments stay quiet on right models, and see the bugs that they are for."""

import json
import re

import pytest
import torch
from building import ROOT
from peers import timm
from planted_bugs import BUGS, CLASSES, SIDE, WIDTH, Attention, ViT
from tiny_vits import IMG_SIZE, make
from torch import nn

from vitlib import MlpMixer, SmallCNN, VisionTransformer, check, create_model
from vitlib.check.instruments.attention import HIGH, LOW
from vitlib.check.instruments.weights import attention_seen
from vitlib.palette import ORANGE


def pictures(count=7, in_chans=3, side=SIDE):
    return torch.randn(count, in_chans, side, side, generator=torch.Generator().manual_seed(2))


def examined(model, **options):
    return check.examine(model, pictures(), **options)


# --- bugs


def test_the_small_vit_is_right():
    torch.manual_seed(0)
    checklist = examined(ViT())
    assert checklist, str(checklist)
    assert len(checklist.lines) == 13


@pytest.mark.parametrize("name", BUGS)
def test_which_instruments_see_a_bug(name):
    make_model, expected = BUGS[name]
    torch.manual_seed(0)
    checklist = examined(make_model())
    assert set(checklist.failed) == expected, str(checklist)


REFERENCE_SEES = {  # what no instrument sees -> the rung at which it parts from the right model
    "30 heads not transposed back": "blocks.0.attn.proj",
    "32 the class read off a patch": "blocks.0.norm1",
    "35 residual from the norm": "blocks.0.norm2",
}
OTHER_WEIGHTS = {"9 post-norm, ReLU, no last norm", "21 patches scrambled"}


def test_every_silent_bug_is_accounted_for():
    unseen = {name for name, (_, seen) in BUGS.items() if not seen}
    assert unseen == set(REFERENCE_SEES) | OTHER_WEIGHTS


@pytest.mark.parametrize("name", REFERENCE_SEES)
def test_what_no_instrument_sees_a_reference_does(name):
    torch.manual_seed(0)
    checklist = examined(BUGS[name][0](), reference=ViT())
    assert checklist.failed == ["parity ladder"], str(checklist)
    assert f"part at {REFERENCE_SEES[name]};" in str(checklist)
    assert "The models part at" in checklist.lines[-1]._repr_html_()


def test_a_reference_with_weights_of_other_names_needs_rungs():
    torch.manual_seed(0)
    model, other = BUGS["9 post-norm, ReLU, no last norm"][0](), ViT()
    with pytest.raises(ValueError, match="the weights have other names or shapes than the ref"):
        check.parity_ladder(model, other, pictures())
    rungs = {"patches": ("patches", "patches", "out"), "head": ("norm", "norm", "in")}
    model.patches.load_state_dict(other.patches.state_dict())
    finding = check.parity_ladder(model, other, pictures(), rungs)
    assert "part at head; the rung before it agrees" in finding.sentence
    rungs = {"MLP": ("blocks.layers.layers.0.linear1", "blocks.0.mlp.0", "in")}
    picture = check.parity_ladder(model, other, pictures(), rungs)._repr_html_()
    assert ">into …0.linear1</text>" in picture
    assert ">into blocks.0.mlp.0</text>" in picture
    with pytest.raises(ValueError, match="nothing was seen at 'nowhere'"):
        check.parity_ladder(model, other, pictures(), {"x": ("nowhere", "norm", "out")})


@pytest.mark.parametrize(("eps", "is_found"), [(1e-5, False), (1e-6, True)])
def test_a_ladder_sees_another_eps(eps, is_found):
    torch.manual_seed(0)
    model, reference = ViT(), ViT()
    model.norm.eps = eps
    assert check.parity_ladder(model, reference, pictures()).found is is_found


# --- right models

RIGHT = [
    "timm vit_tiny_patch16_224", "timm deit3_base_patch16_224", "timm vit_base_patch16_gap_224",
    "timm deit_base_distilled_patch16_224", "timm vit_base_patch16_clip_224",
    "timm vit_base_patch14_reg4_dinov2", "timm vit_base_patch16_siglip_224", "transformers vit",
    "transformers deit", "transformers vit_msn", "transformers siglip", "transformers dinov2",
]  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", RIGHT)
def test_nothing_is_found_in_right_models(name, seed):
    torch.manual_seed(seed)
    checklist = check.examine(make(name), pictures(side=IMG_SIZE), seed=seed)
    assert checklist, str(checklist)


def vit(**options):
    torch.manual_seed(0)
    return VisionTransformer(
        SIDE, 4, 3, CLASSES, embed_dim=WIDTH, depth=2, num_heads=3, weight_init="jax", **options
    )


OTHERS = {
    "vitlib": vit,
    "vitlib, dropout everywhere": lambda: vit(
        drop_rate=0.1, attn_drop_rate=0.1, drop_path_rate=0.1
    ),
    "vitlib, registers and mean": lambda: vit(reg_tokens=2, global_pool="avg"),
    "SmallCNN": lambda: SmallCNN(SIDE, 3, CLASSES, width=8),
    "MlpMixer": lambda: MlpMixer(SIDE, 4, 3, CLASSES, embed_dim=WIDTH, depth=2),
    "timm's ResNet": lambda: timm.create_model("resnet10t", num_classes=CLASSES),
}


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_is_found_in_others(name):
    torch.manual_seed(0)
    checklist = examined(OTHERS[name]())
    assert checklist, str(checklist)
    if name == "timm's ResNet":
        lines = {line.name: str(line) for line in checklist.lines}
        assert lines["attention rows"].startswith("○ attention rows: no softmax")


def test_a_trained_model_is_not_judged_by_its_first_weights():
    model = create_model("vit_nano_patch7_28", pretrained=True)
    checklist = check.examine(model, pictures(in_chans=1, side=28))
    assert checklist, str(checklist)
    assert "loss at the start" not in [line.name for line in checklist.lines]
    assert "○ first weights" in str(checklist)


def test_the_limits_have_room_in_the_recorded_values():
    log = json.loads((ROOT / "benchmarks" / "instruments.json").read_text("utf8"))
    assert log["seeds"] >= 10
    assert sum(map(len, log["models"].values())) > 180
    values = {
        name: [value for pair in by_model.values() for value in pair]
        for name, by_model in log["values"].items()
    }
    deviations = values["attention entropy"]
    assert min(deviations) > LOW * 1.05
    assert max(deviations) < HIGH / 1.05
    assert max(values["first weights"]) < 1
    assert max(values["one batch by heart"]) < 0.25 / 2
    assert min(values["order"]) > 1e-6 * 10
    assert max(values["batch"]) < 1e-6 / 10


# --- the weights of any attention


def test_attention_is_seen_in_models_of_every_make():
    images = pictures(2, side=IMG_SIZE)
    for name in ("timm test_vit", "transformers vit"):
        seen = attention_seen(make(name).eval(), images)
        assert len(seen) == 2
        assert all(one.weights.shape[-2:] == (17, 17) and one.is_square for one in seen)
    layer = nn.TransformerEncoderLayer(WIDTH, 3, batch_first=True)
    model = ViT(block=lambda attention: layer).eval()
    (first, _) = attention_seen(model, pictures(2))
    assert first.weights.shape[-2:] == (17, 17)
    assert torch.allclose(first.weights.sum(dim=-1), torch.ones(()))


class KeysFirst(Attention):
    """A right one, whose weights lie the other way round: keys, then queries."""

    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = self.attn_drop((k @ q.transpose(-2, -1) * self.scale).softmax(dim=-2))
        return self.project(self.merge(weights.transpose(-2, -1) @ v), x)


def test_the_axis_that_counts_is_the_one_that_is_summed_over():
    torch.manual_seed(0)
    assert check.attention_rows(ViT(KeysFirst), pictures())
    finding = check.attention_rows(BUGS["28 softmax over the queries"][0](), pictures())
    assert finding.found
    assert finding.value > 0.01


def test_without_a_scale_and_scaled_twice():
    class Unscaled(Attention):
        def __init__(self):
            super().__init__()
            self.scale = 1.0

    class Twice(Attention):
        def __init__(self):
            super().__init__()
            self.scale = self.scale**2

    torch.manual_seed(0)
    large, small = (check.entropy_by_depth(ViT(kind), pictures()) for kind in (Unscaled, Twice))
    assert large.found
    assert "too large" in large.sentence
    assert large.value == pytest.approx((WIDTH / 3) ** 0.5, rel=0.2)
    assert small.found
    assert "too small" in small.sentence


# --- what they leave, show and refuse


class Keeping(Attention):
    """It keeps its weights to be looked at, with their graph, which deepcopy refuses."""

    def weights(self, scores):
        self.kept = super().weights(scores)
        return self.kept


def test_nothing_is_left_behind():
    torch.manual_seed(0)
    model = ViT(Keeping)
    model(pictures()).sum().backward()
    model.zero_grad()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    checklist = examined(model)
    assert checklist, str(checklist)
    assert torch.equal(torch.rand(2), expected)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert str(examined(model)) == str(checklist)


def test_each_instrument_works_alone_and_draws_itself():
    torch.manual_seed(0)
    model, seen = ViT(), set()
    for name in check.instruments.__all__:
        if name in ("examine", "parity_ladder", "start_loss", "norm_scope", "dropout_coverage"):
            continue
        finding = getattr(check, name)(model, pictures())
        assert finding, str(finding)
        html = finding._repr_html_()
        assert html.count("<svg") == 1, name
        ids = set(re.findall(r'id="([^"]+)"', html))
        assert not ids & seen, name
        seen |= ids
        assert "✓" in html
        assert f"<strong>✓ {finding.name}: " in html
    assert check.norm_scope(model, pictures())
    assert check.dropout_coverage(model, pictures())
    labels = torch.arange(7) % CLASSES
    assert check.start_loss(model, pictures(), labels).value == pytest.approx(1.6, abs=0.3)


def test_a_head_of_zeros_hides_nothing():
    """As many models start: their logits are alike for all images, what the head reads is not."""
    model = vit()
    assert not model.head.weight.any()
    for instrument in (check.every_part, check.permutation, check.batch_independence):
        assert instrument(model, pictures()), instrument.__name__
    assert check.permutation(vit(pos_embed="none"), pictures()).found


def test_a_table_of_sines_may_be_a_plain_tensor():
    torch.manual_seed(0)
    model = ViT()
    angles = torch.arange(17.0)[:, None] / 100 ** torch.linspace(0, 1, WIDTH // 2)
    del model.pos
    model.pos = torch.cat([angles.sin(), angles.cos()], dim=-1)[None]
    assert check.gradient_coverage(model, pictures())


def test_the_sentence_goes_on_to_the_cause():
    torch.manual_seed(0)
    finding = check.permutation(BUGS["no positions"][0](), pictures())
    assert str(finding) == (
        "✗ order: change 0%. Shuffled patches get the same answer: the model does not know where "
        "a patch was. Are there positions, and are they added?"
    )
    assert not finding
    assert f"solid {ORANGE}" in finding._repr_html_()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("model", "images", "message"),
    [
        (ViT, pictures(), "expected a model, a torch.nn.Module, got type"),
        (ViT(), pictures()[0], r"expected images, floats of shape \(B, C, H, W\), got"),
        (ViT(), (pictures() > 0), r"got torch.bool \(7, 3, 16, 16\)"),
        (ViT(), pictures(1), "the number of images must be at least 2, got 1"),
        (nn.Conv2d(3, 3, 3), pictures(), r"expected logits of shape \(7, K\) for 7 images"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(768, 1)),
            pictures(),
            "expected logits of at least two classes, got 1",
        ),
    ],
)
def test_what_they_cannot_look_at(model, images, message):
    with pytest.raises(ValueError, match=message):
        check.examine(model, images)
