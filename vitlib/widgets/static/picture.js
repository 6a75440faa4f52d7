// The explorer's input: a picture for a model, drawn on a pad, dropped, pasted, chosen or photographed.
//
//     strokes --> ink --> the frame of MNIST's digits --+
//                  ^                                    +--> pixels (C, H, W), from 0 to 1
//     a file --> its middle, at the model's size -------+
//
// (Upwards goes a photo of dark ink on light paper, if the model has one channel.)
//
// Needs figure.js in scope, like each figure's own file; frameDrawing runs without it. Nothing that a
// reader puts in leaves the page.

// --- drawings

const STEP = 10; // of the keyboard's pen on the pad, whose longer side is 280 pixels
const GRAIN = 240, PEN = 30; // of the ink in pixels, before it is framed: 12 pixels for each of MNIST's

// Ink (h, w), from 0 to 1, as MNIST's digits were framed (LeCun et al. 1998, section III.A), scaled to
// size × size pixels: (size, size). For MNIST's own 28: the box around the ink is fitted into 20 × 20
// pixels, each of which is the mean of the ink under it, and moved by whole pixels until the centre of
// mass is nearest to the middle of pixel 14. MNIST's digits come out as they went in.
export function frameDrawing(ink, w, h, size) {
  const rows = new Float64Array(h), columns = new Float64Array(w);
  for (let k = 0; k < ink.length; k++) {
    rows[Math.floor(k / w)] += ink[k];
    columns[k % w] += ink[k];
  }
  const inked = (sum) => sum > 0;
  const [top, left] = [rows, columns].map((sums) => sums.findIndex(inked));
  if (top < 0) return new Float32Array(size * size);
  const side = Math.max(rows.findLastIndex(inked) + 1 - top, columns.findLastIndex(inked) + 1 - left);
  const step = side / ((size * 20) / 28); // so much ink becomes a pixel
  const start = (sums, first) => { // of the frame, in the ink's pixels
    let mass = 0, moment = 0;
    sums.forEach((sum, k) => { mass += sum; moment += sum * (k + 0.5); });
    const centre = (moment / mass - first) / step - 0.5; // the pixel it falls on if the box begins at 0
    return first - Math.round(size / 2 - centre) * step;
  };
  const across = averaged(ink, w, start(columns, left), step, size); // (size, h), turned
  return averaged(across, h, start(rows, top), step, size);
}

// Rows of so many values -> `size` means over `step` values each, beginning at `start`: (size, rows).
function averaged(values, length, start, step, size) {
  const rows = values.length / length, means = new Float32Array(size * rows);
  for (let j = 0; j < length; j++) {
    for (let i = Math.max(0, Math.floor((j - start) / step)); i < size && start + i * step < j + 1; i++) {
      const low = start + i * step, share = (Math.min(j + 1, low + step) - Math.max(j, low)) / step;
      for (let row = 0; row < rows; row++) means[i * rows + row] += share * values[row * length + j];
    }
  }
  return means;
}

// Strokes, lists of points [x, y], as ink (GRAIN, GRAIN). They are enlarged or reduced to one size and
// drawn with one pen, so that a small drawing does not become fat.
function inkOf(strokes) {
  const range = (axis) => {
    const values = strokes.flatMap((stroke) => stroke.map((point) => point[axis]));
    return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  };
  const [[left, right], [top, bottom]] = [range(0), range(1)];
  const scale = (GRAIN - PEN) / Math.max(right - left, bottom - top, 1);
  const context = element("canvas", { width: GRAIN, height: GRAIN }).getContext("2d", { willReadFrequently: true });
  const fit = ([x, y]) => [(x - left) * scale + PEN / 2, (y - top) * scale + PEN / 2];
  drawStrokes(context, strokes.map((stroke) => stroke.map(fit)), PEN, "#fff");
  const { data } = context.getImageData(0, 0, GRAIN, GRAIN);
  return Float32Array.from({ length: GRAIN * GRAIN }, (_, k) => data[4 * k + 3] / 255);
}

function drawStrokes(context, strokes, pen, colour) {
  Object.assign(context, { lineWidth: pen, lineCap: "round", lineJoin: "round", strokeStyle: colour });
  for (const [first, ...others] of strokes) {
    context.beginPath();
    context.moveTo(...first);
    context.lineTo(...first); // a point alone makes a dot
    for (const point of others) context.lineTo(...point);
    context.stroke();
  }
}

// --- pictures

const STRIP = 500_000; // pixels that are read at once, while the page stands still

