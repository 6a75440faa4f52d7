"""How fast static/vit.js computes: `python benchmarks/vit_js.py`, in node and headless Chromium.

The median time of one forward pass of one image, with random weights, in milliseconds: as a page
has it (WebAssembly), and in plain JavaScript, which computes where WebAssembly is forbidden. "×" is
the time as a multiple of torch's, on one thread, measured in the same run; it says more than the
milliseconds where other work shares the processor. Exits with 1 if Chromium is above LIMITS.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import playwright
import torch
from playwright.sync_api import sync_playwright
from torch import nn

from vitlib import VisionTransformer, create_model
from vitlib.widgets import Explorer
from vitlib.widgets.figure import STATIC

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browsing import FLAGS, chromium

LIMITS = {"vit_nano_patch4_28": 10.0, "vit_micro_patch4_32": 60.0}  # ms, on an idle machine
PASSES = 60

# Milliseconds of each pass, after some for the compiler; `url` is the module's.
MEASURE = """async ([url, bytes, pixels, simd, passes]) => {
    const { load, forward } = await import(url);
    const model = load(Uint8Array.from(bytes), { simd }), image = Float32Array.from(pixels);
    const once = () => {
        const start = performance.now();
        forward(model, image);
        return performance.now() - start;
    };
    for (let i = 0; i < 20; i++) once();
    return Array.from({ length: passes }, once);
}"""


def in_node(weights: bytes, pixels: list[float], simd: bool) -> list[float]:
    own = Path(playwright.__file__).parent / "driver" / "node"
    path = str(own) if own.exists() else shutil.which("node")
    if path is None:
        return []
    inputs = [(STATIC / "vit.js").as_uri(), list(weights), pixels, simd, PASSES]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "measure.mjs"
        script.write_text(f"console.log(JSON.stringify(await ({MEASURE})({json.dumps(inputs)})))")
        done = subprocess.run([path, script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def in_chromium(page, weights: bytes, pixels: list[float], simd: bool) -> list[float]:
    source = (STATIC / "vit.js").read_text("utf8")
    blob = 'URL.createObjectURL(new Blob([source], { type: "text/javascript" }))'
    url = page.evaluate(f"(source) => {blob}", source)
    return page.evaluate(MEASURE, [url, list(weights), pixels, simd, PASSES])


def in_torch(model: VisionTransformer, images: torch.Tensor) -> list[float]:
    times = []
    with torch.inference_mode():
        for _ in range(20 + PASSES):
            start = time.perf_counter()
            model(images)
            times.append(1000 * (time.perf_counter() - start))
    return times[20:]


def main() -> int:
    """Print the table; 1 if a median in Chromium, with WebAssembly, is above its limit."""
    too_slow = False
    with (
        sync_playwright() as started,
        started.chromium.launch(executable_path=chromium(started), args=FLAGS) as browser,
        tempfile.TemporaryDirectory() as folder,
    ):
        page = browser.new_page()
        print(f"{'ms per image':<22}{'':<12}{'WebAssembly':>12}{'×':>6}{'JavaScript':>12}{'×':>6}")
        for name, limit in LIMITS.items():
            torch.manual_seed(0)
            model = create_model(name).eval()
            for parameter in model.parameters():
                nn.init.normal_(parameter, std=0.1)
            images = torch.randn(1, model.in_chans, *model.img_size)
            weights = Explorer(model).save_weights(Path(folder) / name).read_bytes()
            pixels = images.flatten().tolist()
            torchs = statistics.median(in_torch(model, images))
            print(f"{name:<22}{'torch':<12}{torchs:>12.1f}{1:>6.1f}")
            for where in ("node", "Chromium"):
                row = f"{'':<22}{where:<12}"
                for simd in (True, False):
                    inputs = (weights, pixels, simd)
                    times = in_node(*inputs) if where == "node" else in_chromium(page, *inputs)
                    median = statistics.median(times) if times else float("nan")
                    row += f"{median:>12.1f}{median / torchs:>6.1f}"
                    too_slow |= where == "Chromium" and simd and median > limit
                print(row)
    limits = ", ".join(f"{name} {limit:.0f} ms" for name, limit in LIMITS.items())
    print(f"\nAllowed in Chromium, with WebAssembly: {limits}")
    return int(too_slow)


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main())
