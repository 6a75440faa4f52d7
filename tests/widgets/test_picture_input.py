"""static/picture.js: drawings framed as MNIST's digits, pictures as vitlib reads them, the pad."""

import base64
import json
import subprocess
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from browsing import PHONE, WIDE, node, serious_violations
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect
from skimage import data
from strokes import DIGITS, Stroke
from torch import nn

from vitlib import create_model, load_data
from vitlib.data.decode import decode, to_channels
from vitlib.widgets import Explorer
from vitlib.widgets.figure import KIT, STATIC, STYLE

MODULE = STATIC / "picture.js"
SCRIPT = MODULE.read_text("utf8")
PAGE = """<style>{style}</style><div class="vitlib-figure" id="host"></div>
<script type="module">{kit}
{script}
window.heard = []; // what the model got
Object.assign(window, {{ inkOf, frameDrawing, pictureInput }});
const onPicture = ({{ pixels, shown }}) => heard.push({{ pixels: [...pixels], shown }});
window.input = pictureInput({{ model: {model}, onPicture }});
document.getElementById("host").append(input.element);
window.bytesOf = (canvas) => {{  // from a copy, which may be read often
    const {{ width, height }} = canvas, copy = element("canvas", {{ width, height }});
    const context = copy.getContext("2d", {{ willReadFrequently: true }});
    context.drawImage(canvas, 0, 0);
    return [...context.getImageData(0, 0, width, height).data];
}};
</script>"""
DIGIT, PHOTO = {"C": 1, "height": 28, "width": 28}, {"C": 3, "height": 32, "width": 32}


@pytest.fixture
def opened(show) -> Callable[..., Page]:
    """opened(model, **options of `show`): a page with nothing but the input."""

    def open_page(model: dict[str, int] = DIGIT, **options: Any) -> Page:
        html = PAGE.format(style=STYLE, kit=KIT, script=SCRIPT, model=json.dumps(model))
        return show(html, **options)

    return open_page


def latest(page: Page, model: dict[str, int] = DIGIT) -> np.ndarray:
    """The last picture that was heard of (C, H, W), once there is no more to come.

    What was shown with it, and beside the pad, is that picture in bytes.
    """
    page.wait_for_function("() => new Promise(r => setTimeout(() => r(heard.length > 0), 100))")
    pixels, *shown = page.evaluate("""() => {
        const { pixels, shown } = heard.at(-1);
        const canvases = [shown, input.element.querySelectorAll("canvas")[1]];
        return [pixels, ...canvases.map(bytesOf)];
    }""")
    C, H, W = model["C"], model["height"], model["width"]
    found = np.array(pixels).reshape(C, H, W)
    expected = np.broadcast_to(found, (3, H, W)).transpose(1, 2, 0) * 255
    for canvas in shown:
        rgba = np.array(canvas).reshape(H, W, 4)
        assert (rgba[..., 3] == 255).all()
        np.testing.assert_allclose(rgba[..., :3], expected, atol=0.51)
    return found


def said(page: Page):
    return page.locator("[data-part=picture-status]")


# Drawings, framed


def framed(ink: np.ndarray, size: int = 28) -> np.ndarray:
    """What frameDrawing does, by matrices: (h, w) -> (size, size)."""
    rows, columns = ink.sum(1), ink.sum(0)
    top, left = rows.nonzero()[0][0], columns.nonzero()[0][0]
    step = max(np.ptp(rows.nonzero()[0]), np.ptp(columns.nonzero()[0])) + 1
    step = step / (size * 20 / 28)

    def overlaps(sums, first):
        centre = np.average(np.arange(len(sums)) + 0.5, weights=sums)
        shift = np.floor(size / 2 - ((centre - first) / step - 0.5) + 0.5)
        edges = first + (np.arange(size + 1) - shift) * step
        low, high = np.arange(len(sums)), np.arange(len(sums)) + 1
        overlap = np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low)
        return overlap.clip(0) / step

    return overlaps(rows, top) @ ink @ overlaps(columns, left).T


def framed_by_node(drawings: list[np.ndarray], size: int) -> np.ndarray:
    code = f"""
        const {{ frameDrawing }} = await import({json.dumps(MODULE.as_uri())});
        const {{ readFileSync }} = await import("node:fs");
        const drawings = JSON.parse(readFileSync(0));
        const frame = ([h, w, ink]) => [...frameDrawing(Float32Array.from(ink), w, h, {size})];
        process.stdout.write(JSON.stringify(drawings.map(frame)));"""
    given = json.dumps([[*drawing.shape, drawing.ravel().tolist()] for drawing in drawings])
    command = [node(), "--input-type=module", "-e", code]
    done = subprocess.run(command, input=given, capture_output=True, text=True, encoding="utf8")
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout)).reshape(-1, size, size)


