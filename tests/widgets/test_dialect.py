"""DialectFigure in Python: its files go through `translate` and come out as the model's weights."""

import re
from math import prod

import numpy as np
import pytest
import torch
from traitlets import TraitError

from vitlib import VisionTransformer
from vitlib.checkpoints.dialects import SOURCES, detect_source, translate
from vitlib.widgets import DialectFigure
from vitlib.widgets.dialect import _small_model, write_state_dict


def make(**options):
    """A model in which no two axes of a tensor are alike, and all numbers differ."""
    torch.manual_seed(1)
    wanted = {
        "img_size": (4, 6), "patch_size": 2, "in_chans": 1, "num_classes": 5, "embed_dim": 12,
        "depth": 1, "num_heads": 3, "mlp_ratio": 1.5,
    }  # fmt: skip
    model = VisionTransformer(**wanted | options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


MODELS = {
    "its own": _small_model,
    "another": make,
    "without qkv's bias": lambda: make(qkv_bias=False),
    "without positions": lambda: make(pos_embed="none"),
}
WRITTEN = MODELS | {"of three blocks": lambda: make(depth=3)}  # the figure shows the first


def written(model, source):
    file = write_state_dict(model.state_dict(), source, model.config["num_heads"])
    return {"model": file} if source == "deit" else file


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_is_translated_back_into_the_models_weights(name, source):
    model = WRITTEN[name]()
    file = written(model, source)
    read = translate(file, source)
    assert read.weights.keys() == model.state_dict().keys()
    for key, weight in model.state_dict().items():
        assert torch.equal(read.weights[key], weight), key
    assert read.extra == ()
    assert read.left_out == {}
    # facebookresearch's files of a model without a distillation token hold timm's names
    assert detect_source(file) == ("timm" if source == "deit" else source)


def test_the_shapes_of_a_file_of_google():
    file = written(make(), "google_npz")  # width 12, 3 heads of 4, hidden 18, 5 classes
    attention = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/"
    for name, shape in {
        "embedding/kernel": (2, 2, 1, 12),
        attention + "key/kernel": (12, 3, 4),
        attention + "key/bias": (3, 4),
        attention + "out/kernel": (3, 4, 12),
        attention + "out/bias": (12,),
        "Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel": (12, 18),
        "Transformer/encoder_norm/scale": (12,),
        "head/kernel": (12, 5),
    }.items():
        assert file[name].shape == shape, name


def read_figure(figure):
    """name -> (weights, {source: flat places}), out of the figure's bytes."""
    weights = torch.tensor(np.frombuffer(figure.weights, np.float32))
    places = np.frombuffer(figure.places, np.uint16).reshape(len(SOURCES), -1)
    found, start = {}, 0
    for name, shape in zip(figure.names, figure.shapes, strict=True):
        end = start + prod(shape)
        by_source = {source: places[i, start:end] for i, source in enumerate(SOURCES)}
        found[name] = weights[start:end].view(shape), by_source
        start = end
    assert start == len(weights) == places.shape[1]
    return found


@pytest.mark.parametrize("name", MODELS)
def test_every_number_is_said_to_stand_where_it_stands_in_the_file(name):
    model = MODELS[name]()
    figure = DialectFigure(model)
    found = read_figure(figure)
    assert found.keys() == model.state_dict().keys()
    for source in SOURCES:
        file = written(model, source)
        file = file.get("model", file)
        read = translate(file, source)
        record = figure.files[source]
        assert record["wrappers"] == list(translate(written(model, source), source).wrappers)
        for target, (weight, places) in found.items():
            tensor = record["tensors"][target]
            assert torch.equal(weight, model.state_dict()[target])
            assert tuple(tensor["names"]) == read.origins[target]
            assert tensor["shapes"] == [list(file[origin].shape) for origin in tensor["names"]]
            assert tensor["done"] == read.operations[target]
            numbers = torch.cat([file[origin].flatten() for origin in tensor["names"]])
            assert torch.equal(numbers[places[source].astype(np.int64)], weight.flatten())
            assert sorted(places[source]) == list(range(weight.numel()))


def test_words_come_from_the_translation():
    files = DialectFigure().files
    done = {source: files[source]["tensors"]["blocks.0.attn.qkv.weight"] for source in SOURCES}
    assert [len(done[source]["names"]) for source in SOURCES] == [1, 1, 3, 1, 3]
    assert [done[s]["done"] for s in SOURCES] == ["", "", "joined", "", "transposed, joined"]
    assert files["deit"]["wrappers"] == ['["model"]']
    assert files["hf"]["wrappers"] == ['prefix "vit."']


def test_of_a_deeper_model_the_first_block_is_shown():
    model = make(depth=3)
    found = read_figure(DialectFigure(model))
    blocks = {name.split(".")[1] for name in found if name.startswith("blocks.")}
    assert blocks == {"0"}
    assert found.keys() < model.state_dict().keys()


def test_what_is_shown_first():
    figure = DialectFigure()
    assert (figure.dialect, figure.tensor) == ("hf", "blocks.0.attn.qkv.weight")
    assert figure.entry == 96
    assert DialectFigure(tensor="cls_token").entry == 4
    figure = DialectFigure(dialect="google_npz", tensor="head.bias", entry=2)
    assert (figure.dialect, figure.tensor, figure.entry) == ("google_npz", "head.bias", 2)


def test_a_smaller_tensor_does_not_keep_a_number_it_has_not():
    figure = DialectFigure(entry=100)
    figure.tensor = "blocks.0.mlp.fc1.weight"
    assert figure.entry == 100
    figure.tensor = "head.bias"
    assert figure.entry == 0
    figure.dialect = "google_npz"
    assert figure.tensor == "head.bias"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"distilled": True},
            "five dialects: dist_token, head_dist.weight, head_dist.bias has none",
        ),
        ({"reg_tokens": 2}, "five dialects: reg_token has none"),
        ({"init_values": 0.1}, "five dialects: blocks.0.ls1.gamma, blocks.0.ls2.gamma has none"),
        ({"global_pool": "avg"}, "five dialects: fc_norm.weight, fc_norm.bias has none"),
        ({"embed_dim": 48}, "at most 4,000 fit in the figure: pass a smaller model"),
    ],
)
def test_models_that_it_cannot_show(options, said):
    with pytest.raises(ValueError, match=said):
        DialectFigure(make(**options))


