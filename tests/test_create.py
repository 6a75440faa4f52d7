"""create_model: a preset with other arguments, and names that it does not know."""

import pytest
import torch

from vitlib import create_model


def test_create_model_overrides_a_preset():
    model = create_model("vit_tiny_patch16_224", img_size=32, in_chans=1, depth=1, num_classes=3)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 3)
    assert (model.mean, model.std) == (None, None)  # three channels' statistics do not fit
    assert create_model("vit_tiny_patch16_224", depth=1, img_size=32).config["depth"] == 1


def test_an_unknown_preset_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"'vit_tinny_patch16_224'\. Did you mean 'vit_tiny_p"):
        create_model("vit_tinny_patch16_224")
    with pytest.raises(ValueError, match=r"unknown model 'resnet50'\. See vitlib.list_models\(\)"):
        create_model("resnet50")
