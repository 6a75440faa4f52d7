"""static/vit.js, run by node: every stage against torch, its interventions, and broken files."""

import inspect
import json
import subprocess
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsing import node
from building import ROOT
from interventions import (
    block_off,
    heads_off,
    hide,
    late,
    made,
    no_positions,
    on_patches,
    temperature,
    uniform,
)
from torch import nn

from vitlib import (
    AttentionRecorder,
    VisionTransformer,
    create_model,
    load_data,
    patchify,
)
from vitlib.attention import unfused
from vitlib.patch import PatchEmbed
from vitlib.widgets import Explorer
from vitlib.widgets.figure import STATIC

CASES = Path(__file__).with_name("vit_cases.mjs")


def run(folder: Path, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    (folder / "cases.json").write_text(json.dumps(cases))
    command = [node(), str(CASES), str(STATIC / "vit.js"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def case(pixels: str | None = "pixels", weights: str = "weights", simd: bool = True, **options):
    """What vit.js is to compute; `options` are the third argument of `forward`."""
    return {"weights": weights, "simd": simd, "pixels": pixels, "options": options}


def stored(folder: Path, model: VisionTransformer, image: torch.Tensor | None = None):
    """Write the model and one image; return the model with the rounded weights, and the image."""
    Explorer(model).save_weights(folder / "weights")
    if image is None:
        image = torch.randn(model.in_chans, *model.img_size)
    (folder / "pixels").write_bytes(image.numpy().astype("<f4").tobytes())
    return model.half().float().eval(), image[None]


def close(found: list[float], expected: torch.Tensor, tolerance: float) -> None:
    values = np.asarray(found, np.float32)
    assert values.size == expected.numel()
    np.testing.assert_allclose(values, expected.flatten().numpy(), rtol=0, atol=tolerance)


def same_as_torch(found: dict[str, Any], model: VisionTransformer, images: torch.Tensor) -> None:
    """Attention and tokens of each block, and the logits, to 1e-4."""
    with torch.no_grad():
        close(found["logits"], model(images), 1e-4)
        blocks = model.forward_intermediates(images)
    assert len(found["tokens"]) == len(found["attention"]) == len(blocks) == len(model.blocks)
    for own, expected in zip(found["tokens"], blocks, strict=True):
        close(own, expected, 1e-4)
    if not blocks:
        return
    with AttentionRecorder(model) as recorder, torch.no_grad():
        model(images)
    for own, expected in zip(found["attention"], recorder.layers, strict=True):
        close(own, expected, 1e-4)


# Parity

VARIANTS = {
    "plain": {},
    "sides": {"img_size": (6, 20), "patch_size": (3, 5), "in_chans": 2},
    "many classes": {"num_classes": 33, "embed_dim": 40, "mlp_ratio": 1.7},
    "one head": {"num_heads": 1, "depth": 1, "embed_dim": 7},
    "heads of one channel": {"num_heads": 24},
    "one patch": {"img_size": 4, "in_chans": 1, "num_classes": 1},
    "distilled": {"distilled": True},
    "registers": {"reg_tokens": 3},
    "distilled registers": {"distilled": True, "reg_tokens": 2, "init_values": 0.1},
    "average": {"global_pool": "avg", "reg_tokens": 1},
    "representation": {"representation_size": 7},
    "average representation": {"global_pool": "avg", "representation_size": 7},
    "sincos": {"pos_embed": "sincos"},
    "no positions": {"pos_embed": "none"},
    "layer scale": {"init_values": 0.1},
    "no qkv bias": {"qkv_bias": False},
    "qk_scale": {"qk_scale": 0.1},
    "unfold": {"embed_layer": partial(PatchEmbed, mode="unfold")},
    "eps": {"norm_layer": partial(nn.LayerNorm, eps=0.3), "act_layer": nn.GELU},
    "no norm": {"norm_layer": nn.Identity},
    "dropout": {"drop_rate": 0.5, "attn_drop_rate": 0.5, "drop_path_rate": 0.5},
    "no positions of prefix tokens": {"no_embed_class": True, "reg_tokens": 2},
    "dynamic": {"dynamic_img_size": True, "pos_antialias": False},
    "no head": {"num_classes": 0},
    "distilled without heads": {"num_classes": 0, "distilled": True},
    "no blocks": {"depth": 0},
    "jax": {"weight_init": "jax"},
}


def test_every_option_is_tried():
    options = inspect.signature(VisionTransformer).parameters.keys()
    tried = {option for options in VARIANTS.values() for option in options}
    assert not options - tried, f"VARIANTS wants a row for each option: {options - tried}"


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_stage_is_torchs(tmp_path, options):
    model, images = stored(tmp_path, made(**options))
    for found in run(tmp_path, [case(simd=True), case(simd=False)]):
        same_as_torch(found, model, images)


@pytest.mark.parametrize("seed", range(8))
def test_random_models(tmp_path, seed):
    rng = np.random.default_rng(seed)
    heads, patch = int(rng.integers(1, 7)), rng.integers(1, 6, 2)
    distilled = bool(rng.integers(2))
    free = {} if distilled else {
        "global_pool": str(rng.choice(["token", "avg"])),
        "representation_size": [None, int(rng.integers(1, 40))][rng.integers(2)],
    }  # fmt: skip
    options = {
        "img_size": tuple(map(int, patch * rng.integers(1, 7, 2))),
        "patch_size": tuple(map(int, patch)),
        "in_chans": int(rng.integers(1, 5)),
        "num_classes": int(rng.integers(1, 30)),
        "embed_dim": 4 * heads * int(rng.integers(1, 7)),
        "depth": int(rng.integers(1, 6)),
        "num_heads": heads,
        "mlp_ratio": float(rng.uniform(0.5, 4)),
        "qkv_bias": bool(rng.integers(2)),
        "reg_tokens": int(rng.integers(4)),
        "distilled": distilled,
        "pos_embed": str(rng.choice(["learned", "sincos", "none"])),
        "init_values": [None, 0.1][rng.integers(2)],
        **free,
    }
    model, images = stored(tmp_path, made(**options))
    fast, plain = run(tmp_path, [case(simd=True), case(simd=False)])
    same_as_torch(fast, model, images)
    same_as_torch(plain, model, images)


@pytest.mark.parametrize("name", ["vit_nano_patch7_28", "vit_nano_patch4_28"])
def test_rounded_weights_give_nearly_the_same_probabilities(tmp_path, name):
    """The trained models, in half precision here and in single precision in torch."""
    model, data = create_model(name, pretrained=True).eval(), load_data("mnist5k").test
    images = torch.stack([data[i][0] for i in range(0, len(data), 50)])
    with torch.no_grad():
        expected = model(images).softmax(dim=1)
    cases = []
    for number, image in enumerate(images):
        (tmp_path / f"{number}").write_bytes(image.numpy().astype("<f4").tobytes())
        cases.append(case(pixels=f"{number}"))
    rounded, _ = stored(tmp_path, model, images[0])
    found = run(tmp_path, cases)
    for one, probabilities in zip(found, expected, strict=True):
        close(torch.tensor(one["logits"]).softmax(dim=0).tolist(), probabilities, 2e-3)
    same_as_torch(found[0], rounded, images[:1])


def test_every_stage_that_is_kept_is_torchs(tmp_path):
    """Those between, too, which `forward` gives back on request, in copies that nobody changes."""
    names = [
        "patches", "embedded", "positions", "start", "norm1", "qkv", "scores", "attention",
        "mixed", "attnOut", "norm2", "hidden", "mlpOut", "tokens", "normed", "pooled", "answers",
    ]  # fmt: skip
    model, images = stored(tmp_path, made(distilled=True, init_values=0.5))
    (found,) = run(tmp_path, [case(keep=names)])
    kept, heard = found["kept"], {}

    def hear(name, module, value=lambda inputs, output: output):
        def hook(module, inputs, output):
            heard.setdefault(name, []).append(value(inputs, output))

        module.register_forward_hook(hook)

    hear("embedded", model.patch_embed)
    hear("start", model.blocks, lambda inputs, output: inputs[0])
    for block in model.blocks:
        hear("norm1", block.norm1)
        hear("qkv", block.attn.qkv)
        hear("attention", block.attn.attn_drop)
        hear("mixed", block.attn.proj, lambda inputs, output: inputs[0])
        hear("attnOut", block.ls1)
        hear("norm2", block.norm2)
        hear("hidden", block.mlp.act)
        hear("mlpOut", block.ls2)
        hear("tokens", block)
    hear("normed", model.norm)
    hear("pooled", model.norm, lambda inputs, output: output[:, :2])
    with unfused(model), torch.no_grad():
        answers = model(images, return_dist=True)
    heard["answers"] = [torch.cat(answers)]
    heard["patches"] = [patchify(images, model.patch_size)]
    heard["positions"] = [model.pos_embed.detach()]
    for values in heard["qkv"]:
        q, k, _ = values.view(1, -1, 3, 4, 6).permute(2, 0, 3, 1, 4)
        heard.setdefault("scores", []).append(q @ k.transpose(-2, -1) * 6**-0.5)
    assert kept.keys() == heard.keys() == set(names)
    for name in names:
        assert len(kept[name]) == len(heard[name]), name
        for own, expected in zip(kept[name], heard[name], strict=True):
            close(own, expected, 1e-4)


# Interventions: the same in torch

ORDER = [5, 0, 3, 1, 4, 2]
INTERVENTIONS = {
    "a head off": ([{"change": "headsOff", "layer": 1, "heads": [2]}], [(heads_off, 1, [2])]),
    "only a head": (
        [{"change": "headsOff", "layer": 0, "heads": [0, 1, 3]}],
        [(heads_off, 0, [0, 1, 3])],
    ),
    "heads off everywhere": ([{"change": "headsOff", "heads": [3]}], [(heads_off, None, [3])]),
    "uniform": (
        [{"change": "uniform", "layer": 0, "heads": [1, 2]}],
        [(uniform, 0, [1, 2])],
    ),
    "all uniform": ([{"change": "uniform"}], [(uniform, None, [0, 1, 2, 3])]),
    "warm": (
        [{"change": "temperature", "layer": 2, "heads": [0], "value": 3}],
        [(temperature, 2, [0], 3)],
    ),
    "cold": (
        [{"change": "temperature", "value": 0.5}],
        [(temperature, None, [0, 1, 2, 3], 0.5)],
    ),
    "a block off": ([{"change": "blockOff", "layer": 1}], [(block_off, 1)]),
    "only a block": (
        [{"change": "blockOff", "layer": 0}, {"change": "blockOff", "layer": 2}],
        [(block_off, 0), (block_off, 2)],
    ),
    "attention off": (
        [{"change": "blockOff", "layer": 1, "part": "attention"}],
        [(block_off, 1, ["ls1"])],
    ),
    "MLPs off": ([{"change": "blockOff", "part": "mlp"}], [(block_off, None, ["ls2"])]),
    "no positions": ([{"change": "noPositions"}], [(no_positions,)]),
    "occluded": (
        [{"change": "occlude", "patches": [0, 4]}],
        [(hide([0, 4], [0.0, 0.0, 0.0]),)],
    ),
    "occluded in a colour": (
        [{"change": "occlude", "patches": [5], "value": [1, -2, 0.5]}],
        [(hide([5], [1.0, -2.0, 0.5]),)],
    ),
    "shuffled": ([{"change": "permute", "order": ORDER}], [(on_patches(lambda x: x[:, ORDER]),)]),
    "late": ([{"change": "late", "layer": 2}], [(late, 2)]),
    "never": ([{"change": "late", "layer": 3}], [(late, 3)]),
    "from the start": ([{"change": "late", "layer": 0}], []),
    "a register, late": ([{"change": "late", "layer": 1, "token": 1}], [(late, 1, 1)]),
    "several": (
        [
            {"change": "noPositions"},
            {"change": "permute", "order": ORDER},
            {"change": "occlude", "patches": [1]},
            {"change": "temperature", "layer": 1, "value": 2},
            {"change": "headsOff", "layer": 2, "heads": [0]},
        ],
        [
            (no_positions,),
            (on_patches(lambda x: x[:, ORDER]),),
            (hide([1], [0.0, 0.0, 0.0]),),
            (temperature, 1, [0, 1, 2, 3], 2),
            (heads_off, 2, [0]),
        ],
    ),
}


@pytest.fixture(scope="module")
def intervened(tmp_path_factory):
    """What vit.js gives for no intervention, and then for each of them."""
    folder = tmp_path_factory.mktemp("interventions")
    model, images = stored(folder, made(reg_tokens=1))
    cases = [case(), *(case(changes=changes) for changes, _ in INTERVENTIONS.values())]
    found = run(folder, cases)
    plain = found[0]
    same_as_torch(plain, model, images)
    return images, plain, dict(zip(INTERVENTIONS, found[1:], strict=True))


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_an_intervention_is_the_same_in_torch(intervened, name):
    images, plain, found = intervened
    model = made(reg_tokens=1).half().float()
    for apply, *arguments in INTERVENTIONS[name][1]:
        apply(model, *arguments)
    with unfused(model), torch.no_grad():
        logits, tokens = model(images), model.forward_intermediates(images)
    close(found[name]["logits"], logits, 1e-3)
    for own, expected in zip(found[name]["tokens"], tokens, strict=True):
        close(own, expected, 1e-3)
    difference = np.abs(np.subtract(found[name]["logits"], plain["logits"])).max()
    assert (difference < 1e-6) == (name == "from the start"), "the others change the answer"


def test_every_intervention_is_tried():
    source = (STATIC / "vit.js").read_text("utf8")
    table = source[source.index("export const CHANGES") :]
    names = {line.split(":")[0].strip() for line in table.splitlines() if line.startswith("  ")}
    tried = {change["change"] for changes, _ in INTERVENTIONS.values() for change in changes}
    assert tried <= names
    assert table.split("\n};")[0].count("takes:") == len(tried), "INTERVENTIONS lacks one"


def test_the_attention_given_back_is_the_changed_one(intervened):
    _, _, found = intervened
    weights = np.reshape(found["uniform"]["attention"][0], (4, 8, 8))
    np.testing.assert_allclose(weights[1:3], 1 / 8, atol=1e-7)
    assert np.abs(weights[0] - 1 / 8).max() > 0.01
    weights = np.reshape(found["never"]["attention"], (3, 4, 8, 8))
    assert (weights[..., 0, 0] == 1).all()
    assert (weights[..., 1:, 0] == 0).all()


def test_a_change_leaves_the_model_as_it_was(tmp_path):
    stored(tmp_path, made())
    everything = [c for changes, _ in INTERVENTIONS.values() for c in changes if "token" not in c]
    first, _, again = run(tmp_path, [case(), case(changes=everything), case()])
    assert first == again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": [{"change": "headOff"}]}, "no change headOff: there are headsOff, uniform"),
        ({"changes": [{"change": "headsOff", "head": 1}]}, "headsOff takes layer, heads, got head"),
        ({"changes": [{"change": "headsOff", "heads": 1}]}, "a list of head numbers, got 1"),
        ({"changes": [{"change": "headsOff", "heads": [4]}]}, "head must be from 0 to 3, got 4"),
        ({"changes": [{"change": "blockOff", "layer": 3}]}, "layer must be from 0 to 2, got 3"),
        ({"changes": [{"change": "blockOff", "layer": 0.5}]}, "layer must be from 0 to 2, got 0.5"),
        ({"changes": [{"change": "blockOff", "part": "x"}]}, "no part x: there are attention, mlp"),
        ({"changes": [{"change": "noPositions", "layer": 0}]}, "takes no options, got layer"),
        ({"changes": [{"change": "temperature", "value": 0}]}, "must be a number above 0, got 0"),
        ({"changes": [{"change": "temperature"}]}, "must be a number above 0, got undefined"),
        ({"changes": [{"change": "occlude", "patches": [6]}]}, "patch must be from 0 to 5, got 6"),
        ({"changes": [{"change": "occlude", "value": [1, 2]}]}, "one number or 3 as the value"),
        ({"changes": [{"change": "permute", "order": [0, 1]}]}, "the order of 6 patches, each"),
        ({"changes": [{"change": "permute", "order": [0] * 6}]}, "the order of 6 patches, each"),
        ({"changes": [{"change": "permute"}]}, "the order of 6 patches, each once, got undefined"),
        ({"changes": [{"change": "late"}]}, "layer must be from 0 to 3, got undefined"),
        ({"changes": [{"change": "late", "layer": 1, "token": 7}]}, "token must be from 0 to 6"),
        ({"keep": ["score"]}, "no stage score: there are patches, embedded"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_change_is_told_in_words(tmp_path, options, message):
    stored(tmp_path, made())
    (found,) = run(tmp_path, [case(**options)])
    assert found["kind"] == "Error"
    assert message in found["error"]


# The file


def test_the_file_says_what_the_model_knows(tmp_path):
    model = made()
    stored(tmp_path, model)
    (unknown,) = run(tmp_path, [case(pixels=None)])
    assert unknown == {"fast": True, "classes": None, "mean": None, "std": None}
    model.classes, model.mean, model.std = ("a", "b", "c", "d", "é"), (0.1, 0.2, 0.3), (1, 2, 3)
    stored(tmp_path, model)
    fast, plain = run(tmp_path, [case(pixels=None), case(pixels=None, simd=False)])
    assert fast["classes"] == ["a", "b", "c", "d", "é"]
    assert (fast["mean"], fast["std"]) == ([0.1, 0.2, 0.3], [1, 2, 3])
    assert (fast["fast"], plain["fast"]) == (True, False)


def test_wrong_pixels_are_refused(tmp_path):
    stored(tmp_path, made())
    (tmp_path / "few").write_bytes(bytes(4 * 95))
    (found,) = run(tmp_path, [case(pixels="few")])
    assert found["error"] == "expected 288 pixels (3 × 8 × 12), got 95"


def test_a_damaged_file_is_told_in_words(tmp_path):
    """Cut off anywhere, a byte changed anywhere, something added, or another file."""
    whole = Explorer(made()).save_weights(tmp_path / "weights").read_bytes()
    rng = np.random.default_rng(0)
    damaged = {f"cut at {n}": whole[:n] for n in (4, 7, 8, 11, 12, 13, 500, len(whole) - 1)}
    for place in [*range(4, 12), *rng.integers(12, len(whole), 40).tolist()]:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        damaged[f"changed at {place}"] = bytes(changed)
    damaged["longer"] = whole + b"\0"
    foreign = {"empty": b"", "short": whole[:3], "another": b"PK\3\4" + whole, "html": b"<!doctype"}
    for name, content in (damaged | foreign).items():
        (tmp_path / name).write_bytes(content)
    found = run(tmp_path, [case(None, weights=name) for name in damaged | foreign])
    for name, result in zip(damaged | foreign, found, strict=True):
        says = "is damaged or cut off" if name in damaged else "this is no file of weights"
        assert result.get("kind") == "Error", name
        assert says in result["error"], name


def test_the_file_is_as_its_docstring_says(tmp_path):
    model = made()
    content = Explorer(model).save_weights(tmp_path / "deep" / "weights").read_bytes()
    assert content[:4] == b"ViT1"
    assert int.from_bytes(content[4:8], "little") == zlib.crc32(content[8:])
    end = 12 + int.from_bytes(content[8:12], "little")
    header = json.loads(content[12:end])
    for name, shape in header["tensors"]:
        tensor = model.state_dict()[name]
        assert tuple(shape) == tensor.shape
        values = np.frombuffer(content, "<f2", tensor.numel(), end)
        np.testing.assert_array_equal(values, tensor.half().flatten().numpy())
        end += 2 * tensor.numel()
    assert end == len(content)
    assert len(header["tensors"]) == len(model.state_dict())


# In the browser

# What `run` gives, computed in a page, where `load`, `forward`, `bytes` and `pixels` are known.
COMPUTE = """
    const model = load(Uint8Array.from(bytes));
    const { logits, tokens, attention } = forward(model, Float32Array.from(pixels));
    const plain = (arrays) => arrays.map((array) => Array.from(array));
    return { fast: model.fast !== null, logits: Array.from(logits), tokens: plain(tokens), attention: plain(attention) };
"""  # noqa: E501


@pytest.mark.parametrize("http", [True, False], ids=["http", "file"])
def test_chromium_computes_the_same(tmp_path, show, http):
    """As a module that stands in the page, over http and from a file."""
    model, images = stored(tmp_path, made(distilled=True, reg_tokens=1))
    page = show("<p>nothing</p>", http=http)
    source = (STATIC / "vit.js").read_text("utf8")
    inputs = [list((tmp_path / "weights").read_bytes()), images.flatten().tolist(), source]
    found = page.evaluate(
        f"""async ([bytes, pixels, source]) => {{
            const url = URL.createObjectURL(new Blob([source], {{ type: "text/javascript" }}));
            const {{ load, forward }} = await import(url);
            {COMPUTE}
        }}""",
        inputs,
    )
    assert found["fast"]
    same_as_torch(found, model, images)


def test_where_webassembly_is_forbidden_javascript_computes(tmp_path, browser):
    """By a page's Content-Security-Policy."""
    model, images = stored(tmp_path, made())
    source = (STATIC / "vit.js").read_text("utf8") + "globalThis.vit = { load, forward };"
    (tmp_path / "page.html").write_text(
        '<!doctype html><html><head><meta charset="utf-8"><meta http-equiv='
        '"Content-Security-Policy" content="script-src \'unsafe-inline\'"></head>'
        f'<body><script type="module">{source}</script></body></html>'
    )
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    inputs = [list((tmp_path / "weights").read_bytes()), images.flatten().tolist()]
    found = page.evaluate(
        f"([bytes, pixels]) => {{ const {{ load, forward }} = vit; {COMPUTE} }}", inputs
    )
    page.close()
    assert not found["fast"]
    same_as_torch(found, model, images)


def test_vit_js_imports_nothing():
    source = (ROOT / "vitlib" / "widgets" / "static" / "vit.js").read_text("utf8")
    assert "import " not in "\n".join(x for x in source.splitlines() if not x.startswith("//"))
    for word in ("fetch(", "require(", "http://", "https://", "eval("):
        assert word not in source
