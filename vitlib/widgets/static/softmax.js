function softmax(scores) {
  const most = Math.max(...scores); // subtracted, so that no power overflows
  const powers = scores.map((score) => Math.exp(score - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

// In nats.
const entropy = (weights) => weights.reduce((sum, w) => (w > 0 ? sum - w * Math.log(w) : sum), 0);

// The Frobenius norm of diag(w) − w wᵀ: its row i is w_i (1 − w_i) and the products −w_i w_j. What
// is left beside the largest weight is added up, not subtracted from 1, where it would be rounded
// away just when the softmax closes.
function jacobianNorm(weights) {
  const largest = weights.indexOf(Math.max(...weights));
  let rest = 0, squares = 0, total = 0; // of all but the largest
  weights.forEach((w, i) => { if (i !== largest) { rest += w; squares += w * w; } });
  const all = squares + weights[largest] ** 2;
  weights.forEach((w, i) => {
    total += w * w * (i === largest ? rest * rest + squares : (1 - w) ** 2 + all - w * w);
  });
  return Math.sqrt(total);
}

// Three significant digits, also of very small numbers: 0.215, 3.1 × 10⁻⁷.
function significant(value) {
  if (value === 0 || value >= 0.001) return decimals(value, value < 0.1 ? 4 : 3);
  const [digits, power] = value.toExponential(1).split("e-");
  return `${digits} × 10⁻${[...power].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`;
}

const SCALES = {
  divide: { words: "÷ √d", name: "divided by √d", power: -0.5, colour: COLOURS.sky, dashes: "none" },
  none: { words: "as they are", name: "as they are", power: 0, colour: COLOURS.orange, dashes: "7 3" },
  multiply: { words: "× √d (a mistake)", name: "times √d", power: 0.5, colour: COLOURS.grey, dashes: "2 3" },
};

function render({ model, el }) {
  const widths = model.get("widths"), keyCounts = model.get("key_counts"), queries = model.get("queries");
  const products = float32(model, "products"), most = Math.max(...keyCounts);

  // The scores of one query, as the softmax gets them.
  const scoresOf = (d, query, scale) => {
    const start = (widths.indexOf(d) * queries + query) * most;
    const factor = d ** SCALES[scale].power / model.get("temperature");
    return Array.from(products.subarray(start, start + model.get("num_keys")), (product) => product * factor);
  };

  const status = statusLine();
  const numbers = Object.fromEntries(["spread", "largest", "entropy", "share", "gradient"].map((part) => [part, element("strong", { "data-part": part })]));
  const scoreBars = bars(most), weightBars = bars(most);
  const lists = ["scores", "weights"].map((part) => element("div", { class: "vf-numbers", "data-part": part }));
  const curves = {
    entropy: curve(widths, { top: 1, ticks: [[0, "0"], [0.5, "½"], [1, "1"]], words: "Entropy as a share of ln N" }),
    gradient: curve(widths, { bottom: -6, top: 0, ticks: [[-6, "10⁻⁶"], [-3, "10⁻³"], [0, "1"]], words: "Gradient, on a logarithmic scale" }),
  };

  frame(model, el).append(
    controls(
      slider(model, "d", { label: "d", values: widths }),
      slider(model, "num_keys", { label: "Keys", values: keyCounts }),
      slider(model, "temperature", { label: "Temperature", values: model.get("temperatures") }),
      slider(model, "query", { label: "Query", values: [...Array(queries).keys()], show: (i) => `${i + 1} of ${queries}` }),
      choice(model, "scale", { label: "Scores", options: Object.entries(SCALES).map(([scale, { words }]) => [scale, words]) }),
    ),
    status,
    element("p", {}, "Spread of the scores (standard deviation) ", numbers.spread, ", largest weight ", numbers.largest,
      ", entropy ", numbers.entropy, " nats, which is ", numbers.share, " of ln N, gradient ", numbers.gradient, "."),
    element("div", { class: "vf-panels" },
      panel("Scores: between the dotted lines is −1 to 1", scoreBars.svg),
      panel("Weights: the dotted line is an even share", weightBars.svg),
    ),
    element("div", { class: "vf-panels vs-curves" },
      panel("Entropy by d, as a share of ln N", curves.entropy.svg),
      panel("Gradient by d (the lowest line: 10⁻⁶ or less)", curves.gradient.svg),
    ),
    element("p", { class: "vf-caption" }, ...Object.values(SCALES).flatMap(legend),
      `Mean (entropy) and median (gradient) of all ${queries} queries. See what happens to both as d grows, with the division and without. The division does not always win: with 64 keys, temperature 1 and d up to 32, the undivided scores have the larger gradient.`),
    element("details", {}, element("summary", {}, "All scores and weights"), ...lists),
  );

  observe(model, ["num_keys", "temperature"], () => {
    const weights = Object.keys(SCALES).map((scale) => [scale, widths.map((d) =>
      Array.from({ length: queries }, (_, query) => softmax(scoresOf(d, query, scale))))]);
    const of = (measure) => Object.fromEntries(weights.map(([scale, byWidth]) => [scale, byWidth.map(measure)]));
    const even = Math.log(model.get("num_keys"));
    curves.entropy.draw(of((rows) => rows.reduce((sum, row) => sum + entropy(row), 0) / queries / even));
    curves.gradient.draw(of((rows) => Math.log10(rows.map(jacobianNorm).sort((a, b) => a - b)[(queries - 1) / 2])));
  });

  observe(model, ["d", "num_keys", "scale", "temperature", "query"], () => {
    const [d, keys, scale, temperature] = ["d", "num_keys", "scale", "temperature"].map((key) => model.get(key));
    const scores = scoresOf(d, model.get("query"), scale), weights = softmax(scores);
    const mean = scores.reduce((sum, score) => sum + score, 0) / keys;
    const spread = Math.sqrt(scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / (keys - 1));
    const nats = entropy(weights), largest = Math.max(...weights);

    numbers.spread.textContent = decimals(spread, 2);
    numbers.largest.textContent = decimals(largest);
    numbers.entropy.textContent = decimals(nats);
    numbers.share.textContent = `${decimals((100 * nats) / Math.log(keys), 1)} %`;
    numbers.gradient.textContent = significant(jacobianNorm(weights));
    status.textContent = `Products of ${d} numbers, ${SCALES[scale].name}`
      + (temperature === 1 ? "" : ` and divided by the temperature ${temperature}`)
      + `: the entropy is that of an even spread over ${decimals(Math.exp(nats), 1)} of ${keys} keys.`;

    // A scale in steps: the scores must be seen to grow, and still fit.
    const reach = Math.max(...scores.map(Math.abs));
    let limit = 4;
    for (let step = 0; limit < reach; step++) limit *= step % 2 ? 10 / 3 : 3; // 4, 12, 40, 120, 400, ...
    limit = Math.round(limit);
    scoreBars.draw(scores, [-limit, limit], [-limit, 0, limit].map((y) => [y, decimals(y, 0)]), [-1, 1],
      `Scores of ${keys} keys, from ${decimals(Math.min(...scores), 2)} to ${decimals(Math.max(...scores), 2)}`);
    weightBars.draw(weights, [0, 1], [[0, "0"], [0.5, "½"], [1, "1"]], [1 / keys],
      `Weights of ${keys} keys, the largest ${decimals(largest)}`);
    for (const { mark } of Object.values(curves)) mark(scale, widths.indexOf(d));
    lists[0].textContent = `Scores: ${scores.map((score) => decimals(score)).join("  ")}`;
    lists[1].textContent = `Weights: ${weights.map((weight) => decimals(weight, 4)).join("  ")}`;
  });
}

// --- pictures: 300 × 140 units, shown at that size so that their words stay legible

const AREA = { left: 38, right: 294, top: 8, bottom: 132, width: 300, height: 140 };

const drawing = (height, ...children) => svg("svg", { viewBox: `0 0 ${AREA.width} ${height}`, width: AREA.width, height, role: "img", style: "max-width:100%;display:block" }, ...children);
const words = (x, y, content, anchor) => svg("text", { x, y, "font-size": 12, fill: "currentColor", "text-anchor": anchor }, content);
const across = (y, dashes = "none") => svg("line", { x1: AREA.left, x2: AREA.right, y1: y, y2: y, stroke: "currentColor", "stroke-dasharray": dashes, opacity: dashes === "none" ? 0.35 : 0.8 });
const between = (low, high) => (value) => AREA.bottom - ((value - low) / (high - low)) * (AREA.bottom - AREA.top);

// Up to `most` bars, orange above zero and blue below; draw(values, [low, high], ticks, dotted lines, words).
function bars(most) {
  const rects = Array.from({ length: most }, () => svg("rect"));
  const lines = svg("g");
  const picture = drawing(AREA.height, svg("g", {}, ...rects), lines);
  return { svg: picture, draw(values, [low, high], ticks, dotted, label) {
    const y = between(low, high), step = (AREA.right - AREA.left) / values.length;
    rects.forEach((rect, i) => {
      rect.style.display = i < values.length ? "" : "none";
      if (i >= values.length) return;
      const place = {
        x: AREA.left + step * (i + 0.15), width: step * 0.7,
        y: y(Math.max(values[i], 0)), height: Math.abs(y(values[i]) - y(0)),
        fill: values[i] < 0 ? COLOURS.sky : COLOURS.orange,
      };
      for (const [name, value] of Object.entries(place)) rect.setAttribute(name, value);
    });
    lines.replaceChildren(
      ...ticks.flatMap(([value, text]) => [across(y(value)), words(AREA.left - 5, y(value) + 4, text, "end")]),
      ...dotted.map((value) => across(y(value), "1 3")),
    );
    picture.setAttribute("aria-label", label);
  } };
}

// Lines of all scales by d; draw({scale: a value for each width}), mark(scale, which width).
function curve(widths, { bottom = 0, top, ticks, words: label }) {
  const y = between(bottom, top), shown = (value) => y(Math.max(value, bottom));
  const x = (i) => AREA.left + 8 + (i / (widths.length - 1)) * (AREA.right - AREA.left - 22);
  const lines = Object.fromEntries(Object.entries(SCALES).map(([scale, { colour, dashes }]) =>
    [scale, svg("polyline", { fill: "none", stroke: colour, "stroke-dasharray": dashes })]));
  const dot = svg("circle", { r: 5, stroke: "#fff", "stroke-width": 1.5 });
  let drawn = {};
  return {
    svg: drawing(AREA.height + 16,
      ...ticks.flatMap(([value, text]) => [across(y(value)), words(AREA.left - 5, y(value) + 4, text, "end")]),
      ...widths.map((d, i) => words(x(i), AREA.height + 10, d, "middle")),
      ...Object.values(lines), dot),
    draw(values) {
      drawn = values;
      for (const [scale, line] of Object.entries(lines)) line.setAttribute("points", values[scale].map((value, i) => `${x(i)},${shown(value)}`).join(" "));
    },
    mark(scale, i) {
      const value = drawn[scale][i];
      for (const [name, line] of Object.entries(lines)) line.setAttribute("stroke-width", name === scale ? 3 : 1.5);
      dot.setAttribute("cx", x(i));
      dot.setAttribute("cy", shown(value));
      dot.setAttribute("fill", SCALES[scale].colour);
      const number = bottom < 0 ? significant(10 ** value) : decimals(value);
      dot.parentNode.setAttribute("aria-label", `${label}, by d. At d = ${widths[i]}, ${SCALES[scale].name}: ${number}.`);
    },
  };
}

function legend({ words: text, colour, dashes }) {
  const sample = svg("svg", { width: 30, height: 10, "aria-hidden": "true" }, svg("line", { x1: 0, x2: 28, y1: 5, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": dashes }));
  return [element("span", { style: "white-space:nowrap;margin-right:1rem" }, sample, ` ${text}`)];
}
