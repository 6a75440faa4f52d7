// What the explorer shows of a result (engine.js), from the picture to the answer. Each view is
// { element, draw(shown) }, where `shown` is { edit, now, plain }: what the reader changed, the result
// with it, and the one without. `about` is what the figure knows of the model; `store` holds what the
// reader looks at: `token`, and `cell`, which counts the heads block by block.

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const best = (shares) => shares.reduce((top, share, k) => (share > shares[top] ? k : top), 0);
const everyOf = (count) => Array.from({ length: count }, (_, i) => i);

function namesOf({ prefix, columns, H }) {
  const place = (patch) => `patch ${patch} (row ${Math.floor(patch / columns)}, column ${patch % columns})`;
  const token = (number) => (number < prefix.length ? prefix[number] : place(number - prefix.length));
  const the = (number) => (number < prefix.length && !prefix[number].startsWith("register") ? `the ${prefix[number]}` : token(number));
  const head = (cell) => `block ${Math.floor(cell / H)}, head ${cell % H}`;
  return { place, token, the, head };
}

// --- the picture

// The colour of each pixel as the model gets it: shuffled, and hidden patches in the mean colour.
function seenColours({ columns, width, channels, P, Q, mean, pictureOf }, { picture, order, hidden }) {
  const { bytes } = pictureOf(picture);
  const gone = new Set(hidden), grey = [0, 1, 2].map((c) => 255 * mean[channels === 3 ? c : 0]);
  return (row, column) => {
    const place = Math.floor(row / P) * columns + Math.floor(column / Q);
    if (gone.has(place)) return grey;
    const from = order ? order[place] : place;
    const y = Math.floor(from / columns) * P + (row % P), x = (from % columns) * Q + (column % Q);
    return [0, 1, 2].map((c) => bytes[(y * width + x) * channels + (channels === 3 ? c : 0)]);
  };
}

function pictureView(about) {
  const { height, width, rows, columns } = about;
  const photo = raster(width, height), marks = raster(12 * columns, 12 * rows, "ve-marks");
  const draw = (edit) => {
    const colours = seenColours(about, edit), gone = new Set(edit.hidden);
    paint(photo, (i) => colours(Math.floor(i / width), i % width));
    paint(marks, (i) => { // a line around each patch, and a cross through those that are hidden
      const row = Math.floor(i / marks.width), column = i % marks.width, y = row % 12, x = column % 12;
      const crossed = gone.has(Math.floor(row / 12) * columns + Math.floor(column / 12)) && (x === y || x + y === 11);
      return crossed ? ORANGE : x === 0 || y === 0 ? [128, 128, 128, 130] : [0, 0, 0, 0];
    });
  };
  return { element: element("div", { class: "ve-picture" }, photo, marks), draw };
}

// The same patches with room between them.
function patchesView(about) {
  const { rows, columns, P, Q } = about;
  const canvas = raster(columns * (Q + 1) - 1, rows * (P + 1) - 1);
  const draw = ({ edit }) => {
    const colours = seenColours(about, edit);
    paint(canvas, (i) => {
      const y = Math.floor(i / canvas.width), x = i % canvas.width, row = Math.floor(y / (P + 1)), column = Math.floor(x / (Q + 1));
      return y % (P + 1) === P || x % (Q + 1) === Q ? [0, 0, 0, 0] : colours(row * P + (y % (P + 1)), column * Q + (x % (Q + 1)));
    });
  };
  return { element: canvas, draw };
}

// --- tokens

// Every number of a vector is white at 0, orange above and blue below; three standard deviations fill the scale.
function paintVectors(canvas, values) {
  const spread = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length) || 1;
  paint(canvas, (i) => diverging(Math.max(-1, Math.min(1, values[i] / (3 * spread)))));
}

function tokensView(about, store) {
  const { T, D } = about, canvas = raster(D, T);
  const box = picker(store, "token", {
    label: "Token to follow: one row each", size: () => [T, 1], describe: (token) => about.names.token(token),
  }, canvas);
  return { element: box, draw: ({ now }) => paintVectors(canvas, now.tokens[0]) };
}

