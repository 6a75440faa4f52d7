"""Picture files of any size and shape through a model, and what is drawn of them."""

import re

import numpy as np
import pytest
import torch
from explain.test_answers import make
from PIL import ExifTags, Image, ImageOps
from torch.utils.flop_counter import FlopCounterMode

from vitlib import AttentionRecorder, attend, create_model, tokens_to_grid
from vitlib.attention import unfused
from vitlib.explain.pictures import (
    choose_img_size,
    count_multiplications,
    describe_img_size,
    read_pictures,
    size_in_patches,
)

HIGH, WIDE = 30, 50  # of the picture


def model_of(**options):
    """Patches of 4, trained on 16×16; the mean and std are its own."""
    sizes = {"in_chans": 3, "img_size": 16, "num_classes": 0, "dynamic_img_size": True}
    model = make(torch.float32, **sizes | options).eval()
    model.mean, model.std = (0.5, 0.4, 0.3)[: model.in_chans], (0.2, 0.3, 0.25)[: model.in_chans]
    return model


def picture(seed=0, size=(HIGH, WIDE)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def files(tmp_path):
    for number, name in enumerate(("a.png", "b.png")):
        picture(number, (HIGH, WIDE) if number == 0 else (40, 20)).save(tmp_path / name)
    return [tmp_path / "a.png", str(tmp_path / "b.png")]


# What is computed


@torch.no_grad()
def test_a_picture_keeps_its_shape_and_its_map_is_what_the_recorder_reads(files):
    model = model_of()
    first, second = attend(model, files)
    # 16×16 pixels are 16 patches; in the shapes 30×50 and 40×20, 3×5 and 6×3
    assert (first.pixels.shape, first.map.shape) == ((1, 3, 12, 20), (3, 5))
    assert (second.pixels.shape, second.map.shape) == ((1, 3, 24, 12), (6, 3))
    expected = ImageOps.fit(picture(0), (20, 12), Image.Resampling.BICUBIC)
    expected = torch.tensor(np.array(expected)).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(first.pixels, expected)
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (model.mean, model.std))
    with AttentionRecorder(model) as recorder:
        model((expected - mean) / std)
    row = recorder.attention[0, -1, :, 0].mean(dim=0)  # (T,)
    torch.testing.assert_close(first.map, tokens_to_grid(row, (3, 5), model.num_prefix_tokens))


def test_the_maps_of_all_heads_are_those_of_each(files):
    model = model_of()
    (together,) = attend(model, files[:1], head="all", layer=1)
    assert (together.kind, together.title) == ("heads", "attention, layer 1, each of 2 heads")
    for head in range(2):
        (alone,) = attend(model, files[:1], head=head, layer=1)
        torch.testing.assert_close(together.map[head], alone.map)


def test_without_a_head_there_is_no_answer_and_the_drawing_leaves_it_out(files):
    (seen,) = attend(model_of(), files[:1])
    assert seen.answer is None
    titles = [ax.get_title() for ax in seen.plot().axes]
    assert titles[0] == ""
    assert "attention" in titles[1]
    model = model_of(num_classes=2)
    model.classes = ("cat", "dog")
    (seen,) = attend(model, files[:1])
    assert re.fullmatch(r"(cat|dog) \((100|\d\d)\.\d%\)", seen.answer)
    assert f"prediction: {seen.answer[:3]}" in seen.plot().axes[0].get_title()


@pytest.mark.parametrize(
    ("options", "panels"),
    [({}, 3), ({"head": "all"}, 3), ({"method": "pca"}, 3), ({"method": "rollout"}, 3)],
)
def test_every_kind_is_drawn(files, options, panels, tmp_path):
    for number, seen in enumerate(attend(model_of(), files, **options)):
        figure = seen.plot()
        assert len([ax for ax in figure.axes if ax.get_visible()]) == panels
        figure.savefig(tmp_path / f"{number}.png")
        assert seen.path.name == "ab"[number] + ".png"


def test_a_model_of_one_size_sees_the_centre(files):
    model = model_of(dynamic_img_size=False)
    seen = list(attend(model, files))
    assert [one.pixels.shape for one in seen] == [(1, 3, 16, 16)] * 2
    with pytest.raises(ValueError, match="img_size=32 needs a model built with dynamic_img_size"):
        attend(model, files, img_size=32)


def test_pictures_in_half_precision_and_in_grey(files):
    (seen,) = attend(model_of().to(torch.bfloat16), files[:1], method="pca")
    assert seen.map.isfinite().all()
    (seen,) = attend(model_of(in_chans=1), files[:1])
    assert seen.pixels.shape[1] == 1


# Sizes


