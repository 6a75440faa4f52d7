function render({ model, el }) {
  const [names, pictures, sizes, grids, layers, heads, prefix, allQueries] =
    ["names", "pictures", "sizes", "grids", "layers", "heads", "prefix", "all_queries"].map((key) => model.get(key));
  const maps = uint8(model, "maps"), scales = float32(model, "scales");
  const patchMaps = uint8(model, "patch_maps"), patchScales = float32(model, "patch_scales");
  const ROLLOUT = heads, everyHead = everyOf(heads), everyPicture = everyOf(names.length);

  // --- the numbers behind the figure

  // Pictures may differ in size: where the rows and weights of each begin.
  const patchesOf = (image) => grids[image][0] * grids[image][1], tokensOf = (image) => prefix.length + patchesOf(image);
  const rowsOf = (image) => layers.length * (heads + 1) * (allQueries ? tokensOf(image) : prefix.length);
  const before = (count) => everyPicture.map((image) => everyOf(image).reduce((sum, one) => sum + count(one), 0));
  const firstRow = before(rowsOf), firstWeight = before((one) => rowsOf(one) * tokensOf(one));
  const firstPatch = before(patchesOf), firstPatchWeight = before((one) => patchesOf(one) * tokensOf(one));

  // What is shown. Of a patch, a record may hold the mean of the last layer's heads alone.
  const isMean = () => !allQueries && model.get("query") >= prefix.length;
  const shownLayer = () => (isMean() ? layers.at(-1) : model.get("layer"));
  const shownHead = () => (isMean() ? "mean" : model.get("head"));
  const shownMethod = () => (isMean() ? "attention" : model.get("method"));
  // One query's weights over all tokens, in one head of the chosen layer and picture.
  const row = (head) => {
    const image = model.get("image"), tokens = tokensOf(image);
    const number = (layers.indexOf(model.get("layer")) * (heads + 1) + head) * (allQueries ? tokens : prefix.length) + model.get("query");
    const step = scales[firstRow[image] + number] / 255, start = firstWeight[image] + number * tokens;
    return Array.from(maps.subarray(start, start + tokens), (byte) => byte * step);
  };
  const patchRow = () => {
    const image = model.get("image"), tokens = tokensOf(image), patch = model.get("query") - prefix.length;
    const step = patchScales[firstPatch[image] + patch] / 15, start = firstPatchWeight[image] + patch * tokens;
    return everyOf(tokens).map((key) => ((patchMaps[(start + key) >> 1] >> ((start + key) % 2 ? 0 : 4)) & 15) * step);
  };
  const over = (lists, fuse) => lists[0].map((_, token) => fuse(lists.map((list) => list[token])));
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  // The row that the picture shows; with all heads side by side, their mean.
  const chosenRow = () => {
    if (isMean()) return patchRow();
    const head = model.get("head");
    if (model.get("method") === "rollout") return row(ROLLOUT);
    if (head === "max") return over(everyHead.map(row), (values) => Math.max(...values));
    return typeof head === "number" ? row(head) : over(everyHead.map(row), mean);
  };

  // --- words for them

  const place = (patch) => {
    const columns = grids[model.get("image")][1];
    return `patch ${patch} (row ${Math.floor(patch / columns)}, column ${patch % columns})`;
  };
  const name = (token) => (token < prefix.length ? prefix[token] : place(token - prefix.length));
  const ofPatches = (weights) => weights.slice(prefix.length);
  // With hundreds of patches, weights are small.
  const share = (weight) => decimals(weight, patchesOf(model.get("image")) > 100 ? 4 : 3);
  const strongest = (weights) => weights.map((weight, patch) => [weight, patch]).sort((a, b) => b[0] - a[0]);
  const the = (token) => (prefix[token].startsWith("register") ? prefix[token] : `the ${prefix[token]}`);

  // --- pictures

  // Pages may dim images in the dark; the maps beside these are not dimmed.
  const photo = (className, image) => element("img", {
    class: `vf-raster ${className}`, alt: "", "aria-hidden": "true", src: pictures[image], width: sizes[image][1], height: sizes[image][0],
    style: `filter:none;image-rendering:${pictures[image].startsWith("data:image/png") ? "pixelated" : "auto"}`,
  });
  const plain = (canvas, weights, most) => paint(canvas, (i) => diverging(weights[i] / most));

  const large = element("div", { style: "height:100%" }), veil = raster(1, 1); // the photo, and the map over it
  const picture = picker(model, "query", {
    label: "Patch whose attention is shown", size: () => grids[model.get("image")], first: prefix.length,
    describe: (patch) => name(patch + prefix.length), keys: ["image"],
  }, large, veil);
  picture.classList.add("va-picture");
  veil.style.cssText = "position:absolute;inset:0";

  const map = raster(1, 1);
  const mapBox = element("div", { class: "va-map" }, map), mapCaption = element("span", { "data-part": "scale" });
  const smallMaps = everyHead.map(() => raster(1, 1)), smallCaptions = everyHead.map(() => element("span"));
  const smallBoxes = smallMaps.map((canvas) => element("div", { class: "va-map" }, canvas));
  const small = element("div", { class: "va-heads", "data-part": "heads" }, ...everyHead.map((head) =>
    element("div", {}, element("div", { class: "vf-caption" }, smallCaptions[head]), smallBoxes[head])));
  const fit = () => {
    const image = model.get("image"), [rows, columns] = grids[image], [height, width] = sizes[image];
    for (const canvas of [veil, map, ...smallMaps]) Object.assign(canvas, { width: columns, height: rows });
    for (const box of [picture, mapBox, ...smallBoxes]) box.style.aspectRatio = `${width}/${height}`;
    large.replaceChildren(photo("", image));
  };

  // --- controls

  const imageChoice = choice(model, "image", { label: "Picture", options: everyPicture.map((image) => [image, names[image]]) });
  imageChoice.querySelectorAll("label").forEach((label, image) => label.append(photo("va-thumb", image)));
  const layerSlider = slider(model, "layer", { label: "Layer", values: layers });
  const methodChoice = choice(model, "method", { label: "Show", options: [["attention", "this layer's attention"], ["rollout", "all layers up to it (rollout)"]] });
  const headChoice = choice(model, "head", {
    label: "Head", options: [...everyHead.map((head) => [head, String(head)]), ["mean", "mean of all"], ["max", "largest of all"], ["all", "each, side by side"]],
  });
  const status = statusLine();
  const answer = element("p", { "data-part": "answer" }), shares = element("p", { "data-part": "shares" }), top = element("p", { "data-part": "top" });
  const meaning = element("p", { "data-part": "meaning" });

  frame(model, el).append(
    controls(
      ...(names.length > 1 ? [imageChoice] : []),
      layerSlider,
      methodChoice,
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
    element("p", { class: "vf-caption" }, `Everything is counted from 0. Weights are rounded, to 1/255 of the token's largest${allQueries ? "" : ", those of a patch to 1/15"}. `
      + (allQueries ? "" : `This page holds the weights of the ${prefix.join(", ")} in all layers and heads, and of each patch those of layer ${layers.at(-1)}, averaged over the heads. `)
      + model.get("source")),
  );

  observe(model, ["image"], () => {
    const image = model.get("image");
    fit();
    assign(model, "query", Math.min(model.get("query"), tokensOf(image) - 1)); // a picture may have fewer patches
    answer.hidden = !model.get("answers")[image]; // without a head there is none
    answer.textContent = `The model's answer: ${model.get("answers")[image]}, with probability ${decimals(model.get("sureness")[image])}.`
      + (model.get("averages") ? " It reads the mean of the patches; no token's row alone is its answer." : "");
  });

  observe(model, ["image", "layer", "head", "method", "query", "strength"], () => {
    const layer = shownLayer(), head = shownHead(), method = shownMethod(), query = model.get("query"), patches = patchesOf(model.get("image"));
    const rollout = method === "rollout", side = !rollout && head === "all";
    headChoice.disabled = rollout || isMean(); // a rollout averages the heads
    methodChoice.disabled = layerSlider.querySelector("input").disabled = isMean();
    mapBox.hidden = side;
    small.hidden = !side;

    const weights = chosenRow(), shown = ofPatches(weights);
    const order = strongest(shown), most = order[0][0] || 1;
    const strength = model.get("strength") / 100;
    large.style.filter = `grayscale(${strength})`; // orange is seen on grey
    paint(veil, (i) => [...ORANGE, 255 * strength * (shown[i] / most)]);

    const which = rollout ? `rollout up to layer ${layer}` : `layer ${layer}, ${{ mean: "mean of heads", max: "maximum over heads", all: "all heads" }[head] ?? `head ${head}`}`;
    const start = `${which[0].toUpperCase()}${which.slice(1)}, ${name(query)} → `;
    if (side) {
      const each = everyHead.map((one) => strongest(ofPatches(row(one))));
      each.forEach((best, one) => {
        plain(smallMaps[one], ofPatches(row(one)), best[0][0] || 1);
        smallCaptions[one].textContent = `Head ${one}: to ${share(best[0][0])}`;
      });
      const sharpest = everyHead.reduce((a, b) => (each[b][0][0] > each[a][0][0] ? b : a));
      mapCaption.textContent = "Each map from 0 (white) to its own maximum (orange); the picture shows their mean";
      status.textContent = `${start}the largest weight on a patch is head ${sharpest}'s, on ${place(each[sharpest][0][1])}: ${share(each[sharpest][0][0])}.`;
    } else {
      plain(map, shown, most);
      mapCaption.textContent = `The weights alone: white is 0, orange is ${share(order[0][0])}`;
      const home = query < prefix.length ? "stays on" : "goes to";
      const first = query < prefix.length ? query : 0;
      status.textContent = `${start}most on ${place(order[0][1])}: ${share(order[0][0])}; ${share(weights[first])} ${home} ${the(first)}.`;
    }
    const fused = side ? " (mean of the heads)" : "";
    top.textContent = `Most weight${fused}: ${order.slice(0, 3).map(([weight, patch]) => `${place(patch)} ${share(weight)}`).join("; ")}.`;
    const all = prefix.reduce((left, _, token) => left - weights[token], 1); // rows sum to 1
    const others = prefix.map((words, token) => `${words}: ${share(weights[token])}`).join("; ");
    shares.textContent = !rollout && head === "max"
      ? `The largest of the heads gives ${others}. Maxima do not sum to 1.`
      : `Shares of the weight${fused}: all ${patches} patches: ${share(all)}; ${others}.`;
    meaning.textContent = rollout
      ? `A rollout follows attention back through the layers 0 to ${layer}: from which patches the token may have gathered something, directly or by way of other tokens. Each layer counts as half the mean of its heads and half the token itself, which every layer passes on.`
      : `In each layer, every head gives a token one weight per token, which says how much it takes from there. The weights sum to 1.`;
  });
}

function everyOf(count) {
  return Array.from({ length: count }, (_, i) => i);
}
