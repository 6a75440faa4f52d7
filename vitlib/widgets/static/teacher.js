// What every part of the figure is computed from: one picture's logits, and the settings.
// soft: target = softmax(z_t / τ), term = τ² KL(target || softmax(z_d / τ)), gradient τ (p − target)
// hard: target = 1 for the teacher's class, term = −log softmax(z_d), gradient p − target; no τ
function distil(teacher, classHead, distHead, label, kind, tau) {
  const soft = kind === "soft", heat = soft ? tau : 1;
  const best = teacher.indexOf(Math.max(...teacher)), asked = logSoftmax(teacher, heat), given = logSoftmax(distHead, heat);
  const target = soft ? asked.map(Math.exp) : teacher.map((_, k) => (k === best ? 1 : 0));
  const student = given.map(Math.exp);
  const divergence = soft ? target.reduce((sum, p, k) => sum + p * (asked[k] - given[k]), 0) : -given[best];
  const difference = student.map((p, k) => p - target[k]);
  return {
    best, target, student, divergence,
    teacherTerm: soft ? tau * tau * divergence : divergence,
    labelTerm: label === null ? null : -logSoftmax(classHead)[label],
    gradient: difference.map((d) => d * heat),
    bare: difference.map((d) => d / heat), // of the KL alone, without the factor τ²
  };
}

function logSoftmax(logits, tau = 1) {
  const most = Math.max(...logits); // subtracted, so that no power overflows
  const sum = logits.reduce((total, z) => total + Math.exp((z - most) / tau), 0);
  return logits.map((z) => (z - most) / tau - Math.log(sum));
}

const probabilities = (logits, tau) => logSoftmax(logits, tau).map(Math.exp);
const length = (vector) => Math.hypot(...vector);

// Small numbers keep three digits that count: 0.0123, 4.5 × 10⁻⁶.
function digits(value) {
  if (value === 0 || value >= 0.1) return decimals(value);
  if (value >= 0.001) return decimals(value, value < 0.01 ? 5 : 4);
  const [mantissa, power] = value.toExponential(2).split("e-");
  return `${mantissa} × 10⁻${[...power].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`;
}

// 2.25 or 9, without zeros at the end.
const short = (value) => String(Number(value.toFixed(4)));

const TEACHER = COLOURS.orange, STUDENT = COLOURS.sky, PALE = COLOURS.grey;
const ABOVE = COLOURS.orange, BELOW = COLOURS.sky; // of zero: the book's rule for signs
const LOOKS = `
.vitlib-figure .vt-table.vt-table { width: 100%; table-layout: fixed; border-collapse: collapse; margin: 0; font-size: 0.78rem; font-variant-numeric: tabular-nums; }
.vitlib-figure .vt-table :is(th, td) { padding: 0.1rem 0.15rem; text-align: left; vertical-align: top; font-weight: inherit; border: 0; background: none; color: inherit; }
.vitlib-figure .vt-table thead th { border-bottom: 1px solid var(--vf-line); font-size: 0.74rem; white-space: pre-line; }
.vt-track { position: relative; height: 0.45rem; margin-bottom: 0.1rem; background: color-mix(in srgb, currentColor 12%, transparent); forced-color-adjust: none; }
.vt-track.vt-thin { height: 0.2rem; background: none; }
.vt-bar { position: absolute; top: 0; bottom: 0; }
.vt-key { display: inline-block; width: 1.6rem; height: 0.3rem; margin: 0 0.35rem 0 0; vertical-align: middle; }
.vt-key + span { margin-right: 0.9rem; }
`;