// The chosen token through depth: its numbers, and their length beside that of the patches' mean.
function streamView(about, store) {
  const { L, T, D, N } = about;
  const length = (x, token) => Math.hypot(...x.subarray(token * D, (token + 1) * D));
  const lines = everyOf(L + 1).map((depth) => {
    const canvas = raster(D, 1), bar = element("div", { class: "ve-bar" }), mean = element("div", { class: "ve-tick" }), number = element("td");
    const row = element("tr", {},
      element("th", { scope: "row" }, depthName(depth)),
      element("td", { class: "ve-strip", "aria-hidden": "true" }, canvas), number,
      element("td", { class: "ve-track", "aria-hidden": "true" }, element("div", {}, bar, mean)));
    return { canvas, bar, mean, number, row };
  });
  const caption = element("caption", { class: "vf-caption" });
  const table = element("table", { class: "vl-table ve-stream", "data-part": "stream" }, caption,
    element("thead", { class: "vf-hidden" }, element("tr", {}, ...["after", "numbers", "norm", "bar"].map((words) => element("th", { scope: "col" }, words)))),
    element("tbody", {}, ...lines.map(({ row }) => row)));
  const draw = ({ now }) => {
    const token = store.get("token");
    const norms = now.tokens.map((x) => length(x, token));
    const means = now.tokens.map((x) => everyOf(N).reduce((sum, patch) => sum + length(x, T - N + patch), 0) / N);
    const most = Math.max(...norms, ...means) || 1;
    lines.forEach(({ canvas, bar, mean, number }, depth) => {
      paintVectors(canvas, now.tokens[depth].subarray(token * D, (token + 1) * D));
      bar.style.width = `${(100 * norms[depth]) / most}%`;
      mean.style.left = `${(100 * means[depth]) / most}%`;
      number.textContent = decimals(norms[depth], 1);
    });
    caption.textContent = `The ${D} numbers of ${about.names.the(token)} after each block, and their norm; the line marks the patches’ mean norm.`;
  };
  return { element: table, draw };
}

const depthName = (depth) => (depth === 0 ? "start" : `block ${depth - 1}`);

// --- attention

const weightsOf = ({ T }, { attention }, layer, head, token) => attention[layer].subarray((head * T + token) * T, (head * T + token + 1) * T);

// All heads at once, a row per block: what the chosen token takes from each patch.
function headsView(about, store) {
  const { L, H, T, N, rows, columns } = about, { names } = about;
  const canvas = raster(H * (columns + 1), L * (rows + 1));
  const marks = everyOf(L * H).map(() => element("span"));
  const layer = element("div", { class: "ve-cells", "aria-hidden": "true", style: `grid-template-columns:repeat(${H},1fr)` }, ...marks);
  const state = (cell) => ({ off: ", switched off", uniform: ", attends evenly" })[store.get("heads")[cell]] ?? "";
  const box = picker(store, "cell", {
    label: "Block and head", size: () => [L, H], describe: (cell) => names.head(cell) + state(cell), keys: ["heads"],
  }, canvas, layer);
  const draw = ({ edit, now }) => {
    const token = store.get("token");
    const shares = everyOf(L * H).map((cell) => weightsOf(about, now, Math.floor(cell / H), cell % H, token).subarray(T - N));
    const most = shares.map((weights) => Math.max(...weights) || 1);
    paint(canvas, (i) => {
      const y = Math.floor(i / canvas.width), x = i % canvas.width, row = y % (rows + 1), column = x % (columns + 1);
      const cell = Math.floor(y / (rows + 1)) * H + Math.floor(x / (columns + 1));
      if (row === rows || column === columns) return [0, 0, 0, 0];
      const strength = shares[cell][row * columns + column] / most[cell];
      return isOff(edit, cell, H) ? 255 - 90 * strength : diverging(strength);
    });
    marks.forEach((mark, cell) => { mark.textContent = isOff(edit, cell, H) ? "off" : { uniform: "even" }[edit.heads[cell]] ?? ""; });
  };
  return { element: labelledGrid(about, box), draw };
}

const isOff = ({ heads, blocks }, cell, H) => heads[cell] === "off" || ["off", "attention"].includes(blocks[Math.floor(cell / H)]);

// Names of blocks at the left, of heads above.
function labelledGrid({ L, H }, box) {
  const across = element("div", { class: "ve-across", style: `grid-template-columns:repeat(${H},1fr)` }, ...everyOf(H).map((head) => element("span", {}, `head ${head}`)));
  const down = element("div", { class: "ve-down" }, ...everyOf(L).map((block) => element("span", {}, `block ${block}`)));
  return element("div", { class: "ve-grid" }, element("span"), across, down, box);
}

// One head over the picture. Pointing at a patch makes it the token that asks.
function headView(about, store) {
  const { H, T, N, rows, columns, prefix } = about, { names } = about;
  const under = pictureView(about), veil = raster(columns, rows);
  const box = picker(store, "token", {
    label: "Patch whose attention is shown", size: () => [rows, columns], first: prefix.length, describe: (patch) => names.token(patch + prefix.length),
  }, under.element, veil);
  box.classList.add("va-picture", "ve-head");
  const words = element("p", { "data-part": "attention" });
  const draw = ({ edit, now }) => {
    const token = store.get("token"), cell = store.get("cell");
    const weights = weightsOf(about, now, Math.floor(cell / H), cell % H, token), patches = weights.subarray(T - N);
    const top = best(patches), most = patches[top] || 1;
    under.draw(edit);
    paint(veil, (patch) => [...ORANGE, (180 * patches[patch]) / most]);
    const home = token < prefix.length ? token : 0;
    const start = `${names.head(cell)[0].toUpperCase()}${names.head(cell).slice(1)}${isOff(edit, cell, H) ? " (off)" : ""}: `;
    words.textContent = `${start}${names.the(token)} takes ${percent(patches[top])} from ${names.place(top)}, its largest share of a patch`
      + (prefix.length ? `, and ${percent(weights[home])} from ${token < prefix.length ? "itself" : names.the(home)}.` : ".");
  };
  return { element: element("div", {}, box, words), draw };
}

