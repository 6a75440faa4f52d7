"""The recorder: it sees what the model computes, changes nothing, and leaves nothing behind."""

import pytest
import torch
from peers import timm
from torch import nn

from vitlib import Attention, AttentionRecorder, VisionTransformer

VARIANTS = {
    "plain": {},
    "distilled": {"distilled": True},
    "registers": {"reg_tokens": 3, "global_pool": "avg"},
    "qk_scale": {"qk_scale": 0.9},
    "dropout": {"attn_drop_rate": 0.5, "drop_rate": 0.2, "drop_path_rate": 0.5},
}
every_variant = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
both_paths = pytest.mark.parametrize("gradients", [False, True])


def make(**options):
    torch.manual_seed(0)
    sizes = {"img_size": (8, 12), "patch_size": 4, "in_chans": 1, "num_classes": 5}
    model = VisionTransformer(**sizes, embed_dim=16, depth=3, num_heads=2, **options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)  # maps that differ in every row, head and layer
    return model


def images(batch=4):
    return torch.randn(batch, 1, 8, 12, generator=torch.Generator().manual_seed(1))


def unfused_weights(model, inputs):
    """What the unfused path itself computes, read where it passes through the dropout layer."""
    seen = []
    for block in model.blocks:
        block.attn.fused = False
        block.attn.attn_drop.register_forward_pre_hook(lambda _, x: seen.append(x[0].detach()))
    model(inputs)
    return torch.stack(seen, dim=1)


def hooks(model):
    return [h for m in model.modules() for h in (*m._forward_pre_hooks, *m._forward_hooks)]


@every_variant
@both_paths
def test_recorded_weights_are_those_of_an_unfused_forward(options, gradients):
    model = make(**options).eval()
    with AttentionRecorder(model, gradients=gradients) as recorder:
        model(images())
    tokens = model.num_prefix_tokens + 6
    assert recorder.attention.shape == (4, 3, 2, tokens, tokens)
    expected = unfused_weights(make(**options).eval(), images())
    torch.testing.assert_close(recorder.attention, expected, rtol=0, atol=1e-5)
    assert expected.flatten(1, 2).diff(dim=1).abs().amax(dim=(2, 3)).min() > 0.01  # layers differ