def test_mnists_digits_are_in_the_frame_already():
    """So the frame is MNIST's: its digits come out as they went in."""
    images = load_data("mnist5k").test.images[:300, 0].numpy() / 255
    out = framed_by_node(list(images), 28)
    assert np.abs(out - images).max() < 1e-6


@pytest.mark.parametrize("size", [28, 32, 17])
def test_any_ink_is_framed_as_by_the_reference(size):
    rng = np.random.default_rng(size)
    drawings = []
    for h, w in [(40, 60), (200, 90), (5, 5), (33, 33)]:
        ink = rng.random((h, w)) * (rng.random((h, w)) < 0.2)
        ink[: h // 4] = ink[:, : w // 3] = 0
        drawings.append(ink)
    out = framed_by_node([*drawings, np.zeros((9, 8))], size)
    for found, ink in zip(out, drawings, strict=False):
        np.testing.assert_allclose(found, framed(ink, size), atol=1e-6)
    assert not out[-1].any()


# Drawings, by mouse, finger and keyboard


def draw(page: Page, strokes: list[Stroke], scale: float = 1.0) -> None:
    """With the mouse; `scale` makes the drawing smaller, about the middle of the pad."""
    box = page.locator("[data-part=pad] canvas").bounding_box()
    for stroke in strokes:
        points = [
            (box["x"] + (50 + (x - 50) * scale) * box["width"] / 100,
             box["y"] + (50 + (y - 50) * scale) * box["height"] / 100)
            for x, y in stroke
        ]  # fmt: skip
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def probabilities(model: nn.Module, picture: np.ndarray) -> torch.Tensor:
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (model.mean, model.std))
    with torch.no_grad():
        return model((torch.from_numpy(picture).float() - mean)[None] / std).softmax(dim=1)[0]


@pytest.mark.parametrize("scale", [1, 0.35])
def test_drawn_digits_are_framed_and_read(opened, tmp_path, scale):
    """Framed as by the reference, to 1e-3; in the page, the model gives torch's probabilities.

    Small drawings are read, too: their ink is drawn anew with a pen that suits them.
    """
    model = create_model("vit_nano_patch7_28", pretrained=True).eval()
    page = opened()
    page.evaluate(
        """async ([source, weights]) => {
            const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
            const { load, forward } = await import(url);
            const model = load(Uint8Array.from(atob(weights), (c) => c.charCodeAt(0)));
            const normal = (value) => (value - model.mean[0]) / model.std[0];
            window.logits = (pixels) =>
                [...forward(model, Float32Array.from(pixels, normal)).logits];
        }""",
        [
            (STATIC / "vit.js").read_text("utf8"),
            base64.b64encode(Explorer(model).save_weights(tmp_path / "w").read_bytes()).decode(),
        ],
    )
    answers = {}
    for digit, strokes in DIGITS.items():
        page.get_by_role("button", name="Clear").click()
        draw(page, strokes, scale)
        found = latest(page)
        ink = page.evaluate("strokes => [...inkOf(strokes)]", strokes)
        side = int(len(ink) ** 0.5)
        expected = framed(np.array(ink).reshape(side, side))
        js = page.evaluate(
            f"strokes => [...frameDrawing(inkOf(strokes), {side}, {side}, 28)]", strokes
        )
        np.testing.assert_allclose(js, expected.ravel(), atol=1e-3)
        assert np.abs(found[0] - expected).mean() < 0.01  # points of the mouse are rounded
        own = torch.tensor(page.evaluate("logits(heard.at(-1).pixels)")).softmax(dim=0)
        torch.testing.assert_close(own, probabilities(model, found), rtol=0, atol=2e-3)
        by_reference = probabilities(model, expected[None])
        own = torch.tensor(page.evaluate("logits", js)).softmax(dim=0)
        torch.testing.assert_close(own, by_reference, rtol=0, atol=2e-3)
        answers[digit] = int(probabilities(model, found).argmax())
    assert sum(digit == answer for digit, answer in answers.items()) >= 9, answers