def test_what_is_no_model_and_what_is_not_finite(unchecked):
    with pytest.raises(ValueError, match=r"expected a vitlib\.VisionTransformer, got Linear"):
        DialectFigure(torch.nn.Linear(2, 2))
    model = make()
    model.norm.bias.data[3] = float("nan")
    with pytest.raises(ValueError, match=r"norm.bias holds values that are not finite"):
        DialectFigure(model)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("dialect", "flax", "dialect must be one of timm, deit, hf, torchvision, google_npz: got"),
        ("tensor", "head", "tensor must be one of cls_token, .*: got 'head'"),
        ("entry", 192, "entry must be from 0 to 191, for 192 numbers of blocks.0.attn.qkv.weight"),
        ("entry", -1, "entry must be from 0 to 191"),
    ],
)
def test_bad_values(name, value, said):
    with pytest.raises(ValueError, match=said):
        DialectFigure(**{name: value})
    figure = DialectFigure()
    before = getattr(figure, name)
    with pytest.raises(TraitError, match=said):
        setattr(figure, name, value)
    assert getattr(figure, name) == before


def test_its_page_is_the_same_every_time_and_small():
    pages = [DialectFigure(entry=3)._repr_mimebundle_()[0]["text/html"] for _ in "ab"]
    assert pages[0] == pages[1] != DialectFigure()._repr_mimebundle_()[0]["text/html"]
    assert len(pages[0]) < 120_000
    # as large a model as it takes
    assert len(DialectFigure(make(embed_dim=18, mlp_ratio=3)).to_html()) < 120_000
    assert re.search(r"The 20 tensors of a small", DialectFigure().alt)
