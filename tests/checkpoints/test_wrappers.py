"""Prefixes and keys around a state dict: they are taken off, in any order, and told."""

import itertools
import re

import numpy as np
import pytest
import torch
from checkpoints.spellings import SPELLINGS, W, google, hugging_face

from vitlib.checkpoints.dialects import translate

OTHER = {name: 2 * tensor for name, tensor in W.items()}


def under(prefix):
    return lambda weights: {prefix + name: tensor for name, tensor in weights.items()}


def within(key):
    return lambda weights: {key: weights}


WRAPPERS = {
    '["model"]': within("model"),
    '["state_dict"]': within("state_dict"),
    '["model_state_dict"]': within("model_state_dict"),
    '["module"]': within("module"),
    '["net"]': within("net"),  # any name will do where there is nothing else
    '"module."': under("module."),
    '"model."': under("model."),
    '"_orig_mod."': under("_orig_mod."),
}


@pytest.mark.parametrize("spelling", ["timm", "transformers 5", "big_vision, scanned"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_is_taken_off(wrapper, spelling):
    state_dict, _ = SPELLINGS[spelling]
    plain, translation = translate(state_dict), translate(WRAPPERS[wrapper](state_dict))
    assert translation.wrappers == (wrapper, *plain.wrappers)
    assert translation.source == plain.source
    assert translation.weights.keys() == W.keys()
    assert all(torch.equal(translation.weights[n], W[n]) for n in W)


@pytest.mark.parametrize("inner", WRAPPERS)
@pytest.mark.parametrize("outer", [name for name in WRAPPERS if "[" in name])
@pytest.mark.parametrize("outmost", ['["model"]', '["state_dict"]'])
def test_keys_nest_in_any_order(outmost, outer, inner):
    translation = translate(WRAPPERS[outmost](WRAPPERS[outer](WRAPPERS[inner](W))))
    assert translation.weights.keys() == W.keys()
    assert translation.wrappers == (outmost, outer, inner)


@pytest.mark.parametrize("order", list(itertools.permutations(["module.", "model.", "_orig_mod."])))
def test_prefixes_nest_in_any_order(order):
    translation = translate({"".join(order) + name: tensor for name, tensor in W.items()})
    assert translation.weights.keys() == W.keys()
    assert translation.wrappers == tuple(f'"{prefix}"' for prefix in order)


def test_blocks_that_were_compiled_one_by_one():
    compiled_blocks = {re.sub(r"^(blocks\.\d+\.)", r"\1_orig_mod.", n): t for n, t in W.items()}
    translation = translate(compiled_blocks)
    assert translation.weights.keys() == W.keys()
    assert translation.wrappers == ('"_orig_mod."',)
    assert translation.origins["blocks.0.attn.qkv.bias"] == ("blocks.0._orig_mod.attn.qkv.bias",)


def test_a_training_checkpoint_says_which_model_was_taken():
    optimizer = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
    checkpoint = {
        "model": W, "model_ema": {n: 2 * t for n, t in W.items()}, "optimizer": optimizer,
        "epoch": 3, "args": None, "rng": torch.zeros(3, dtype=torch.uint8),
    }  # fmt: skip
    translation = translate(checkpoint)
    assert torch.equal(translation.weights["head.bias"], W["head.bias"])
    assert translation.left_out == {
        "model_ema": 'another model\'s weights: ["model"] was taken',
        **dict.fromkeys(("optimizer", "epoch", "args", "rng"), "no weights"),
    }


@pytest.mark.parametrize(
    ("layout", "taken", "other"),
    [
        ({"student": W, "teacher": OTHER, "epoch": 3}, '["teacher"]', '["student"]'),
        (
            {"student": under("module.backbone.")(W), "teacher": under("backbone.")(OTHER)},
            '["teacher"] "backbone."',
            '["student"] "module." "backbone."',
        ),
        (
            under("module.momentum_encoder.")(W) | under("module.base_encoder.")(OTHER),
            '"module." "base_encoder."',
            '"module." "momentum_encoder."',
        ),
        (
            under("online_model.")(W) | under("ema_model.")(OTHER) | {"step": torch.tensor(3)},
            '"ema_model."',
            '"online_model."',
        ),
        (OTHER | under("teacher.")(W), "the names without a prefix", '"teacher."'),
    ],
    ids=["student, teacher", "DINO", "MoCo v3", "ema-pytorch", "a second model inside"],
)
def test_of_several_models_one_is_taken_and_the_choice_is_said(layout, taken, other):
    translation = translate(layout)
    assert torch.equal(translation.weights["norm.bias"], OTHER["norm.bias"])
    assert translation.weights.keys() == W.keys()
    assert translation.guesses[0] == (
        f"The file holds 2 models: {taken} was taken, and not {other}."
    )
    lost = [why for name, why in translation.left_out.items() if name not in ("epoch", "step")]
    assert set(lost) == {f"another model's weights: {taken.split(' ')[0]} was taken"} or set(
        lost
    ) == {f"another model's weights: {taken} was taken"}


@pytest.mark.parametrize(
    "layout",
    [
        {"a": W, "b": W, "epoch": 3},
        under("a.")(W) | under("b.")(W),
        {"state_dict": under("net.a.")(W) | under("net.b.")(W)},
    ],
)
def test_several_models_without_a_known_word_are_refused_with_lines_that_work(layout, tmp_path):
    with pytest.raises(
        ValueError, match=r"the file holds several models, .*nothing says which"
    ) as e:
        translate(layout)
    lines = re.findall(r"^    (.*)$", str(e.value), re.MULTILINE)
    torch.save(layout, tmp_path / "old.pth")
    script = "\n".join(lines).replace("'old.pth'", "old").replace("'new.pth'", "new")
    exec(script, {"torch": torch, "old": tmp_path / "old.pth", "new": tmp_path / "new.pth"})
    assert translate(torch.load(tmp_path / "new.pth")).weights.keys() == W.keys()


PARTS = (
    "module.", "model.", "_orig_mod.", "backbone.", "net.", "encoder.", "visual.trunk.",
    "timm_model.",    "module.base_encoder.", "_fsdp_wrapped_module.", "base_model.model.",
)  # fmt: skip


@pytest.mark.parametrize("spelling", ["timm", "transformers 4", "torchvision", "big_vision"])
@pytest.mark.parametrize("inner", PARTS)
def test_any_prefix_is_taken_off_in_any_combination(inner, spelling):
    plain, _ = SPELLINGS[spelling]
    for outer in PARTS:
        translation = translate({"state_dict": under(outer + inner)(plain), "epoch": 3})
        assert all(torch.equal(translation.weights[n], W[n]) for n in W)
        found = "".join(part.replace('"', "") for part in translation.wrappers[1:])
        assert found.startswith(outer + inner)
        assert (translation.left_out, translation.guesses) == ({"epoch": "no weights"}, ())


def test_words_of_torch_within_names_are_taken_off():
    names = {
        n: re.sub(r"^blocks\.(\d)\.", r"blocks._checkpoint_wrapped_module.\1._orig_mod.", n)
        for n in W
    }
    translation = translate({f"model.{names[n]}": t for n, t in W.items()})
    assert translation.weights.keys() == W.keys()
    assert translation.wrappers == ('"model."', '"_checkpoint_wrapped_module."', '"_orig_mod."')
    with pytest.raises(ValueError, match=r"two names of one tensor, norm\.bias"):
        translate({**W, "norm._orig_mod.bias": W["norm.bias"]})


@pytest.mark.parametrize(
    ("layout", "name", "why"),
    [
        (under("model.")(W) | {"criterion.weight": torch.ones(7)}, "criterion.weight", '"model."'),
        (under("backbone.")(W) | {"fc.weight": torch.zeros(3, 12)}, "fc.weight", '"backbone."'),
        ({"backbone": W, "head": {"weight": torch.zeros(3, 12)}}, "head", '["backbone"]'),
        (hugging_face(W) | {"fc.weight": torch.zeros(3, 12)}, "fc.weight", '"vit."'),
    ],
    ids=["Lightning", "a head of its own", "two dictionaries", "transformers"],
)
def test_what_stands_beside_the_model_is_named(layout, name, why):
    translation = translate(layout)
    assert translation.weights.keys() == W.keys()
    assert translation.left_out == {name: f"stands beside the model, which is under {why}"}
    assert name in translation.guesses[0]
    assert why in translation.guesses[0]


def test_what_is_no_weight_beside_the_model_is_no_guess():
    averaged = under("module.")(W) | {"n_averaged": torch.tensor(4)}
    for layout, name in ((averaged, "n_averaged"), ({"net": W, "acc": torch.tensor(0.9)}, "acc")):
        translation = translate(layout)
        assert translation.left_out == {name: "no weights"}
        assert translation.guesses == ()


def test_prefixes_of_other_models_are_not_mistaken():
    swin = {"patch_embed.proj.weight": torch.randn(12, 3, 4, 4)}
    swin |= under("layers.0.")(W)
    del swin["layers.0.patch_embed.proj.weight"]
    assert translate(swin).wrappers == ()  # the patches tell where a model's names begin


def test_what_is_outside_of_the_image_model_is_left_out():
    arrays = google(W, "big_vision", "params/img/")
    others = {"opt/0/mu/embedding/kernel": np.ones(3), "params/t": np.ones(1), "step": np.ones(1)}
    translation = translate({**arrays, **others})
    assert translation.weights.keys() == W.keys()
    assert translation.left_out.keys() == others.keys()
    assert translation.wrappers == ('prefix "params/img/"',)