@every_variant
@both_paths
@pytest.mark.parametrize("training", [False, True])
def test_rows_sum_to_one(options, gradients, training):
    model = make(**options).train(training)
    with AttentionRecorder(model, gradients=gradients) as recorder:
        model(images())
    sums = recorder.attention.sum(dim=-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


@every_variant
@pytest.mark.parametrize("training", [False, True])
def test_logits_and_gradients_are_bit_for_bit_those_without_a_recorder(options, training):
    def run(record):
        model = make(**options).train(training)
        if record:
            with AttentionRecorder(model):
                logits = model(images())
        else:
            logits = model(images())
        logits.square().sum().backward()
        return [logits, *(p.grad for p in model.parameters())]

    for with_recorder, without in zip(run(True), run(False), strict=True):
        assert torch.equal(with_recorder, without)


def test_the_fused_kernel_stays_on_and_no_graph_is_kept():
    model = make()
    with AttentionRecorder(model) as recorder:
        assert all(block.attn.fused for block in model.blocks)
        model(images())
    assert not recorder.attention.requires_grad


@both_paths
def test_nothing_is_left_behind(gradients):
    model = make()
    model.blocks[1].attn.fused = False
    with AttentionRecorder(model, gradients=gradients) as recorder:
        assert len(hooks(model)) == 3
        model(images())
    assert hooks(model) == []
    assert [block.attn.fused for block in model.blocks] == [True, False, True]
    before = recorder.attention
    model(images() + 1)  # no longer watched
    assert torch.equal(recorder.attention, before)


@both_paths
def test_nothing_is_left_behind_by_an_exception(gradients):
    model = make()
    with (
        pytest.raises(ValueError, match="expected images"),
        AttentionRecorder(model, gradients=gradients),
    ):
        model(torch.zeros(1, 1, 4, 4))
    assert hooks(model) == []
    assert all(block.attn.fused for block in model.blocks)


@both_paths
def test_each_forward_replaces_the_last(gradients):
    model = make().eval()
    with AttentionRecorder(model, gradients=gradients) as recorder:
        model(images())
        model(images(2) + 1)
        second = recorder.attention
        model.blocks[0](torch.zeros(1, 7, 16))
        partly = recorder.attention
    expected = unfused_weights(model, images(2) + 1)
    torch.testing.assert_close(second, expected, rtol=0, atol=1e-5)
    assert partly.shape == (1, 1, 2, 7, 7)  # the layers that ran, none from the forward before


@both_paths
@pytest.mark.parametrize("layers", [[0], [1, 2], [-1], [0, -1], (1,), range(3), range(1, 3)])
def test_some_layers(layers, gradients):
    model = make().eval()
    with AttentionRecorder(model, layers, gradients) as recorder:
        assert len(hooks(model)) == len(layers)
        on = [block.attn.fused for block in model.blocks]
        model(images() + 1)
        model(images())
    with AttentionRecorder(model) as whole:
        model(images())
    assert recorder.attention.shape == (4, len(layers), 2, 7, 7)
    torch.testing.assert_close(recorder.attention, whole.attention[:, list(layers)])
    recorded = {range(3)[i] for i in layers}
    assert on == [not (gradients and i in recorded) for i in range(3)]  # only these are unfused
    assert hooks(model) == []
    assert all(block.attn.fused for block in model.blocks)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([3], r"layer 3 is out of range: the model has 3 layers, 0 to 2, or -3 to -1 counted"),
        ([0, -4], "layer -4 is out of range: the model has 3 layers"),
        ([2, 0], r"forward order, each once, got \[2, 0\]: of 3 layers these are \[2, 0\]"),
        ([-1, 0], r"forward order, each once, got \[-1, 0\]: of 3 layers these are \[2, 0\]"),
        ([2, -1], r"forward order, each once, got \[2, -1\]: of 3 layers these are \[2, 2\]"),
        ([], r"a list of block numbers such as \[0, -1\], got \[\]"),
        (True, "a list of block numbers .*, got True"),
        (1, "a list of block numbers .*, got 1"),
        ("12", "a list of block numbers .*, got '12'"),
        ([0.0], r"a list of block numbers .*, got \[0.0\]"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_layers_that_do_not_exist_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        AttentionRecorder(make(), layers)


@both_paths
def test_recording_nothing_is_an_error(gradients):
    model = make()
    recorder = AttentionRecorder(model, gradients=gradients)
    model(images())
    for _ in range(2):  # the second time, the first recording is forgotten
        with recorder:
            with pytest.raises(RuntimeError, match="recorded nothing: run the model inside"):
                _ = recorder.attention
            model(images())
        assert recorder.attention.shape[:2] == (4, 3)


def test_a_model_without_attention_is_refused():
    with pytest.raises(
        ValueError, match=r"Sequential has no attention module .* qkv for .* num_heads"
    ):
        AttentionRecorder(nn.Sequential(nn.Linear(2, 2)))


class PlainAttention(nn.Module):
    """The book's or timm's kind: qkv, num_heads and scale, but no `fused` switch."""

    num_heads, scale = 2, 0.5

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (2, 2)).transpose(1, 2) for t in self.qkv(x).split(4, dim=-1))
        out = self.weights(q, k) @ v  # (B, 2, N, 2)
        return out.transpose(1, 2).flatten(2)

    def weights(self, q, k):
        return (q @ k.mT * self.scale).softmax(dim=-1)


def test_other_attention_modules_are_recorded():
    attention, x = PlainAttention(), torch.randn(3, 5, 4)
    with AttentionRecorder(nn.Sequential(attention)) as recorder:
        attention(x)
    q, k, _ = attention.qkv(x).detach().split(4, dim=-1)
    for head in range(2):
        part = slice(2 * head, 2 * head + 2)
        expected = (q[..., part] @ k[..., part].mT * 0.5).softmax(dim=-1)
        torch.testing.assert_close(recorder.attention[:, 0, head], expected)


def test_gradients_need_modules_that_can_be_unfused():
    with pytest.raises(ValueError, match="fused and attn_drop, which PlainAttention lacks"):
        AttentionRecorder(PlainAttention(), gradients=True)


def test_gradients_reach_the_recorded_weights():
    model = make().eval()
    with AttentionRecorder(model, gradients=True) as recorder:
        logits = model(images())
    gradients = torch.autograd.grad(logits[:, 3].sum(), recorder.layers)
    assert [g.shape for g in gradients] == [(4, 2, 7, 7)] * 3
    assert all(g.any() for g in gradients)
    # in the last layer, only the class token's row reaches the logits
    assert not gradients[-1][:, :, 1:].any()
    assert gradients[-1][:, :, 0].all()


def test_recorders_nest():
    model = make().eval()
    with AttentionRecorder(model) as outer:
        with AttentionRecorder(model, gradients=True) as inner:
            model(images())
        assert len(hooks(model)) == 3
        assert all(block.attn.fused for block in model.blocks)
        model(images() + 1)
    assert hooks(model) == []
    torch.testing.assert_close(inner.attention, unfused_weights(model, images()))
    torch.testing.assert_close(outer.attention, unfused_weights(model, images() + 1))


