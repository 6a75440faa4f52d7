const TITLES = { timm: "timm", deit: "DeiT", hf: "Hugging Face", torchvision: "torchvision", google_npz: "Google (npz)" };

const sizeOf = (shape) => shape.reduce((product, side) => product * side, 1);
const inBrackets = (numbers) => `(${numbers.join(", ")}${numbers.length === 1 ? "," : ""})`; // as torch prints shapes

// Rows and columns that a tensor is drawn in: cut between two of its axes, as square as can be.
function gridOf(shape) {
  let grid = [1, sizeOf(shape)];
  for (let axis = 1; axis < shape.length; axis++) {
    const rows = sizeOf(shape.slice(0, axis)), columns = sizeOf(shape.slice(axis));
    if (Math.max(rows, columns) < Math.max(...grid)) grid = [rows, columns];
  }
  return grid;
}

// The index with one number for each axis: 107 in (24, 8) is [13, 3].
function indexOf(flat, shape) {
  const index = [];
  for (const side of [...shape].reverse()) {
    index.unshift(flat % side);
    flat = Math.floor(flat / side);
  }
  return `[${index.join(", ")}]`;
}

// Long names break after a dot or a slash, if they must.
const breakable = (text) => text.split(/(?<=[./])/).flatMap((piece, i) => (i ? [element("wbr"), piece] : [piece]));

const withShape = (name, shape) => [...breakable(name), " ", element("span", { style: "white-space:nowrap" }, inBrackets(shape))];

// Numbers are blue or orange, so the ring is black and white.
const LOOKS = `
.vd-status { display: grid; }
.vd-status > p { grid-area: 1 / 1; }
.vd-sides { display: flex; gap: 0.9rem 1.3rem; align-items: flex-start; }
.vd-sides > .vf-panel { flex: 1 1 8.5rem; max-width: 21rem; }
.vd-name { font-size: 0.82rem; line-height: 1.3; }
.vd-seam { position: absolute; margin: -1px; }
.vd-sides .vf-ring { border-color: #000; box-shadow: 0 0 0 1px #fff, inset 0 0 0 1px #fff; }
`;

