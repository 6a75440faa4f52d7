// The explorer: what a reader chooses and changes, and what the model makes of it.
//
//     store -> edit -> changes (vit.js) -> engine.js -> a result -> views.js
//
// An edit is all that the answer depends on: the picture (an example's number, or the reader's own, as
// { bytes, input }) and the interventions. Undo, links and comparisons are made of edits, which never
// change; the store holds the parts of the present one, and what the reader looks at.

const UNCHANGED = { hidden: [], order: null, positions: true, heads: {}, blocks: {}, temperature: 1, entry: 0 };
const EDIT = ["picture", ...Object.keys(UNCHANGED)];
const TEMPERATURES = [0.1, 0.25, 0.5, 1, 2, 4, 10];

// `heads`: "off" or "uniform" by cell; `blocks`: "off", or the half that is, by block.
function changesOf({ hidden, order, positions, heads, blocks, temperature, entry }, { H }) {
  return [
    ...(order ? [{ change: "permute", order }] : []),
    ...(hidden.length ? [{ change: "occlude", patches: hidden }] : []),
    ...(positions ? [] : [{ change: "noPositions" }]),
    ...Object.entries(heads).map(([cell, mode]) => ({ change: mode === "off" ? "headsOff" : "uniform", layer: Math.floor(cell / H), heads: [cell % H] })),
    ...Object.entries(blocks).map(([layer, part]) => ({ change: "blockOff", layer: Number(layer), ...(part === "off" ? {} : { part }) })),
    ...(temperature === 1 ? [] : [{ change: "temperature", value: temperature }]),
    ...(entry ? [{ change: "late", layer: entry }] : []),
  ];
}

// The same in words, each with what takes it back.
function toldChanges(edit, about) {
  const { hidden, order, positions, heads, blocks, temperature, entry } = edit, { L, H } = about;
  const without = (table, key) => Object.fromEntries(Object.entries(table).filter(([one]) => one !== key));
  return [
    ...(order ? [["Patches shuffled", { order: null }]] : []),
    ...(hidden.length ? [[`${hidden.length} ${hidden.length === 1 ? "patch" : "patches"} hidden`, { hidden: [] }]] : []),
    ...(positions ? [] : [["No positions", { positions: true }]]),
    ...Object.entries(heads).map(([cell, mode]) => [`Block ${Math.floor(cell / H)}, head ${cell % H} ${mode === "off" ? "off" : "attends evenly"}`, { heads: without(heads, cell) }]),
    ...Object.entries(blocks).map(([layer, part]) => [`Block ${layer}${{ off: "", attention: ", attention", mlp: ", MLP" }[part]} off`, { blocks: without(blocks, layer) }]),
    ...(temperature === 1 ? [] : [[`Temperature ${temperature}`, { temperature: 1 }]]),
    ...(entry ? [[entry === L ? "Class token kept out" : `Class token enters at block ${entry}`, { entry: 0 }]] : []),
  ];
}

