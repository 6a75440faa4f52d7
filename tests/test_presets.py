"""The presets: their sizes and statistics; adding a row is enough."""

import ast
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from building import ROOT

from vitlib import create_model, list_models
from vitlib.cli import main
from vitlib.presets import PRESETS, Preset

# name: parameters, embed_dim, depth, heads, patch size, image side, channels, classes
PRESET_TABLE = {
    "vit_tiny_patch16_224": (5_717_416, 192, 12, 3, 16, 224, 3, 1000),
    "vit_small_patch16_224": (22_050_664, 384, 12, 6, 16, 224, 3, 1000),
    "vit_base_patch16_224": (86_567_656, 768, 12, 12, 16, 224, 3, 1000),
    "vit_base_patch32_224": (88_224_232, 768, 12, 12, 32, 224, 3, 1000),
    "vit_large_patch16_224": (304_326_632, 1024, 24, 16, 16, 224, 3, 1000),
    "vit_huge_patch14_224": (632_045_800, 1280, 32, 16, 14, 224, 3, 1000),
    "deit_tiny_patch16_224": (5_717_416, 192, 12, 3, 16, 224, 3, 1000),
    "deit_small_patch16_224": (22_050_664, 384, 12, 6, 16, 224, 3, 1000),
    "deit_base_patch16_224": (86_567_656, 768, 12, 12, 16, 224, 3, 1000),
    "deit_tiny_distilled_patch16_224": (5_910_800, 192, 12, 3, 16, 224, 3, 1000),
    "deit_small_distilled_patch16_224": (22_436_432, 384, 12, 6, 16, 224, 3, 1000),
    "deit_base_distilled_patch16_224": (87_338_192, 768, 12, 12, 16, 224, 3, 1000),
    "vit_small_patch14_dinov2": (22_056_192, 384, 12, 6, 14, 518, 3, 0),
    "vit_base_patch14_dinov2": (86_579_712, 768, 12, 12, 14, 518, 3, 0),
    "vit_small_patch14_reg4_dinov2": (22_057_344, 384, 12, 6, 14, 518, 3, 0),
    "vit_base_patch14_reg4_dinov2": (86_582_016, 768, 12, 12, 14, 518, 3, 0),
    "vit_nano_patch4_28": (205_066, 64, 4, 4, 4, 28, 1, 10),
    "vit_nano_patch7_28": (205_066, 64, 4, 4, 7, 28, 1, 10),
    "vit_micro_patch4_32": (1_602_442, 128, 8, 4, 4, 32, 3, 10),
}


def test_list_models_names_every_preset_in_order():
    apart = set(list_models()) ^ set(PRESET_TABLE)
    assert not apart, f"PRESET_TABLE in this file wants a line for each preset: {apart}"
    assert list_models() == sorted(PRESET_TABLE)


