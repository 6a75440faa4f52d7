"""A frozen backbone is computed once per picture, and the run is the same as if it were not."""

from dataclasses import replace

import pytest
import torch
from train.tiny import SHORT, tiny_data, tiny_model, weights_of

import vitlib.train.loop as loop
from vitlib import fit
from vitlib.cli.finetune import freeze
from vitlib.train import Profile
from vitlib.train.frozen import is_backbone_constant

VARIANTS = {
    "plain": {},
    "distilled": {"distilled": True},
    "average": {"global_pool": "avg"},
    "representation": {"representation_size": 6},
    "registers": {"reg_tokens": 2},
}


def frozen(**options):
    model = tiny_model(**options)
    freeze(model, "backbone")
    return model


def passes(model):
    """The number of images that went through the last block."""
    counts = []
    model.blocks[-1].register_forward_hook(lambda module, inputs, out: counts.append(len(out)))
    return counts


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("settings", [{}, {"val_fraction": 0.0, "accumulate": 2}], ids=str)
def test_the_run_is_the_same_as_at_every_step(monkeypatch, options, settings):
    config = replace(SHORT, **settings)
    kept, whole = frozen(**options), frozen(**options)
    counts = passes(kept)
    history = fit(kept, tiny_data(), config)
    assert sum(counts) == 32  # the training images, validation included
    with monkeypatch.context() as patch:
        patch.setattr(loop, "is_backbone_constant", lambda model, config: False)
        expected = fit(whole, tiny_data(), config)
    assert history.loss == pytest.approx(expected.loss, abs=1e-5)
    assert history.val_loss == pytest.approx(expected.val_loss, abs=1e-5)
    assert history.val_accuracy == expected.val_accuracy
    torch.testing.assert_close(weights_of(kept), weights_of(whole), rtol=0, atol=1e-5)


def test_a_continued_run_is_the_uninterrupted_one(tmp_path):
    config = replace(SHORT, checkpoint=tmp_path / "run", checkpoint_every=4)
    whole = frozen()
    fit(whole, tiny_data(), SHORT)

    def stop(state):
        if state.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(frozen(), tiny_data(), config, callbacks=[stop])
    again = frozen()
    fit(again, tiny_data(), config)
    assert torch.equal(weights_of(again), weights_of(whole))


def test_a_finished_run_computes_nothing(tmp_path):
    config = replace(SHORT, checkpoint=tmp_path / "run")
    fit(frozen(), tiny_data(), config)
    model = frozen()
    counts = passes(model)
    fit(model, tiny_data(), config)
    assert not counts


def unfrozen_norm(model):
    model.norm.weight.requires_grad_(True)


CHANGING = {
    "augmentation": ({}, {"augment": "affine"}, None),
    "mixup": ({}, {"mixup": 0.4}, None),
    "cutmix": ({}, {"cutmix": 0.4}, None),
    "dropout": ({"drop_rate": 0.1}, {}, None),
    "attention's dropout": ({"attn_drop_rate": 0.1}, {}, None),
    "drop path": ({"drop_path_rate": 0.1}, {}, None),
    "a norm that is trained": ({}, {}, unfrozen_norm),
}


@pytest.mark.parametrize(("options", "settings", "change"), CHANGING.values(), ids=CHANGING.keys())
def test_where_something_changes_from_step_to_step(options, settings, change):
    model, config = frozen(**options), replace(SHORT, **settings)
    if change:
        change(model)
    assert not is_backbone_constant(model, config)
    counts = passes(model)
    fit(model, tiny_data(), config)
    assert sum(counts) > SHORT.steps * SHORT.batch_size / 2


def test_another_forward_pass_is_left_alone():
    class Own(type(tiny_model())):
        pass

    model = tiny_model()
    freeze(model, "backbone")
    assert is_backbone_constant(model, SHORT)
    model.__class__ = Own
    assert not is_backbone_constant(model, SHORT)


def test_a_profile_counts_no_tokens_that_are_not_computed():
    profile = Profile()
    fit(frozen(), tiny_data(), SHORT, profile=profile)
    assert "tokens" not in profile.summary()
    assert "images per second" in profile.summary()