function render({ model, el }) {
  frame(model, el).classList.add("ve-explorer");
  if (model.get("obstacle")) {
    el.append(element("p", {}, model.get("obstacle")));
    return undefined;
  }
  const about = aboutModel(model), { L, H, N, prefix, names } = about;
  const store = standIn({ picture: 0, ...UNCHANGED, token: 0, cell: (L - 1) * H, click: "follow", drops: null, kept: null });
  const set = (values) => { for (const [key, value] of Object.entries(values)) store.set(key, value); };
  const snapshot = () => Object.fromEntries(EDIT.map((key) => [key, store.get(key)]));

  // --- from an edit to a result

  const engine = startEngine(uint8(model, "weights").slice());
  const plain = new WeakMap(); // results without changes, by picture
  const first = firstResult(model, about);
  let current = snapshot(), shown = { edit: current, now: first, plain: first }, busy = false, stale = false;

  async function result(edit) {
    const one = about.pictureOf(edit.picture), changes = changesOf(edit, about);
    if (!plain.has(one)) plain.set(one, await engine.run(one.input, []));
    const before = plain.get(one);
    return { edit, plain: before, now: changes.length ? await engine.run(one.input, changes) : before };
  }
  const fail = ({ message }) => { note.textContent = `This could not be computed: ${message}`; };
  async function refresh() {
    stale = true;
    if (busy) return;
    busy = true;
    el.setAttribute("aria-busy", "true");
    while (stale) {
      stale = false;
      try {
        shown = await result(current);
        draw();
      } catch (error) {
        fail(error);
      }
    }
    busy = false;
    el.setAttribute("aria-busy", "false");
  }

  // --- undo: all that one gesture changes is one step

  const past = [];
  let gesture = 0, last = null, waiting = false;
  for (const kind of ["pointerdown", "keydown", "change"]) el.addEventListener(kind, (event) => { if (!event.repeat) gesture++; }, true);
  const commit = (isUndo = false) => {
    waiting = false;
    const next = snapshot(), changed = EDIT.filter((key) => next[key] !== current[key]).join();
    if (!changed) return;
    if (!isUndo && last !== `${gesture} ${changed}`) past.push(current);
    last = isUndo ? null : `${gesture} ${changed}`;
    current = next;
    store.set("drops", null); // they belong to what was, as the note does
    note.textContent = "";
    drawEdit();
    refresh();
  };
  for (const key of EDIT) store.on(`change:${key}`, () => {
    if (!waiting) queueMicrotask(commit);
    waiting = true;
  });
  const undo = () => {
    let back; // a gesture may have led back to where it began
    do back = past.pop(); while (past.length && EDIT.every((key) => back[key] === current[key]));
    set(back);
    commit(true);
    drawEdit();
  };

  // --- the parts

  const button = (text, act, options = {}) => element("button", { type: "button", onclick: act, ...options }, text);
  const note = element("p", { class: "ve-note", role: "status", "data-part": "note" });
  const byChoice = [headsView(about, store), headView(about, store), importanceView(about, store), streamView(about, store)];
  const byResult = [patchesView(about), tokensView(about, store), lensView(about), answerView(about)]; // whoever is looked at
  const [[heads, head, importance, stream], [patches, tokens, lens, answer]] = [byChoice, byResult].map((views) => views.map((view) => view.element));
  const said = statusLine();
  said.classList.add("ve-verdict");
  const followed = element("p", { class: "ve-followed", "data-part": "token" });
  const look = () => {
    for (const view of [...byChoice, comparison]) view.draw(shown);
    followed.textContent = store.get("token") < prefix.length ? "or point at a patch" : `${names.token(store.get("token"))} is followed`;
  };
  const draw = () => {
    for (const view of byResult) view.draw(shown);
    said.textContent = verdict(about, shown);
    look();
  };

  const input = pictureView(about);
  const shownPicture = hidingPicker(about, store, input.element);
  const clicks = element("p", { class: "vf-caption" });
  observe(store, ["click"], () => {
    clicks.textContent = store.get("click") === "hide" ? "Click on patches, or draw over them, to hide them or to bring them back." : "Point at a patch to see what becomes of it; a click keeps it.";
  });
  const examples = examplePictures(about, store);
  const pad = picture().pictureInput({
    model: { C: about.channels, height: about.height, width: about.width, mean: about.mean, std: about.std },
    onPicture: ({ pixels }) => set({ picture: ownPicture(about, pixels) }),
  });
  const own = element("details", { class: "ve-own" }, element("summary", {}, "Draw, or bring a picture"), pad.element);
  own.open = about.examples.length < 2;
  const shuffle = () => {
    const order = everyOf(N);
    for (let i = N - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    set({ order });
  };
  const headMode = tableEntry(store, "heads", () => store.get("cell"));
  const blockMode = tableEntry(store, "blocks", () => Math.floor(store.get("cell") / H));
  const onlyHead = () => {
    const cell = store.get("cell"), block = Math.floor(cell / H), others = everyOf(H).map((one) => block * H + one).filter((one) => one !== cell);
    const kept = Object.entries(store.get("heads")).filter(([one]) => Math.floor(one / H) !== block);
    set({ heads: Object.fromEntries([...kept, ...others.map((one) => [one, "off"])]) });
  };
  const onlyBlock = () => {
    const block = Math.floor(store.get("cell") / H);
    set({ blocks: Object.fromEntries(everyOf(L).filter((one) => one !== block).map((one) => [one, "off"])) });
  };
  const which = button("Which head matters?", measureHeads);
  async function measureHeads() {
    which.disabled = true;
    try {
      const edit = current, { now } = await result(edit), k = best(now.lens[L]), drops = everyOf(L * H).map(() => undefined);
      for (const cell of everyOf(L * H)) {
        const without = await engine.run(about.pictureOf(edit.picture).input, changesOf({ ...edit, heads: { ...edit.heads, [cell]: "off" } }, about));
        if (edit !== current) return; // the reader went on
        drops[cell] = now.lens[L][k] - without.lens[L][k];
        store.set("drops", [...drops]);
      }
      const most = best(drops);
      note.textContent = `${names.head(most)[0].toUpperCase()}${names.head(most).slice(1)} matters most for ${about.classes[k]}: without it, ${points(drops[most])} percentage points are lost.`;
    } catch (error) {
      fail(error);
    } finally {
      which.disabled = false;
    }
  }

  const changeList = element("ul", { class: "ve-changes", "data-part": "changes" });
  const undoButton = button("Undo", undo), resetButton = button("Reset", () => set(UNCHANGED));
  const drawEdit = () => {
    input.draw(current);
    const told = toldChanges(current, about);
    changeList.replaceChildren(...(told.length ? told : [["Nothing is changed.", null]]).map(([words, back]) =>
      element("li", {}, words, ...(back ? [" ", button("×", () => set(back), { "aria-label": `Take back: ${words}` })] : []))));
    undoButton.disabled = !past.length;
    resetButton.disabled = !told.length;
  };
  const comparison = compareView(about, store, button, (edit) => set(edit));
  const keep = button("Keep to compare", () => store.set("kept", shown));

  const link = linkView(about, store, button, snapshot, set, note);
  const tour = tourView(about, store, el, `vitlib-tour-${about.key}`);

  el.append(
    ...tour,
    element("div", { class: "ve-columns" },
      element("section", { class: "ve-input", "aria-label": "Picture", "data-tour": "input" },
        element("h4", {}, "Picture"), examples, own,
        element("div", { "data-tour": "picture" }, shownPicture,
          choice(store, "click", { label: "A click", options: [["follow", "follows"], ["hide", "hides"]] }), clicks),
        element("div", { class: "vf-controls" }, button("Shuffle patches", shuffle)),
        ...(about.hasPositions ? [choice(store, "positions", { label: "Positions", options: [[true, "on"], [false, "off"]] })] : [])),
      element("section", { class: "ve-result", "aria-label": "Answer" },
        element("h4", {}, "Answer"), answer,
        element("div", { "data-tour": "changes" },
          changeList, element("div", { class: "vf-controls" }, undoButton, resetButton, keep, link.button)),
        link.element, note),
      element("section", { class: "ve-flow", "aria-label": "Through the model" },
        choice(store, "token", { label: "Follow", options: prefix.map((words, token) => [token, words]) }), followed,
        element("div", { class: "ve-first" },
          element("div", { "data-tour": "patches" }, element("h4", {}, `${N} patches`), patches),
          element("div", { "data-tour": "tokens" }, element("h4", {}, `${about.T} tokens of ${about.D} numbers`), tokens)),
        element("h4", {}, "Attention"),
        element("div", { class: "ve-attention" },
          element("div", {}, element("div", { "data-tour": "heads" }, heads), element("div", { "data-tour": "drops" }, which, importance)),
          element("div", { "data-tour": "head" }, head,
            choice(headMode, "head", { label: "This head", options: [["on", "as trained"], ["off", "off"], ["uniform", "even"]] }),
            choice(blockMode, "block", { label: "Its block", options: [["on", "as trained"], ["off", "off"], ["attention", "attention off"], ["mlp", "MLP off"]] }),
            element("div", { class: "vf-controls" }, button("Only this head in its block", onlyHead), button("Only this block", onlyBlock)))),
        element("div", { class: "vf-controls" },
          slider(store, "temperature", { label: "Softmax temperature, all heads", values: TEMPERATURES }),
          slider(store, "entry", { label: "The class token enters", values: everyOf(L + 1), show: (layer) => (layer === L ? "never" : layer ? `at block ${layer}` : "at the start") })),
        element("div", { "data-tour": "stream" }, element("h4", {}, "Residual stream"), stream),
        element("div", { "data-tour": "lens" }, element("h4", {}, "Logit lens: per cent for each class"), lens))),
    comparison.element,
    element("p", { class: "vf-caption" }, `Everything is counted from 0. This page holds the model, ${(about.bytes / 1e6).toFixed(2)} MB in half precision, and computes all of it here: no picture leaves it.`),
    said,
  );

  for (const key of ["token", "cell", "drops", "kept"]) store.on(`change:${key}`, look);
  drawEdit();
  draw();
  link.open();
  refresh();
  return () => {
    engine.close();
    link.close();
  };
}

// What the figure knows of its model, before that is loaded.
function aboutModel(model) {
  const [height, width, channels] = model.get("shape"), [rows, columns] = model.get("grid"), [L, H, D] = model.get("sizes");
  const prefix = model.get("prefix"), N = rows * columns, size = height * width * channels;
  const weights = uint8(model, "weights"), floats = float32(model, "images"), pixels = uint8(model, "pixels");
  const count = floats.length / size;
  const about = {
    classes: model.get("classes"), prefix, height, width, channels, rows, columns, L, H, D, N, T: prefix.length + N, P: height / rows, Q: width / columns,
    mean: model.get("mean"), std: model.get("std"), hasPositions: model.get("has_positions"), bytes: weights.length,
    key: [...weights.subarray(4, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join(""), // the file's checksum
    examples: everyOf(count).map((i) => ({
      input: floats.slice(i * size, (i + 1) * size), // (C, H, W), normalised
      bytes: pixels.slice(i * size, (i + 1) * size), // (H, W, C)
    })),
  };
  about.pictureOf = (picture) => (typeof picture === "number" ? about.examples[picture] : picture);
  about.names = namesOf(about);
  return about;
}

// What torch computed of the first picture: see the trait `first`.
function firstResult(model, { L, H, T, D, classes }) {
  const bytes = uint8(model, "first"), numbers = vit().fromHalf(new Uint16Array(bytes.slice().buffer));
  let end = 0;
  const take = (count, length) => everyOf(count).map(() => numbers.slice(end, (end += length)));
  return { tokens: take(L + 1, T * D), attention: take(L, H * T * T), lens: take(L + 1, classes.length) };
}

// One entry of a table in the store, as the controls of figure.js take it; "on" is no entry.
function tableEntry(store, key, index) {
  return {
    get: () => store.get(key)[index()] ?? "on",
    set(_, value) {
      const { [index()]: _before, ...others } = store.get(key);
      store.set(key, value === "on" ? others : { ...others, [index()]: value });
    },
    on(_, listener) {
      store.on(`change:${key}`, listener);
      store.on("change:cell", listener);
    },
    save_changes() {},
  };
}