@pytest.mark.parametrize("patch", [(14, 14), (16, 16), (16, 8)])
@pytest.mark.parametrize("size", [(512, 512), (427, 640), (300, 451), (3000, 800), (16, 20_000)])
def test_the_shape_is_kept_to_within_half_a_patch_and_so_is_the_number_of_pixels(size, patch):
    height, width = size_in_patches(size, 448, patch)
    assert height % patch[0] == width % patch[1] == 0
    exact = [side * 448 / (size[0] * size[1]) ** 0.5 for side in size]
    for side, wanted, step in zip((height, width), exact, patch, strict=True):
        assert abs(side - wanted) <= step / 2 or side == step > wanted


def test_a_square_gets_its_own_size_and_less_than_a_patch_is_refused():
    assert size_in_patches((999, 999), 518, (14, 14)) == (518, 518)
    assert size_in_patches((14, 14), 28, (14, 14)) == (28, 28)
    for size in ((1, 1), (13, 900), (900, 13)):
        words = rf"^{size[0]}×{size[1]} pixels \(height × width\), less than one patch of 14×14$"
        with pytest.raises(ValueError, match=words):
            size_in_patches(size, 448, (14, 14))


@torch.no_grad()
def test_multiplications_are_those_that_torch_counts():
    model = model_of(reg_tokens=2, mlp_ratio=3.0, num_classes=0)
    # torch does not count what the fused kernel does
    with (
        unfused(*(block.attn for block in model.blocks)),
        FlopCounterMode(display=False) as counter,
    ):
        model(torch.zeros(1, 3, 24, 24))
    counted = counter.get_total_flops() / 2  # a multiplication and an addition are two
    embedding = 36 * model.embed_dim * 3 * 4 * 4
    assert count_multiplications(model, 24) == counted - embedding


def published(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_small_patch14_dinov2", 448),  # and not 518
        ("vit_base_patch14_dinov2", 252),
        ("vit_small_patch16_224", 224),  # with a head, and not slow either
        ("vit_large_patch16_224", 224),  # with a head
    ],
)
def test_the_default_size_is_that_of_the_weights_unless_it_is_slow(name, size):
    model = published(name)
    assert choose_img_size(model) == size
    own = model.img_size[0]
    line = describe_img_size(model)
    assert f"as a square of {size}×{size}" in line
    assert line.endswith("; --img-size takes another")
    if size == own:
        assert ", the size of the weights;" in line
    else:
        counts = [count_multiplications(model, side) / 1e9 for side in (size, own)]
        assert f", which takes {counts[0]:.0f} billion multiplications: at {own}×{own}" in line
        assert f"it would be {counts[1]:.0f} billion multiplications;" in line
        assert counts[0] <= 32 < count_multiplications(model, size + 14) / 1e9


def test_an_odd_default_size_is_no_larger_than_the_weights():
    model = published("vit_base_patch14_dinov2", img_size=(14, 14 * 400))
    assert choose_img_size(model) <= (14 * 14 * 400) ** 0.5
    assert choose_img_size(model_of(img_size=(8, 12))) == 96**0.5


# Files


def kinds(folder):
    """The same picture in several colour modes, and turned: name -> what it is as RGB."""
    grey = picture().convert("L")
    colour = picture()
    clear = colour.convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.uint8([0, 255]), (HIGH, WIDE // 2))))
    on_white = Image.composite(colour, Image.new("RGB", colour.size, "white"), clear.split()[3])
    inks = colour.convert("CMYK")
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6  # the camera stood upright
    grey.save(folder / "grey.png")
    clear.save(folder / "transparent.png")
    inks.save(folder / "cmyk.tif")
    colour.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=turned)
    return {
        "grey.png": grey.convert("RGB"), "transparent.png": on_white,
        "cmyk.tif": inks.convert("RGB"), "turned.png": colour,
    }  # fmt: skip


def test_grey_transparent_cmyk_and_turned_pictures_are_read_as_they_look(tmp_path):
    expected, model = kinds(tmp_path), model_of()
    read = read_pictures([tmp_path / name for name in expected], model)
    for (path, pixels), image in zip(read, expected.values(), strict=True):
        image.save(tmp_path / "plain.png")
        ((_, plain),) = read_pictures([tmp_path / "plain.png"], model)
        assert torch.equal(pixels, plain), path.name
        assert pixels.shape == (3, 12, 20)


def test_all_pictures_are_read_before_the_first_is_seen(tmp_path, files):
    (tmp_path / "text").write_text("no picture")
    picture(0, (1, 1)).save(tmp_path / "dot.png")
    bad = [tmp_path / name for name in ("text", "dot.png", "none.png")]
    words = r"text \(cannot identify.*dot\.png \(1×1 pixels .*, less than.*none\.png \(no such file"
    with pytest.raises(ValueError, match=words):
        attend(model_of(), [*files, *bad])
    with pytest.raises(ValueError, match="img_size must be at least 4, got 3"):
        attend(model_of(), files, img_size=3)


def test_a_model_that_does_not_say_how_to_normalise_is_refused(files):
    model = model_of()
    model.mean = None
    with pytest.raises(ValueError, match=r"does not say by what mean and std"):
        attend(model, files)
