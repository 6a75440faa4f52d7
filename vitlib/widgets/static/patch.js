function render({ model, el }) {
  const [height, width, channels, dim] = ["height", "width", "channels", "dim"].map((key) => model.get(key));
  const pixels = uint8(model, "pixels"), kernels = float32(model, "kernels");
  const sizes = model.get("patch_sizes");
  const colour = (i) => [0, 1, 2].map((c) => pixels[(channels === 3 ? c : 0) * height * width + i]);

  // What the chosen patch size makes of the picture: the grid, and the pixel behind each number.
  const layout = () => {
    const size = model.get("patch_size");
    const [rows, columns, length] = [height / size, width / size, channels * size * size];
    const inMemory = model.get("mode") === "view";
    const pixelOf = (patch, j) => {
      if (inMemory) return patch * length + j;
      const [channel, y, x] = [Math.floor(j / (size * size)), Math.floor(j / size) % size, j % size];
      const [top, left] = [Math.floor(patch / columns) * size, (patch % columns) * size];
      return (channel * height + top + y) * width + left + x;
    };
    const row = (patch) => Array.from({ length }, (_, j) => pixels[pixelOf(patch, j)] / 255);
    const start = sizes.slice(0, sizes.indexOf(size)).reduce((sum, p) => sum + dim * channels * p * p, 0);
    const kernel = (d) => kernels.subarray(start + d * length, start + (d + 1) * length);
    const token = (patch) => {
      const values = row(patch), sums = Array(dim).fill(0);
      for (let d = 0, k = start; d < dim; d++) {
        for (let j = 0; j < length; j++, k++) sums[d] += kernels[k] * values[j]; // the figure's hot loop
      }
      return sums;
    };
    return { size, rows, columns, length, count: rows * columns, pixelOf, row, kernel, token };
  };
  // A larger patch size leaves fewer patches: this runs before anything is drawn of them.
  observe(model, ["patch_size"], () => {
    if (model.get("patch") >= layout().count) assign(model, "patch", 0);
  });

  const place = (patch) => {
    const { rows, columns, count } = layout();
    return `patch ${patch} of 0 to ${count - 1}, row ${Math.floor(patch / columns)} of 0 to ${rows - 1}, column ${patch % columns} of 0 to ${columns - 1}`;
  };
  const photo = raster(width, height), shade = raster(width, height);
  paint(photo, colour);
  const picture = picker(model, "patch", {
    label: "Patch of the picture", describe: place, keys: ["patch_size"],
    size: () => [layout().rows, layout().columns],
  }, photo, shade);
  picture.style.aspectRatio = `${width}/${height}`;

  const table = raster(1, 1);
  const matrix = picker(model, "patch", {
    label: "Row of the matrix", describe: place, keys: ["patch_size"], size: () => [layout().count, 1],
  }, table);
  matrix.style.aspectRatio = `${width}/${height}`;
  const matrixCaption = element("span");

  const status = statusLine();
  const vectorCaption = element("span"), vector = element("div", { class: "vf-numbers", "data-part": "vector" });
  const cells = element("div", { class: "vf-panels", "data-part": "pixels", "aria-hidden": "true" });
  const token = element("div", { class: "vf-numbers", "data-part": "token" });

  frame(model, el).append(
    controls(
      slider(model, "patch_size", { label: "Patch size", values: sizes, show: (p) => `${p} × ${p} pixels` }),
      choice(model, "mode", {
        label: "Rows by",
        options: [["unfold", "unfold"], ["conv", "conv"], ["view", "reshape only (wrong)"]],
      }),
    ),
    // Words stand below the pictures: where they take more lines, nothing moves under the pointer.
    element("div", { class: "vf-panels vf-pair" },
      panel("Point at a patch; a click keeps it", picture),
      panel(matrixCaption, matrix),
    ),
    status,
    panel(vectorCaption, cells, vector),
    panel(`Its token: the ${dim} kernels' sums`, token),
  );

  observe(model, ["patch_size", "mode"], () => {
    const { length, count, pixelOf, token: tokenOf } = layout();
    const conv = model.get("mode") === "conv";
    [table.width, table.height] = [conv ? dim : length, count];
    if (conv) {
      const tokens = Array.from({ length: count }, (_, patch) => tokenOf(patch)).flat();
      const most = tokens.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) || 1;
      paint(table, (i) => diverging(tokens[i] / most));
    } else {
      paint(table, (i) => pixels[pixelOf(Math.floor(i / length), i % length)]);
    }
    matrixCaption.textContent = conv ? `${count} tokens of ${dim} numbers` : `${count} rows of ${length} numbers`;
  });

  observe(model, ["patch", "patch_size", "mode"], () => {
    const { size, columns, length, count, pixelOf, row, kernel, token: tokenOf } = layout();
    const [patch, mode] = [model.get("patch"), model.get("mode")];
    const area = height * width;
    const inside = new Set(Array.from({ length }, (_, j) => pixelOf(patch, j) % area));
    paint(shade, (i) => [0, 0, 0, inside.has(i) ? 0 : 110]);

    const values = row(patch);
    const squares = mode === "conv" ? Array.from({ length: dim }, (_, d) => kernel(d)) : [values];
    cells.replaceChildren(...squares.flatMap((square) => drawSquares(square, size, channels, mode === "conv")));
    vectorCaption.textContent = mode === "conv"
      ? `The ${dim} kernels of ${channels} × ${size} × ${size}, and the ${length} pixels under them`
      : `The row as ${channels} × ${size} × ${size} pixels, and its ${length} numbers`;
    const most = 64;
    vector.textContent = values.slice(0, most).map((v) => decimals(v)).join("  ") + (length > most ? `  … (${length} in all)` : "");
    token.textContent = tokenOf(patch).map((v) => decimals(v)).join("  ");

    const [top, left] = [Math.floor(patch / columns) * size, (patch % columns) * size];
    status.textContent = mode === "view"
      ? `Row ${patch} of reshape(${count}, −1): pixels ${patch * length} to ${(patch + 1) * length - 1} as they lie in memory. They are not those of the square.`
      : `Patch ${patch} of 0 to ${count - 1}: rows ${top} to ${top + size - 1}, columns ${left} to ${left + size - 1} of the picture.`;
  });
}

// One small picture a channel; kernels have signs, pixels have not.
function drawSquares(values, size, channels, signed) {
  const most = signed ? Math.max(...values.map(Math.abs)) : 1;
  return Array.from({ length: channels }, (_, channel) => {
    const canvas = raster(size, size);
    paint(canvas, (i) => {
      const value = values[channel * size * size + i];
      return signed ? diverging(value / most) : 255 * value;
    });
    canvas.style.cssText = `width:${signed ? 3 : 5}rem;height:${signed ? 3 : 5}rem`;
    return canvas;
  });
}
