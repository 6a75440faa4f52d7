// vitlib/costs.py's TrainingCost, for patches of 16 pixels, three channels, 1,000 classes, an MLP
// four times as wide and heads of 64 channels.
function trainingCost({ img_size, embed_dim: D, depth, batch, bf16, checkpointing }) {
  const patches = (img_size / 16) ** 2, T = patches + 1, heads = D / 64, classes = 1000;
  const blockMatrices = 12 * D * D, matrices = (768 + classes) * D + depth * blockMatrices;
  const parameters = matrices + depth * 13 * D + (4 + T) * D + classes;
  const embedding = patches * 768 * D, block = T * blockMatrices + 2 * T * T * D;
  const forward = embedding + depth * block + D * classes;
  const again = checkpointing ? depth * (block - 4 * T * D * D) : 0;
  const product = bf16 ? 2 : 4, input = 4 * batch * T * D;
  const keptInBlock = batch * T * (4 * (2 * D + 4 + heads) + product * 14 * D);
  const keptOutside = batch * (product * 3 * img_size ** 2 + 4 * T * (D + 2) + D * (bf16 ? 2 : 4 * T) + 4 * classes);
  const activations = keptOutside + (checkpointing ? (depth - 1) * input + keptInBlock : depth * keptInBlock);
  const parts = { weights: 4 * parameters + (bf16 ? 2 * matrices : 0), gradients: 4 * parameters, AdamW: 8 * parameters, activations };
  return { parameters, flops: 2 * batch * (3 * forward - embedding + again), parts, memory: Object.values(parts).reduce((sum, part) => sum + part) };
}

const NAMES = { img_size: "image side", embed_dim: "width", depth: "depth", batch: "batch" };
const PARTS = { weights: COLOURS.sky, gradients: COLOURS.grey, AdamW: COLOURS.blue, activations: COLOURS.orange };
const GPUS = [8, 24, 80]; // gigabytes