function render({ model, el }) {
  const [count, classes, labels, distilled, taus, [height, width, channels]] =
    ["count", "classes", "labels", "distilled", "taus", "shape"].map((key) => model.get(key));
  const pixels = uint8(model, "pixels"), logits = float32(model, "logits"), known = labels.length > 0;

  const of = (image) => {
    const rows = [0, 1, 2].map((row) => Array.from(logits.subarray((3 * image + row) * classes.length, (3 * image + row + 1) * classes.length)));
    return [...rows, known ? labels[image] : null];
  };
  const now = (kind = model.get("kind"), tau = model.get("tau")) => distil(...of(model.get("image")), kind, tau);

  // --- the picture, and the controls

  const paintPhoto = (canvas, image) => paint(canvas, (i) => [0, 1, 2].map((c) => pixels[(image * height * width + i) * channels + (channels === 3 ? c : 0)]));
  const photo = raster(width, height), picture = element("div", {}, photo);
  picture.style.cssText = `width:8rem;max-width:100%;aspect-ratio:${width}/${height}`;
  const pictures = count > 1
    ? [choice(model, "image", { label: "Picture", options: Array.from({ length: count }, (_, image) => [image, String(image)]) })]
    : [];
  for (const fieldset of pictures) {
    fieldset.querySelectorAll("label").forEach((label, image) => {
      const thumb = raster(width, height, "va-thumb");
      paintPhoto(thumb, image);
      thumb.style.aspectRatio = `${width}/${height}`;
      label.append(thumb);
    });
  }
  const heat = slider(model, "tau", { label: "τ", values: taus });
  const weight = slider(model, "alpha", { label: "α", values: model.get("alphas") });

  // --- a row per class, in two tables: what the teacher asks for and the student gives; and the rest

  const track = (...bars) => element("div", { class: "vt-track", "aria-hidden": "true" }, ...bars);
  const bar = (colour) => element("div", { class: "vt-bar", style: `background:${colour};left:0` });
  const first = Math.min(9, Math.max(5, ...classes.map((name) => name.length)));
  const tableOf = (part, caption, words, colours) => {
    const rows = classes.map((name) => {
      const cells = colours.map((colour) => {
        const number = element("span"), line = bar(colour);
        return { number, line, cell: element("td", {}, number, track(line)) };
      });
      const head = element("th", { scope: "row" }, name);
      return { head, cells, row: element("tr", {}, head, ...cells.map(({ cell }) => cell)) };
    });
    const heads = ["class", ...words].map((word) => element("th", { scope: "col" }, word));
    heads[0].style.width = `${0.5 * first + 0.5}rem`;
    const table = element("table", { class: "vt-table", "data-part": part },
      element("caption", { class: "vf-hidden" }, caption),
      element("thead", {}, element("tr", {}, ...heads)),
      element("tbody", {}, ...rows.map(({ row }) => row)));
    return { table, rows, heads };
  };
  const [taught, plain] = distilled ? ["distillation head", "class head"] : ["one head", "one head"];
  const asked = tableOf("table", "What the teacher asks for and what the student gives", ["teacher", taught], [TEACHER, STUDENT]);
  const rest = tableOf("more", "Probabilities as they are, and the gradient", ["teacher\nas it is", "gradient\nbefore α", `${plain}\nas it is`], [TEACHER, PALE, STUDENT]);
  const thins = rest.rows.map(({ cells }) => {
    const thin = bar(PALE);
    cells[1].cell.append(element("div", { class: "vt-track vt-thin", "aria-hidden": "true" }, thin));
    return thin;
  });

  // --- words

  const status = statusLine();
  status.style.minHeight = "2.9em"; // always two lines, so that what stands below stays in place
  const part = (name) => element("strong", { "data-part": name });
  const numbers = Object.fromEntries(["label-term", "kl", "teacher-term", "loss", "gradient", "bare", "weighted"].map((name) => [name, part(name)]));
  const sum = element("p", { "data-part": "sum", style: "margin-top:0.7rem" }), kept = element("p", { "data-part": "kept", style: "margin-top:0.7rem" }), pull = element("p", { "data-part": "pull" });
  const shares = [element("div", { class: "vt-bar", style: `background:${STUDENT}` }), element("div", { class: "vt-bar", style: `background:${TEACHER}` })];
  const plot = gradientCurves(taus);
  const head = distilled ? "distillation head" : "one head";

  const answers = panel("Orange: what the teacher asks for. Blue: what the student gives", asked.table);
  answers.style.flex = "1 1 17rem"; // beside the picture, or below it on a phone

  frame(model, el).append(
    element("style", {}, LOOKS),
    controls(
      ...pictures,
      choice(model, "kind", { label: "Distillation", options: [["hard", "hard"], ["soft", "soft"]] }),
      heat,
    ),
    status,
    element("div", { class: "vf-panels" },
      panel("The picture", picture),
      answers,
    ),
    kept,
    element("details", { style: "margin-top:0.7rem" },
      element("summary", {}, known ? "The loss, α, and the gradient" : "The loss and the gradient"),
      ...(known ? [controls(weight), track(...shares)] : []),
      sum,
      element("div", { class: "vf-panels" },
        panel("By class. In the gradient, orange is above zero and blue below", rest.table),
        panel("Length of the gradient, for every τ", plot.svg),
      ),
      pull,
      element("p", { class: "vf-caption", style: "margin-top:0.5rem" },
        `The gradient is that of the teacher's term with respect to the logits of the ${head}: the student's probability less the target, times τ. Where it is above zero, training lowers the logit; where it is below, training raises it. The thin grey bar is what would be left without the factor τ². `
        + (distilled ? "" : "This student has one head, so labels and teacher pull at the same logits, and the gradient of the labels' term is added to this one. ")
        + "For a large τ the gradient comes near to the difference of the logits, each less their mean, divided by the number of classes."),
    ),
  );

  // --- drawing

  let reach = 1; // the longest bar of gradients: the same for every τ, so that they can be compared
  observe(model, ["image"], () => {
    const image = model.get("image"), teacher = probabilities(of(image)[0]), own = probabilities(of(image)[1]);
    paintPhoto(photo, image);
    const all = [now("hard"), ...taus.map((tau) => now("soft", tau))];
    reach = Math.max(1e-9, ...all.flatMap(({ gradient, bare }) => [...gradient, ...bare].map(Math.abs)));
    plot.draw(all.slice(1).map(({ gradient }) => length(gradient)), all.slice(1).map(({ bare }) => length(bare)), length(all[0].gradient));
    classes.forEach((name, k) => {
      for (const { rows } of [asked, rest]) rows[k].head.textContent = known && labels[image] === k ? `${name} (true)` : name;
      fill(rest.rows[k].cells[0], teacher[k]);
      fill(rest.rows[k].cells[2], own[k]);
    });
  });

  observe(model, ["image", "kind", "tau"], () => {
    const soft = model.get("kind") === "soft", tau = soft ? model.get("tau") : 1;
    heat.querySelector("input").disabled = !soft; // hard distillation has no temperature
    const { best, target, student, gradient, bare } = now(), image = model.get("image");
    asked.heads[1].textContent = `teacher\n${soft ? `τ = ${tau}` : "one label"}`;
    asked.heads[2].textContent = `${taught}\n${soft ? `τ = ${tau}` : "as it is"}`;
    classes.forEach((_, k) => {
      fill(asked.rows[k].cells[0], target[k]);
      fill(asked.rows[k].cells[1], student[k]);
      const { number, line } = rest.rows[k].cells[1];
      number.textContent = decimals(gradient[k]);
      lean(line, gradient[k] / reach, gradient[k] > 0 ? ABOVE : BELOW);
      lean(thins[k], soft ? bare[k] / reach : 0, PALE);
    });
    plot.mark(model.get("kind"), taus.indexOf(model.get("tau")));

    const teacher = probabilities(of(image)[0]), order = teacher.map((p, k) => [p, k]).sort((a, b) => b[0] - a[0]);
    const [[highest], [second, next]] = order;
    const right = !known ? "" : labels[image] === best ? ", the true one" : `, though “${classes[labels[image]]}” is true`;
    kept.textContent = soft
      ? `The teacher gives “${classes[best]}” ${decimals(highest)} and “${classes[next]}”, its second choice, ${decimals(second)}. At τ = ${tau} it asks for ${decimals(target[best])} and ${decimals(target[next])}.`
      : `Hard distillation keeps one label of the teacher, “${classes[best]}”${right}. That it is ${decimals(highest)} sure of it, and that “${classes[next]}” comes second with ${decimals(second)}, is lost.`;
    const [full, less] = [length(gradient), length(bare)];
    pull.replaceChildren("Length of the gradient at the logits: ", numbers.gradient, ...(soft
      ? [". Without the factor τ² ", numbers.bare, tau === 1 ? ", the same, since τ = 1." : `, ${short(tau > 1 ? tau * tau : 1 / (tau * tau))} times ${tau > 1 ? "shorter" : "longer"}.`]
      : [". There is no τ, and no factor."]), ...(known ? [" Times α, ", numbers.weighted, " arrives."] : []));
    numbers.gradient.textContent = digits(full);
    numbers.bare.textContent = digits(less);
  });

  observe(model, ["image", "kind", "tau", "alpha"], () => {
    const soft = model.get("kind") === "soft", tau = model.get("tau"), alpha = model.get("alpha");
    const { divergence, teacherTerm, labelTerm, best, gradient } = now();
    numbers.kl.textContent = digits(divergence);
    numbers["teacher-term"].textContent = digits(teacherTerm);
    numbers.weighted.textContent = digits(alpha * length(gradient));
    const term = soft
      ? ["Teacher's term: τ² × KL = ", short(tau * tau), " × ", numbers.kl, " = ", numbers["teacher-term"], "."]
      : [`Teacher's term: −ln of the ${head}'s probability of “${classes[best]}” = `, numbers["teacher-term"], "."];
    const named = soft ? `Soft, τ = ${tau}` : "Hard";
    if (!known) {
      sum.replaceChildren(...term);
      status.textContent = `${named}: the teacher's term is ${digits(teacherTerm)}. No label was given, so the labels' term and the loss are not known.`;
      return;
    }
    const parts = [(1 - alpha) * labelTerm, alpha * teacherTerm], loss = parts[0] + parts[1], share = loss > 0 ? parts[0] / loss : 0;
    numbers["label-term"].textContent = digits(labelTerm);
    numbers.loss.textContent = digits(loss);
    sum.replaceChildren(
      `Labels' term: −ln of the ${distilled ? "class" : "one"} head's probability of “${classes[labels[model.get("image")]]}” = `, numbers["label-term"], ". ", ...term,
      ` Loss: ${decimals(1 - alpha, 1)} × the first + ${decimals(alpha, 1)} × the second = `, numbers.loss, ".");
    shares[0].style.cssText += `;left:0;width:${100 * share}%`;
    shares[1].style.cssText += `;left:${100 * share}%;right:0`;
    status.textContent = `${named}, α = ${alpha}: the loss is ${digits(loss)}, ${digits(parts[0])} from the labels (blue) and ${digits(parts[1])} from the teacher (orange).`;
  });
}