def test_the_model_hears_while_a_stroke_is_drawn_and_of_the_cleared_pad(opened):
    page = opened()
    assert page.evaluate("heard.length") == 0
    box = page.locator("[data-part=pad]").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    dot = latest(page)
    page.mouse.move(box["x"] + 100, box["y"] + 200, steps=5)
    line = latest(page)
    assert dot.sum() > line.sum() > 0
    # outside the pad, which has the pointer
    page.mouse.move(box["x"] + 900, box["y"] + 200)
    page.mouse.up()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    assert page.evaluate("heard.length") < 9
    page.get_by_role("button", name="Clear").click()
    assert not latest(page).any()
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    page.mouse.up()
    latest(page)
    count = page.evaluate("heard.length")
    page.evaluate("document.activeElement.blur(); input.clear()")  # tells nobody, hides all
    page.wait_for_timeout(100)
    assert page.evaluate("heard.length") == count
    for canvas in page.locator("canvas").all():
        assert canvas.evaluate("c => bytesOf(c).every((v, i) => v === (i % 4 === 3 ? 255 : 0))")


def test_clearing_takes_back_what_was_to_come(opened):
    page = opened()
    page.evaluate("""() => {
        const pad = input.element.querySelector("[data-part=pad]");
        pad.focus();
        pad.dispatchEvent(new KeyboardEvent("keydown", { key: " " }));
        input.clear();
    }""")
    page.wait_for_timeout(200)
    assert page.evaluate("heard.length") == 0


def test_drawing_by_keyboard_alone(opened):
    """A seven, by arrow keys."""
    page = opened()
    page.keyboard.press("Tab")
    pad = page.locator("[data-part=pad]")
    expect(pad).to_be_focused()
    expect(said(page)).to_contain_text("the space bar puts it down")
    keys = {"l": "ArrowLeft", "r": "ArrowRight", "u": "ArrowUp", "d": "ArrowDown", " ": " "}
    for key in "u" * 8 + "l" * 5:
        page.keyboard.press(keys[key])
    expect(said(page)).to_have_text("Row 6 of 0 to 27, column 9 of 0 to 27; the pen is up.")
    assert page.evaluate("heard.length") == 0
    for key in " " + "r" * 10 + "ddl" * 8:
        page.keyboard.press(keys[key])
    expect(said(page)).to_have_text("Row 22 of 0 to 27, column 11 of 0 to 27; the pen is down.")
    model = create_model("vit_nano_patch7_28", pretrained=True).eval()
    found = latest(page)
    assert int(probabilities(model, found).argmax()) == 7
    page.keyboard.press(" ")
    for key in "l" * 30:
        page.keyboard.press(keys[key])
    expect(said(page)).to_contain_text("column 0 of 0 to 27; the pen is up.")
    np.testing.assert_array_equal(latest(page), found)
    page.keyboard.press(" ")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Choose a picture")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(pad).to_be_focused()
    before = latest(page)
    page.keyboard.press("ArrowRight")
    expect(said(page)).to_contain_text("the pen is up")
    np.testing.assert_array_equal(latest(page), before)
    assert page.evaluate("scrollY") == 0