function render({ model, el }) {
  const [names, shapes, files, dialects] = ["names", "shapes", "files", "dialects"].map((key) => model.get(key));
  const weights = float32(model, "weights");
  const places = new Uint16Array(uint8(model, "places").slice().buffer);
  const starts = shapes.reduce((sums, shape) => [...sums, sums.at(-1) + sizeOf(shape)], [0]);

  // What is chosen: timm's tensor, the tensors of the file that it is made from, and the ways between
  // them: comes[entry] counts through the file's tensors, one after the other; goes[] is its inverse.
  const look = () => {
    const [dialect, name] = [model.get("dialect"), model.get("tensor")];
    const i = names.indexOf(name), first = dialects.indexOf(dialect) * starts.at(-1) + starts[i];
    const comes = places.subarray(first, first + sizeOf(shapes[i])), goes = new Uint16Array(comes.length);
    comes.forEach((place, entry) => { goes[place] = entry; });
    let before = 0;
    const file = files[dialect].tensors[name];
    const sources = file.names.map((origin, j) => {
      const source = { name: origin, shape: file.shapes[j], before, size: sizeOf(file.shapes[j]) };
      before += source.size;
      return source;
    });
    const sourceOf = (entry) => sources.findIndex(({ before: start, size }) => comes[entry] < start + size);
    return { name, shape: shapes[i], values: weights.subarray(starts[i], starts[i + 1]), comes, goes, sources, done: file.done, sourceOf };
  };
  let seen;
  observe(model, ["tensor", "dialect"], () => { seen = look(); }); // before anything is drawn of it
  // A smaller tensor has fewer numbers; from a kernel the two may come one after the other.
  const inside = (entry, count) => (entry < count ? entry : 0);
  const entryNow = () => inside(model.get("entry"), seen.comes.length);

  // What a picture is given in place of the model: its own index as `entry`.
  const withIndex = (read, write) => ({
    get: (key) => (key === "entry" ? read(entryNow()) : model.get(key)),
    set: (key, value) => model.set(key, write(value)),
    on: (event, listener) => model.on(event, listener),
    save_changes: () => model.save_changes(),
  });
  // In one of the file's tensors; where the number is not in that one, −1 less the entry, so that
  // nothing is forgotten.
  const within = (j) => withIndex(
    (entry) => (seen.sourceOf(entry) === j ? seen.comes[entry] - seen.sources[j].before : -1 - entry),
    (value) => (value < 0 ? -1 - value : seen.goes[seen.sources[j].before + value]),
  );

  // --- pictures: one of timm's tensor, and as many of the file's as any tensor is made from

  const heatMap = (state, tensor) => {
    const canvas = raster(1, 1), name = element("strong"), shape = element("span", { style: "white-space:nowrap" }), drawn = element("span");
    const box = picker(state, "entry", {
      label: "Tensor", keys: ["tensor", "dialect"],
      size: () => (tensor() ? gridOf(tensor().shape) : [1, 1]),
      describe: (cell) => (cell < 0 || !tensor() ? "the number is in another tensor" : said(tensor(), cell)),
    }, canvas);
    return { canvas, name, shape, drawn, box, whole: element("div", {}, element("div", { class: "vd-name" }, name, " ", shape, drawn), box) };
  };
  const said = ({ shape, value }, flat) => `${indexOf(flat, shape)}, ${decimals(value(flat))}`;
  const most = Math.max(...Object.values(files).flatMap(({ tensors }) => Object.values(tensors).map(({ names: all }) => all.length)));
  const ours = () => ({ name: seen.name, shape: seen.shape, value: (flat) => seen.values[flat] });
  const theirs = (j) => seen.sources[j] && { ...seen.sources[j], value: (flat) => seen.values[seen.goes[seen.sources[j].before + flat]] };
  const sourceMaps = Array.from({ length: most }, (_, j) => heatMap(within(j), () => theirs(j)));
  const targetMap = heatMap(withIndex((entry) => entry, (value) => value), ours);
  const seams = element("div", { "aria-hidden": "true", style: "position:absolute;inset:0" });
  targetMap.canvas.after(seams);

  const draw = ({ canvas, name, shape, drawn, box, whole }, tensor, cell, reach) => {
    whole.hidden = !tensor;
    if (!tensor) return;
    const [rows, columns] = gridOf(tensor.shape);
    [canvas.width, canvas.height] = [columns, rows];
    paint(canvas, (flat) => diverging(tensor.value(flat) / reach));
    name.replaceChildren(...breakable(tensor.name));
    shape.textContent = inBrackets(tensor.shape);
    drawn.textContent = tensor.shape.join() === [rows, columns].join() ? "" : `, drawn as ${rows} × ${columns}`;
    box.setAttribute("aria-label", tensor.name);
    box.style.cssText = `width:${cell * columns}rem;max-width:100%;aspect-ratio:${columns}/${rows};min-height:1.4rem;margin:0.2rem 0 0.6rem`;
  };

  // --- words

  const select = element("select", {
    "data-key": "tensor", style: "font:inherit;max-width:100%;min-height:1.8rem",
    onchange() {
      model.set("entry", inside(model.get("entry"), sizeOf(shapes[names.indexOf(select.value)])));
      assign(model, "tensor", select.value);
    },
  }, ...names.map((name) => element("option", { value: name }, name)));
  // Behind the status stands its longest wording, unseen, so that whatever is pointed at the pictures
  // below stay in place.
  const status = statusLine(), longest = element("p", { class: "vf-status", "aria-hidden": "true", style: "visibility:hidden" });
  const done = element("p", { "data-part": "done" }), scale = element("p", { class: "vf-caption", "data-part": "scale" });
  const fileCaption = element("span"), list = element("div", { "data-part": "list" });

  frame(model, el).append(
    element("style", {}, LOOKS),
    controls(
      choice(model, "dialect", { label: "Spelling", options: dialects.map((dialect) => [dialect, TITLES[dialect]]) }),
      element("label", { class: "vf-slider" }, element("span", {}, "Tensor"), select),
    ),
    element("div", { class: "vd-status" }, status, longest),
    done,
    element("div", { class: "vd-sides" },
      panel(fileCaption, ...sourceMaps.map(({ whole }) => whole)),
      panel("In timm's layout, which is vitlib's", targetMap.whole),
    ),
    scale,
    element("details", {}, element("summary", {}, "All names in this file"), list),
  );

  observe(model, ["dialect"], () => {
    const dialect = model.get("dialect"), { tensors } = files[dialect];
    fileCaption.textContent = `As ${TITLES[dialect]} writes it`;
    list.replaceChildren(
      element("div", { class: "vf-scroll", tabindex: 0, role: "region", "aria-label": "All names in this file" },
        element("table", { style: "font-size:0.78rem;overflow-wrap:break-word" },
          element("thead", {}, element("tr", {}, ...["In the file", "timm", "Done"].map((words) => element("th", { scope: "col" }, words)))),
          element("tbody", {}, ...names.map((name) => element("tr", {},
            element("td", {}, ...tensors[name].names.map((origin, j) => element("div", {}, ...withShape(origin, tensors[name].shapes[j])))),
            element("td", {}, ...withShape(name, shapes[names.indexOf(name)])),
            element("td", {}, tensors[name].done || (tensors[name].names[0] === name ? "nothing" : "renamed")),
          ))),
        )),
    );
  });

  observe(model, ["dialect", "tensor"], () => {
    const { name, shape, values, comes, sources, sourceOf, done: words } = seen;
    select.value = name;
    const reach = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) || 1;
    const grids = [shape, ...sources.map((source) => source.shape)].map(gridOf);
    const cell = Math.min(1.6, ...grids.map(([rows, columns]) => Math.min(17 / columns, 20 / rows))); // rem
    sourceMaps.forEach((map, j) => draw(map, theirs(j), cell, reach));
    draw(targetMap, ours(), cell, reach);

    // Where one of the file's tensors ends and the next begins.
    const [rows, columns] = gridOf(shape), lines = [];
    for (let entry = 1; entry < comes.length; entry++) {
      if (sourceOf(entry) === sourceOf(entry - 1)) continue;
      lines.push(entry % columns
        ? `left:${(100 * (entry % columns)) / columns}%;top:0;bottom:0;border-left:2px solid #000`
        : `top:${(100 * entry) / columns / rows}%;left:0;right:0;border-top:2px solid #000`);
    }
    seams.replaceChildren(...lines.map((place) => element("div", { class: "vd-seam", style: place })));

    const from = sources.map((source) => inBrackets(source.shape)).join(", ");
    const { wrappers } = files[model.get("dialect")];
    const taken = wrappers.map((word) => (word.startsWith("prefix") ? word : `wrapper ${word}`)).join(" and the ");
    done.textContent = (taken && `First the ${taken} is taken off. `) + (words
      ? `The numbers are ${words.replace(/, ([^,]*)$/, " and $1")}: ${from} → ${inBrackets(shape)}.`
      : sources[0].name === name ? "Name, shape and numbers are the same as in timm." : "Only the name changes; shape and numbers stay.");
    scale.textContent = `Blue is below 0, white 0, orange above; the full colours are ±${decimals(reach)}.`
      + (lines.length ? " The black lines in timm's tensor are the seams where the file's tensors were joined." : "");
  });

  const sentence = (entry, value) => {
    const source = seen.sources[seen.sourceOf(entry)];
    return [...breakable(seen.name), `${indexOf(entry, seen.shape)} = ${decimals(value)} stands in the file as `,
      ...breakable(source.name), `${indexOf(seen.comes[entry] - source.before, source.shape)}.`];
  };
  observe(model, ["dialect", "tensor"], () => {
    longest.replaceChildren(...sentence(seen.comes.length - 1, -Math.max(...seen.values.map(Math.abs))));
  });
  observe(model, ["dialect", "tensor", "entry"], () => {
    status.replaceChildren(...sentence(entryNow(), seen.values[entryNow()]));
  });
}