// A probability as a number and a bar from the left.
function fill({ number, line }, p) {
  number.textContent = decimals(p);
  line.style.width = `${100 * p}%`;
}

// A bar from the middle, to the right for values above 0; 1 is as far as it goes.
function lean(line, value, colour) {
  const size = 50 * Math.abs(value);
  line.style.background = colour;
  line.style.left = `${value < 0 ? 50 - size : 50}%`;
  line.style.width = `${size}%`;
}

// Two curves over τ, with the factor τ² and without, and a line for hard distillation.
// draw(with, without, hard), mark(kind, which τ).
function gradientCurves(taus) {
  const [width, height, left, right, top, bottom] = [300, 170, 40, 14, 10, 38];
  const x = (i) => left + ((width - left - right) * i) / (taus.length - 1);
  const text = (content, place) => svg("text", { "font-size": 12, fill: "currentColor", ...place }, content);
  const across = (dashes, colour, thick) => svg("polyline", { fill: "none", stroke: colour, "stroke-width": thick, "stroke-dasharray": dashes });
  const kinds = { soft: ["with τ²", "currentColor", "none"], bare: ["without", PALE, "6 3"], hard: ["hard", "currentColor", "2 3"] };
  const lines = Object.fromEntries(Object.entries(kinds).map(([kind, [, colour, dashes]]) => [kind, across(dashes, colour, 2)]));
  const axis = svg("g"), dots = svg("g");
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", style: "display:block;max-width:100%" },
    axis, ...taus.map((tau, i) => text(String(tau), { x: x(i), y: height - bottom + 15, "text-anchor": "middle" })),
    text("τ", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }), ...Object.values(lines), dots);
  const sample = (colour, dashes) => svg("svg", { class: "vt-key", viewBox: "0 0 26 4", "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 26, y1: 2, y2: 2, stroke: colour, "stroke-width": 3, "stroke-dasharray": dashes }));
  const key = element("div", { class: "vf-caption" }, ...Object.values(kinds).flatMap(([words, colour, dashes]) =>
    [sample(colour, dashes), element("span", {}, words)]));
  let values = {}, y = () => 0;
  return {
    svg: element("div", {}, picture, key),
    draw(soft, bare, hard) {
      values = { soft, bare, hard: taus.map(() => hard) };
      const most = Math.max(...soft, ...bare, hard, 1e-9);
      y = (value) => top + (height - top - bottom) * (1 - value / most);
      axis.replaceChildren(...[0, 0.5, 1].flatMap((part) => [
        svg("line", { x1: left, x2: width - right, y1: y(part * most), y2: y(part * most), stroke: "currentColor", opacity: 0.25 }),
        text(part ? most * part >= 0.01 ? decimals(most * part, 2) : (most * part).toExponential(0) : "0", { x: left - 6, y: y(part * most) + 4, "text-anchor": "end" }),
      ]));
      for (const [kind, line] of Object.entries(lines)) line.setAttribute("points", values[kind].map((value, i) => `${x(i)},${y(value)}`).join(" "));
    },
    mark(kind, i) {
      for (const [name, line] of Object.entries(lines)) line.setAttribute("stroke-width", name === kind ? 3.5 : 1.5);
      const marked = kind === "soft" ? ["soft", "bare"] : ["hard"];
      dots.replaceChildren(...marked.map((name) => svg("circle", { cx: x(i), cy: y(values[name][i]), r: 4.5, fill: kinds[name][1], stroke: "#fff" })));
      picture.setAttribute("aria-label", `Length of the gradient by τ. ${Object.entries(kinds).map(([name, [words]]) =>
        `${words}: ${(name === "hard" ? values.hard.slice(0, 1) : values[name]).map((value) => digits(value)).join(", ")}`).join(". ")}.`);
    },
  };
}
