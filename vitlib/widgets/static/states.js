// States that a reader comes back to: the examples, one that was kept to compare, one in a link.

function examplePictures(about, store) {
  const options = about.examples.map((_, i) => [i, String(i)]);
  const group = choice(store, "picture", { label: "Example", options });
  group.querySelectorAll("label").forEach((label, i) => {
    const canvas = raster(about.width, about.height, "va-thumb"), colours = seenColours(about, { ...UNCHANGED, picture: i });
    paint(canvas, (k) => colours(Math.floor(k / about.width), k % about.width));
    label.replaceChildren(label.firstChild, canvas, element("span", { class: "vf-hidden" }, String(i)));
  });
  group.classList.add("ve-examples");
  group.hidden = about.examples.length < 2;
  return group;
}

// A picture of the reader's own: (C, H, W), from 0 to 1. Kept in 256 steps, as a link has it.
function ownPicture({ height, width, channels, mean, std }, pixels) {
  const area = height * width, bytes = new Uint8Array(pixels.length), input = new Float32Array(pixels.length);
  for (let c = 0; c < channels; c++)
    for (let k = 0; k < area; k++) {
      const step = Math.round(255 * pixels[c * area + k]);
      bytes[k * channels + c] = step;
      input[c * area + k] = (step / 255 - mean[c]) / std[c];
    }
  return { bytes, input };
}

// Clicks on its patches follow them or hide them, as the reader chose; the space bar hides.
function hidingPicker(about, store, picture) {
  const { rows, columns, prefix } = about;
  const box = picker(store, "token", {
    label: "Patch to follow; the space bar hides it", size: () => [rows, columns], first: prefix.length, keys: ["hidden"],
    describe: (patch) => about.names.token(patch + prefix.length) + (store.get("hidden").includes(patch) ? ", hidden" : ""),
  }, picture);
  const cell = () => store.get("token") - prefix.length;
  const hide = (patch, on) => {
    const hidden = store.get("hidden");
    if (patch < 0 || hidden.includes(patch) === on) return;
    store.set("hidden", on ? [...hidden, patch] : hidden.filter((one) => one !== patch));
  };
  let from = -1, on = true, drawn = false; // a stroke begins at a patch, and hides or shows all that it meets
  box.addEventListener("pointerdown", () => {
    if (store.get("click") === "hide") [from, on, drawn] = [cell(), !store.get("hidden").includes(cell()), false];
  });
  box.addEventListener("pointermove", () => {
    if (from < 0 || cell() === from && !drawn) return;
    drawn = true;
    hide(from, on);
    hide(cell(), on);
  });
  box.addEventListener("click", () => {
    if (from >= 0 && !drawn) hide(from, on);
    from = -1;
  });
  box.addEventListener("pointercancel", () => { from = -1; });
  box.addEventListener("pointerleave", ({ pointerType }) => { if (pointerType === "mouse") from = -1; }); // a finger leaves before it clicks
  box.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    if (!event.repeat) hide(cell(), !store.get("hidden").includes(cell()));
  });
  return box;
}

// Two states side by side: the one that was kept, and the present one.
function compareView(about, store, button, restore) {
  const card = (title) => {
    const input = pictureView(about), answer = answerView(about), changes = element("p"), said = element("p"), map = raster(about.columns, about.rows);
    const draw = (shown) => {
      const { edit, now } = shown, cell = store.get("cell");
      const weights = weightsOf(about, now, Math.floor(cell / about.H), cell % about.H, store.get("token")).subarray(about.prefix.length);
      const most = Math.max(...weights) || 1;
      input.draw(edit);
      answer.draw(shown);
      paint(map, (i) => diverging(weights[i] / most));
      changes.textContent = toldChanges(edit, about).map(([words]) => words).join("; ") || "Nothing is changed.";
      said.textContent = verdict(about, shown);
    };
    const size = `aspect-ratio:${about.width}/${about.height}`;
    return { draw, element: element("div", { role: "group", "aria-label": title }, element("h4", {}, title), changes,
      element("div", { class: "ve-duo" }, element("div", { style: size }, input.element), element("div", { style: size, class: "va-map" }, map)), said, answer.element) };
  };
  const kept = card("Kept"), present = card("Now");
  const whole = element("section", { class: "ve-compare", "aria-label": "Two states side by side", "data-part": "compare" },
    element("div", { class: "ve-pair" }, kept.element, present.element),
    element("p", { class: "vf-caption" }, "Beside each picture: the attention of the chosen head and token."),
    element("div", { class: "vf-controls" },
      button("Go back to the kept state", () => restore(store.get("kept").edit)), button("Stop comparing", () => store.set("kept", null))));
  const draw = (shown) => {
    const before = store.get("kept");
    whole.hidden = !before;
    if (!before) return;
    kept.draw(before);
    present.draw(shown);
  };
  return { element: whole, draw };
}