def test_drawing_with_a_finger_on_a_phone(opened):
    """On the pad a finger draws, and the page stays where it is; beside it, it scrolls the page."""
    page = opened(viewport=PHONE, touch=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("document.body.style.height = '3000px'")
    touch = page.context.new_cdp_session(page)

    def swipe(x: float, y: float, dy: float, second: bool = False) -> None:
        """A second finger, 60 pixels to the right, goes the other way and leaves before the end."""

        def send(kind: str, t: float | None = None) -> None:
            fingers = [] if t is None else [{"x": x, "y": y + t * dy, "id": 1}]
            if second and t is not None and t < 0.8:
                fingers.append({"x": x + 60, "y": y + dy - t * dy, "id": 2})
            event = {"type": f"touch{kind}", "touchPoints": fingers}
            touch.send("Input.dispatchTouchEvent", event)
            page.wait_for_timeout(20)

        send("Start", 0)
        for step in range(1, 11):
            send("Move", step / 10)
        send("End")

    box = page.locator("[data-part=pad]").bounding_box()
    assert box["width"] > 200
    for second in (False, True):
        page.get_by_role("button", name="Clear").click()
        swipe(box["x"] + 100, box["y"] + 180, -150, second)
        found = latest(page)[0]
        rows, columns = found.sum(1).nonzero()[0], found.sum(0).nonzero()[0]
        assert np.ptp(rows) == 19  # a one: 20 pixels high
        assert np.ptp(columns) < 6
        assert page.evaluate("scrollY") == 0
    count = page.evaluate("heard.length")
    swipe(box["x"] + 100, box["y"] + box["height"] + 100, -200)
    page.wait_for_timeout(200)
    assert page.evaluate("scrollY") > 50
    assert page.evaluate("heard.length") == count
    expect(page.get_by_role("button", name="Take a photo")).to_be_visible()


def test_a_model_of_three_channels_gets_the_drawing_as_it_is(opened):
    page = opened(PHOTO)
    draw(page, DIGITS[1])
    found = latest(page, PHOTO)
    dark = (found[0] < 0.5).nonzero()
    assert np.array_equal(found[0], found[2])
    assert found[0, 0, 0] == 1
    assert dark[0].min() == pytest.approx(32 * 0.17, abs=2)  # not enlarged to a frame
    assert dark[0].max() == pytest.approx(32 * 0.83, abs=2)


def test_models_of_any_shape(opened):
    """The frame is as large as the shorter side, in the middle of the picture."""
    model = {"C": 1, "height": 20, "width": 34}
    page = opened(model)
    draw(page, DIGITS[4])
    found = latest(page, model)[0]
    ink = np.array(
        page.evaluate("s => [...inkOf(s.map(t => t.map(([x, y]) => [x * 34, y * 20])))]", DIGITS[4])
    )
    np.testing.assert_allclose(found[:, 7:27], framed(ink.reshape(240, 240), 20), atol=0.2)
    assert not found[:, :7].any()
    assert not found[:, 27:].any()
    box = page.locator("[data-part=pad]").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(34 / 20, rel=0.02)


# Pictures


def file_of(image: Image.Image, format: str = "PNG", name: str | None = None, **options: Any):
    """As Playwright's set_input_files takes it."""
    buffer = BytesIO()
    image.save(buffer, format, **options)
    name = name or f"picture.{format.lower()}"
    return {"name": name, "mimeType": f"image/{format.lower()}", "buffer": buffer.getvalue()}


def choose(page: Page, file: dict[str, Any]) -> None:
    page.locator("[data-part=file]").set_input_files(file)


def chosen(page: Page, file: dict[str, Any], model: dict[str, int]) -> np.ndarray:
    choose(page, file)
    expect(said(page)).to_contain_text(f"The middle of {file['name']}")
    return latest(page, model)


def expected_of(content: bytes, model: dict[str, int]) -> np.ndarray:
    """What vitlib makes of the same file, that is, Pillow (ImageOps.fit, bicubic)."""
    pixels = decode(content, (model["height"], model["width"]))
    return to_channels(pixels, model["C"]) / 255


def pictures() -> dict[str, Image.Image]:
    cat = Image.fromarray(data.chelsea() // 2)  # so dark that no border is taken for paper
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 128, (211, 90, 4), np.uint8)
    return {
        "photo": cat,
        "small": cat.resize((20, 13)),
        "own size": cat.resize((32, 32)),
        "panorama": cat.resize((1500, 37)),
        "grey": cat.convert("L"),
        "noise": Image.fromarray(noise[..., :3]),
        "transparent": Image.fromarray(noise),
        "palette": cat.quantize(16),
        "pixel": Image.new("RGB", (1, 1), "#123456"),
    }


@pytest.mark.parametrize("model", [PHOTO, DIGIT, {"C": 3, "height": 24, "width": 40}], ids=str)
def test_pictures_are_what_vitlib_reads(opened, model):
    """Photos to 1 of 255, noise to 6: Pillow rounds between rows and columns, and for some shapes
    takes the columns first."""
    page = opened(model)
    for name, image in pictures().items():
        file = file_of(image, name=f"{name}.png")
        found, expected = chosen(page, file, model), expected_of(file["buffer"], model)
        if "dark ink on paper" in said(page).inner_text():
            assert (name, model["C"]) == ("transparent", 1)
            continue
        most = 6 if name in ("noise", "transparent") else 1
        assert np.abs(found - expected).max() * 255 < most + 0.1, name


def test_pictures_stand_upright_as_their_exif_says(opened):
    image, exif = Image.fromarray(data.chelsea()).resize((90, 60)), Image.Exif()
    page = opened(PHOTO)
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        file = file_of(image, "JPEG", name=f"{orientation}.jpg", exif=exif, quality=95)
        found = chosen(page, file, PHOTO)
        np.testing.assert_allclose(found, expected_of(file["buffer"], PHOTO), atol=4 / 255)
        sides = "60 × 90" if orientation >= 5 else "90 × 60"
        expect(said(page)).to_contain_text(f"({sides} pixels)")


def paper(digit: int, side: int = 500) -> Image.Image:
    """A photo of a digit that was written with a thin, dark pen, small, in uneven light."""
    image = Image.new("L", (side, side), 255)
    for stroke in DIGITS[digit]:
        points = [(side * (0.2 + 0.006 * x), side * (0.2 + 0.006 * y)) for x, y in stroke]
        ImageDraw.Draw(image).line(points, fill=60, width=12, joint="curve")
    light = np.linspace(0.75, 0.95, side)[:, None] * np.ones(side)
    noise = np.random.default_rng(digit).normal(0, 5, (side, side))
    return Image.fromarray((np.asarray(image) * light + noise).clip(0, 255).astype(np.uint8))


def test_dark_ink_on_paper_is_inverted_and_framed(opened):
    """And the page says so. Without the frame, the model reads an 8 in every such photo."""
    model = create_model("vit_nano_patch7_28", pretrained=True).eval()
    page, answers = opened(), []
    for digit in DIGITS:
        file = file_of(paper(digit))
        found = chosen(page, file, DIGIT)
        expect(said(page)).to_contain_text(
            "Its border is light, so it is taken for dark ink on paper"
        )
        small, large = (decode(file["buffer"], (side, side))[0] / 255 for side in (28, 240))
        edge = np.ones((28, 28), bool)
        edge[1:-1, 1:-1] = False
        white = small[edge].mean()
        ink = ((white - large) / (white - large.min()) - 0.3) / 0.4
        np.testing.assert_allclose(found[0], framed(ink.clip(0, 1)), atol=0.05)
        answers.append(int(probabilities(model, found).argmax()))
    assert sum(digit == answer for digit, answer in zip(DIGITS, answers, strict=True)) >= 9, answers


def test_empty_paper_is_an_empty_picture(opened):
    page = opened()
    assert not chosen(page, file_of(Image.new("RGB", (90, 60), "#eeddcc")), DIGIT).any()


def test_light_ink_on_black_stays_as_it_is(opened):
    digit = load_data("mnist5k").test.images[3, 0].numpy()
    file = file_of(Image.fromarray(digit).resize((280, 280), Image.Resampling.BICUBIC))
    page = opened()
    found = chosen(page, file, DIGIT)
    expect(said(page)).not_to_contain_text("paper")
    np.testing.assert_allclose(found, expected_of(file["buffer"], DIGIT), atol=1.1 / 255)


TRANSFER = """([type, files, text, place]) => {
    const transfer = new DataTransfer();
    for (const [name, mime, content] of files) {
        const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
        transfer.items.add(new File([bytes], name, { type: mime }));
    }
    if (text) transfer.setData("text/plain", text);
    const options = { bubbles: true, cancelable: true, composed: true };
    const target = document.querySelector(place ?? "[data-part=pad]");
    const event = type === "paste"
        ? new ClipboardEvent(type, { ...options, clipboardData: transfer })
        : new DragEvent(type, { ...options, dataTransfer: transfer });
    target.dispatchEvent(event);
    return event.defaultPrevented;
}"""


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_dropped_and_pasted_pictures(opened, way):
    page = opened(PHOTO)
    file = file_of(pictures()["photo"], name="<b>cat</b>.png")
    given = [[file["name"], file["mimeType"], base64.b64encode(file["buffer"]).decode()]]
    if way == "drop":
        assert page.evaluate(TRANSFER, ["dragover", given, ""])
        outline = "input.element.style.outlineStyle"
        assert page.evaluate(outline) == "dashed"
    assert page.evaluate(TRANSFER, [way, given, ""])
    expect(said(page)).to_contain_text(
        "The middle of <b>cat</b>.png (451 × 300 pixels), as 32 × 32"
    )
    np.testing.assert_allclose(
        latest(page, PHOTO), expected_of(file["buffer"], PHOTO), atol=1.1 / 255
    )
    if way == "drop":
        assert page.evaluate(outline) == ""
    count = page.evaluate("heard.length")
    assert page.evaluate(TRANSFER, [way, [], "only words"])
    expect(said(page)).to_contain_text("This holds no picture")
    assert page.evaluate("heard.length") == count


def test_a_picture_can_be_pasted_anywhere_but_where_words_are_written(opened):
    page = opened(PHOTO)
    page.evaluate("document.body.append(document.createElement('textarea'))")
    file = file_of(pictures()["photo"])
    given = [[file["name"], file["mimeType"], base64.b64encode(file["buffer"]).decode()]]
    assert not page.evaluate(TRANSFER, ["paste", given, "", "textarea"])
    assert not page.evaluate(TRANSFER, ["paste", [], "only words", "body"])
    expect(said(page)).to_have_text("")
    assert page.evaluate(TRANSFER, ["paste", given, "", "body"])
    expect(said(page)).to_contain_text("The middle of picture.png")
    latest(page, PHOTO)
    assert page.evaluate("heard.length") == 1
    page.evaluate("input.element.remove()")
    assert not page.evaluate(TRANSFER, ["paste", given, "", "body"])


def test_what_is_no_picture_is_named_and_changes_nothing(opened):
    page = opened()
    draw(page, DIGITS[3])
    before = latest(page)
    cut = file_of(pictures()["photo"], name="cut.png")
    cut["buffer"] = cut["buffer"][:60]
    words = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"words"}
    empty = {"name": "empty.png", "mimeType": "image/png", "buffer": b""}
    for file in (words, empty, cut):
        choose(page, file)
        message = f"This is no picture that the browser can read: {file['name']}"
        expect(said(page)).to_have_text(message)
    np.testing.assert_array_equal(latest(page), before)
    # and a picture still comes, and a drawing after it
    chosen(page, file_of(pictures()["photo"]), DIGIT)
    expect(page.locator("[data-part=pad] img")).to_be_visible()
    draw(page, DIGITS[3])
    np.testing.assert_allclose(latest(page), before, atol=0.05)
    expect(page.locator("[data-part=pad] img")).to_be_hidden()
    expect(said(page)).to_have_text("")


