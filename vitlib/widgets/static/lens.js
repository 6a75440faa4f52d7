function render({ model, el }) {
  const [depth, classes, others, answer, label, [height, width, channels]] =
    ["depth", "classes", "others", "answer", "label", "shape"].map((key) => model.get(key));
  const pixels = uint8(model, "pixels"), probabilities = float32(model, "probabilities");
  const layers = Array.from({ length: depth }, (_, layer) => layer);
  const at = (layer, row) => probabilities[layer * classes.length + row];
  const rest = (layer) => Math.max(0, 1 - classes.reduce((sum, _, row) => sum + at(layer, row), 0));
  const best = (layer) => classes.reduce((top, _, row) => (at(layer, row) > at(layer, top) ? row : top), 0);

  const photo = raster(width, height);
  paint(photo, (i) => [0, 1, 2].map((c) => pixels[i * channels + (channels === 3 ? c : 0)]));
  const picture = element("div", {}, photo);
  picture.style.cssText = `width:9rem;max-width:100%;aspect-ratio:${width}/${height}`;

  // --- the table: one row per class, with its bar in the chosen layer, then one column per layer

  const rows = [...classes.map((name, row) => ({ name, read: (layer) => at(layer, row) })),
    ...(others ? [{ name: `${others} others`, read: rest }] : [])];
  const bars = rows.map(() => element("div", { class: "vl-bar" }));
  const cell = (layer, value) => {
    const ground = sequential(value);
    const td = element("td", { "data-layer": layer }, decimals(value, 2));
    td.style.cssText = `background:rgb(${ground});color:${inkOn(ground)}`;
    return td;
  };
  const heads = layers.map((layer) => element("th", { scope: "col", "data-layer": layer }, String(layer)));
  const body = rows.map(({ name, read }, row) => element("tr", {},
    element("th", { scope: "row" }, row === label ? `${name} (true)` : name),
    element("td", { class: "vl-bars", "aria-hidden": "true" }, bars[row]),
    ...layers.map((layer) => cell(layer, read(layer))),
  ));
  const corner = element("th", { scope: "col" }, "after layer");
  const barsHead = element("th", { class: "vl-bars", "aria-hidden": "true" });
  const table = element("table", { class: "vl-table", "data-part": "table" },
    element("caption", { class: "vf-hidden" }, "Probability of each class, read after each layer"),
    element("thead", {}, element("tr", {}, corner, barsHead, ...heads)),
    element("tbody", {}, ...body),
  );
  const choose = ({ target }) => {
    const chosen = target.closest("[data-layer]");
    if (chosen) assign(model, "layer", Number(chosen.dataset.layer));
  };
  // A finger that goes over the table scrolls it, or the page: only a tap chooses.
  table.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") choose(event); });
  table.addEventListener("click", choose);
  const scroller = element("div", { class: "vl-scroller", tabindex: 0, role: "region", "aria-label": "Table of probabilities" }, table);

  const curve = drawCurves(layers, [
    { name: classes[answer], colour: BLUE, values: layers.map((layer) => at(layer, answer)) },
    ...(label === null || label === answer ? [] : [{ name: `${classes[label]} (true)`, colour: ORANGE, values: layers.map((layer) => at(layer, label)) }]),
  ]);

  const status = statusLine();
  status.style.minHeight = "2.9em"; // always two lines, so that what stands below stays in place
  frame(model, el).append(
    controls(slider(model, "layer", { label: "Read after layer", values: layers, show: (layer) => `${layer} of ${depth - 1}` })),
    status,
    element("div", { class: "vf-panels" },
      panel("The picture", picture),
      panel("Probability, by layer", curve.svg),
    ),
    panel("Probability of each class, one column per layer: white 0, dark 1", scroller),
    element("p", { class: "vf-caption" }, `Read off ${model.get("source")} by the model's own final norm and head, which were trained on the last layer only.`),
  );

  observe(model, ["layer"], () => {
    const layer = model.get("layer"), top = best(layer);
    rows.forEach(({ read }, row) => { bars[row].style.width = `${100 * read(layer)}%`; });
    table.querySelectorAll(".vl-chosen").forEach((one) => one.classList.remove("vl-chosen"));
    table.querySelectorAll(`[data-layer="${layer}"]`).forEach((one) => one.classList.add("vl-chosen"));
    barsHead.textContent = `${layer}, as bars`;
    curve.mark(layer);
    const { offsetLeft: start, offsetWidth: wide } = heads[layer]; // of a wide table, show this column
    scroller.scrollLeft = Math.min(start - corner.offsetWidth, Math.max(scroller.scrollLeft, start + wide - scroller.clientWidth));
    const truth = label === null ? "" : answer === label ? " That is right." : ` The true class is ${classes[label]}: ${decimals(at(layer, label))} here.`;
    status.textContent = layer === depth - 1
      ? `After layer ${layer}, the last: the model answers ${classes[top]}, with probability ${decimals(at(layer, top))}.${truth}`
      : `After layer ${layer}: ${classes[top]} leads with ${decimals(at(layer, top))}. `
        + (top === answer ? "That is also the model's answer, with" : `The model's answer, ${classes[answer]}, has ${decimals(at(layer, answer))} here and`)
        + ` ${decimals(at(depth - 1, answer))} at the end.${truth}`;
  });
}