// --- a state in the fragment of the page's address: what is changed, what is looked at, and a small
// picture of the reader's own. The model's checksum says which figure it is meant for.

const LINKED_PIXELS = 4096; // a link has room for so many numbers

function linkView(about, store, button, snapshot, restore, note) {
  const start = `#explorer-${about.key}=`;
  const field = element("input", { type: "text", readonly: "", "aria-label": "Link to this state", onfocus: () => field.select() });
  field.hidden = true;
  const make = async () => {
    const edit = snapshot(), own = typeof edit.picture !== "number", pixels = about.pictureOf(edit.picture).bytes;
    if (own && pixels.length > LINKED_PIXELS) {
      note.textContent = "A picture of your own, of this size, does not fit in a link: choose an example.";
      return;
    }
    const changed = EDIT.filter((key) => JSON.stringify(edit[key]) !== JSON.stringify(UNCHANGED[key]));
    const state = { ...Object.fromEntries(changed.map((key) => [key, edit[key]])), token: store.get("token"), cell: store.get("cell") };
    if (own) [state.picture, state.own] = [0, btoa(String.fromCharCode(...pixels))];
    const url = location.href.split("#")[0] + start + encodeURIComponent(JSON.stringify(state));
    try { history.replaceState(history.state, "", url); } catch { /* not every page has an address of its own */ }
    field.hidden = false;
    field.value = url;
    field.focus();
    try {
      await navigator.clipboard.writeText(url);
      note.textContent = "The link to this state is copied.";
    } catch {
      note.textContent = "This is the link to this state.";
    }
    if (own) note.textContent += " It holds your picture.";
  };
  const open = () => {
    if (!location.hash.startsWith(start)) return;
    try {
      const { own, token, cell, ...changed } = JSON.parse(decodeURIComponent(location.hash.slice(start.length)));
      const edit = { picture: 0, ...UNCHANGED, ...changed };
      checkState(about, { ...edit, token, cell, own });
      if (own) edit.picture = ownPicture(about, toPlanes(about, Uint8Array.from(atob(own), (c) => c.charCodeAt(0))));
      restore({ ...edit, token, cell });
      field.closest(".vitlib-figure").scrollIntoView();
    } catch {
      note.textContent = "The link in the page's address could not be read, so that the explorer starts anew.";
    }
  };
  addEventListener("hashchange", open);
  return { element: field, button: button("Link", make), open, close: () => removeEventListener("hashchange", open) };
}

// (H, W, C) in bytes -> (C, H, W) from 0 to 1
function toPlanes({ height, width, channels }, bytes) {
  const area = height * width;
  return Float32Array.from(bytes, (_, k) => bytes[(k % area) * channels + Math.floor(k / area)] / 255);
}

// Throws unless the state, which anyone may have written, is one of this figure.
function checkState({ examples, L, H, N, T }, { picture, hidden, order, positions, heads, blocks, temperature, entry, token, cell, own, ...others }) {
  const within = (value, count) => Number.isInteger(value) && value >= 0 && value < count;
  const table = (entries, count, modes) => Object.entries(entries).every(([key, mode]) => within(Number(key), count) && modes.includes(mode));
  const unique = (list) => Array.isArray(list) && new Set(list).size === list.length && list.every((one) => within(one, N));
  const valid = !Object.keys(others).length
    && within(picture, examples.length) && (own === undefined || atob(own).length === examples[0].bytes.length)
    && unique(hidden) && (order === null || (unique(order) && order.length === N)) && typeof positions === "boolean"
    && table(heads, L * H, ["off", "uniform"]) && table(blocks, L, ["off", "attention", "mlp"])
    && TEMPERATURES.includes(temperature) && within(entry, L + 1) && within(token, T) && within(cell, L * H);
  if (!valid) throw new Error("not a state of this figure");
}
