"""AttentionFigure in a page: by mouse, touch and keyboard, its numbers are torch's."""

import re

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from browsing import PHONE, WIDE

from vitlib import AttentionRecorder, VisionTransformer, attention_rollout
from vitlib.explain import record_attention
from vitlib.widgets import AttentionFigure

ORANGE = np.array([213, 94, 0])


@pytest.fixture(scope="module")
def model():
    """A grid of 2×3, three prefix tokens, weights that attend to something."""
    torch.manual_seed(1)
    model = VisionTransformer(
        img_size=(8, 12), patch_size=4, embed_dim=18, depth=3, num_heads=2, num_classes=5,
        distilled=True, reg_tokens=1,
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    model.classes = tuple("abcde")
    return model.eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def attention(model, images):
    with torch.no_grad(), AttentionRecorder(model) as recorder:
        model(images)
    return recorder.attention


def text(page, part, figure=0):
    return page.locator(f"[data-part={part}]").nth(figure).inner_text()


def numbers(words):
    return [float(number) for number in re.findall(r"\d\.\d+", words)]


def radio(page, key, value):
    return page.locator(f'input[data-key="{key}"][value="{value}"]')


def slide(page, key, presses):
    """Arrow keys on the slider: so many to the right, or to the left if negative."""
    for _ in range(abs(presses)):
        page.locator(f'input[data-key="{key}"]').press("ArrowRight" if presses > 0 else "ArrowLeft")


def point(page, row, column, rows=2, columns=3):
    """The middle of a patch in the picture, in pixels from the picture's corner."""
    box = page.locator(".vf-picker").bounding_box()
    return {
        "x": (column + 0.5) / columns * box["width"],
        "y": (row + 0.5) / rows * box["height"],
    }


def canvas(page, selector):
    """The pixels (rows, columns, RGBA) of a canvas; read from a copy, to leave it as it is."""
    data = page.locator(selector).evaluate(
        """canvas => {
          const { width, height } = canvas;
          const copy = new OffscreenCanvas(width, height).getContext("2d");
          copy.drawImage(canvas, 0, 0);
          return [height, width, ...copy.getImageData(0, 0, width, height).data];
        }"""
    )
    return np.array(data[2:]).reshape(*data[:2], 4)


def check_row(page, weights, reads="the class token", home=0, step=1):
    """The words say what torch says of this row (T,): prefix tokens, then 2×3 patches."""
    tolerance = step / 510 + 0.0006  # the bytes, and three decimals
    patches = weights[3:]
    best = int(patches.argmax())
    status = text(page, "status")
    assert f"most on patch {best} (row {best // 3}, column {best % 3})" in status
    assert reads in status
    expected = [patches.max(), weights[home]]
    assert numbers(status) == pytest.approx([float(w) for w in expected], abs=tolerance)
    assert numbers(text(page, "top")) == pytest.approx(
        patches.sort(descending=True).values[:3].tolist(), abs=tolerance
    )
    assert numbers(text(page, "shares")) == pytest.approx(
        [float(patches.sum()), *weights[:3].tolist()], abs=3 * tolerance
    )


def test_starts_with_the_last_layer_and_the_class_token(show, model, images, attention):
    page = show(AttentionFigure(model, images))
    assert text(page, "status").startswith("Layer 2, mean of heads, class token →")
    check_row(page, attention[0, 2].mean(0)[0])
    highest, answer = model(images).softmax(dim=1).max(dim=1)
    assert f"{'abcde'[answer[0]]}, with probability {highest[0]:.3f}" in text(page, "answer")
    assert page.locator(".vf-ring").is_hidden()


def test_a_mouse_looks_by_pointing_and_keeps_by_a_click(show, model, images, attention):
    page = show(AttentionFigure(model, images, layer=1, head=1))
    picture = page.locator(".vf-picker")
    picture.hover(position=point(page, 1, 2))
    check_row(page, attention[0, 1, 1, 3 + 5], "patch 5 (row 1, column 2) →")
    assert "goes to the class token" in text(page, "status")
    ring, box = page.locator(".vf-ring").bounding_box(), picture.bounding_box()
    assert ring["x"] - box["x"] == pytest.approx(2 / 3 * box["width"], abs=2)
    assert ring["y"] - box["y"] == pytest.approx(1 / 2 * box["height"], abs=2)
    page.mouse.move(1, 1)
    check_row(page, attention[0, 1, 1, 0], "class token →")
    picture.click(position=point(page, 0, 1))
    page.mouse.move(1, 1)
    check_row(page, attention[0, 1, 1, 3 + 1], "patch 1 (row 0, column 1) →")


def test_a_finger_chooses(show, model, images, attention):
    page = show(AttentionFigure(model, images), viewport=PHONE, touch=True)
    page.locator(".vf-picker").tap(position=point(page, 1, 0))
    check_row(page, attention[0, 2].mean(0)[3 + 3], "patch 3 (row 1, column 0) →")
    radio(page, "query", 1).tap()
    check_row(page, attention[0, 2].mean(0)[1], "stays on the distillation token", home=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_keys_choose_everything(show, model, images, attention):
    page = show(AttentionFigure(model, images))
    slide(page, "layer", -1)
    radio(page, "head", 0).press("Space")
    check_row(page, attention[0, 1, 0, 0])
    picture = page.locator(".vf-picker")
    picture.press("ArrowRight")  # from the class token to the first patch
    check_row(page, attention[0, 1, 0, 3], "patch 0 (row 0, column 0) →")
    picture.press("ArrowDown")
    picture.press("ArrowRight")
    check_row(page, attention[0, 1, 0, 3 + 4], "patch 4 (row 1, column 1) →")
    assert picture.get_attribute("aria-valuetext") == "patch 4 (row 1, column 1)"
    radio(page, "query", 2).press("Space")
    check_row(page, attention[0, 1, 0, 2], "stays on register 0", home=2)
    assert picture.get_attribute("aria-valuetext") == "register 0"
    radio(page, "image", 1).press("Space")
    check_row(page, attention[1, 1, 0, 2], "register 0 →", home=2)


def test_mean_max_and_rollout(show, model, images, attention):
    page = show(AttentionFigure(model, images, image=1, query=4))
    check_row(page, attention[1, 2].mean(0)[4], "mean of heads")
    assert "sum to 1" in text(page, "meaning")
    radio(page, "head", "max").press("Space")
    largest = attention[1, 2].amax(0)[4]
    assert numbers(text(page, "status"))[0] == pytest.approx(float(largest[3:].max()), abs=0.003)
    assert numbers(text(page, "shares")) == pytest.approx(largest[:3].tolist(), abs=0.003)
    assert "do not sum to 1" in text(page, "shares")
    radio(page, "method", "rollout").press("Space")
    check_row(page, attention_rollout(attention)[1, 4], "Rollout up to layer 2")
    assert radio(page, "head", "max").is_disabled()
    assert text(page, "meaning").startswith("A rollout follows attention back through")
    slide(page, "layer", -1)
    check_row(page, attention_rollout(attention[:, :2])[1, 4], "Rollout up to layer 1")


def test_all_heads_side_by_side(show, model, images, attention):
    page = show(AttentionFigure(model, images, layer=0, head="all", query=3))
    rows = attention[0, 0, :, 3, 3:]  # (2, 6): each head's weights on the patches
    shown = page.locator("[data-part=heads] .vf-caption").all_inner_texts()
    assert [numbers(words)[0] for words in shown] == pytest.approx(
        rows.amax(1).tolist(), abs=0.0006
    )
    for head in (0, 1):
        colours = canvas(page, f".va-heads > :nth-child({head + 1}) canvas")[..., :3]
        share = (rows[head] / rows[head].max()).reshape(2, 3, 1).numpy()
        assert np.abs(colours - (255 + (ORANGE - 255) * share)).max() <= 2
    sharpest = int(rows.amax(1).argmax())
    best = int(rows[sharpest].argmax())
    words = f"head {sharpest}'s, on patch {best} (row {best // 3}, column {best % 3})"
    assert words in text(page, "status")
    assert numbers(text(page, "top"))[0] == pytest.approx(float(rows.mean(0).max()), abs=0.003)


def test_the_map_and_its_strength_over_the_picture(show, model, images, attention):
    page = show(AttentionFigure(model, images, head=1, strength=50))
    row = attention[0, 2, 1, 0, 3:].reshape(2, 3).numpy()
    plain = canvas(page, ".va-map:not(.va-heads *) canvas")[..., :3]
    assert np.abs(plain - (255 + (ORANGE - 255) * (row / row.max())[..., None])).max() <= 2
    assert numbers(text(page, "scale")) == pytest.approx([row.max()], abs=0.0006)
    veil = ".vf-picker canvas:nth-child(2)"
    assert np.abs(canvas(page, veil)[..., 3] - 0.5 * 255 * row / row.max()).max() <= 2
    assert (
        page.locator(".vf-picker > div").first.evaluate("e => e.style.filter") == "grayscale(0.5)"
    )
    slide(page, "strength", 5)
    assert np.abs(canvas(page, veil)[..., 3] - 255 * row / row.max()).max() <= 2
    slide(page, "strength", -10)
    assert canvas(page, veil)[..., 3].max() == 0


def test_two_figures_on_a_page_leave_each_other_alone(show, model, images):
    page = show(AttentionFigure(model, images), AttentionFigure(model, images))
    before = text(page, "status", 1)
    page.locator(".vf-picker").first.press("End")
    page.locator('input[data-key="head"][value="0"]').first.press("Space")
    assert "head 0, patch 5" in text(page, "status", 0)
    assert text(page, "status", 1) == before
    assert page.locator("input[type=radio]:checked").count() == 7  # the first one's query is none


@pytest.mark.parametrize("viewport", [PHONE, WIDE])
def test_words_of_changing_length_stand_below_the_picture(show, model, images, viewport):
    # Above it, they would shift it under the pointer, which would then be at another patch.
    page = show(AttentionFigure(model, images), viewport=viewport)
    picture = page.locator(".vf-picker").bounding_box()
    for part in ("status", "top", "shares"):
        words = page.locator(f"[data-part={part}]").bounding_box()
        assert words["y"] >= picture["y"] + picture["height"]


def test_a_pooled_model_starts_at_a_patch_and_says_why(show, images):
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=(8, 12), patch_size=4, embed_dim=18, depth=2, num_heads=2, num_classes=5,
        global_pool="avg",
    )  # fmt: skip
    page = show(AttentionFigure(model, images[0]))
    assert "patch 4 (row 1, column 1) →" in text(page, "status")
    assert "reads the mean of the patches" in text(page, "answer")
    assert page.locator('input[data-key="image"]').count() == 0  # one picture needs no choice


@pytest.fixture(scope="module")
def photos():
    """A model without a head, two photos of different shapes, their attention, and the record."""
    torch.manual_seed(2)
    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=18, depth=2, num_heads=2, num_classes=0,
        dynamic_img_size=True,
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(3, *size, generator=generator) for size in ((136, 96), (64, 256))]
    attention = []
    for image in images:
        with torch.no_grad(), AttentionRecorder(model.eval()) as recorder:
            model(image[None])
        attention.append(recorder.attention[0])  # (L, H, T, T)
    return record_attention(model, images, names=["tall", "wide"], source="Noise."), attention


