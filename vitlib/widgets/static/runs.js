function render({ model, el }) {
  const settings = model.get("settings"), curves = model.get("curves"), results = model.get("results");
  const runs = model.get("runs");
  const curve = () => curves.find(({ key }) => key === model.get("curve"));
  const chosen = () => ofSettings(runs, settings, model.get("chosen"));

  const status = statusLine();
  const reading = element("p", { class: "vf-status", "data-part": "reading" });
  const plot = curvesPlot(model, { runs, curve, chosen, last: Math.max(1, ...curves.map(({ steps }) => steps.at(-1))) });

  frame(model, el).append(
    controls(
      ...settings.map((setting) => settingControl(model, setting)),
      ...(curves.length > 1 ? [choice(model, "curve", { label: "Curve", options: curves.map(({ key, label }) => [key, label]) })] : []),
    ),
    status,
    plot,
    reading,
    allRuns(runs, settings, results),
  );

  observe(model, ["chosen"], () => {
    const group = chosen();
    const words = settings.map(({ key, label }) => `${label} ${inWords(model.get("chosen")[key])}`).join(", ");
    if (!group.length) {
      status.textContent = `${words}: no run was recorded with these.`;
      return;
    }
    const told = results.map((result) => `${result.label} ${resultInWords(group, result)}.`);
    const ends = group.filter(({ diverged }) => diverged).map(({ seed, diverged }) => `${group.length > 1 ? `Seed ${seed}` : "The run"} diverged ${diverged}.`);
    status.textContent = [words && `${words}:`, ...told, ...ends].filter(Boolean).join(" ");
  });
  observe(model, ["chosen", "curve", "step"], () => { reading.textContent = readAt(chosen(), curve(), model.get("step")); });
}

const ofSettings = (runs, settings, values) => runs.filter((run) => settings.every(({ key }) => run.settings[key] === values[key]));

// --- the controls: each shows one entry of the trait `chosen`, to the kit a trait of its own

function settingControl(model, { key, label, values }) {
  const entry = {
    get: () => model.get("chosen")[key],
    set: (_, value) => model.set("chosen", { ...model.get("chosen"), [key]: value }),
    on: (_, listener) => model.on("change:chosen", listener),
    save_changes: () => model.save_changes(),
  };
  const ordered = values.length > 2 && values.every((value) => typeof value === "number");
  if (ordered) return slider(entry, key, { label, values, show: inWords });
  const options = values.map((value) => [value, inWords(value)]);
  return (values.length > 8 ? menu : choice)(entry, key, { label, options });
}

// --- words and numbers

const inWords = (value) => ({ true: "yes", false: "no", null: "none" })[value] ?? String(value);

function inNumbers(value, percent) {
  if (percent) return `${decimals(100 * value, 1)}\u00a0%`; // never a % at the start of a line
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e4) ? value.toExponential(2).replace("-", "−") : decimals(value);
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// One number; of several seeds their mean, if each has one, and all of them.
function severalInWords(numbers, seeds, percent) {
  const words = numbers.map((value) => (value == null ? "none" : inNumbers(value, percent)));
  if (numbers.length === 1) return words[0];
  if (numbers.some((value) => value == null)) return words.map((word, i) => `${word} (seed ${seeds[i]})`).join(", ");
  return `${inNumbers(mean(numbers), percent)} (mean of ${numbers.length} seeds: ${words.join(", ")})`;
}

const resultInWords = (group, { key, percent }) =>
  severalInWords(group.map((run) => run.results[key]), group.map(({ seed }) => seed), percent);

// The place in `steps` that is nearest to `step`.
function nearest(steps, step) {
  let best = 0;
  steps.forEach((value, i) => { if (Math.abs(value - step) < Math.abs(steps[best] - step)) best = i; });
  return best;
}

function readAt(group, { key, label, steps, percent }, step) {
  const at = nearest(steps, step);
  if (!group.length) return `${label}, step ${steps[at]}: no such run.`;
  return `${label}, step ${steps[at]}: ${severalInWords(group.map((run) => run.curves[key][at]), group.map(({ seed }) => seed), percent)}.`;
}

// --- the plot