// Probabilities from 0 to 1 against layers, as lines in a plain frame; mark(layer) shows which.
function drawCurves(layers, curves) {
  const [width, height, left, right, top, bottom] = [300, 150, 34, 12, 10, 34];
  const x = (layer) => left + ((width - left - right) * layer) / Math.max(1, layers.length - 1);
  const y = (value) => top + (height - top - bottom) * (1 - value);
  const text = (content, place) => svg("text", { "font-size": 12, fill: "currentColor", ...place }, content);
  const every = Math.ceil(layers.length / 12); // not more than twelve numbers below the axis
  const line = svg("line", { y1: y(0), y2: y(1), stroke: "currentColor", "stroke-dasharray": "3 3", opacity: 0.6 });
  const dots = curves.map(({ colour }) => svg("circle", { r: 4.5, fill: `rgb(${colour})`, stroke: "#fff" }));
  const words = curves.map(({ name, values }) => `${name}: ${values.map((value) => decimals(value)).join(", ")}`);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Probability after each layer. ${words.join(". ")}.` },
    ...[0, 0.5, 1].flatMap((value) => [
      svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), stroke: "currentColor", opacity: 0.25 }),
      text(String(value), { x: left - 6, y: y(value) + 4, "text-anchor": "end" }),
    ]),
    ...layers.filter((layer) => layer % every === 0).map((layer) => text(String(layer), { x: x(layer), y: height - bottom + 15, "text-anchor": "middle" })),
    text("layer", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }),
    line,
    ...curves.map(({ colour, values }) => svg("polyline", { points: values.map((value, layer) => `${x(layer)},${y(value)}`).join(" "), fill: "none", stroke: `rgb(${colour})`, "stroke-width": 2.5 })),
    ...dots,
  );
  picture.style.cssText = "display:block;max-width:100%;height:auto";
  const key = element("div", { class: "vf-caption" }, ...curves.flatMap(({ name, colour }) => {
    const sample = element("span", { class: "vl-key", "aria-hidden": "true" });
    sample.style.background = `rgb(${colour})`;
    return [sample, element("span", {}, name)];
  }));
  const mark = (layer) => {
    line.setAttribute("x1", x(layer));
    line.setAttribute("x2", x(layer));
    curves.forEach(({ values }, i) => {
      dots[i].setAttribute("cx", x(layer));
      dots[i].setAttribute("cy", y(values[layer]));
    });
  };
  return { svg: element("div", {}, picture, key), mark };
}

// Black or white, whichever reads better on this colour (WCAG's relative luminance).
function inkOn(colour) {
  const [red, green, blue] = colour.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}