def check_photo_row(page, weights, columns, step):
    """The words say what torch says of this row (T,): the class token, then patches."""
    tolerance = float(weights.max()) * step / 2 + 0.0001  # the steps, and four decimals
    best = int(weights[1:].argmax())
    status = text(page, "status")
    assert numbers(status) == pytest.approx(
        [float(weights[1:].max()), float(weights[0])], abs=tolerance
    )
    found = re.search(r"most on patch (\d+) \(row (\d+), column (\d+)\)", status)
    patch, row, column = map(int, found.groups())
    assert weights[1 + patch] >= weights[1 + best] - tolerance
    assert (row, column) == divmod(patch, columns)


def test_photos_of_a_record_differ_in_shape(show, photos):
    record, (tall, wide) = photos
    page = show(AttentionFigure.from_record(record, layer=0, head=1))
    check_photo_row(page, tall[0, 1, 0], 12, 1 / 255)
    box = page.locator(".vf-picker").bounding_box()
    assert box["height"] / box["width"] == pytest.approx(136 / 96, abs=0.02)
    assert canvas(page, ".va-map:not(.va-heads *) canvas").shape == (17, 12, 4)
    radio(page, "method", "rollout").press("Space")
    check_photo_row(page, attention_rollout(tall[None, :1])[0, 0], 12, 1 / 255)
    radio(page, "method", "attention").press("Space")
    radio(page, "image", 1).press("Space")
    check_photo_row(page, wide[0, 1, 0], 32, 1 / 255)
    box = page.locator(".vf-picker").bounding_box()
    assert box["height"] / box["width"] == pytest.approx(64 / 256, abs=0.02)
    assert canvas(page, ".vf-picker canvas").shape == (8, 32, 4)
    assert page.locator(".vf-picker img").evaluate("img => img.naturalWidth") == 256
    assert page.locator("[data-part=answer]").is_hidden()  # the model has no head
    words = page.locator(".vf-caption").last.inner_text()
    assert "of each patch those of layer 1, averaged over the heads. Noise." in words