// The middle of a picture, at the model's size: bytes (height, width, 3). As in vitlib's load_data, which
// leaves it to Pillow: bicubic, each pixel made of all that lie under it, first along the rows, then down,
// and rounded to bytes after both. Transparent parts lie on white.
async function fitted(picture, height, width) {
  const step = Math.min(picture.width / width, picture.height / height);
  const across = taps(picture.width, width, step), down = taps(picture.height, height, step);
  const left = across[0].first, columns = end(across.at(-1)) - left, bottom = end(down.at(-1));
  const rows = Math.ceil(Math.min(STRIP / columns, bottom - down[0].first));
  const context = element("canvas", { width: columns, height: rows }).getContext("2d", { willReadFrequently: true });
  const line = new Uint8ClampedArray(3 * width), sums = new Float32Array(height * 3 * width);
  context.fillStyle = "#fff";
  for (let top = down[0].first; top < bottom; top += rows) {
    if (top > down[0].first) await new Promise((next) => setTimeout(next));
    context.fillRect(0, 0, columns, rows);
    context.drawImage(picture, -left, -top);
    const { data } = context.getImageData(0, 0, columns, rows);
    for (let y = top; y < Math.min(bottom, top + rows); y++) {
      across.forEach(({ first, weights }, x) => {
        let red = 0, green = 0, blue = 0;
        for (let i = 0, k = 4 * ((y - top) * columns + first - left); i < weights.length; i++, k += 4) {
          red += weights[i] * data[k];
          green += weights[i] * data[k + 1];
          blue += weights[i] * data[k + 2];
        }
        line.set([red, green, blue], 3 * x);
      });
      down.forEach((tap, row) => {
        const weight = tap.weights[y - tap.first];
        if (weight) for (let k = 0; k < line.length; k++) sums[row * line.length + k] += weight * line[k];
      });
    }
  }
  return Uint8ClampedArray.from(sums);
}

const end = ({ first, weights }) => first + weights.length;