@pytest.mark.parametrize("name", PRESET_TABLE)
def test_presets(name):
    with torch.device("meta"):
        model = create_model(name)
    count = sum(p.numel() for p in model.parameters())
    heads, side = model.blocks[0].attn.num_heads, model.img_size[0]
    sizes = (len(model.blocks), heads, model.patch_size[0], side, model.in_chans, model.num_classes)
    assert (count, model.embed_dim, *sizes) == PRESET_TABLE[name]
    assert model.distilled == ("distilled" in name)
    if PRESETS[name].hub_id is None:
        assert (model.mean, model.std) == (None, None)  # they come with the data
    elif "deit" in name or "dino" in name:
        assert (model.mean, model.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    else:
        assert (model.mean, model.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_every_preset_with_weights_elsewhere_has_the_size_that_they_were_trained_at():
    ids = {name: preset.hub_id for name, preset in PRESETS.items() if preset.hub_id}
    assert ids.keys() == {name for name, preset in PRESETS.items() if preset.native_size}
    assert all(PRESETS[name].native_size == PRESETS[name].arguments["img_size"] for name in ids)
    assert ids["vit_base_patch16_224"] == "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"
    assert ids["deit_small_distilled_patch16_224"] == (
        "timm/deit_small_distilled_patch16_224.fb_in1k"
    )
    assert ids["vit_small_patch14_reg4_dinov2"] == "timm/vit_small_patch14_reg4_dinov2.lvd142m"


# A row is enough


@pytest.fixture
def row(monkeypatch) -> Preset:
    """A preset that vitlib does not have, of a size that no data have."""
    arguments = {"img_size": 12, "patch_size": 3, "embed_dim": 8, "depth": 1, "num_heads": 2}
    row = Preset("newt_patch3_12", arguments, (0.5,) * 3, (0.25,) * 3, "owner/wee", native_size=12)
    monkeypatch.setitem(PRESETS, row.name, row)
    return row


def test_a_row_is_enough_for_create_model_and_list_models(row):
    model = create_model("newt_patch3_12", num_classes=4)
    assert (model.img_size, model.grid_size, model.num_classes) == ((12, 12), (4, 4), 4)
    assert (model.mean, model.std) == (row.mean, row.std)
    assert "newt_patch3_12" in list_models()
    with pytest.raises(
        ValueError, match=r"unknown model 'newt_patch3'\. Did you mean 'newt_patch3_12'\?"
    ):
        create_model("newt_patch3")


def test_a_row_is_enough_for_its_weights(row, monkeypatch):
    asked = []

    def fetch(name):
        asked.append(name)
        raise ValueError("no network")

    monkeypatch.setattr("vitlib.checkpoints.reading.fetch", fetch)
    with pytest.raises(ValueError, match="no network"):
        create_model("newt_patch3_12", pretrained=True)
    assert asked == ["owner/wee"]
    monkeypatch.setitem(PRESETS, "newt_patch3_12", replace(row, headless=True))
    with pytest.raises(
        ValueError, match="published weights of newt_patch3_12 have no head: create it"
    ):
        create_model("newt_patch3_12", pretrained=True)
    monkeypatch.setitem(PRESETS, "newt_patch3_12", replace(row, hub_id=None))
    with pytest.raises(
        ValueError, match="there are no weights for 'newt_patch3_12'; there are some for"
    ):
        create_model("newt_patch3_12", pretrained=True)


@pytest.mark.parametrize(("native", "size"), [(12, "12×12"), (15, "15×15"), (None, "8×8")])
def test_a_row_is_enough_for_the_command_lines_choice_of_size(
    row, native, size, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "newt_patch3_12", replace(row, native_size=native))
    command = ["train", "--data", "digits", "--model", "newt_patch3_12", "--steps", "1", "--quiet"]
    patch = [] if native else ["--patch-size", "2"]
    assert main([*command, "--batch-size", "8", "--augment", "none", *patch]) == 0
    assert f"test images, {size}, 1 channel" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "newt_patch3_12" in capsys.readouterr().out


def decisions(path: Path) -> list[str]:
    """Where a module decides something by a name: startswith, endswith, ==, in, match."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        match node:
            case ast.Call(ast.Attribute(attr="startswith" | "endswith" as how), [given, *_]):
                texts = [n.value for n in ast.walk(given) if isinstance(n, ast.Constant)]
                found += [
                    f"{how}({text!r})"
                    for text in texts
                    if isinstance(text, str) and any(getattr(p, how)(text) for p in PRESETS)
                ]
            case ast.Compare(left, _, others):
                texts = [n.value for side in (left, *others) for n in ast.walk(side)
                         if isinstance(n, ast.Constant)]  # fmt: skip
                found += [f"== {text!r}" for text in texts if text in PRESETS]
                if isinstance(left, ast.Constant) and isinstance(node.ops[0], ast.In | ast.NotIn):
                    text = left.value
                    if isinstance(text, str) and re.search(r"^(vit|deit)_|_\d+$|_distilled_", text):
                        found.append(f"{text!r} in")
            case ast.MatchValue(ast.Constant(value=text)) if text in PRESETS:
                found.append(f"case {text!r}")
    return [f"{path.relative_to(ROOT)}: {what}" for what in found]


def test_no_module_decides_anything_by_a_presets_name():
    paths = (ROOT / "vitlib").rglob("*.py")
    assert [what for path in paths for what in decisions(path)] == []


@pytest.mark.parametrize(
    "code",
    [
        'name.startswith("deit_")', 'name.endswith("_224")', 'name.startswith(("x", "vit_"))',
        'name == "vit_huge_patch14_224"', 'name in ("vit_nano_patch4_28", "x")', '"_224" in name',
        '"deit_" in name',
    ],
)  # fmt: skip
def test_such_a_decision_is_noticed(code):
    path = ROOT / "vitlib" / "made_up.py"
    assert decisions(SimpleNamespace(read_text=lambda _: code, relative_to=path.relative_to))


def test_published_models_of_one_width_have_one_number_of_heads():
    """Else checkpoints/settings.py could not guess it from the width of weights alone."""
    heads = {}
    for preset in PRESETS.values():
        if preset.hub_id:
            number = heads.setdefault(preset.arguments["embed_dim"], preset.arguments["num_heads"])
            assert number == preset.arguments["num_heads"], preset.name