// Rising round numbers around `low` to `high`, about `count` of them.
function ticks(low, high, count) {
  const rough = (high - low || Math.abs(high) || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= 0.999 * rough);
  const [first, last] = [Math.floor(low / step + 1e-9), Math.ceil(high / step - 1e-9)];
  return Array.from({ length: Math.max(last, first + 1) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function powers(low, high) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  return Array.from({ length: Math.max(last, first + 1) - first + 1 }, (_, i) => 10 ** (first + i));
}

// Curves stretch with the page, so they are drawn in a square of 1000; words stand beside as HTML,
// which keeps their size. Lines keep their width by `vector-effect`.
function curvesPlot(model, { runs, curve, chosen, last }) {
  const lines = svg("svg", { viewBox: "0 0 1000 1000", preserveAspectRatio: "none", "aria-hidden": "true", class: "vf-lines" });
  const cursor = element("div", { class: "vf-cursor" });
  const marks = element("div", { "aria-hidden": "true" });
  const area = element("div", {
    class: "vf-plot", role: "slider", tabindex: 0, "aria-label": "Step at which the curve is read", "data-key": "step",
  }, lines, marks, cursor);
  const upright = element("div", { class: "vf-ticks-y", "aria-hidden": "true" });
  const along = element("div", { class: "vf-ticks-x", "aria-hidden": "true" });
  const caption = element("span");

  let x, y; // step and value to places from 0 to 1, from the left and from the top
  const path = (steps, values) => values.map((value, i) => `${i ? "L" : "M"}${(1000 * x(steps[i])).toFixed(1)} ${(1000 * y(value)).toFixed(1)}`).join("");
  const line = (d, type) => svg("path", { d, class: `vf-line vf-${type}`, "vector-effect": "non-scaling-stroke" });
  const mark = (run, { key, steps }, type) => {
    const values = run.curves[key], end = Math.max(values.length - 1, 0);
    const top = values.length ? y(values[end]) : 0; // without any value, at the top
    return element("span", { class: `vf-mark vf-${type}`, style: `left:${100 * x(steps[end])}%;top:${100 * top}%` }, "×");
  };

  let others; // run -> its faint line
  const drawAll = () => {
    const { key, label, steps, percent, scale } = curve();
    const values = runs.flatMap((run) => run.curves[key]);
    const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [1, 2];
    const rows = scale === "log" ? powers(low, high) : ticks(low, high, 4), columns = ticks(0, last, 4);
    const bend = scale === "log" ? Math.log10 : Number;
    x = (step) => step / last;
    y = (value) => (bend(rows.at(-1)) - bend(value)) / (bend(rows.at(-1)) - bend(rows[0]));

    others = new Map(runs.map((run) => [run, line(path(steps, run.curves[key]), "other")]));
    for (const node of others.values()) node.style.opacity = Math.min(1, 60 / runs.length); // hundreds would be a black mass
    const grid = rows.map((value) => line(`M0 ${1000 * y(value)}H1000`, "grid"));
    lines.replaceChildren(...grid, ...others.values());
    const text = (value) => (percent ? `${Number((100 * value).toPrecision(6))} %` : String(value).replace("-", "−"));
    upright.replaceChildren(...rows.map((value) => element("span", { style: `top:${100 * y(value)}%` }, text(value))));
    along.replaceChildren(...columns.filter((step) => step <= last).map((step) => element("span", { style: `left:${100 * x(step)}%` }, String(step))));
    caption.textContent = label + (scale === "log" ? ", logarithmic scale" : "");
    drawChosen();
  };

  let own = [];
  const drawChosen = () => {
    const { key, steps } = curve();
    const group = chosen();
    own.forEach((node) => node.remove());
    for (const [run, node] of others) node.style.display = group.includes(run) ? "none" : "";
    own = group.map((run) => line(path(steps, run.curves[key]), group.length > 1 ? "seed" : "chosen"));
    if (group.length > 1) {
      const together = Math.min(...group.map((run) => run.curves[key].length));
      own.push(line(path(steps, Array.from({ length: together }, (_, i) => mean(group.map((run) => run.curves[key][i])))), "chosen"));
    }
    lines.append(...own);
    marks.replaceChildren(...runs.filter((run) => run.diverged).map((run) => mark(run, curve(), group.includes(run) ? "chosen" : "other")));
  };

  observe(model, ["curve"], drawAll);
  model.on("change:chosen", drawChosen);

  const choose = (i) => assign(model, "step", curve().steps[Math.min(Math.max(i, 0), curve().steps.length - 1)]);
  const point = (event) => {
    const box = area.getBoundingClientRect();
    choose(nearest(curve().steps, (last * (event.clientX - box.left)) / box.width));
  };
  let before; // comes back if a finger turns out to scroll the page
  area.addEventListener("pointermove", point);
  area.addEventListener("pointerdown", (event) => { before = model.get("step"); point(event); });
  area.addEventListener("pointercancel", () => assign(model, "step", before));
  area.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return; // Alt and an arrow is the browser's
    const at = nearest(curve().steps, model.get("step"));
    const to = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, Home: 0, End: curve().steps.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(to);
  });
  observe(model, ["step", "curve", "chosen"], () => {
    const { steps } = curve();
    const step = steps[nearest(steps, model.get("step"))];
    cursor.style.left = `${(100 * step) / last}%`;
    area.setAttribute("aria-valuemin", steps[0]);
    area.setAttribute("aria-valuemax", steps.at(-1));
    area.setAttribute("aria-valuenow", step);
    area.setAttribute("aria-valuetext", readAt(chosen(), curve(), step));
  });

  const seeds = new Set(runs.map(({ seed }) => seed)).size > 1;
  return element("div", { class: "vf-curves" },
    element("div", { class: "vf-caption" }, caption),
    upright, area, along,
    element("div", { class: "vf-caption" },
      `Training step. Blue: the chosen ${seeds ? "runs, thin for each seed and thick for their mean" : "run"}; grey: all others.`
      + (runs.some(({ diverged }) => diverged) ? " ×: diverged." : "")),
  );
}

// --- every result, as a table to open

function allRuns(runs, settings, results) {
  const head = [...settings, ...results].map(({ label }) => element("th", { scope: "col" }, label));
  const combinations = [...new Map(runs.map((run) => [JSON.stringify(settings.map(({ key }) => run.settings[key])), run.settings])).values()];
  const rows = combinations.map((values) => {
    const group = ofSettings(runs, settings, values);
    const ends = group.filter(({ diverged }) => diverged).map(({ diverged }) => `; diverged ${diverged}`).join("");
    return element("tr", {},
      ...settings.map(({ key }) => element("td", {}, inWords(values[key]))),
      ...results.map((result, i) => element("td", {}, resultInWords(group, result) + (i === 0 ? ends : ""))),
    );
  });
  return element("details", { "data-part": "table" },
    element("summary", {}, `All ${runs.length} runs in a table`),
    element("div", { class: "vf-scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows))),
  );
}
