// The guided tour: twelve steps, each one sentence and one thing to do. It never takes over: everything
// else on the page works meanwhile, and leaving it keeps the step for later.

// `done(at, before)`: whether it has been done, given the store's values now and when the step began.
// `part` names what lights up.
function tourSteps({ L, H, N, D, P, Q, prefix }) {
  return [
    { part: "input", say: "This model turns a picture into one probability for each class, and it runs right here in the page.",
      task: "Choose another example, or draw one of your own.", done: (at, before) => at.picture !== before.picture },
    { part: "picture patches", say: `The picture is cut into ${N} patches of ${P}×${Q} pixels.`,
      task: "Click on a patch of the picture, or move there with the arrow keys: it is followed from here on.", done: (at) => at.token >= prefix.length },
    { part: "tokens", say: `Each patch becomes a token, a row of ${D} numbers that also carry its position; the ${prefix[0]}, which belongs to no patch, comes first.`,
      task: `Choose the first row, the ${prefix[0]}.`, done: (at) => at.token === 0 },
    { part: "heads", say: "In every block, each head gives a token one weight per token, which says how much it takes from there; the grid shows those of the followed token on the patches.",
      task: `Choose another head, in the last block: ${L - 1}.`, done: (at, before) => at.cell >= (L - 1) * H && at.cell !== before.cell },
    { part: "head", say: "Every patch has weights of its own.",
      task: `In the large picture, choose a patch and see how its weights differ from those of the ${prefix[0]}.`, done: (at) => at.token >= prefix.length },
    { part: "stream", say: "Blocks only add to a token, so its numbers can be followed from the start to the end.",
      task: `Follow the ${prefix[0]} again.`, done: (at) => at.token === 0 },
    { part: "lens", say: "The model's own head can read the tokens after every block, which shows where the answer begins to form.",
      task: `Switch off block ${L - 1} and see what becomes of the answer.`, done: (at) => at.blocks[L - 1] === "off" },
    { part: "changes", say: "Each change is listed here, and every probability stands beside the one without changes.",
      task: "Press Undo.", done: (at) => !Object.keys(at.blocks).length },
    { part: "picture", say: "A hidden patch takes the mean colour, so what it showed is gone.",
      task: "Hide three patches: set a click to “hides”, or press the space bar on a patch. Can you change the answer?", done: (at) => at.hidden.length >= 3 },
    { part: "input", say: "The order of the patches reaches the model only through the positions.",
      task: "Reset, switch the positions off, and shuffle the patches twice: the answer stays the same.", done: (at) => Boolean(at.order) && !at.positions && !at.hidden.length },
    { part: "head", say: "A head that is switched off adds nothing to the tokens.",
      task: "Reset, and switch off any head.", done: (at) => Object.values(at.heads).includes("off") && !at.order },
    { part: "drops", say: "To compare all heads, each is switched off in turn.",
      task: "Press “Which head matters?” and see what the answer loses without each of them.", done: (at) => Boolean(at.drops) },
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
  const offer = () => { start.textContent = step ? `Go on with the tour: step ${step + 1} of ${steps.length}` : `Take the tour: ${steps.length} steps`; };
  const remember = () => { try { localStorage.setItem(name, step); } catch { /* as above */ } };
  const light = (part) => {
    for (const one of el.querySelectorAll("[data-tour]")) one.toggleAttribute("data-lit", part.split(" ").includes(one.dataset.tour));
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
    offer();
    light("");
    start.focus({ preventScroll: true });
  }
  panel.hidden = true;
  offer();
  for (const key of TOURED) store.on(`change:${key}`, check);
  return [start, panel];
}

const TOURED = ["picture", "token", "cell", "hidden", "order", "positions", "heads", "blocks", "drops"];