// Of `count` pixels, `step` old ones apart, in the middle of `length`: the first old pixel that each is
// made of, and the weights of those from there on.
function taps(length, count, step) {
  const stretch = Math.max(step, 1), start = (length - count * step) / 2;
  return Array.from({ length: count }, (_, i) => {
    const centre = start + (i + 0.5) * step;
    const first = Math.max(0, Math.floor(centre - 2 * stretch + 0.5));
    const last = Math.min(length, Math.floor(centre + 2 * stretch + 0.5));
    const weights = Float64Array.from({ length: last - first }, (_, k) => cubic((first + k + 0.5 - centre) / stretch));
    const sum = weights.reduce((total, weight) => total + weight);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

// Keys' kernel with a = −1/2
function cubic(x) {
  const t = Math.abs(x);
  if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
  return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
}

// Bytes (H, W, 3) -> pixels (C, H, W); grey by the weights of ITU-R 601, in Pillow's whole numbers
function channelsOf(bytes, C) {
  const area = bytes.length / 3, pixels = new Float32Array(C * area);
  for (let k = 0; k < area; k++) {
    const [red, green, blue] = bytes.subarray(3 * k, 3 * k + 3);
    const values = C === 3 ? [red, green, blue] : [(19595 * red + 38470 * green + 7471 * blue + 32768) >> 16];
    values.forEach((value, c) => { pixels[c * area + k] = value / 255; });
  }
  return pixels;
}

// The mean of the pixels (height, width) along the edges
function border(pixels, height, width) {
  const edge = pixels.filter((_, k) => k < width || k >= pixels.length - width || k % width === 0 || k % width === width - 1);
  return edge.reduce((sum, value) => sum + value, 0) / edge.length;
}

// Grey pixels of dark ink on light paper -> ink, from 0 to 1. Between the paper and the darkest pixel,
// what is less dark than 0.3 is taken for shadow, and from 0.7 on all is ink.
function inkOnPaper(pixels, paper) {
  const contrast = Math.max(0.2, paper - pixels.reduce((least, value) => Math.min(least, value)));
  return pixels.map((value) => Math.min(1, Math.max(0, ((paper - value) / contrast - 0.3) / 0.4)));
}

// A file -> its pixels for the model, its size, and whether it was taken for ink on paper; null if the
// browser cannot read it.
async function readPicture(file, model) {
  const { C, height, width } = model;
  const picture = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
  if (!picture) return null;
  try {
    const pixels = channelsOf(await fitted(picture, height, width), C), size = `${picture.width} × ${picture.height}`;
    const light = C === 1 ? border(pixels, height, width) : 0;
    if (light <= 0.5) return { pixels, size, onPaper: false };
    const ink = inkOnPaper(channelsOf(await fitted(picture, GRAIN, GRAIN), C), light);
    return { pixels: framed(ink, model), size, onPaper: true };
  } finally {
    picture.close();
  }
}

// Ink (GRAIN, GRAIN), framed, in the middle of the model's picture if that is no square: (height, width)
function framed(ink, { height, width }) {
  const side = Math.min(height, width), [top, left] = [(height - side) >> 1, (width - side) >> 1];
  const pixels = new Float32Array(height * width), square = frameDrawing(ink, GRAIN, GRAIN, side);
  for (let row = 0; row < side; row++) pixels.set(square.subarray(row * side, (row + 1) * side), (top + row) * width + left);
  return pixels;
}

// --- the part of the figure

// model: { C, height, width }, as `load` of vit.js returns it. onPicture hears of every new picture:
// { pixels: Float32Array (C, height, width), from 0 to 1, shown: a canvas of what the model gets }.
// `clear()` empties the pad and tells nobody.
//
// For a model of one channel, a drawing is white on black and framed as MNIST's digits are, and so is a
// picture whose border is light; for one of three, it is black on white and taken like any picture.
export function pictureInput({ model, onPicture }) {
  const { C, height, width } = model;
  if (C !== 1 && C !== 3) throw new Error(`expected a model of 1 or 3 channels, got ${C}`);
  const size = [width, height].map((length) => Math.round((280 * length) / Math.max(height, width))); // of the pad
  const cells = size.map((length) => Math.ceil(length / STEP)), middle = (cell) => Math.floor(cell) * STEP + STEP / 2;
  const [ground, colour] = C === 1 ? ["#000", "#fff"] : ["#fff", "#000"];
  let strokes = [], stroke = null, cursor = cells.map((count) => middle(count / 2));
  let frame = 0, turn = 0; // what is awaited: a frame of the screen, and the latest picture

  const canvas = raster(...size), ring = element("div", { class: "vf-ring", hidden: "" });
  const photo = element("img", { alt: "", hidden: "", style: "position:absolute;inset:0;width:100%;height:100%;object-fit:cover;background:#fff;pointer-events:none" });
  const help = "Arrow keys move the pen, the space bar puts it down or lifts it, and Escape leaves.";
  const pad = element("div", {
    class: "vf-picker", role: "application", tabindex: 0, "aria-label": `Drawing pad. ${help}`, "data-part": "pad",
    style: `aspect-ratio:${width}/${height};touch-action:none;user-select:none;-webkit-user-select:none`,
  }, canvas, photo, ring);
  canvas.style.imageRendering = "auto"; // the pad's pixels are nothing to look at
  const display = raster(width, height);
  display.style.border = "1px solid var(--vf-line)";
  const status = statusLine();
  status.dataset.part = "picture-status";

  // --- what the model gets

  const deliver = (pixels) => {
    const shown = raster(width, height), area = height * width;
    const level = (c, i) => Math.round(255 * pixels[(c % C) * area + i]);
    paint(shown, (i) => [level(0, i), level(1, i), level(2, i)]);
    display.getContext("2d").drawImage(shown, 0, 0);
    onPicture({ pixels, shown });
  };
  const drawPad = () => {
    const context = canvas.getContext("2d");
    context.fillStyle = ground;
    context.fillRect(0, 0, ...size);
    drawStrokes(context, strokes, Math.min(...size) / 12, colour);
  };
  const drawn = async () => {
    const mine = ++turn;
    if (C === 3) {
      const bytes = await fitted(canvas, height, width);
      if (mine === turn) deliver(channelsOf(bytes, C));
      return;
    }
    deliver(strokes.length ? framed(inkOf(strokes), model) : new Float32Array(height * width));
  };
  const changed = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      drawPad();
      drawn();
    });
  };
  const clear = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    turn++;
    [strokes, stroke] = [[], null];
    URL.revokeObjectURL(photo.src);
    photo.removeAttribute("src");
    photo.hidden = true;
    status.textContent = "";
    drawPad();
    paint(display, () => (C === 1 ? 0 : 255));
  };

  // --- the pen

  const begin = (point) => {
    if (!photo.hidden) clear();
    status.textContent = ""; // what it said was of a picture
    strokes.push(stroke = [point]);
    changed();
  };
  const go = (point) => {
    stroke.push(point);
    changed();
  };
  const lift = () => { stroke = null; };
  const pointOf = (event) => {
    const area = canvas.getBoundingClientRect();
    return [((event.clientX - area.left) / area.width) * size[0], ((event.clientY - area.top) / area.height) * size[1]];
  };
  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    pad.setPointerCapture(event.pointerId);
    begin(pointOf(event));
  });
  pad.addEventListener("pointermove", (event) => {
    if (!stroke || !event.isPrimary || !pad.hasPointerCapture(event.pointerId)) return;
    const moves = event.getCoalescedEvents?.() ?? []; // all since the last frame; not every browser tells
    for (const move of moves.length ? moves : [event]) go(pointOf(move));
  });
  pad.addEventListener("lostpointercapture", (event) => { if (event.isPrimary) lift(); }); // not a second finger

  const place = () => {
    const [column, row] = cursor.map((at) => Math.floor(at / STEP)), [columns, rows] = cells;
    ring.style.cssText = `left:${(100 * column) / columns}%;top:${(100 * row) / rows}%;width:${100 / columns}%;height:${100 / rows}%`;
    return `Row ${row} of 0 to ${rows - 1}, column ${column} of 0 to ${columns - 1}; the pen is ${stroke ? "down" : "up"}.`;
  };
  pad.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) {
      cursor = cursor.map((at, axis) => Math.min(middle(cells[axis] - 1), Math.max(middle(0), at + step[axis] * STEP)));
      if (stroke) go(cursor);
    } else if (event.key === " ") {
      if (stroke) lift();
      else begin(cursor);
    } else if (event.key === "Escape") {
      choose.focus();
      return;
    } else return;
    event.preventDefault();
    ring.hidden = false;
    status.textContent = place();
  });
  pad.addEventListener("focus", () => {
    ring.hidden = !pad.matches(":focus-visible");
    place();
    if (!ring.hidden) status.textContent = help;
  });
  pad.addEventListener("blur", () => {
    lift();
    ring.hidden = true;
  });

  // --- pictures that come from elsewhere

  const read = async (file) => {
    const mine = ++turn;
    status.textContent = `Reading ${file.name} …`;
    const picture = await readPicture(file, model);
    if (mine !== turn) return; // something newer came
    if (!picture) {
      status.textContent = `This is no picture that the browser can read: ${file.name}`;
      return;
    }
    clear();
    photo.src = URL.createObjectURL(file);
    photo.hidden = false;
    status.textContent = `The middle of ${file.name} (${picture.size} pixels), as ${width} × ${height} pixels${C === 1 ? " in grey" : ""}.`
      + (picture.onPaper ? " Its border is light, so it is taken for dark ink on paper: light and dark are exchanged, and it is framed like a drawing." : "");
    deliver(picture.pixels);
  };
  const readFirst = (event, transfer) => {
    event.preventDefault();
    event.stopPropagation();
    const [file] = transfer.files;
    if (file) read(file);
    else status.textContent = "This holds no picture: expected a picture file, or a picture copied from another program.";
  };
  const opener = (words, properties) => {
    const input = element("input", { type: "file", accept: "image/*", hidden: "", ...properties, onchange: () => {
      if (input.files[0]) read(input.files[0]);
      input.value = ""; // so that the same file can be chosen again
    } });
    return [input, button(words, () => input.click())];
  };
  const button = (words, onclick) => element("button", { type: "button", style: "font:inherit;min-height:1.8rem", onclick }, words);
  const [chosen, choose] = opener("Choose a picture", { "data-part": "file" });
  const [photographed, photograph] = opener("Take a photo", { capture: "environment" });
  const touch = matchMedia("(pointer: coarse)").matches;
  photograph.hidden = !touch; // elsewhere it would do the same as the other

  const root = element("div", { "data-part": "picture-input" },
    element("div", { class: "vf-panels" }, panel("Draw here", pad), panel("As the model gets it", display)),
    element("div", { class: "vf-controls", style: "margin:0.6rem 0 0.4rem;align-items:baseline" },
      chosen, choose, photographed, photograph,
      button("Clear", () => { clear(); drawn(); }),
      element("span", { class: "vf-caption" }, touch ? "The picture stays on this page." : "Or drop a picture here, or paste one (Ctrl+V). It stays on this page."),
    ),
    status,
  );
  const [padPanel, displayPanel] = root.firstChild.children;
  padPanel.style.cssText = "flex:4 1 14rem;max-width:18rem";
  displayPanel.style.cssText = "flex:1 1 5rem;max-width:11rem";

  const over = (event) => {
    const inside = event.type === "dragover" || (event.type === "dragleave" && root.contains(event.relatedTarget));
    if (event.type === "dragover") event.preventDefault(); // a drop is welcome
    root.style.outline = inside ? `3px dashed ${COLOURS.orange}` : "";
  };
  for (const type of ["dragover", "dragleave", "drop"]) root.addEventListener(type, over);
  root.addEventListener("drop", (event) => readFirst(event, event.dataTransfer));
  root.addEventListener("paste", (event) => readFirst(event, event.clipboardData));
  document.addEventListener("paste", (event) => { // elsewhere, too, unless a reader writes there
    const files = root.isConnected && !event.target.closest("input, textarea, [contenteditable]") && event.clipboardData.files;
    if (files.length && !event.defaultPrevented) readFirst(event, event.clipboardData);
  });
  clear();
  return { element: root, clear };
}
