"""TrainingCost against what PyTorch does: parameters, FLOPs, and bytes kept for backward."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from vitlib import VisionTransformer, create_model
from vitlib.attention import unfused
from vitlib.costs import TrainingCost

SIZES = [
    {"img_size": 24, "patch_size": 8, "num_classes": 7, "embed_dim": 64, "depth": 3}
    | {"num_heads": 4},
    {"img_size": 20, "patch_size": 5, "num_classes": 11, "embed_dim": 96, "depth": 2}
    | {"num_heads": 3, "in_chans": 1, "mlp_ratio": 2.5},
]
BATCH = 3


@pytest.fixture(params=SIZES, ids=["deep", "odd"])
def model(request):
    torch.manual_seed(0)
    return VisionTransformer(**request.param)


def images_and_labels(model):
    images = torch.randn(BATCH, model.in_chans, *model.img_size)
    return images, torch.arange(BATCH) % model.num_classes


def bytes_kept(model, bf16=False):
    """Of all storages that autograd keeps in forward and loss, without the parameters."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # alive, so that no place is reused
        return tensor

    images, labels = images_and_labels(model)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with autocast:
            logits = model(images)
        F.cross_entropy(logits.float(), labels)
    sizes = [t.untyped_storage().nbytes() for t in kept.values() if t.dtype != torch.int64]
    return sum(sizes) - 4 * sum(t.numel() == 1 for t in kept.values())  # the loss's total weight


@pytest.mark.parametrize(
    "name", ["vit_nano_patch7_28", "vit_micro_patch4_32", "vit_tiny_patch16_224"]
)
def test_parameters_of_the_presets(name):
    model = create_model(name)
    counted = sum(p.numel() for p in model.parameters())
    assert TrainingCost.of(model).parameters == counted


def test_parameters_and_matrices(model):
    cost = TrainingCost.of(model)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    matrices = [
        p for name, p in model.named_parameters() if p.ndim >= 2 and "token" not in name
        and "pos" not in name
    ]  # fmt: skip
    assert cost.matrix_weights == sum(p.numel() for p in matrices)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_flops_are_those_of_torchs_counter(model, checkpointing):
    """Unfused, because on a CPU the counter does not see the fused kernel."""
    cost = TrainingCost.of(model, batch=BATCH, checkpointing=checkpointing)
    if checkpointing:
        recompute(model)
    images, labels = images_and_labels(model)
    with unfused(model):
        with FlopCounterMode(display=False) as forward:
            loss = F.cross_entropy(model(images), labels)
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    assert forward.get_total_flops() == 2 * BATCH * cost.multiply_adds
    assert forward.get_total_flops() + backward.get_total_flops() == cost.flops


def recompute(model):
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def test_bytes_kept_for_backward(model):
    assert bytes_kept(model) == TrainingCost.of(model, batch=BATCH).activations


def test_bytes_kept_in_bfloat16(model):
    """Autocast's copies of the matrices are kept, too: they count among the weights."""
    cost = TrainingCost.of(model, batch=BATCH, bf16=True)
    copies = cost.weights - 4 * cost.parameters
    assert bytes_kept(model, bf16=True) == cost.activations + copies


def test_bytes_kept_with_checkpointing(model):
    cost = TrainingCost.of(model, batch=BATCH, checkpointing=True)
    one_block = cost._kept_in_block - 4 * BATCH * cost.tokens * cost.embed_dim
    recompute(model)
    assert bytes_kept(model) == cost.activations - one_block


def test_state_of_adamw():
    model = create_model("vit_nano_patch7_28")
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.zeros(1, 1, 28, 28)).sum().backward()
    optimizer.step()
    averages = [v for s in optimizer.state.values() for v in s.values() if v.ndim]
    cost = TrainingCost.of(model)
    assert cost.optimizer == sum(4 * value.numel() for value in averages)
    assert cost.gradients == cost.weights == 4 * cost.parameters
    parts = cost.weights + cost.gradients + cost.optimizer + cost.activations
    assert cost.memory == parts == 16 * cost.parameters + cost.activations


def test_seconds():
    cost = TrainingCost()
    assert cost.seconds(1e9) == cost.flops / 1e9


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"img_size": 30}, "patch_size must divide img_size 30, got 16"),
        ({"num_heads": 5}, "num_heads must divide embed_dim 192, got 5"),
        ({"batch": 0}, "batch"),
    ],
)
def test_refusals(wrong, said):
    with pytest.raises(ValueError, match=said):
        TrainingCost(**wrong)
