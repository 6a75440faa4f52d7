"""Prefixes and keys around a state dict: they are taken off, in any order, and told."""

import itertools
import re

import numpy as np
import pytest
import torch
from checkpoints.spellings import SPELLINGS, W, google

from vitlib.checkpoints.dialects import translate


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


def test_several_models_without_a_known_name_are_refused():
    with pytest.raises(ValueError, match=r"several models, 'student', 'teacher': give one of them"):
        translate({"student": W, "teacher": W, "epoch": 3})


def test_what_is_outside_of_the_image_model_is_left_out():
    arrays = google(W, "big_vision", "params/img/")
    others = {"opt/0/mu/embedding/kernel": np.ones(3), "params/t": np.ones(1), "step": np.ones(1)}
    translation = translate({**arrays, **others})
    assert translation.weights.keys() == W.keys()
    assert translation.left_out.keys() == others.keys()
    assert translation.wrappers == ('prefix "params/img/"',)
