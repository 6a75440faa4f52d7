// The explorer's model at work, away from the page: in a worker, or where a page forbids those, between
// two frames. `vit` is the function that vit.js has become (figure.py), so that its text stands in the
// page once and can be given to a worker, which loads nothing.

// A result: `tokens`, (T, D) before the first block and after each; `attention`, (H, T, T) of each
// block; `lens`, (K) probabilities that the head reads off each of `tokens`, the last being the answer.
function calculator({ load, forward, lens }, bytes) {
  const model = load(bytes);
  const softmax = (logits) => {
    const most = logits.reduce((a, b) => Math.max(a, b)), powers = logits.map((logit) => Math.exp(logit - most));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map((power) => power / sum);
  };
  return (pixels, changes) => {
    const { tokens, attention, kept } = forward(model, pixels, { changes, keep: ["start"] });
    const stream = [kept.start[0], ...tokens];
    return { tokens: stream, attention, lens: stream.map((x) => softmax(lens(model, x))) };
  };
}

function serve(run) {
  onmessage = ({ data: { number, pixels, changes } }) => {
    try {
      const result = run(pixels, changes);
      postMessage({ number, result }, Object.values(result).flat().map((array) => array.buffer));
    } catch (error) {
      postMessage({ number, error: error.message });
    }
  };
}

// run(pixels, changes) -> a promise of a result; one after the other, in the order asked.
function startEngine(bytes) {
  const open = new Map(); // the questions that have no answer yet
  let worker, here, count = 0;
  const settle = ({ number, result, error }) => {
    const { resolve, reject } = open.get(number);
    open.delete(number);
    if (error) reject(new Error(error));
    else resolve(result);
  };
  const answerHere = (number) => setTimeout(() => {
    if (!open.has(number)) return; // the figure was closed
    const { pixels, changes } = open.get(number);
    try {
      here ??= calculator(vit(), bytes);
      settle({ number, result: here(pixels, changes) });
    } catch ({ message }) {
      settle({ number, error: message });
    }
  });
  const withoutWorker = () => {
    worker = null;
    for (const number of open.keys()) answerHere(number);
  };
  try {
    const source = `let run;
      const start = ${calculator}; const vit = ${vit};
      onmessage = ({ data }) => { (${serve})(start(vit(), data)); };`;
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    worker = new Worker(url);
    worker.onmessage = ({ data }) => settle(data);
    worker.onerror = withoutWorker; // a page's security policy may speak late
    worker.postMessage(bytes);
  } catch {
    worker = null;
  }
  return {
    run: (pixels, changes) => new Promise((resolve, reject) => {
      const number = count++;
      open.set(number, { pixels, changes, resolve, reject });
      if (worker) worker.postMessage({ number, pixels, changes });
      else answerHere(number);
    }),
    close() {
      worker?.terminate();
      open.clear();
    },
  };
}
