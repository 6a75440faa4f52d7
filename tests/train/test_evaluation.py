"""evaluate: loss, accuracy and answers as by hand, and the model left as it was."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from train.tiny import Teacher, tiny_data, tiny_model

from vitlib.train import evaluate


def test_evaluate_by_hand():
    model, data = tiny_model(drop_rate=0.5).train(), tiny_data()
    found = evaluate(model, data.test, batch_size=5)  # 16 images: the last batch has one
    assert model.training
    images, labels = data.test.batch(torch.arange(16))
    with torch.no_grad():
        logits = model.eval()(data.test.normalize(images))
    torch.testing.assert_close(found.logits, logits)
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item())
    assert found.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert torch.equal(found.predictions, logits.argmax(1))
    assert torch.equal(found.labels, labels)
    assert "tensor" not in repr(found)
    nn.init.zeros_(model.head.weight)  # the first class for every image: 5 of 15 are right
    assert evaluate(model, data.test.subset(range(15))).accuracy == 5 / 15  # to the last bit


def test_evaluate_normalises_as_the_model_expects():
    model, data = tiny_model(), tiny_data()
    as_data = evaluate(model, data.test).logits
    model.mean, model.std = (0.0,), (1.0,)
    images, _ = data.test.batch(torch.arange(16))
    with torch.no_grad():
        expected = model.eval()(images)
    torch.testing.assert_close(evaluate(model, data.test).logits, expected)
    assert not torch.allclose(as_data, expected)


def test_evaluate_restores_the_mode_after_an_error():
    class Broken(nn.Linear):
        def forward(self, x):
            raise RuntimeError("broken")

    model = Broken(1, 1).train()
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(model, tiny_data().test)
    assert model.training


def test_a_foreign_models_size_may_be_one_number():
    model = Teacher()
    model.img_size = 8
    assert len(evaluate(model, tiny_data().test).logits) == 16
    model.img_size = 16
    with pytest.raises(ValueError, match="images are 8×8, the model takes 16×16"):
        evaluate(model, tiny_data().test)


@pytest.mark.parametrize("channels", range(1, 7))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_evaluate_in_other_precisions_and_channels(dtype, channels):
    model, data = tiny_model(in_chans=channels), tiny_data(channels=channels)
    expected = evaluate(model, data.test).logits
    model = model.to(dtype).to(memory_format=torch.channels_last)
    found = evaluate(model, data.test).logits
    assert found.dtype == torch.float32
    tolerance = 4 * torch.finfo(dtype).eps if dtype != torch.float64 else 1e-5
    torch.testing.assert_close(
        found, expected, rtol=0, atol=tolerance * expected.abs().max() + tolerance
    )