@pytest.mark.usefixtures("unchecked")
def test_a_compiled_model_is_recorded_and_runs_compiled_again():
    model = make().eval()
    compiled_calls = []

    def backend(graph, _):
        def run(*inputs):
            compiled_calls.append(1)
            return graph(*inputs)

        return run

    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        logits = compiled(images())
        compiled_calls.clear()
        with AttentionRecorder(compiled) as recorder:
            torch.testing.assert_close(compiled(images()), logits)
        assert compiled_calls == []
        compiled(images())
    assert compiled_calls
    torch.testing.assert_close(recorder.attention, unfused_weights(model, images()))


def test_attention_that_normalises_its_queries_is_refused():
    model = make()
    model.blocks[0].attn.q_norm = nn.LayerNorm(8)
    with pytest.raises(ValueError, match="q_norm"):
        AttentionRecorder(model)


def test_a_module_called_by_keyword_is_recorded():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = Attention(8, 2)

        def forward(self, tokens):
            return self.attn(x=tokens)

    with AttentionRecorder(model := Named()) as recorder:
        model(torch.rand(1, 3, 8))
    assert recorder.attention.shape == (1, 1, 2, 3, 3)


def test_attention_with_a_mask_is_refused():
    class Masked(Attention):
        def forward(self, x, attn_mask=None, is_causal=False):
            return super().forward(x)

    model = Masked(8, 2)
    x, mask = torch.rand(1, 3, 8), torch.ones(3, 3)
    with AttentionRecorder(model) as recorder:
        model(x, attn_mask=None, is_causal=False)
        assert recorder.attention.shape == (1, 1, 2, 3, 3)
        for call in lambda: model(x, mask), lambda: model(x, attn_mask=mask):
            with pytest.raises(ValueError, match="Masked was called with more than its tokens"):
                call()


class Talking(PlainAttention):
    def weights(self, q, k):
        return super().weights(q, k).flip(1)


class Positional(PlainAttention):
    def weights(self, q, k):
        return (q @ k.mT * self.scale + torch.arange(q.shape[2])).softmax(dim=-1)


class Causal(PlainAttention):
    def weights(self, q, k):
        return (q @ k.mT + torch.full(k.shape[2:3] * 2, -torch.inf).triu(1)).softmax(dim=-1)


class Differential(PlainAttention):
    def weights(self, q, k):
        return super().weights(q, k) - 0.5 * super().weights(k, q)


class Normed(PlainAttention):
    def weights(self, q, k):
        return super().weights(*(nn.functional.normalize(t, dim=-1) for t in (q, k)))


class Grouped(PlainAttention):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 8)  # two heads of queries, one of keys and values

    def forward(self, x):
        return self.qkv(x)[..., :4]


@pytest.mark.parametrize("kind", [Talking, Positional, Causal, Differential, Normed, Grouped])
def test_attention_of_another_kind_is_refused(kind):
    torch.manual_seed(0)
    model, x = nn.Sequential(kind()).eval(), torch.randn(2, 5, 4)
    with (
        pytest.raises(ValueError, match=rf"{kind.__name__} does not .* AttentionRecorder") as error,
        AttentionRecorder(model),
    ):
        model(x)
    assert "model.eval()" not in str(error.value)
    assert hooks(model) == []


def test_dropout_of_an_unknown_module_is_refused_until_eval_is_called():
    class Dropping(PlainAttention):
        def weights(self, q, k):
            return nn.functional.dropout(super().weights(q, k), 0.5, self.training)

    model, x = nn.Sequential(Dropping()), torch.randn(2, 5, 4)
    with AttentionRecorder(model) as recorder:
        with pytest.raises(ValueError, match=r"call model\.eval\(\) first"):
            model(x)
        model.eval()(x)
    assert recorder.attention.shape == (2, 1, 2, 5, 5)


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "vit_relpos_base_patch16_clsgap_224"])
def test_timm_models_with_relative_positions_are_refused(name):
    sizes = {"embed_dim": 32, "num_heads": 2, "depth": 1, "img_size": 32}
    model = timm.create_model(name, **sizes).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    with AttentionRecorder(model), pytest.raises(ValueError, match="does not compute softmax"):
        model(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fused", [True, False])
def test_a_plain_model_of_timm_is_recorded_in_every_precision(dtype, fused):
    sizes = {"embed_dim": 32, "num_heads": 2, "depth": 2, "img_size": 32}
    model = timm.create_model("vit_tiny_patch16_224", **sizes).eval().to(dtype)
    for block in model.blocks:
        block.attn.fused_attn = fused
    with AttentionRecorder(model) as recorder:
        model(torch.randn(2, 3, 32, 32, dtype=dtype))
    assert recorder.attention.shape == (2, 2, 2, 5, 5)
    assert recorder.attention.dtype == dtype


def test_a_model_without_a_joint_qkv_is_refused():
    with pytest.raises(ValueError, match="MultiheadAttention has no attention module to record"):
        AttentionRecorder(nn.MultiheadAttention(8, 2))
