// What all figures share. Python puts this text before each figure's own file, so that these
// functions are in its scope; there is nothing to bundle and nothing to load.

// --- the state: traits of the widget, or what stands in for them in a page without a kernel

function standIn(state) {
  const listeners = {};
  for (const [key, value] of Object.entries(state)) {
    if (value !== null && typeof value === "object" && "base64" in value) {
      const raw = Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0));
      state[key] = new DataView(raw.buffer);
    }
  }
  return {
    get: (key) => state[key],
    set(key, value) {
      if (state[key] === value) return;
      state[key] = value;
      for (const listener of listeners[`change:${key}`] ?? []) listener();
    },
    on: (event, listener) => (listeners[event] ??= []).push(listener),
    off() {},
    save_changes() {},
  };
}

function assign(model, key, value) {
  if (model.get(key) === value) return;
  model.set(key, value);
  model.save_changes();
}

// Draws now, and again whenever one of these traits changes.
function observe(model, keys, draw) {
  for (const key of keys) model.on(`change:${key}`, draw);
  draw();
}

function uint8(model, key) {
  const view = model.get(key);
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function float32(model, key) {
  const bytes = uint8(model, key);
  return new Float32Array(bytes.slice().buffer); // a copy: the bytes may not be aligned to four
}

// --- elements

// element("p", { class: "x", onclick: f }, "text", child)
function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// The same for a drawing of lines: svg("line", { x1: 0, ... }). The parser knows the namespace, so no
// address stands here, and a page can be checked for naming none.
function svg(tag, properties = {}, ...children) {
  const holder = document.createElement("div");
  holder.innerHTML = "<svg></svg>";
  const node = document.createElementNS(holder.firstChild.namespaceURI, tag);
  for (const [name, value] of Object.entries(properties)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Empties `el`, names it to a screen reader, and returns it.
function frame(model, el) {
  el.replaceChildren();
  el.classList.add("vitlib-figure");
  // JupyterLab takes arrow keys for itself, unless the very element that has the focus says no.
  el.addEventListener("focusin", (event) => { event.target.dataset.lmSuppressShortcuts = "true"; });
  el.setAttribute("role", "group");
  el.setAttribute("aria-label", model.get("title"));
  el.append(element("p", { class: "vf-hidden" }, model.get("alt")));
  return el;
}

// The line of words that says what is chosen; a screen reader speaks it when it changes.
function statusLine() {
  return element("p", { class: "vf-status", "data-part": "status", "aria-live": "polite" });
}

// A part of the figure under a caption of its own.
function panel(caption, ...children) {
  return element("div", { class: "vf-panel" }, element("div", { class: "vf-caption" }, caption), ...children);
}

// --- controls, each bound to one trait both ways

// `values`: what the trait may be, in the order of the slider; `show`: words for one of them.
function slider(model, key, { label, values, show = String }) {
  const output = element("output", { class: "vf-value" });
  const input = element("input", {
    type: "range", min: 0, max: values.length - 1, step: 1, "data-key": key,
    oninput: () => assign(model, key, values[Number(input.value)]),
  });
  observe(model, [key], () => {
    input.value = values.indexOf(model.get(key));
    output.textContent = show(model.get(key));
    input.setAttribute("aria-valuetext", show(model.get(key)));
  });
  return element("label", { class: "vf-slider" }, element("span", {}, label), input, output);
}

// Radio buttons; `options`: [[value, words], ...].
function choice(model, key, { label, options }) {
  window.vitlibGroups = (window.vitlibGroups ?? 0) + 1; // no two figures of a page share a group
  const name = `vf-${key}-${window.vitlibGroups}`;
  const inputs = options.map(([value]) =>
    element("input", { type: "radio", name, value, "data-key": key, onchange: () => assign(model, key, value) }),
  );
  observe(model, [key], () => {
    options.forEach(([value], i) => { inputs[i].checked = value === model.get(key); });
  });
  const labels = options.map(([, words], i) => element("label", {}, inputs[i], ` ${words}`));
  return element("fieldset", { class: "vf-choice" }, element("legend", {}, label), ...labels);
}

// One of many, in a line: `options` as in `choice`.
function menu(model, key, { label, options }) {
  const select = element("select", {
    "data-key": key, onchange: () => assign(model, key, options[select.selectedIndex][0]),
  }, ...options.map(([, words]) => element("option", {}, words)));
  observe(model, [key], () => { select.selectedIndex = options.findIndex(([value]) => value === model.get(key)); });
  return element("label", { class: "vf-menu" }, `${label} `, select);
}

function controls(...children) {
  return element("div", { class: "vf-controls" }, ...children);
}

// --- pictures

// A canvas of so many pixels, drawn large and sharp; whoever shows it says in words what it shows.
function raster(columns, rows, className = "") {
  return element("canvas", { width: columns, height: rows, class: `vf-raster ${className}`, "aria-hidden": "true" });
}

// Fills the canvas: colour(i) is [red, green, blue, alpha = 255] of pixel i, row by row, or one
// number for a grey. Pictures may have 200,000 pixels, so nothing is made for a grey one.
function paint(canvas, colour) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height), data = image.data;
  for (let i = 0, k = 0; k < data.length; i++, k += 4) {
    const of = colour(i);
    if (typeof of === "number") {
      data[k] = data[k + 1] = data[k + 2] = of;
      data[k + 3] = 255;
    } else {
      for (let channel = 0; channel < 4; channel++) data[k + channel] = of[channel] ?? 255;
    }
  }
  context.putImageData(image, 0, 0);
}

// One of the cells of a picture, chosen by pointing, tapping, or with the arrow keys. Pointing looks
// at a cell, and a click or a tap keeps it. When the mouse leaves, so that a reader gets to the other
// controls without choosing on the way, and when a finger turns out to scroll the page, the cell that
// was kept comes back. Whatever else changes the cell, or what the cells are, is kept as well.
// size(): [rows, columns]; describe(cell): words for it; `key`: the trait that holds `first` plus
// the cell, counted row by row. Smaller values are something without a place: nothing is ringed.
function picker(model, key, { label, size, describe, keys = [], first = 0 }, ...pictures) {
  const ring = element("div", { class: "vf-ring" });
  const box = element("div", { class: "vf-picker", role: "slider", tabindex: 0, "aria-label": label, "data-key": key }, ...pictures, ring);
  let kept, pointing = false;
  const point = (event) => {
    const [rows, columns] = size();
    const area = box.getBoundingClientRect();
    const place = (position, length, count) => Math.min(count - 1, Math.max(0, Math.floor((position / length) * count)));
    pointing = true;
    assign(model, key, first + place(event.clientY - area.top, area.height, rows) * columns + place(event.clientX - area.left, area.width, columns));
    pointing = false;
  };
  box.addEventListener("pointermove", point);
  box.addEventListener("pointerdown", point);
  box.addEventListener("pointerup", () => { kept = model.get(key); });
  box.addEventListener("pointerleave", () => assign(model, key, kept));
  box.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return; // Alt and an arrow is the browser's
    const [rows, columns] = size();
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    const cell = model.get(key) - first; // from something without a place, arrows go to the first cell
    const chosen = { Home: 0, End: rows * columns - 1 }[event.key] ?? (cell < 0 ? 0 * step : cell + step);
    if (Number.isNaN(chosen)) return;
    event.preventDefault();
    if (chosen >= 0 && chosen < rows * columns) assign(model, key, first + chosen);
    kept = model.get(key); // also if the mouse had been looking there already
  });
  observe(model, [key, ...keys], () => {
    if (!pointing) kept = model.get(key);
    const [rows, columns] = size();
    const cell = model.get(key) - first;
    box.setAttribute("aria-valuemin", 0);
    box.setAttribute("aria-valuemax", rows * columns - 1);
    box.setAttribute("aria-valuenow", Math.max(cell, 0));
    box.setAttribute("aria-valuetext", describe(cell));
    ring.hidden = cell < 0;
    ring.style.cssText = `left:${(100 * (cell % columns)) / columns}%;top:${(100 * Math.floor(cell / columns)) / rows}%;width:${100 / columns}%;height:${100 / rows}%`;
  });
  return box;
}

// --- colours (COLOURS is vitlib/palette.py's, set by figure.py), and numbers

const mix = (from, to, t) => from.map((start, i) => Math.round(start + (to[i] - start) * t));
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const WHITE = [255, 255, 255], BLUE = rgb(COLOURS.blue), ORANGE = rgb(COLOURS.orange), NIGHT = rgb(COLOURS.night);

// 0 is white, 1/2 blue, 1 nearly black.
const sequential = (t) => (t < 0.5 ? mix(WHITE, BLUE, 2 * t) : mix(BLUE, NIGHT, 2 * t - 1));
// -1 is blue, 0 white, 1 orange.
const diverging = (t) => (t < 0 ? mix(WHITE, BLUE, -t) : mix(WHITE, ORANGE, t));

// 0.1234 -> "0.123", with a true minus sign.
function decimals(value, digits = 3) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}
