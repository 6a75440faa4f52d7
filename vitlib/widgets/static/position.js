function render({ model, el }) {
  const [kinds, grids, own, prefix, dim] = ["kinds", "grids", "own_grid", "prefix", "dim"].map((key) => model.get(key));
  const first = prefix.length;
  const columnsOf = (rows) => grids.find((grid) => grid[0] === rows)[1];
  const size = () => [model.get("rows"), columnsOf(model.get("rows"))];

  // --- the vectors behind the figure, and their cosines

  const learned = float32(model, "vectors"), width = learned.length / (first + own[0] * own[1]);
  const maps = float32(model, "maps");

  // Resampling is linear, first along the rows of the grid, then along its columns.
  const resampled = ([rows, columns]) => {
    let start = 0;
    for (const [r, c] of grids) {
      if (r === rows) break;
      start += r * own[0] + c * own[1];
    }
    const rowMap = maps.subarray(start), columnMap = maps.subarray(start + rows * own[0]);
    const halfway = mixed(learned.subarray(first * width), rowMap, rows, own[0], own[1] * width);
    const vectors = [...Array(first).keys()].map((i) => learned.subarray(i * width, (i + 1) * width));
    for (let row = 0; row < rows; row++) {
      const line = mixed(halfway.subarray(row * own[1] * width, (row + 1) * own[1] * width), columnMap, columns, own[1], width);
      for (let column = 0; column < columns; column++) vectors.push(line.subarray(column * width, (column + 1) * width));
    }
    return vectors;
  };

  const tables = new Map(); // what is computed once for each kind and grid
  const table = (kind, [rows, columns]) => {
    const key = `${kind} ${rows}`;
    if (!tables.has(key)) {
      const make = { learned: () => cosines(resampled([rows, columns])), sincos: () => sincosCosines(dim, rows, columns, first), none: () => nothing(first + rows * columns) }[kind];
      tables.set(key, { ...make(), size: [rows, columns] });
      Object.assign(tables.get(key), summary(tables.get(key), first));
    }
    return tables.get(key);
  };

  // --- words

  const place = (cell) => `row ${Math.floor(cell / size()[1])}, column ${cell % size()[1]}`;
  const name = (position) => (position < first ? the(prefix[position]) : place(position - first));
  const the = (token) => (token.startsWith("register") ? token : `the ${token}`);

  // --- pictures. Resizing keeps the place in the picture, so a chosen corner stays a corner.

  const resizing = {
    get: (key) => model.get(key), on: (event, listener) => model.on(event, listener), save_changes: () => model.save_changes(),
    set(key, rows) {
      const [[oldRows, oldColumns], columns] = [size(), columnsOf(rows)];
      const cell = model.get("position") - first;
      const moved = (at, old, count) => Math.min(count - 1, Math.floor(((at + 0.5) * count) / old));
      const position = cell < 0 ? cell + first : first + moved(Math.floor(cell / oldColumns), oldRows, rows) * columns + moved(cell % oldColumns, oldColumns, columns);
      if (rows < oldRows) model.set("position", position); // it must be inside the grid at any moment
      model.set(key, rows);
      model.set("position", position);
    },
  };
  const pick = (label, canvas) => {
    const box = picker(model, "position", { label, size, first, keys: ["rows"], describe: (cell) => name(cell + first) }, canvas);
    box.classList.add("vpos-picker");
    return box;
  };
  const map = raster(1, 1), all = raster(1, 1);
  const mapBox = pick("Position", map), allBox = pick("Position, in the picture of all maps", all);
  const low = element("span", { "data-part": "low" }), high = element("span", { "data-part": "high" });
  const bar = raster(64, 1);
  bar.style.cssText = "width:8rem;height:0.8rem;flex:none";
  const scale = element("div", { style: "display:flex;align-items:center;gap:0.4rem;margin-top:0.3rem" }, low, bar, high);

  const status = statusLine();
  const facts = element("p", { "data-part": "facts" }), whole = element("p", { "data-part": "whole" });
  const mapCaption = element("span");
  const words = { learned: "learned", sincos: "sin-cos", none: "none" };

  frame(model, el).append(
    controls(
      choice(model, "kind", { label: "Positions", options: kinds.map((kind) => [kind, words[kind]]) }),
      slider(resizing, "rows", { label: "Grid", values: grids.map(([rows]) => rows), show: (rows) => `${rows} × ${columnsOf(rows)}${rows === own[0] ? " (the model's own)" : ""}` }),
      ...(first ? [choice(model, "position", { label: "Or a token without a place:", options: prefix.map((token, i) => [i, token]) })] : []),
      choice(model, "colours", { label: "Colours", options: [["fixed", "from −1 to 1"], ["stretched", "from least to most"]] }),
    ),
    status,
    facts,
    element("div", { class: "vf-panels" },
      panel(mapCaption, mapBox, scale),
      panel("Every position's map, at its place", allBox),
    ),
    whole,
  );

  // --- drawing

  const colour = () => {
    const { least, most } = table(model.get("kind"), size());
    if (model.get("colours") === "fixed" || least === null) return diverging;
    return (cosine) => sequential(most > least ? Math.min(1, (cosine - least) / (most - least)) : 1);
  };
  const shade = (cosine, by) => (Number.isNaN(cosine) ? [190, 190, 190] : by(Math.max(-1, Math.min(1, cosine))));

  observe(model, ["kind", "rows", "colours"], () => {
    const [rows, columns] = size();
    for (const [box, widest] of [[mapBox, "17rem"], [allBox, "21rem"]]) {
      box.style.cssText = `width:${columns >= rows ? widest : `calc(${widest} * ${columns} / ${rows})`};max-width:100%;aspect-ratio:${columns}/${rows}`;
    }
    const { at, least, most, near, far } = table(model.get("kind"), [rows, columns]);
    const by = colour();
    // Small maps of rows × columns pixels, each with a gap to its right and below.
    [all.width, all.height] = [columns * (columns + 1), rows * (rows + 1)];
    paint(all, (i) => {
      const [y, x] = [Math.floor(i / all.width), i % all.width];
      const [dy, dx] = [y % (rows + 1), x % (columns + 1)];
      if (dy === rows || dx === columns) return [0, 0, 0, 0];
      return shade(at(first + Math.floor(y / (rows + 1)) * columns + Math.floor(x / (columns + 1)), first + dy * columns + dx), by);
    });
    const stretched = model.get("colours") === "stretched" && least !== null;
    paint(bar, (i) => (stretched ? sequential(i / 63) : diverging((2 * i) / 63 - 1)));
    [low.textContent, high.textContent] = stretched ? [decimals(least), decimals(most)] : ["−1", "1"];
    whole.textContent = least === null ? "" : `Over the whole grid, positions that touch have a mean cosine of ${decimals(near)}, all others of ${decimals(far)}. ${origin(model.get("kind"), rows, columns)}`;
  });

  function origin(kind, rows, columns) {
    if (kind === "sincos") return "Sin-cos vectors are made anew for each grid: a cosine depends on how many rows and columns lie between, and on nothing else.";
    if (rows === own[0]) return "These are the vectors as the model learned them.";
    const before = table(kind, own);
    return `On the model's own ${own[0]} × ${own[1]} grid these are ${decimals(before.near)} and ${decimals(before.far)}: resampling makes each new vector a mix of old ones, mostly of those around its place.`;
  }

  observe(model, ["kind", "rows", "position", "colours"], () => {
    const [[rows, columns], kind, position] = [size(), model.get("kind"), model.get("position")];
    const { at, length } = table(kind, [rows, columns]);
    if (position >= first + rows * columns) return; // until it has followed the grid
    const by = colour(), cosine = (other) => at(position, other);
    [map.width, map.height] = [columns, rows];
    paint(map, (cell) => shade(cosine(first + cell), by));
    mapCaption.textContent = position < first ? `Each place with ${name(position)}` : "One position with all others: point, or use the arrow keys";

    const others = Array.from({ length: rows * columns }, (_, cell) => first + cell).filter((other) => other !== position && !Number.isNaN(cosine(other)));
    if (kind === "none") {
      status.textContent = "Without positions nothing is added to the tokens: there are no vectors to compare, and every place is like every other.";
      facts.textContent = "";
      return;
    }
    if (Number.isNaN(cosine(position)) || !others.length) {
      status.textContent = `The vector of ${name(position)} has length 0: it has no direction, so there is no cosine.`;
      facts.textContent = "";
      return;
    }
    others.sort((a, b) => cosine(b) - cosine(a));
    const said = (other) => `${name(other)} (${decimals(cosine(other))})`;
    const who = position < first ? name(position) : `patch ${position - first}, ${name(position)}`;
    status.textContent = `${who[0].toUpperCase()}${who.slice(1)}: most like ${said(others[0])}, least like ${said(others.at(-1))}.`;
    const [row, column] = [Math.floor((position - first) / columns), (position - first) % columns];
    const beside = [["left", row, column - 1], ["right", row, column + 1], ["above", row - 1, column], ["below", row + 1, column]]
      .filter(([, y, x]) => position >= first && y >= 0 && y < rows && x >= 0 && x < columns)
      .map(([words, y, x]) => `${words} ${decimals(cosine(first + y * columns + x))}`);
    const tokens = prefix.map((token, i) => [token, i]).filter(([, i]) => i !== position && !Number.isNaN(cosine(i))).map(([token, i]) => `${token} ${decimals(cosine(i))}`);
    facts.textContent = [["Its neighbours", beside], ["Tokens without a place", tokens], ["Itself", [decimals(cosine(position))]], ["Length of its vector", [decimals(length(position), 2)]]]
      .filter(([, said]) => said.length).map(([label, said]) => `${label}: ${said.join(", ")}.`).join(" ");
  });
}

