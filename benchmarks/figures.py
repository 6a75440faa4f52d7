"""How fast the figures react: `python benchmarks/figures.py [NAME ...]`, in headless Chromium.

For each control of each figure the median over INPUTS inputs, in milliseconds: "redraw" from the
dispatch of the event to the end of all that it sets off, a forced layout included; "frame" to the
first frame after that, most of which is the wait for the screen's next turn (16.7 ms apart). "×" is
the redraw as a multiple of what a bare slider needs that only changes one text.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import torch
from playwright.sync_api import Page, sync_playwright

from vitlib import create_model, load_data
from vitlib.runs.photos import read_photos
from vitlib.widgets import (
    AttentionFigure,
    CostFigure,
    DialectFigure,
    Explorer,
    LensFigure,
    PatchFigure,
    PositionFigure,
    RunsFigure,
    SoftmaxFigure,
    TeacherFigure,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browsing import FLAGS, FRAME, WIDE, chromium

INPUTS = 60
LIMIT = 16.0  # milliseconds, for the median redraw of any control

BARE = """<div class="vitlib-figure" data-live="">
<label>bare <input type="range" min="0" max="9" data-key="bare"
 oninput="this.nextElementSibling.textContent = this.value"><output>0</output></label></div>"""

# [name, redraw, frame] of the control with this number, or null. Each input is a new value: the
# next place of a slider, the next button of a group, a cell somewhere in a picker.
MEASURE = """async ([number, inputs]) => {
    const figure = document.querySelector(".vitlib-figure");
    const groups = {};
    const actions = [];
    for (const box of figure.querySelectorAll("input, [role=slider], select")) {
        const name = box.dataset.key ?? box.getAttribute("aria-label") ?? box.type;
        if (box.disabled || !box.getClientRects().length) continue;
        if (box.type === "radio") {
            (groups[box.name] ??= []).push(box);
            const group = groups[box.name];
            if (group.length === 2) actions.push([`${name} (buttons)`, (i) => {
                const free = group.filter((one) => !one.checked);
                free[i % free.length].click();
            }]);
        } else if (box.type === "range") {
            actions.push([`${name} (slider)`, (i) => {
                const [low, high, step] = [+box.min, +box.max, +box.step || 1];
                const places = Math.round((high - low) / step) + 1;
                const now = Math.round((box.value - low) / step);
                box.value = low + step * ((now + 1) % places);
                box.dispatchEvent(new Event("input", { bubbles: true }));
            }]);
        } else if (box.type === "checkbox") {
            actions.push([`${name} (box)`, () => box.click()]);
        } else if (box.matches("[role=slider]")) {
            const point = (i) => {
                const area = box.getBoundingClientRect();
                const [across, down] = [(i * 0.618034) % 1, (i * 0.754878) % 1];
                box.dispatchEvent(new PointerEvent("pointermove", {
                    bubbles: true, clientX: area.left + across * area.width,
                    clientY: area.top + down * area.height,
                }));
            };
            actions.push([`${name} (pointer)`, point]);
        }
    }
    const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    if (number >= actions.length) return null;
    const [name, act] = actions[number];
    const redraws = [], frames = [];
    for (let i = 0; i < inputs + 5; i++) {
        await frame();
        const start = performance.now();
        act(i);
        document.body.getBoundingClientRect();  // the layout, too
        const redrawn = performance.now();
        await frame();
        if (i < 5) continue;  // the compiler's turn
        redraws.push(redrawn - start);
        frames.push(performance.now() - start);
    }
    return [name, median(redraws), median(frames)];
}"""


def measured(page: Page, html: str, inputs: int = INPUTS) -> Iterator[tuple[str, float, float]]:
    """Name, redraw and frame of each control, each on a figure that is as it was made."""
    for number in count():
        page.set_content(FRAME.format(body=html))
        if (row := page.evaluate(MEASURE, [number, inputs])) is None:
            return
        yield row


def figures() -> dict[str, Callable[[], object]]:
    """One of each class, as the book has them, and a picture as large as PatchFigure takes."""
    data = load_data("mnist5k")
    images = torch.stack([data.test[i][0] for i in range(4)])
    model = create_model("vit_nano_patch4_28", pretrained=True)
    student = create_model("vit_nano_patch7_28", distilled=True)
    generator = torch.Generator().manual_seed(0)
    return {
        "PatchFigure": lambda: PatchFigure(torch.rand(28, 28, generator=generator)),
        "PatchFigure, 256²": lambda: PatchFigure(torch.rand(3, 256, 256, generator=generator)),
        "PositionFigure": lambda: PositionFigure(model),
        "SoftmaxFigure": lambda: SoftmaxFigure(),
        "AttentionFigure": lambda: AttentionFigure(model, images),
        "AttentionFigure, photos": lambda: AttentionFigure.from_record(read_photos()),
        "Explorer": lambda: Explorer(model, images),
        "LensFigure": lambda: LensFigure(model, images[0]),
        "RunsFigure": lambda: RunsFigure("learning_rates"),
        "CostFigure": lambda: CostFigure(),
        "DialectFigure": lambda: DialectFigure(),
        "TeacherFigure": lambda: TeacherFigure(model, student, images, [0] * len(images)),
    }


def main(names: Sequence[str] = ()) -> int:
    """Print the table, of all figures by default; 1 if a median redraw takes longer than LIMIT."""
    made = {name: make() for name, make in figures().items() if not names or name in names}
    slowest = 0.0
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium(playwright), args=FLAGS) as browser,
    ):
        page = browser.new_page(viewport=WIDE)
        ((_, bare, frame),) = measured(page, BARE, 5 * INPUTS)
        print(f"{'figure':<25}{'control':<26}{'redraw':>8}{'frame':>8}{'×':>7}")
        print(f"{'a bare slider':<51}{bare:>8.2f}{frame:>8.1f}{1:>7.1f}")
        for name, figure in made.items():
            for control, redraw, frame in measured(page, figure.to_html()):
                ratio = redraw / bare
                print(f"{name:<25}{control:<26}{redraw:>8.2f}{frame:>8.1f}{ratio:>7.1f}")
                slowest = max(slowest, redraw)
    print(f"\nThe slowest median redraw: {slowest:.2f} ms, allowed {LIMIT:.0f} ms")
    return int(slowest > LIMIT)


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main(sys.argv[1:]))
