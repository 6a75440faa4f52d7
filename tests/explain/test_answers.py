"""What a model's own answers tell, against slow and plain code; and the model stays as it was."""

import pytest
import torch
from torch import nn

from vitlib import (
    VisionTransformer,
    create_model,
    gradient_rollout,
    load_data,
    logit_lens,
    occlusion,
    read_by_head,
    tokens_to_grid,
)

VARIANTS = {
    "plain": {},
    "distilled": {"distilled": True},
    "registers": {"reg_tokens": 3},
    "average": {"global_pool": "avg", "reg_tokens": 1},
    "representation": {"representation_size": 6},
    "dropout": {"attn_drop_rate": 0.5, "drop_rate": 0.2, "drop_path_rate": 0.5},
}
every_variant = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
ALL = {"gradient_rollout": gradient_rollout, "occlusion": occlusion, "logit_lens": logit_lens}
each_function = pytest.mark.parametrize("explain", ALL.values(), ids=ALL.keys())
with_target = pytest.mark.parametrize("explain", [gradient_rollout, occlusion])
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def make(dtype=torch.float64, **options):
    torch.manual_seed(0)
    sizes = {"img_size": (8, 12), "patch_size": 4, "in_chans": 2, "num_classes": 5}
    model = VisionTransformer(**sizes | {"embed_dim": 16, "depth": 3, "num_heads": 2} | options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.to(dtype)


def images(batch=4, dtype=torch.float64, size=(8, 12)):
    return torch.randn(batch, 2, *size, dtype=dtype, generator=torch.Generator().manual_seed(1))


# gradient_rollout


def relevance_of_one(model, image, target):
    """Chefer's rule for one image, with the attention written out and gradients by backward()."""
    model.eval()
    x = model._tokens(image[None])
    maps = []
    for block in model.blocks:
        attn, z = block.attn, block.norm1(x)
        qkv = attn.qkv(z).reshape(1, -1, 3, attn.num_heads, attn.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) / attn.head_dim**0.5, dim=-1)
        weights.retain_grad()
        maps.append(weights)
        x = x + attn.proj((weights @ v).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    logits = model.forward_head(model.norm(x))[0]
    logits[logits.argmax() if target is None else target].backward()
    relevance = torch.eye(x.shape[1], dtype=x.dtype)
    for weights in maps:
        product = (weights * weights.grad)[0].detach()
        mean = sum(head.clamp(min=0) for head in product) / len(product)
        relevance = relevance + mean @ relevance
    return relevance


@every_variant
@pytest.mark.parametrize("target", [None, 3, torch.tensor([4, 0, 1, 1])])
def test_gradient_rollout_is_chefers_rule_image_by_image(options, target):
    model = make(**options)
    relevance = gradient_rollout(model, images(), target)
    for number, image in enumerate(images()):
        own = target[number] if isinstance(target, torch.Tensor) else target
        torch.testing.assert_close(relevance[number], relevance_of_one(model, image, own), **CLOSE)
    tokens = model.num_prefix_tokens + 6
    assert relevance.shape == (4, tokens, tokens)
    off_diagonal = relevance - torch.eye(tokens)
    assert (off_diagonal >= 0).all()
    assert off_diagonal.amax(dim=(1, 2)).min() > 1e-3


def test_gradient_rollout_depends_on_the_class_and_weights_on_the_row_that_is_read():
    model = make()
    classes = torch.stack([gradient_rollout(model, images(), k) for k in range(5)])
    assert (classes.diff(dim=0).abs().amax(dim=(1, 2, 3)) > 1e-3).all()
    grid = tokens_to_grid(read_by_head(classes, model), (2, 3), model.num_prefix_tokens)
    assert grid.shape == (5, 4, 2, 3)
    torch.testing.assert_close(grid.flatten(2), classes[:, :, 0, 1:])


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_rollout_finds_its_gradients_anywhere(context):
    model, expected = make(), gradient_rollout(make(), images())
    model.requires_grad_(False)  # frozen, too
    with context():
        relevance = gradient_rollout(model, images())  # images made in that context
    torch.testing.assert_close(relevance, expected, **CLOSE)
    assert not relevance.requires_grad


# occlusion


def drops_of_one(model, image, target, patch, stride, fill):
    """One image, square by square."""
    model.eval()
    whole = model(image[None]).log_softmax(-1)[0]
    target = int(whole.argmax()) if target is None else int(target)
    tops = range(0, image.shape[1] - patch[0] + 1, stride[0])
    lefts = range(0, image.shape[2] - patch[1] + 1, stride[1])
    result = torch.zeros(len(tops), len(lefts), dtype=image.dtype)
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            covered = image.clone()
            covered[:, top : top + patch[0], left : left + patch[1]] = fill
            result[i, j] = whole[target] - model(covered[None]).log_softmax(-1)[0, target]
    return result.detach()


@every_variant
@pytest.mark.parametrize(
    ("given", "patch", "stride", "fill", "shape"),
    [
        ({}, (4, 4), (4, 4), 0.0, (2, 3)),
        ({"patch": 4, "stride": 2, "fill": -1.5}, (4, 4), (2, 2), -1.5, (3, 5)),
        ({"patch": (2, 3), "stride": (1, 3)}, (2, 3), (1, 3), 0.0, (7, 4)),
        ({"patch": (8, 12)}, (8, 12), (8, 12), 0.0, (1, 1)),
    ],
)
def test_occlusion_is_brute_force(options, given, patch, stride, fill, shape):
    model = make(**options)
    for target in (None, 2, torch.tensor([4, 0, 1, 1])):
        found = occlusion(model, images(), target, **given)
        assert found.shape == (4, *shape)
        for number, image in enumerate(images()):
            own = target[number] if isinstance(target, torch.Tensor) else target
            expected = drops_of_one(model, image, own, patch, stride, fill)
            torch.testing.assert_close(found[number], expected, **CLOSE)


@pytest.mark.parametrize("at_once", [1, 4, 9, 1000])
def test_occlusion_does_not_depend_on_how_many_run_together(at_once, monkeypatch):
    expected = occlusion(make(), images())
    monkeypatch.setattr("vitlib.explain.answers._AT_ONCE", at_once)
    torch.testing.assert_close(occlusion(make(), images()), expected, **CLOSE)


def test_occlusion_of_another_image_size():
    model = make(dynamic_img_size=True)
    assert occlusion(model, images(size=(12, 20))).shape == (4, 3, 5)


def test_covering_what_is_already_covered_costs_nothing():
    blank = torch.zeros(2, 2, 8, 12, dtype=torch.float64)
    torch.testing.assert_close(occlusion(make(), blank), blank[:, 0, :2, :3], **CLOSE)
    assert occlusion(make(), blank, fill=1.0).abs().min() > 1e-6


def test_squares_that_would_leave_pixels_uncovered_are_refused():
    for given, message in [
        ({"patch": 9}, "patch is 9 pixels high, the images only 8"),
        ({"patch": (8, 13)}, "patch is 13 pixels wide, the images only 12"),
        ({"patch": 3, "stride": 1}, None),
        ({"patch": (5, 12)}, "patches 5 high with a stride of 5 leave the last 3 of 8 pixels"),
        ({"patch": 2, "stride": 3}, "a stride of 3 leaves pixels between patches that are 2 high"),
        ({"patch": 0}, "patch must be a positive integer"),
        ({"stride": (4, 0)}, "stride must be a positive integer"),
        ({"fill": float("nan")}, "fill must be a finite number, got nan"),
    ]:
        if message is None:
            assert occlusion(make(), images(), **given).shape == (4, 6, 10)
        else:
            with pytest.raises(ValueError, match=message):
                occlusion(make(), images(), **given)


# logit_lens


@every_variant
def test_each_row_of_the_lens_is_a_model_cut_off_there(options):
    model = make(**options).eval()
    found = logit_lens(model, images())
    assert found.shape == (4, 3, 5)
    blocks = list(model.blocks)
    for depth in (1, 2, 3):
        model.blocks = nn.Sequential(*blocks[:depth])
        expected = model(images()).softmax(dim=-1)
        torch.testing.assert_close(found[:, depth - 1], expected, **CLOSE)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(4, 3, dtype=torch.float64))
    assert found.diff(dim=1).abs().amax(dim=(0, 2)).min() > 0.01
    assert not found.requires_grad


