"""Maps made of attention weights, against loops in float64 and against what must hold."""

import itertools

import pytest
import torch
from torch import nn

from vitlib import (
    AttentionRecorder,
    VisionTransformer,
    attention_distance,
    attention_rollout,
    read_by_head,
    tokens_to_grid,
)


def weights(*shape, seed=0):
    """Attention weights in float64: positive, rows sum to 1, rows and heads all different."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(*shape, dtype=torch.float64, generator=generator)).softmax(dim=-1)


def model(**options):
    sizes = {"img_size": (8, 12), "patch_size": 4, "in_chans": 1, "num_classes": 5}
    return VisionTransformer(**sizes, embed_dim=8, depth=1, num_heads=2, **options)


# tokens_to_grid and read_by_head


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
def test_each_patch_lands_in_its_place(prefix):
    values = torch.arange(2 * 3 * (prefix + 6)).reshape(2, 3, prefix + 6).float()
    grid = tokens_to_grid(values, (2, 3), prefix)
    assert grid.shape == (2, 3, 2, 3)
    for row in range(2):
        for column in range(3):
            assert torch.equal(grid[..., row, column], values[..., prefix + 3 * row + column])


def test_the_default_is_one_class_token():
    assert tokens_to_grid(torch.arange(5.0), (2, 2)).tolist() == [[1, 2], [3, 4]]


def test_prefix_tokens_taken_for_patches_are_refused_with_the_numbers():
    for prefix, tokens in [(1, 20), (2, 17), (0, 17), (1, 16)]:
        message = f"{prefix} prefix tokens and 4×4 patches make {prefix + 16} values, got {tokens}"
        with pytest.raises(ValueError, match=message):
            tokens_to_grid(torch.zeros(2, tokens), (4, 4), prefix)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        tokens_to_grid(torch.zeros(15), (4, 4), -1)
    with pytest.raises(ValueError, match="grid_size must be"):
        tokens_to_grid(torch.zeros(17), (4, 4, 1))


@pytest.mark.usefixtures("unchecked")
def test_a_value_without_tokens_is_refused():
    with pytest.raises(ValueError, match="make 17 values, got 0"):
        tokens_to_grid(torch.tensor(1.0), (4, 4))


def test_the_head_reads_the_class_token_both_tokens_or_the_patches():
    for options, rows in [
        ({}, slice(0, 1)),
        ({"reg_tokens": 3}, slice(0, 1)),
        ({"distilled": True, "reg_tokens": 2}, slice(0, 2)),
        ({"global_pool": "avg"}, slice(1, None)),
        ({"global_pool": "avg", "reg_tokens": 3}, slice(4, None)),
    ]:
        vit = model(**options)
        tokens = vit.num_prefix_tokens + 6
        matrix = weights(2, 3, tokens, tokens)
        expected = matrix[:, :, rows].mean(dim=2)
        torch.testing.assert_close(read_by_head(matrix, vit), expected, rtol=1e-12, atol=0)
        grid = tokens_to_grid(read_by_head(matrix, vit), vit.grid_size, vit.num_prefix_tokens)
        assert grid.shape == (2, 3, 2, 3)
    assert read_by_head(matrix, torch.compile(vit)).shape == (2, 3, tokens)


def test_read_by_head_refuses():
    with pytest.raises(ValueError, match=r"expected a vitlib\.VisionTransformer, got Linear"):
        read_by_head(weights(7, 7), nn.Linear(2, 2))
    with pytest.raises(ValueError, match="4 prefix tokens and patches, the matrix only 4 rows"):
        read_by_head(weights(4, 4), model(reg_tokens=3))


@pytest.mark.usefixtures("unchecked")
def test_read_by_head_refuses_what_is_not_square():
    with pytest.raises(ValueError, match=r"a matrix \(..., T, T\), got shape \(6, 7\)"):
        read_by_head(weights(6, 7), model())


# attention_rollout


def rollout_of_one(layers, fusion, ratio):
    """One image, (L, H, T, T): the definition, entry by entry."""
    heads, tokens = layers.shape[1:3]
    fuse = {"mean": lambda v: sum(v) / heads, "max": max, "min": min}[fusion]
    result = [[float(i == j) for j in range(tokens)] for i in range(tokens)]
    for layer in layers.tolist():
        fused = [
            [fuse([layer[h][i][j] for h in range(heads)]) for j in range(tokens)]
            for i in range(tokens)
        ]
        others = [(i, j) for i in range(tokens) for j in range(1, tokens) if i != j]
        for i, j in sorted(others, key=lambda p: fused[p[0]][p[1]])[: int(ratio * len(others))]:
            fused[i][j] = 0.0
        for i in range(tokens):
            fused[i][i] += 1
            total = sum(fused[i])
            fused[i] = [value / total for value in fused[i]]
        result = [
            [sum(fused[i][k] * result[k][j] for k in range(tokens)) for j in range(tokens)]
            for i in range(tokens)
        ]
    return torch.tensor(result, dtype=torch.float64)


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.9, 0.999])
def test_rollout_is_its_definition(fusion, ratio):
    attention = weights(3, 4, 2, 5, 5)
    rollout = attention_rollout(attention, fusion, ratio)
    expected = torch.stack([rollout_of_one(image, fusion, ratio) for image in attention])
    torch.testing.assert_close(rollout, expected, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(rollout.sum(dim=-1), torch.ones(3, 5, dtype=torch.float64))
    assert rollout.min() >= 0


def test_mean_rollout_is_the_papers_half_attention_half_identity():
    attention, identity = weights(2, 3, 4, 6, 6), torch.eye(6, dtype=torch.float64)
    a, b, c = (0.5 * layer.mean(dim=1) + 0.5 * identity for layer in attention.unbind(1))
    torch.testing.assert_close(attention_rollout(attention), c @ b @ a, rtol=1e-12, atol=0)
    assert not torch.allclose(c @ b @ a, a @ b @ c, atol=0.01)  # the order can be told


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("ratio", [0.0, 0.9])
def test_attention_to_oneself_stays_with_oneself(fusion, ratio):
    identity = torch.eye(4).expand(2, 3, 2, 4, 4)
    assert torch.equal(attention_rollout(identity, fusion, ratio), torch.eye(4).expand(2, 4, 4))


def test_uniform_attention():
    """By hand: one layer gives (I + U)/2, and U U = U, so L layers leave I a share of 1 / 2^L."""
    tokens, depth = 5, 3
    uniform = torch.full((1, depth, 2, tokens, tokens), 1 / tokens, dtype=torch.float64)
    expected = torch.eye(tokens, dtype=torch.float64) / 2**depth + (1 - 1 / 2**depth) / tokens
    torch.testing.assert_close(attention_rollout(uniform)[0], expected)
    # all others tie with the smallest that stays: none is singled out
    torch.testing.assert_close(attention_rollout(uniform, discard_ratio=0.5)[0], expected)


def test_one_layer_is_that_layer_mixed_with_the_identity():
    attention = weights(2, 1, 3, 4, 4)
    expected = (attention[:, 0].mean(dim=1) + torch.eye(4, dtype=torch.float64)) / 2
    torch.testing.assert_close(attention_rollout(attention), expected)


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_heads_have_no_order_and_images_do_not_mix(fusion):
    attention = weights(3, 2, 4, 5, 5)
    rollout = attention_rollout(attention, fusion, 0.4)
    shuffled = attention_rollout(attention[:, :, [2, 0, 3, 1]], fusion, 0.4)
    torch.testing.assert_close(shuffled, rollout)
    alone = torch.cat([attention_rollout(image[None], fusion, 0.4) for image in attention])
    torch.testing.assert_close(alone, rollout)


def test_relabelling_patches_relabels_the_rollout():
    attention, order = weights(1, 3, 2, 6, 6), [0, 3, 5, 1, 4, 2]  # the class token stays first
    moved = attention_rollout(attention[..., order, :][..., order], "max", 0.5)
    expected = attention_rollout(attention, "max", 0.5)[:, order][..., order]
    torch.testing.assert_close(moved, expected)


def test_discard_spares_the_class_column_and_the_diagonal():
    attention = torch.tensor(
        [[0.01, 0.09, 0.90], [0.02, 0.08, 0.90], [0.03, 0.90, 0.07]], dtype=torch.float64
    )[None, None, None]
    kept = attention_rollout(attention, discard_ratio=0.26)[0]  # 1 of 4 others: 0.09
    one = torch.tensor([[1.01, 0.0, 0.90], [0.02, 1.08, 0.90], [0.03, 0.90, 1.07]]).double()
    torch.testing.assert_close(kept, one / one.sum(dim=-1, keepdim=True))


def test_nearly_all_discarded_leaves_one_weight():
    rollout = attention_rollout(weights(1, 1, 2, 7, 7), discard_ratio=0.99)[0]
    others = ~torch.eye(7, dtype=torch.bool)
    others[:, 0] = False
    assert int((rollout[others] > 0).sum()) == 1
    assert (rollout[:, 0] > 0).all()


def test_a_single_token():
    assert attention_rollout(torch.ones(2, 3, 1, 1, 1), discard_ratio=0.5).tolist() == [[[1.0]]] * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_computed_in_single_precision(dtype):
    attention = weights(2, 3, 2, 197, 197).to(dtype)
    rollout = attention_rollout(attention)
    assert rollout.dtype == torch.float32
    torch.testing.assert_close(rollout.sum(dim=-1), torch.ones(2, 197))
    assert attention_distance(attention, (14, 14)).dtype == torch.float32


def test_what_is_no_attention_is_refused():
    good = weights(2, 3, 2, 4, 4)
    for bad, message in [
        (good.log(), "must not be negative"),
        (good * 1.1, "rows of attention must sum to 1, got sums from 1.1 to 1.1"),
        (torch.nn.functional.dropout(good, 0.5), "rows of attention must sum to 1, got sums from"),
        (good[..., :2, :2], "rows of attention must sum to 1"),
        (good / 0, "NaN or infinity"),
        (good.where(good < 0.5, torch.nan), "NaN or infinity"),
        (good[:, :, :, :0, :0], r"got shape \(2, 3, 2, 0, 0\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            attention_rollout(bad)
    for bad in good[:, :, :, :0, :0], -good, good / 0:
        with pytest.raises(ValueError, match=r"negative|NaN|got shape"):
            attention_distance(bad, (1, 3))


@pytest.mark.usefixtures("unchecked")
def test_wrong_shapes_and_types_are_refused():
    good = weights(2, 3, 2, 4, 4)
    for bad in good[0], good[..., :3], good[:, 0]:
        for use in attention_rollout, lambda a: attention_distance(a, (1, 3)):
            with pytest.raises(ValueError, match=r"attention \(B, L, H, T, T\).* got shape"):
                use(bad)
    with pytest.raises(ValueError, match=r"in floating point, got torch.uint8"):
        attention_rollout((255 * good).byte())


def test_wrong_settings_are_refused():
    good = weights(2, 3, 2, 4, 4)
    with pytest.raises(ValueError, match='"mean", "max" or "min", got \'sum\''):
        attention_rollout(good, "sum")
    for ratio in -0.1, 1.0, 90.0, float("nan"):
        with pytest.raises(ValueError, match=f"at least 0 and below 1, got {ratio}"):
            attention_rollout(good, discard_ratio=ratio)


# attention_distance


def test_looking_at_oneself_is_distance_0_and_at_the_right_neighbour_one_patch():
    rows, columns = 3, 5
    oneself = torch.eye(16)
    right = torch.eye(16)
    for i in range(16):
        if i and i % columns:  # the last column of the grid has no right neighbour: i = 5, 10, 15
            right[i] = torch.eye(16)[i + 1]
        elif i:
            right[i] = torch.eye(16)[0]  # all on the class token: not counted
    attention = torch.stack([oneself, right])[None, None]  # (1, 1, 2, T, T)
    assert attention_distance(attention, (rows, columns)).tolist() == [[[0.0, 1.0]]]
    assert attention_distance(attention, (rows, columns), patch_size=7).tolist() == [[[0.0, 7.0]]]
    wide = attention_distance(attention, (rows, columns), patch_size=(2, 9))
    assert wide.tolist() == [[[0.0, 9.0]]]


def test_downwards_is_the_patchs_height():
    below = torch.zeros(6, 6)
    for i in range(6):
        below[i, (i + 2) % 6 if i < 4 else i - 2] = 1
    assert attention_distance(below[None, None, None], (3, 2), 0, (4, 9)).tolist() == [[[4.0]]]


@pytest.mark.parametrize("prefix", [0, 1, 4])
def test_distance_is_its_definition(prefix):
    rows, columns, high, wide = 2, 3, 4, 7
    attention = weights(2, 3, 2, prefix + 6, prefix + 6)
    found = attention_distance(attention, (rows, columns), prefix, (high, wide))
    assert found.shape == (2, 3, 2)
    for b, layer, h in itertools.product(range(2), range(3), range(2)):
        per_query = []
        for q in range(6):
            total = moment = 0.0
            for k in range(6):
                weight = attention[b, layer, h, prefix + q, prefix + k].item()
                dy, dx = high * (q // columns - k // columns), wide * (q % columns - k % columns)
                total += weight
                moment += weight * (dy**2 + dx**2) ** 0.5
            per_query.append(moment / total)
        assert found[b, layer, h].item() == pytest.approx(sum(per_query) / 6, rel=1e-12)


def test_a_head_that_looks_at_no_patch_has_no_distance():
    attention = torch.zeros(1, 1, 1, 5, 5)
    attention[..., 0] = 1
    assert attention_distance(attention, (2, 2)).isnan().all()


def test_a_distance_needs_the_right_grid():
    with pytest.raises(ValueError, match="1 prefix tokens and 2×2 patches make 5 tokens, got 7"):
        attention_distance(weights(1, 1, 1, 7, 7), (2, 2))
    with pytest.raises(ValueError, match="patch_size must be"):
        attention_distance(weights(1, 1, 1, 5, 5), (2, 2), patch_size=0)


def test_on_a_recorded_model():
    vit = model(reg_tokens=2).eval()
    with torch.no_grad(), AttentionRecorder(vit) as recorder:
        vit(torch.randn(2, 1, 8, 12))
    rollout = attention_rollout(recorder.attention)
    torch.testing.assert_close(rollout.sum(dim=-1), torch.ones(2, 9))
    grid = tokens_to_grid(read_by_head(rollout, vit), vit.grid_size, vit.num_prefix_tokens)
    assert grid.shape == (2, 2, 3)
    with pytest.raises(ValueError, match="1 prefix tokens and 2×3 patches make 7"):
        tokens_to_grid(read_by_head(rollout, vit), vit.grid_size)