// --- answers

// At most ten classes: with more, those that are most probable with the changes or without.
function listed(shares, others) {
  const order = everyOf(shares.length).sort((a, b) => Math.max(shares[b], others[b]) - Math.max(shares[a], others[a]));
  return order.slice(0, 10).sort((a, b) => a - b);
}

// What the head reads after each block, a column per class.
function lensView({ classes, L }) {
  const head = element("tr"), body = element("tbody");
  const table = element("table", { class: "vl-table ve-lens", "data-part": "lens" },
    element("caption", { class: "vf-hidden" }, "Per cent of each class, read after each block"), element("thead", {}, head), body);
  const scroller = element("div", { class: "vl-scroller", tabindex: 0, role: "region", "aria-label": "Logit lens" }, table);
  const draw = ({ now, plain }) => {
    const shown = listed(now.lens[L], plain.lens[L]);
    head.replaceChildren(element("th", { scope: "col" }, "after"), ...shown.map((k) => element("th", { scope: "col" }, classes[k])));
    body.replaceChildren(...now.lens.map((shares, depth) => element("tr", {},
      element("th", { scope: "row" }, depthName(depth)),
      ...shown.map((k) => {
        const ground = sequential(shares[k]);
        return element("td", { style: `background:rgb(${ground});color:${inkOn(ground)}` }, (100 * shares[k]).toFixed(0));
      }))));
  };
  return { element: scroller, draw };
}

// The probabilities now, as bars, with a line and a number for those without changes.
function answerView({ classes, L }) {
  const body = element("tbody");
  const table = element("table", { class: "ve-answer", "data-part": "answer" },
    element("thead", {}, element("tr", {}, ...["class", "", "now", "unchanged"].map((words) => element("th", { scope: "col" }, words)))), body);
  const draw = ({ now, plain }) => {
    const [shares, before] = [now.lens[L], plain.lens[L]];
    body.replaceChildren(...listed(shares, before).map((k) => element("tr", { class: k === best(shares) ? "ve-top" : "" },
      element("th", { scope: "row" }, classes[k]),
      element("td", { class: "ve-track", "aria-hidden": "true" }, element("div", {},
        element("div", { class: "ve-bar", style: `width:${100 * shares[k]}%` }),
        element("div", { class: "ve-tick", style: `left:${100 * before[k]}%` }))),
      element("td", {}, percent(shares[k])),
      element("td", { class: "ve-before" }, percent(before[k])))));
  };
  return { element: table, draw };
}

function verdict({ classes, L }, { now, plain }) {
  const [shares, before] = [now.lens[L], plain.lens[L]], [top, old] = [best(shares), best(before)];
  if (now === plain) return `The model answers ${classes[old]} with ${percent(before[old])}.`;
  return top === old
    ? `Still ${classes[old]}: ${percent(before[old])} before, ${percent(shares[old])} now.`
    : `From ${classes[old]} to ${classes[top]}: ${classes[old]} had ${percent(before[old])} and has ${percent(shares[old])} now, ${classes[top]} has ${percent(shares[top])}.`;
}

// How much of the answer's probability each head carries, alone: what it loses without it.
function importanceView(about, store) {
  const { L, H } = about;
  const cells = everyOf(L * H).map(() => element("span"));
  const box = picker(store, "cell", {
    label: "Drop by block and head", size: () => [L, H], keys: ["drops"],
    describe: (cell) => `${about.names.head(cell)}: ${points(store.get("drops")?.[cell])}`,
  }, element("div", { class: "ve-cells ve-drops", style: `grid-template-columns:repeat(${H},1fr)` }, ...cells));
  const whole = labelledGrid(about, box);
  const draw = () => {
    const drops = store.get("drops");
    whole.hidden = !drops;
    if (!drops) return;
    const most = Math.max(0.01, ...drops.filter((drop) => drop !== undefined).map(Math.abs));
    cells.forEach((cell, k) => {
      const drop = drops[k], ground = diverging((drop ?? 0) / most);
      cell.textContent = points(drop);
      cell.style.cssText = `background:rgb(${ground});color:${inkOn(ground)}`;
    });
  };
  return { element: whole, draw };
}

const points = (drop) => (drop === undefined ? "…" : decimals(100 * drop, 1));

// Black or white, whichever reads better on this colour (WCAG's relative luminance).
function inkOn(colour) {
  const [red, green, blue] = colour.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}