# what holds for all of them


@each_function
@every_variant
def test_a_batch_is_its_images_one_by_one(explain, options):
    model = make(**options)
    together = explain(model, images())
    alone = torch.cat([explain(model, image[None]) for image in images()])
    torch.testing.assert_close(together, alone, **CLOSE)


@with_target
def test_without_a_target_the_predicted_class_is_explained(explain):
    model = make().eval()
    with torch.no_grad():  # logits around 0, so that not all images get the same class
        model.head.bias -= model(images()).mean(dim=0)
        predicted = model(images()).argmax(dim=1)
    assert len(set(predicted.tolist())) > 1
    expected = explain(model, images(), predicted.int())
    torch.testing.assert_close(explain(model, images()), expected, **CLOSE)
    assert not torch.allclose(explain(model, images(), (predicted + 1) % 5), expected, atol=1e-3)


@each_function
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_the_model_is_left_as_it_was(explain, training, fails):
    model = make(attn_drop_rate=0.5, drop_rate=0.5).train(training)
    model.blocks[1].eval()  # part of a model may be in another mode
    model.blocks[2].attn.fused = False
    model.head.weight.requires_grad_(False)
    model.cls_token.grad = torch.ones_like(model.cls_token)

    def state():
        return (
            [m.training for m in model.modules()],
            [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
            [block.attn.fused for block in model.blocks],
            [p.requires_grad for p in model.parameters()],
            [None if p.grad is None else p.grad.sum().item() for p in model.parameters()],
            [p.sum().item() for p in model.parameters()],
            torch.is_grad_enabled(),
            torch.get_rng_state().tolist(),
        )

    before, inputs = state(), images()
    if fails:
        handle = model.norm.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            explain(model, inputs)
        handle.remove()
    else:
        explain(model, inputs)
    assert state() == before
    assert torch.equal(inputs, images())
    assert not inputs.requires_grad


@each_function
def test_a_compiled_model_is_explained(explain):
    torch.testing.assert_close(
        explain(torch.compile(make()), images()), explain(make(), images()), **CLOSE
    )


@each_function
def test_halves_answer_in_single_precision(explain):
    half, single = explain(make(torch.bfloat16), images().bfloat16()), explain(make(), images())
    assert half.dtype == torch.float32
    assert half.shape == single.shape
    assert half.isfinite().all()


@each_function
def test_models_that_cannot_answer_are_refused(explain):
    with pytest.raises(ValueError, match=r"expected a vitlib\.VisionTransformer, got Linear"):
        explain(nn.Linear(2, 2), images())
    with pytest.raises(ValueError, match=r"no head \(num_classes=0\)"):
        explain(make(num_classes=0), images())
    with pytest.raises(ValueError, match=r"no blocks \(depth=0\)"):
        explain(make(depth=0), images())


@each_function
def test_images_that_do_not_fit_are_refused(explain):
    model, good = make(), images()
    broken = good.clone()
    broken[2, 1, 0, 0] = torch.nan
    broken[3, 1, 0, 0] = torch.inf
    for bad, message in [
        (good[:, :1], "expected 2 channels, got 1"),
        (good[..., :8], "expected images of 8×12 pixels, got 8×8"),
        (good.float(), "images are torch.float32 on cpu, the model's weights torch.float64 on cpu"),
        (good.to("meta"), "images are torch.float64 on meta, .* on cpu"),
        (broken, "NaN or infinity: 2 of 4, first number 2"),
        (good[:0], "at least one image, got none"),
    ]:
        with pytest.raises(ValueError, match=message):
            explain(model, bad)
    with pytest.raises(ValueError, match="9×12 is not divisible by patch size 4×4"):
        explain(make(dynamic_img_size=True), images(size=(9, 12)))


@each_function
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_batch_of_floats_is_refused(explain):
    for bad, message in [
        (images()[0], r"got \(2, 8, 12\); for one image add the batch axis"),
        (images().byte(), "expected floating-point images, got torch.uint8"),
        (images().numpy(), r"expected a tensor of images \(B, C, H, W\), got ndarray"),
    ]:
        with pytest.raises(ValueError, match=message):
            explain(make(), bad)


@with_target
def test_a_target_out_of_range_is_refused(explain):
    for bad, got in [(5, 5), (-1, -1), (torch.tensor([0, 1, 2, 7]), 7)]:
        with pytest.raises(ValueError, match=f"0 to 4, the model's classes, got {got}$"):
            explain(make(), images(), bad)


@with_target
@pytest.mark.usefixtures("unchecked")
def test_a_target_that_is_no_number_or_of_another_batch_is_refused(explain):
    with pytest.raises(ValueError, match=r"one for each of 4 images, got shape \(3,\)"):
        explain(make(), images(), torch.tensor([0, 1, 2]))
    for bad in 1.5, True, torch.tensor([0.0, 1, 2, 3]):
        with pytest.raises(ValueError, match="target must be a class number"):
            explain(make(), images(), bad)


def test_on_the_pretrained_model():
    model, test = create_model("vit_nano_patch7_28", pretrained=True), load_data("mnist5k").test
    digits = torch.stack([test[i][0] for i in range(100)])
    lens = logit_lens(model, digits)
    torch.testing.assert_close(lens[:, -1], model(digits).softmax(dim=-1).detach())
    right = (lens.argmax(dim=-1) == test.labels[:100, None]).float().mean(dim=0)  # (L,)
    assert right[-1] > 0.95
    assert right[0] < 0.7  # of all, 0.55 after one block
    pixels = test.images[:100, 0].float()
    ink = pixels.unfold(1, 7, 7).unfold(2, 7, 7).sum(dim=(-2, -1))  # (100, 4, 4)
    black = -test.mean[0] / test.std[0]  # a place without ink stays as it is
    drop = occlusion(model, digits, fill=black)
    assert drop[ink > 255].mean() > 0.05
    assert drop[ink == 0].abs().max() < 1e-5
    grid = tokens_to_grid(read_by_head(gradient_rollout(model, digits), model), (4, 4))
    assert (grid >= 0).all()