def test_a_huge_picture_does_not_freeze_the_page(opened):
    """8,000 × 8,000 pixels."""
    cat = Image.fromarray(data.chelsea())
    large = cat.resize((8000, 8000), Image.Resampling.NEAREST)
    huge = file_of(large, "JPEG", name="huge.jpg", quality=60)
    page = opened(PHOTO)
    page.evaluate("""() => {
        window.turns = [];
        const tick = () => {
            turns.push(performance.now());
            setTimeout(tick);
        };
        tick();
    }""")
    choose(page, huge)
    expect(said(page)).to_contain_text("The middle of huge.jpg")
    turns = np.array(page.evaluate("turns"))
    assert len(turns) > 8000 * 8000 / 500_000  # between any two strips
    assert np.diff(turns).max() < np.ptp(turns) / 3  # on a busy machine all takes longer
    Image.MAX_IMAGE_PIXELS, before = None, Image.MAX_IMAGE_PIXELS
    try:
        expected = expected_of(huge["buffer"], PHOTO)
    finally:
        Image.MAX_IMAGE_PIXELS = before
    np.testing.assert_allclose(latest(page, PHOTO), expected, atol=4 / 255)


def test_what_comes_last_wins(opened):
    """A drawing that begins while a picture is read."""
    page = opened(PHOTO)
    page.evaluate("""() => {
        const own = createImageBitmap, gate = new Promise((open) => { window.release = open; });
        window.createImageBitmap = (...given) => gate.then(() => own(...given));
    }""")
    choose(page, file_of(pictures()["photo"]))
    expect(said(page)).to_contain_text("Reading picture.png")
    draw(page, DIGITS[1])
    before = latest(page, PHOTO)
    page.evaluate("release()")
    page.wait_for_timeout(1000)
    np.testing.assert_array_equal(latest(page, PHOTO), before)
    expect(page.locator("[data-part=pad] img")).to_be_hidden()
    expect(said(page)).to_have_text("")


def test_models_of_other_channels_are_refused(opened):
    message = opened().evaluate(
        "try { pictureInput({ model: { C: 4, height: 8, width: 8 } }) } catch (e) { e.message }"
    )
    assert message == "expected a model of 1 or 3 channels, got 4"


# Looks


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_it_is_accessible_and_fits(opened, scheme, viewport):
    page = opened(scheme=scheme, viewport=viewport)
    draw(page, DIGITS[5])
    latest(page)
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    pad, shown = (canvas.bounding_box() for canvas in page.locator("canvas").all())
    assert shown["x"] > pad["x"] + pad["width"]  # side by side
    assert shown["width"] >= 60