// Three significant digits with a unit: 1.86 GB, 92.1 MB.
function withUnit(value, units) {
  const [factor, unit] = units.find(([factor]) => value >= factor) ?? units.at(-1);
  return `${Number((value / factor).toPrecision(3)).toLocaleString("en")} ${unit}`;
}
const bytesWords = (bytes) => withUnit(bytes, [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]);
const secondsWords = (seconds) => withUnit(seconds, [[3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"]]);
const axisSeconds = (seconds) => withUnit(seconds, [[1, "s"], [1e-3, "ms"]]);
const countWords = (count) => withUnit(count, [[1e15, "quadrillion"], [1e12, "trillion"], [1e9, "billion"], [1e6, "million"]]);

function render({ model, el }) {
  const sizes = model.get("sizes"), keys = Object.keys(sizes);
  const chosen = () => Object.fromEntries([...keys, "bf16", "checkpointing"].map((key) => [key, model.get(key)]));
  const secondsOf = (settings) => trainingCost(settings).flops / model.get("speeds")[settings.bf16 ? "bfloat16" : "float32"];

  const status = statusLine(), fits = element("p", { "data-part": "fits" });
  const bar = costBar();
  const curves = {
    memory: costCurve("Memory", bytesWords, bytesWords, (settings) => trainingCost(settings).memory, (point) => point.bytes),
    time: costCurve("Time", secondsWords, axisSeconds, secondsOf, (point) => point.seconds),
  };
  const caption = element("span");

  frame(model, el).append(
    controls(
      slider(model, "img_size", { label: "Image side", values: sizes.img_size }),
      slider(model, "embed_dim", { label: "Width", values: sizes.embed_dim }),
      slider(model, "depth", { label: "Depth", values: sizes.depth }),
      slider(model, "batch", { label: "Batch", values: sizes.batch }),
      yesOrNo(model, "bf16", "Precision", "bfloat16", "float32"),
      yesOrNo(model, "checkpointing", "Checkpointing", "on", "off"),
      menu(model, "along", { label: "Curves along", options: keys.map((key) => [key, NAMES[key]]) }),
    ),
    status,
    bar.node,
    fits,
    element("div", { class: "vf-panels" },
      panel("Memory", curves.memory.svg),
      panel("Time of a step on one core", curves.time.svg),
    ),
    element("p", { class: "vf-caption" }, "Lines: the cost model. Dots: measured. The ring: what is chosen. Both axes are logarithmic. ", caption),
  );

  observe(model, [...keys, "bf16", "checkpointing", "along"], () => {
    const settings = chosen(), along = model.get("along"), cost = trainingCost(settings);
    const points = model.get("measured").filter((point) =>
      Object.entries(settings).every(([key, value]) => key === along || point[key] === value));
    for (const { draw } of Object.values(curves)) draw(settings, along, sizes[along], points);
    bar.draw(cost);
    status.textContent = `${countWords(cost.parameters)} parameters, ${countWords(cost.flops)} FLOPs per step: `
      + `${bytesWords(cost.memory)} and, on one core, ${secondsWords(secondsOf(settings))}.`;
    const room = GPUS.find((gigabytes) => cost.memory <= gigabytes * 1e9);
    fits.textContent = room ? `By this count it fits on a GPU with ${room} GB.` : `It does not fit on a GPU with ${GPUS.at(-1)} GB.`;
    caption.textContent = points.length
      ? `${points.length} measured steps have these settings.`
      : "No measured step has these settings.";
  });
}

// Radio buttons for a trait that is true or false.
function yesOrNo(model, key, label, yes, no) {
  const box = choice(model, key, { label, options: [["false", no], ["true", yes]] });
  const inputs = [...box.querySelectorAll("input")];
  inputs.forEach((input, i) => input.addEventListener("change", () => assign(model, key, i === 1)));
  observe(model, [key], () => inputs.forEach((input, i) => { input.checked = model.get(key) === (i === 1); }));
  return box;
}

// What fills the memory: one bar, and its parts in words.
function costBar() {
  const pieces = Object.entries(PARTS).map(([part, colour]) => [part, element("div", { style: `background:${colour};height:1.3rem` })]);
  const words = Object.fromEntries(pieces.map(([part]) => [part, element("strong", { "data-part": part })]));
  const legend = pieces.map(([part]) => element("span", { style: "white-space:nowrap;margin-right:1rem" },
    element("span", { style: `display:inline-block;width:0.8em;height:0.8em;background:${PARTS[part]}`, "aria-hidden": "true" }), ` ${part} `, words[part]));
  const strip = element("div", { style: "display:flex;max-width:40rem;margin:0.3rem 0", "aria-hidden": "true", "data-part": "bar" }, ...pieces.map(([, piece]) => piece));
  return { node: element("div", {}, strip, element("p", {}, ...legend)), draw({ parts, memory }) {
    for (const [part, piece] of pieces) {
      piece.style.width = `${(100 * parts[part]) / memory}%`;
      words[part].textContent = bytesWords(parts[part]);
    }
  } };
}

// One quantity along one size; draw(settings, along, values, measured points).
function costCurve(name, wordsOf, axisWords, predict, measuredOf) {
  const [left, right, top, bottom] = [56, 292, 10, 140];
  const picture = svg("svg", { viewBox: "0 0 300 164", width: 300, height: 164, role: "img", style: "max-width:100%;display:block" });
  const label = (x, y, content, anchor) => svg("text", { x, y, "font-size": 12, fill: "currentColor", "text-anchor": anchor }, content);
  return { svg: picture, draw(settings, along, values, points) {
    const line = values.map((value) => predict({ ...settings, [along]: value }));
    const all = [...line, ...points.map(measuredOf)].map(Math.log10);
    const low = Math.floor(Math.min(...all)), high = Math.max(Math.ceil(Math.max(...all)), low + 1);
    const span = Math.log(values.at(-1) / values[0]);
    const x = (value) => left + 8 + (Math.log(value / values[0]) / span) * (right - left - 16);
    const y = (value) => bottom - ((Math.log10(value) - low) / (high - low)) * (bottom - top);
    const now = predict(settings), powers = Array.from({ length: high - low + 1 }, (_, i) => low + i);
    const marked = values.filter((value, i) => i === 0 || i === values.length - 1 || value === settings[along])
      .filter((value) => value === settings[along] || Math.abs(x(value) - x(settings[along])) > 30);
    picture.replaceChildren(
      ...powers.flatMap((power) => [
        svg("line", { x1: left, x2: right, y1: y(10 ** power), y2: y(10 ** power), stroke: "currentColor", opacity: 0.3 }),
        label(left - 5, y(10 ** power) + 4, axisWords(10 ** power * (1 + 1e-9)), "end"),
      ]),
      ...marked.map((value) => label(x(value), bottom + 18, value, "middle")),
      svg("polyline", { points: values.map((value, i) => `${x(value)},${y(line[i])}`).join(" "), fill: "none", stroke: COLOURS.sky, "stroke-width": 2.5 }),
      ...points.map((point) => svg("circle", { cx: x(point[along]), cy: y(measuredOf(point)), r: 4, fill: COLOURS.orange, "data-part": "dot" })),
      svg("circle", { cx: x(settings[along]), cy: y(now), r: 7, fill: "none", stroke: "currentColor", "stroke-width": 2, "data-part": "ring" }),
    );
    const seen = points.map((point) => `${point[along]}: ${wordsOf(measuredOf(point))}`).join(", ");
    picture.setAttribute("aria-label", `${name} by ${NAMES[along]}: ${wordsOf(now)} at ${settings[along]}. Measured: ${seen || "nothing with these settings"}.`);
  } };
}
