// The guided tour: twelve steps, each one sentence and one thing to do. It never takes over: everything
// else on the page works meanwhile, and leaving it keeps the step for later.

// `done(at, before)`: whether it has been done, given the store's values now and when the step began.
// `part` is what lights up.
function tourSteps({ L, H, N, D, P, Q, prefix }) {
  const heads = (edit) => Object.values(edit.heads).some((mode) => mode !== "on");
  return [
    { part: "picture", say: "The model turns a picture into one probability for each class, and all of it happens in this page.",
      task: "Choose another example, or bring a picture of your own.", done: (at, before) => at.picture !== before.picture },
    { part: "patches", say: `The picture is cut into ${N} patches of ${P}×${Q} pixels, which is all that the model sees of it.`,
      task: "Point at a patch of the picture and click, or move there with the arrow keys.", done: (at) => at.token >= prefix.length },
    { part: "tokens", say: `Each patch becomes a token, a row of ${D} numbers that also hold its position; ${prefix[0]} comes first and belongs to no patch.`,
      task: `Choose the ${prefix[0]}: the first row.`, done: (at) => at.token === 0 },
    { part: "heads", say: "In each block, every head decides how much a token takes from every other, and here you see it for the token that you follow.",
      task: `Choose another head, in the last block: ${L - 1}.`, done: (at, before) => at.cell >= (L - 1) * H && (at.cell !== before.cell) },
    { part: "head", say: "Patches ask, too, and often look at places that belong to them.",
      task: "In the large picture of this head, choose a patch that shows something.", done: (at) => at.token >= prefix.length },
    { part: "stream", say: "Blocks only ever add to a token, so that its numbers can be followed through depth, and usually grow.",
      task: `Follow the ${prefix[0]} again, from which the answer is read.`, done: (at) => at.token === 0 },
    { part: "lens", say: "Read by the model's own head after each block, the tokens show when the answer begins to form.",
      task: `Switch off block ${L - 1} and see what the answer loses.`, done: (at) => at.blocks[L - 1] === "off" },
    { part: "changes", say: "Every change is listed here with the probabilities before it, and can be taken back.",
      task: "Undo it.", done: (at) => !Object.keys(at.blocks).length },
    { part: "picture", say: "A hidden patch becomes the mean colour, so that what it showed is gone.",
      task: "Hide three patches that carry the answer: set a click to hide, or press the space bar on a patch.", done: (at) => at.hidden.length >= 3 },
    { part: "input", say: "The order of the patches reaches the model through the positions alone.",
      task: "Shuffle the patches, and then take the positions away: does the order still matter?", done: (at) => Boolean(at.order) && !at.positions },
    { part: "head", say: "A head that is switched off adds nothing, and others may make up for it.",
      task: "Reset, and then switch off any head.", done: (at) => heads(at) && !at.order },
    { part: "drops", say: "A single trial shows little, so compare all heads: which one does this answer need most?",
      task: "Press “Which head matters?”, and then try it with another picture.", done: (at) => Boolean(at.drops) },
  ];
}

// `name` is the key under which the browser remembers the step for the next visit.
function tourView(about, store, el, name) {
  const steps = tourSteps(about);
  let step = 0, before = {}, isOpen = false;
  try { step = Math.min(steps.length - 1, Number(localStorage.getItem(name)) || 0); } catch { /* a page may forbid it */ }
  const at = () => Object.fromEntries(TOURED.map((key) => [key, store.get(key)]));
  const words = element("p", { tabindex: -1, "data-part": "step" }), told = element("p", { class: "ve-done", role: "status" });
  const button = (text, act) => element("button", { type: "button", onclick: act }, text);
  const back = button("Back", () => go(step - 1)), next = button("Next", () => (step === steps.length - 1 ? leave(0) : go(step + 1)));
  const panel = element("div", { class: "ve-tour", role: "group", "aria-label": "Guided tour" }, words, told,
    element("div", { class: "vf-controls" }, back, next, button("Leave the tour", () => leave(step))));
  const start = button("", () => go(step));
  const remember = () => { try { localStorage.setItem(name, step); } catch { /* as above */ } };
  const light = (part) => {
    el.querySelectorAll("[data-lit]").forEach((one) => delete one.dataset.lit);
    if (part) el.querySelectorAll(`[data-tour~="${part}"]`).forEach((one) => { one.dataset.lit = ""; });
  };
  const check = () => {
    if (isOpen && !told.textContent && steps[step].done(at(), before)) told.textContent = "✓ Done. Look around, or go on.";
  };
  function go(to) {
    [step, isOpen, before] = [to, true, at()];
    remember();
    const { say, task, part } = steps[step];
    words.replaceChildren(element("strong", {}, `${step + 1} of ${steps.length} `), `${say} `, element("em", {}, task));
    told.textContent = "";
    back.disabled = step === 0;
    next.textContent = step === steps.length - 1 ? "Finish" : "Next";
    panel.hidden = false;
    start.hidden = true;
    light(part);
    el.querySelector("[data-lit]").scrollIntoView({ block: "nearest" });
    words.focus({ preventScroll: true }); // so that a screen reader reads it, and Tab goes on from here
    check();
  }
  function leave(to) {
    [step, isOpen] = [to, false];
    remember();
    panel.hidden = true;
    start.hidden = false;
    start.textContent = step ? `Go on with the tour: step ${step + 1} of ${steps.length}` : `Take the tour: ${steps.length} steps`;
    light();
    if (el.contains(document.activeElement) || document.activeElement === document.body) start.focus({ preventScroll: true });
  }
  panel.hidden = true;
  start.textContent = step ? `Go on with the tour: step ${step + 1} of ${steps.length}` : `Take the tour: ${steps.length} steps`;
  for (const key of TOURED) store.on(`change:${key}`, check);
  return [start, panel];
}

const TOURED = ["picture", "token", "cell", "hidden", "order", "positions", "heads", "blocks", "drops"];
