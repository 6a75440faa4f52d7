function render({ model, el }) {
  const [count, layers, heads, prefix, [rows, columns], [height, width, channels]] =
    ["count", "layers", "heads", "prefix", "grid", "shape"].map((key) => model.get(key));
  const pixels = uint8(model, "pixels"), maps = uint8(model, "maps"), scales = float32(model, "scales");
  const patches = rows * columns, tokens = prefix.length + patches, ROLLOUT = heads;
  const everyHead = everyOf(heads);

  // --- the numbers behind the figure

  // One query's weights over all tokens, in one head of the chosen layer and picture.
  const row = (head) => {
    const layer = model.get("image") * layers.length + layers.indexOf(model.get("layer"));
    const number = (layer * (heads + 1) + head) * tokens + model.get("query");
    const step = scales[number] / 255;
    return Array.from(maps.subarray(number * tokens, (number + 1) * tokens), (byte) => byte * step);
  };
  const over = (lists, fuse) => lists[0].map((_, token) => fuse(lists.map((list) => list[token])));
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  // The row that the picture shows; with all heads side by side, their mean.
  const chosenRow = () => {
    const head = model.get("head");
    if (model.get("method") === "rollout") return row(ROLLOUT);
    if (head === "max") return over(everyHead.map(row), (values) => Math.max(...values));
    return typeof head === "number" ? row(head) : over(everyHead.map(row), mean);
  };

  // --- words for them

  const place = (patch) => `patch ${patch} (row ${Math.floor(patch / columns)}, column ${patch % columns})`;
  const name = (token) => (token < prefix.length ? prefix[token] : place(token - prefix.length));
  const ofPatches = (weights) => weights.slice(prefix.length);
  const strongest = (weights) => weights.map((weight, patch) => [weight, patch]).sort((a, b) => b[0] - a[0]);
  const the = (token) => (prefix[token].startsWith("register") ? prefix[token] : `the ${prefix[token]}`);

  // --- pictures

  const photo = (className) => raster(width, height, className);
  const paintPhoto = (canvas, image) => paint(canvas, (i) => [0, 1, 2].map((c) => pixels[(image * height * width + i) * channels + (channels === 3 ? c : 0)]));
  const plain = (canvas, weights, most) => paint(canvas, (i) => diverging(weights[i] / most));

  const large = photo(), veil = raster(columns, rows);
  const picture = picker(model, "query", {
    label: "Patch whose attention is shown", size: () => [rows, columns], first: prefix.length,
    describe: (patch) => name(patch + prefix.length),
  }, large, veil);
  picture.classList.add("va-picture");
  picture.style.aspectRatio = `${width}/${height}`;

  const map = raster(columns, rows);
  const mapBox = element("div", { class: "va-map" }, map), mapCaption = element("span", { "data-part": "scale" });
  mapBox.style.aspectRatio = `${width}/${height}`;
  const smallMaps = everyHead.map(() => raster(columns, rows)), smallCaptions = everyHead.map(() => element("span"));
  const small = element("div", { class: "va-heads", "data-part": "heads" }, ...everyHead.map((head) => {
    const box = element("div", { class: "va-map" }, smallMaps[head]);
    box.style.aspectRatio = `${width}/${height}`;
    return element("div", {}, element("div", { class: "vf-caption" }, smallCaptions[head]), box);
  }));

  // --- controls

  const pictures = count > 1
    ? [choice(model, "image", { label: "Picture", options: everyOf(count).map((image) => [image, String(image)]) })]
    : [];
  for (const fieldset of pictures) {
    fieldset.querySelectorAll("label").forEach((label, image) => {
      const thumb = photo("va-thumb");
      paintPhoto(thumb, image);
      thumb.style.aspectRatio = `${width}/${height}`;
      label.append(thumb);
    });
  }
  const headChoice = choice(model, "head", {
    label: "Head", options: [...everyHead.map((head) => [head, String(head)]), ["mean", "mean of all"], ["max", "largest of all"], ["all", "each, side by side"]],
  });
  const status = statusLine();
  const answer = element("p", { "data-part": "answer" }), shares = element("p", { "data-part": "shares" }), top = element("p", { "data-part": "top" });
  const meaning = element("p", { "data-part": "meaning" });

  frame(model, el).append(
    controls(
      ...pictures,
      slider(model, "layer", { label: "Layer", values: layers }),
      choice(model, "method", { label: "Show", options: [["attention", "this layer's attention"], ["rollout", "all layers up to it (rollout)"]] }),
      headChoice,
      choice(model, "query", { label: "Whose attention", options: prefix.map((words, token) => [token, words]) }),
      slider(model, "strength", { label: "Map over the picture", values: everyOf(11).map((i) => 10 * i), show: (percent) => `${percent} %` }),
    ),
    // Words stand below the picture: where they take more lines, it does not move under the pointer.
    element("div", { class: "vf-panels vf-pair" },
      panel("Point at a patch to see its attention; a click keeps it", picture),
      panel(mapCaption, mapBox, small),
    ),
    status, top, shares, meaning, answer,
    element("p", { class: "vf-caption" }, "Everything is counted from 0. Weights are rounded, to 1/255 of the token's largest."),
  );

  observe(model, ["image"], () => {
    const image = model.get("image");
    paintPhoto(large, image);
    answer.textContent = `The model's answer: ${model.get("answers")[image]}, with probability ${decimals(model.get("sureness")[image])}.`
      + (model.get("averages") ? " It reads the mean of the patches; no token's row alone is its answer." : "");
  });

  observe(model, ["image", "layer", "head", "method", "query", "strength"], () => {
    const [layer, head, method, query] = ["layer", "head", "method", "query"].map((key) => model.get(key));
    const rollout = method === "rollout", side = !rollout && head === "all";
    headChoice.disabled = rollout; // a rollout averages the heads
    mapBox.hidden = side;
    small.hidden = !side;

    const weights = chosenRow(), shown = ofPatches(weights);
    const order = strongest(shown), most = order[0][0] || 1;
    const strength = model.get("strength") / 100;
    paint(veil, (i) => [...ORANGE, 255 * strength * (shown[i] / most)]);

    const which = rollout ? `rollout up to layer ${layer}` : `layer ${layer}, ${{ mean: "mean of heads", max: "maximum over heads", all: "all heads" }[head] ?? `head ${head}`}`;
    const start = `${which[0].toUpperCase()}${which.slice(1)}, ${name(query)} → `;
    if (side) {
      const each = everyHead.map((one) => strongest(ofPatches(row(one))));
      each.forEach((best, one) => {
        plain(smallMaps[one], ofPatches(row(one)), best[0][0] || 1);
        smallCaptions[one].textContent = `Head ${one}: to ${decimals(best[0][0])}`;
      });
      const sharpest = everyHead.reduce((a, b) => (each[b][0][0] > each[a][0][0] ? b : a));
      mapCaption.textContent = "Each map from 0 (white) to its own maximum (orange); the picture shows their mean";
      status.textContent = `${start}the largest weight on a patch is head ${sharpest}'s, on ${place(each[sharpest][0][1])}: ${decimals(each[sharpest][0][0])}.`;
    } else {
      plain(map, shown, most);
      mapCaption.textContent = `The weights alone: white is 0, orange is ${decimals(order[0][0])}`;
      const home = query < prefix.length ? "stays on" : "goes to";
      const first = query < prefix.length ? query : 0;
      status.textContent = `${start}most on ${place(order[0][1])}: ${decimals(order[0][0])}; ${decimals(weights[first])} ${home} ${the(first)}.`;
    }
    const fused = side ? " (mean of the heads)" : "";
    top.textContent = `Most weight${fused}: ${order.slice(0, 3).map(([weight, patch]) => `${place(patch)} ${decimals(weight)}`).join("; ")}.`;
    const all = prefix.reduce((left, _, token) => left - weights[token], 1); // rows sum to 1
    const others = prefix.map((words, token) => `${words}: ${decimals(weights[token])}`).join("; ");
    shares.textContent = !rollout && head === "max"
      ? `The largest of the heads gives ${others}. Maxima do not sum to 1.`
      : `Shares of the weight${fused}: all ${patches} patches: ${decimals(all)}; ${others}.`;
    meaning.textContent = rollout
      ? `A rollout follows attention back through the layers 0 to ${layer}: from which patches the token may have gathered something, directly or by way of other tokens. Each layer counts as half the mean of its heads and half the token itself, which every layer passes on.`
      : `In each layer, every head gives a token one weight per token, which says how much it takes from there. The weights sum to 1.`;
  });
}

function everyOf(count) {
  return Array.from({ length: count }, (_, i) => i);
}