def test_a_patch_of_a_record_has_the_last_layers_mean(show, photos):
    record, (tall, wide) = photos
    page = show(AttentionFigure.from_record(record, layer=0, head=1, image=1))
    picture = page.locator(".vf-picker")
    picture.hover(position=point(page, 6, 30, rows=8, columns=32))
    assert text(page, "status").startswith("Layer 1, mean of heads, patch 222 (row 6, column 30) →")
    check_photo_row(page, wide[1, :, 1 + 222].mean(0), 32, 1 / 15)
    controls = [radio(page, "head", 0), radio(page, "method", "rollout")]
    controls.append(page.locator('input[data-key="layer"]'))
    assert all(control.is_disabled() for control in controls)
    page.mouse.move(1, 1)  # back to the class token, in the layer and head that were chosen
    assert not any(control.is_disabled() for control in controls)
    check_photo_row(page, wide[0, 1, 0], 32, 1 / 255)
    picture.press("End")
    check_photo_row(page, wide[1, :, -1].mean(0), 32, 1 / 15)
    radio(page, "image", 0).press("Space")  # it has fewer patches
    assert "patch 203 (row 16, column 11) →" in text(page, "status")
    check_photo_row(page, tall[1, :, -1].mean(0), 12, 1 / 15)
    assert picture.get_attribute("aria-valuetext") == "patch 203 (row 16, column 11)"
    assert picture.get_attribute("aria-valuemax") == "203"


def test_a_finger_chooses_in_a_photo(show, photos):
    record, (tall, _) = photos
    page = show(AttentionFigure.from_record(record, head="all"), viewport=PHONE, touch=True)
    assert page.locator("[data-part=heads] canvas").count() == 2
    page.locator(".vf-picker").tap(position=point(page, 3, 5, rows=17, columns=12))
    check_photo_row(page, tall[1, :, 1 + 3 * 12 + 5].mean(0), 12, 1 / 15)
    assert page.locator("[data-part=heads]").is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(show, model, images, photos, scheme):
    figures = [AttentionFigure(model, images), AttentionFigure(model, images[0], head="all")]
    figures.append(AttentionFigure.from_record(photos[0], query=7))
    page = show(*figures, viewport=PHONE, scheme=scheme)
    found = Axe().run(page).response["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