// lines (old, numbers) mixed by a matrix (count, old) into (count, numbers).
function mixed(lines, matrix, count, old, numbers) {
  const out = new Float64Array(count * numbers);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < old; j++) {
      const share = matrix[i * old + j];
      if (share !== 0) for (let k = 0; k < numbers; k++) out[i * numbers + k] += share * lines[j * numbers + k];
    }
  }
  return out;
}

// A vector of length 0 has no direction: NaN.
function cosines(vectors) {
  const lengths = vectors.map((vector) => Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0)));
  const count = vectors.length, products = new Float64Array(count * count);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j <= i; j++) {
      const [a, b] = [vectors[i], vectors[j]];
      let sum = 0;
      for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
      products[i * count + j] = products[j * count + i] = sum / (lengths[i] * lengths[j]);
    }
  }
  return { at: (i, j) => products[i * count + j], length: (i) => lengths[i] };
}

// Of sincos_2d: sin a sin b + cos a cos b = cos(a − b), so a distance gives the cosine. The vectors
// have the length √(D / 2); those of prefix tokens are zero.
function sincosCosines(dim, rows, columns, first) {
  const quarter = dim / 4;
  const along = Array.from({ length: Math.max(rows, columns) }, (_, distance) => {
    let sum = 0;
    for (let k = 0; k < quarter; k++) sum += Math.cos(distance * 10000 ** (-k / quarter));
    return sum / quarter;
  });
  return {
    at(i, j) {
      if (i < first || j < first) return NaN;
      const [a, b] = [i - first, j - first];
      return (along[Math.abs((a % columns) - (b % columns))] + along[Math.abs(Math.floor(a / columns) - Math.floor(b / columns))]) / 2;
    },
    length: (i) => (i < first ? 0 : Math.sqrt(dim / 2)),
  };
}

const nothing = () => ({ at: () => NaN, length: () => 0 });

// Over all pairs of different places: the least and the most alike, and the means of those that
// touch by a side and of all others. null where there is nothing to compare.
function summary({ at, size: [rows, columns] }, first) {
  let least = Infinity, most = -Infinity;
  const sums = { near: 0, far: 0 }, counts = { near: 0, far: 0 };
  for (let i = 0; i < rows * columns; i++) {
    for (let j = 0; j < i; j++) {
      const cosine = at(first + i, first + j);
      if (Number.isNaN(cosine)) continue;
      least = Math.min(least, cosine);
      most = Math.max(most, cosine);
      const steps = Math.abs(Math.floor(i / columns) - Math.floor(j / columns)) + Math.abs((i % columns) - (j % columns));
      const kind = steps === 1 ? "near" : "far";
      sums[kind] += cosine;
      counts[kind] += 1;
    }
  }
  if (!counts.near) return { least: null };
  return { least, most, near: sums.near / counts.near, far: counts.far ? sums.far / counts.far : NaN };
}
