// A Vision Transformer's forward pass in plain JavaScript, to be read beside vitlib's Python.
//
//     pixels (C, H, W) -> patches (N, C·P·P) -> tokens (T, D) -> depth × block -> norm -> pool -> heads
//
//     const model = load(bytes);  // a Uint8Array: the file that Explorer(model).save_weights(path) wrote
//     const { logits, tokens, attention } = forward(model, pixels);  // normalised by model.mean, model.std
//
//     logits        (K)        distilled: the mean of both heads; without a head, what it would get
//     tokens[l]     (T, D)     the residual stream after block l, not normalised: as Python's
//                              model.forward_intermediates(images)[l]
//     attention[l]  (H, T, T)  the weights of block l: head, query, key; each row sums to 1
//
// T counts the class token, the distillation token and the registers, if any, in this order, and then
// the N patches, row by row. Every array is a Float32Array, row by row, and the caller's to keep.
//
// `forward` takes a third argument of plain values, which can be sent to a worker or stored:
// { changes: [{ change: "headsOff", layer: 0, heads: [1] }, ...], keep: ["scores", ...] }.
// `changes` are interventions, applied in the order given: see CHANGES. `keep` names stages whose
// values come back as well, as kept.scores[l], or kept.patches[0] outside the blocks: see STAGES.

export const STAGES = {
  patches: "(N, C·P·P): the picture, cut",
  embedded: "(N, D): the patches as tokens",
  positions: "(T, D): what is added to the tokens, if the model has positions",
  start: "(T, D): what the first block gets",
  // one for each block
  norm1: "(T, D): what attention gets",
  qkv: "(T, 3·D): queries, keys and values, of all heads each",
  scores: "(H, T, T): q · k, scaled",
  attention: "(H, T, T): their softmax over the keys, the result's `attention`",
  mixed: "(T, D): attention · v, the heads side by side",
  attnOut: "(T, D): what attention adds to the tokens",
  norm2: "(T, D): what the MLP gets",
  hidden: "(T, hidden): after the GELU",
  mlpOut: "(T, D): what the MLP adds to the tokens",
  tokens: "(T, D): after the block, the result's `tokens`",
  // at the end
  normed: "(T, D): after the final norm, if it comes before pooling",
  pooled: "(1, width), distilled (2, width): what each head gets",
  answers: "(1, K), distilled (2, K): what each head says",
};

// --- the file, as vitlib/widgets/explorer.py writes it

// The model in it, for `forward`, with `classes`, `mean` and `std` (null if unknown). `simd: false`
// multiplies matrices in plain JavaScript, which takes several times as long: benchmarks/vit_js.py.
export function load(bytes, { simd = true } = {}) {
  if (!(bytes instanceof Uint8Array)) throw new Error("expected a file of weights as a Uint8Array");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (new TextDecoder().decode(bytes.subarray(0, 4)) !== "ViT1") {
    throw new Error("this is no file of weights, or one of another format: expected what Explorer(model).save_weights(path) wrote");
  }
  if (bytes.length < 12 || view.getUint32(4, true) !== crc32(bytes.subarray(8))) {
    throw new Error(`the file of weights is damaged or cut off: the checksum does not match its ${bytes.length} bytes`);
  }
  let end = 12 + view.getUint32(8, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(12, end)));
  const weights = {}, shapes = {};
  for (const [name, shape] of header.tensors) { // one after the other, in half precision
    const start = end;
    end += 2 * shape.reduce((product, length) => product * length, 1);
    weights[name] = fromHalf(new Uint16Array(bytes.slice(start, end).buffer));
    shapes[name] = shape;
  }

  const { classes, mean, std, img_size: [height, width], num_heads: H, depth, scale, eps, global_pool } = header;
  const [D, C, P, Q] = shapes["patch_embed.proj.weight"]; // a patch is P × Q pixels
  const N = (height / P) * (width / Q);
  const prefix = ["cls_token", "dist_token", "reg_token"].filter((name) => name in weights);
  const T = prefix.reduce((count, name) => count + shapes[name][1], N);
  const matrices = Object.keys(shapes).filter((name) => name.endsWith(".weight") && shapes[name].length > 1);
  const fast = simd ? simdProduct(matrices.map((name) => [weights[name], shapes[name][0]])) : null;
  const average = global_pool === "avg";
  return { weights, shapes, classes, mean, std, prefix, C, height, width, P, Q, N, T, D, H, depth, scale, eps, average, fast };
}

// CRC-32, as in zip files and Python's zlib
function crc32(bytes) {
  const table = Int32Array.from({ length: 256 }, (_, entry) => {
    for (let bit = 0; bit < 8; bit++) entry = entry & 1 ? 0xedb88320 ^ (entry >>> 1) : entry >>> 1;
    return entry;
  });
  let crc = -1;
  for (let k = 0; k < bytes.length; k++) crc = table[(crc ^ bytes[k]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// Half precision: a sign, five bits of exponent, ten of fraction. None is infinite or NaN here.
export function fromHalf(halves) {
  const powers = Array.from({ length: 31 }, (_, exponent) => 2 ** (exponent - 15));
  return Float32Array.from(halves, (half) => {
    const exponent = (half >> 10) & 31, fraction = (half & 1023) / 1024;
    const size = exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * powers[exponent];
    return half >> 15 ? -size : size;
  });
}

// --- the model, from pixels to logits (vitlib/model.py, patch.py)

export function forward(model, pixels, { changes = [], keep = [] } = {}) {
  const { C, height, width, depth } = model;
  if (pixels?.length !== C * height * width) {
    throw new Error(`expected ${C * height * width} pixels (${C} × ${height} × ${width}), got ${pixels?.length ?? typeof pixels}`);
  }
  const { at, kept } = stages(model, changes, keep);
  let x = at("start", embed(model, pixels, at));
  for (let layer = 0; layer < depth; layer++) x = block(model, x, layer, at);
  const logits = readOut(model, x, at);
  return { logits, tokens: kept.tokens, attention: kept.attention, kept };
}

function embed(model, pixels, at) {
  const { weights, prefix, T, N, D } = model;
  const patches = linear(model, at("patches", patchify(model, pixels)), "patch_embed.proj");
  const x = new Float32Array(T * D);
  let end = 0;
  for (const part of [...prefix.map((name) => weights[name]), at("embedded", patches)]) {
    x.set(part, end);
    end += part.length;
  }
  if (!weights.pos_embed) return x;
  const positions = new Float32Array(T * D); // with no_embed_class, the prefix tokens have none
  positions.set(weights.pos_embed, positions.length - weights.pos_embed.length);
  return add(x, at("positions", positions));
}

// (C, H, W) -> (N, C·P·Q), patches and pixels row by row
function patchify({ C, height, width, P, Q, N }, pixels) {
  const patches = new Float32Array(N * C * P * Q);
  let k = 0;
  for (let top = 0; top < height; top += P)
    for (let left = 0; left < width; left += Q)
      for (let c = 0; c < C; c++)
        for (let row = top; row < top + P; row++)
          for (let column = left; column < left + Q; column++)
            patches[k++] = pixels[(c * height + row) * width + column];
  return patches;
}

// What the head makes of any block's tokens, `tokens[l]`: logits (K), for the logit lens.
export function lens(model, tokens) {
  return readOut(model, tokens, (_, values) => values);
}

// The final norm comes before pooling, or after it (fc_norm); a layer that a model lacks changes nothing.
function readOut(model, x, at) {
  const { prefix, T, N, D, average } = model;
  const normed = at("normed", layerNorm(model, x.slice(), "norm"));
  const heads = prefix.includes("dist_token") ? ["head", "head_dist"] : ["head"]; // they read tokens 0 and 1
  let pooled = normed.slice(0, heads.length * D);
  if (average) {
    pooled.fill(0);
    for (let k = (T - N) * D; k < T * D; k++) pooled[k % D] += normed[k] / N;
  }
  pooled = linear(model, layerNorm(model, pooled, "fc_norm"), "pre_logits.fc");
  if (model.weights["pre_logits.fc.weight"]) pooled = pooled.map(Math.tanh);
  at("pooled", pooled);
  const width = pooled.length / heads.length;
  const each = heads.map((name, i) => linear(model, pooled.slice(i * width, (i + 1) * width), name));
  const answers = at("answers", Float32Array.from(each.flatMap((row) => [...row])));
  const K = answers.length / heads.length;
  return Float32Array.from({ length: K }, (_, k) => heads.reduce((sum, _, i) => sum + answers[i * K + k], 0) / heads.length);
}

// --- one block (vitlib/blocks.py, attention.py)

// x + attention(norm1(x)), then x + mlp(norm2(x)), in place
function block(model, x, layer, at) {
  const name = `blocks.${layer}`;
  const quiet = at("norm1", layerNorm(model, x.slice(), `${name}.norm1`), layer);
  add(x, at("attnOut", layerScale(model, attention(model, quiet, layer, at), `${name}.ls1`), layer));

  const read = at("norm2", layerNorm(model, x.slice(), `${name}.norm2`), layer);
  const hidden = at("hidden", gelu(linear(model, read, `${name}.mlp.fc1`)), layer);
  add(x, at("mlpOut", layerScale(model, linear(model, hidden, `${name}.mlp.fc2`), `${name}.ls2`), layer));
  return at("tokens", x, layer);
}

function attention(model, x, layer, at) {
  const { T, D, H, scale } = model, d = D / H, name = `blocks.${layer}.attn`;
  const qkv = at("qkv", linear(model, x, `${name}.qkv`), layer);
  const part = (which, head) => { // q, k or v (0, 1, 2) of one head: (T, d)
    const rows = new Float32Array(T * d), first = which * D + head * d;
    for (let n = 0; n < T; n++) rows.set(qkv.subarray(n * 3 * D + first, n * 3 * D + first + d), n * d);
    return rows;
  };
  const scores = new Float32Array(H * T * T), mixed = new Float32Array(T * D);
  for (let head = 0; head < H; head++) {
    const q = part(0, head).map((value) => value * scale);
    scores.set(product(model, q, part(1, head), T), head * T * T); // q · kᵀ
  }
  const weights = at("attention", softmax(at("scores", scores, layer), T), layer);
  for (let head = 0; head < H; head++) {
    const rows = product(model, weights.subarray(head * T * T, (head + 1) * T * T), transposed(part(2, head), d), d); // weights · v
    for (let n = 0; n < T; n++) mixed.set(rows.subarray(n * d, (n + 1) * d), n * D + head * d);
  }
  return linear(model, at("mixed", mixed, layer), `${name}.proj`);
}

// --- layers and functions; those that make no new values change x and return it

// x (rows, I) -> x · weightᵀ + bias (rows, O)
function linear(model, x, name) {
  const weight = model.weights[`${name}.weight`];
  return weight ? product(model, x, weight, model.shapes[`${name}.weight`][0], model.weights[`${name}.bias`]) : x;
}

// x (rows, I) · wᵀ (I, O) + bias (O) -> (rows, O)
//
// Two rows of x and two of w at a time, so that each number that is read is used twice. An odd last
// row takes part twice and gives the same sums twice.
function product({ fast }, x, w, O, bias = new Float32Array(O)) {
  if (fast) return fast(x, w, O, bias);
  const I = w.length / O, rows = x.length / I, out = new Float32Array(rows * O);
  for (let o = 0; o < O; o += 2) {
    const o1 = Math.min(o + 1, O - 1), w0 = o * I, w1 = o1 * I;
    for (let n = 0; n < rows; n += 2) {
      const n1 = Math.min(n + 1, rows - 1), x0 = n * I, x1 = n1 * I;
      let a = bias[o], b = bias[o1], c = bias[o], d = bias[o1];
      for (let i = 0; i < I; i++) {
        a += x[x0 + i] * w[w0 + i];
        b += x[x0 + i] * w[w1 + i];
        c += x[x1 + i] * w[w0 + i];
        d += x[x1 + i] * w[w1 + i];
      }
      out[n * O + o] = a;
      out[n * O + o1] = b;
      out[n1 * O + o] = c;
      out[n1 * O + o1] = d;
    }
  }
  return out;
}

function layerNorm({ weights, D, eps }, x, name) {
  const weight = weights[`${name}.weight`], bias = weights[`${name}.bias`];
  if (!weight) return x;
  for (let start = 0; start < x.length; start += D) {
    let mean = 0, variance = 0;
    for (let i = 0; i < D; i++) mean += x[start + i] / D;
    for (let i = 0; i < D; i++) variance += (x[start + i] - mean) ** 2 / D;
    const factor = 1 / Math.sqrt(variance + eps);
    for (let i = 0; i < D; i++) x[start + i] = (x[start + i] - mean) * factor * weight[i] + bias[i];
  }
  return x;
}

function layerScale({ weights, D }, x, name) {
  const gamma = weights[`${name}.gamma`];
  if (gamma) for (let k = 0; k < x.length; k++) x[k] *= gamma[k % D];
  return x;
}

// Each row of so many scores becomes shares that sum to 1.
function softmax(x, columns) {
  for (let start = 0; start < x.length; start += columns) {
    let most = -Infinity, sum = 0; // the largest is subtracted, so that no power overflows
    for (let k = start; k < start + columns; k++) most = Math.max(most, x[k]);
    for (let k = start; k < start + columns; k++) sum += x[k] = Math.exp(x[k] - most);
    for (let k = start; k < start + columns; k++) x[k] /= sum;
  }
  return x;
}

// x · Φ(x), where Φ(x) = (1 + erf(x/√2)) / 2
function gelu(x) {
  for (let k = 0; k < x.length; k++) x[k] *= (1 + erf(x[k] * Math.SQRT1_2)) / 2;
  return x;
}

// To 1.5e-7: Abramowitz and Stegun 1964, formula 7.1.26.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - tail * Math.exp(-x * x));
}

function add(x, y) {
  for (let k = 0; k < x.length; k++) x[k] += y[k];
  return x;
}

function transposed(x, columns) {
  const rows = x.length / columns;
  return x.map((_, k) => x[(k % rows) * columns + Math.floor(k / rows)]);
}

// --- what happens at each stage: changes, and copies for whoever asked

// `at` hands a stage's values to whoever changes them in place, and copies them if they are kept.
function stages(model, changes, keep) {
  const edits = changes.map(({ change, ...how }) => {
    const { takes, edit } = pick("change", CHANGES, change);
    for (const option of Object.keys(how)) {
      if (!takes.includes(option)) throw new Error(`${change} takes ${takes.join(", ") || "no options"}, got ${option}`);
    }
    return edit(how, model);
  });
  const kept = Object.fromEntries(["tokens", "attention", ...keep].map((stage) => [stage, pick("stage", STAGES, stage) && []]));
  const at = (stage, values, layer) => {
    for (const edit of edits) edit[stage]?.(values, layer);
    kept[stage]?.push(values.slice());
    return values;
  };
  return { at, kept };
}

// Interventions: which options each takes, and functions that change the values of a stage in place.
// Blocks (`layer`), heads, tokens and patches count from 0. Without `layer` a change applies to every
// block, without `heads` or `patches` to all of them.
export const CHANGES = {
  // These heads add nothing: their part of attention · v is 0. (The bias of proj stays.)
  headsOff: {
    takes: ["layer", "heads"],
    edit({ layer, heads }, { H, D, depth }) {
      const off = chosen("head", heads, H), d = D / H;
      return inBlock(layer, depth, { mixed: (x) => replace(x, (value, k) => (off.has(Math.floor((k % D) / d)) ? 0 : value)) });
    },
  },
  // These heads take equally much from every token.
  uniform: {
    takes: ["layer", "heads"],
    edit: ({ layer, heads }, model) => scoresOf(layer, heads, model, (score) => (score === -Infinity ? score : 0)),
  },
  // The scores of these heads are divided by `value`: above 1, attention becomes more even.
  temperature: {
    takes: ["layer", "heads", "value"],
    edit({ layer, heads, value }, model) {
      if (!(value > 0 && value < Infinity)) throw new Error(`the temperature must be a number above 0, got ${value}`);
      return scoresOf(layer, heads, model, (score) => score / value);
    },
  },
  // The block adds nothing to the tokens; with `part`, "attention" or "mlp", only that half is off.
  blockOff: {
    takes: ["layer", "part"],
    edit({ layer, part }, { depth }) {
      const none = (x) => x.fill(0), halves = { attention: { attnOut: none }, mlp: { mlpOut: none } };
      return inBlock(layer, depth, part === undefined ? { ...halves.attention, ...halves.mlp } : pick("part", halves, part));
    },
  },
  // No position is added to any token.
  noPositions: { takes: [], edit: () => ({ positions: (x) => x.fill(0) }) },
  // These patches of the picture become `value`, a number or one per channel; 0 is the mean colour.
  occlude: {
    takes: ["patches", "value"],
    edit({ patches, value = 0 }, { N, C, P, Q }) {
      const hidden = chosen("patch", patches, N), length = C * P * Q, colour = [value].flat();
      if (![1, C].includes(colour.length) || !colour.every(Number.isFinite)) throw new Error(`expected one number or ${C} as the value of hidden patches, got ${value}`);
      const fill = (k) => colour[Math.floor((k % length) / (P * Q)) % colour.length];
      return { patches: (x) => replace(x, (pixel, k) => (hidden.has(Math.floor(k / length)) ? fill(k) : pixel)) };
    },
  },
  // The patches change places: place i gets patch order[i].
  permute: {
    takes: ["order"],
    edit({ order }, { N }) {
      if (order?.length !== N || chosen("patch", order, N).size !== N) throw new Error(`expected the order of ${N} patches, each once, got ${order}`);
      return { patches: (x) => {
        const before = x.slice(), length = x.length / N;
        order.forEach((from, to) => x.set(before.subarray(from * length, (from + 1) * length), to * length));
      } };
    },
  },
  // A token (0 is the class token) enters at block `layer`: in those before, it does not change, and
  // no other token sees it. The depth, as `layer`, keeps it out of all blocks.
  late: {
    takes: ["layer", "token"],
    edit({ layer, token = 0 }, { T, D, depth }) {
      one("layer", layer, depth + 1);
      one("token", token, T);
      const keepStill = (x, now) => { if (now < layer) x.fill(0, token * D, (token + 1) * D); };
      const isCut = (k) => {
        const query = Math.floor(k / T) % T, key = k % T;
        return query !== key && (query === token || key === token);
      };
      const cut = (x, now) => { if (now < layer) replace(x, (score, k) => (isCut(k) ? -Infinity : score)); };
      return { scores: cut, attnOut: keepStill, mlpOut: keepStill };
    },
  },
};

function scoresOf(layer, heads, { T, H, depth }, change) {
  const these = chosen("head", heads, H);
  return inBlock(layer, depth, { scores: (x) => replace(x, (score, k) => (these.has(Math.floor(k / (T * T))) ? change(score) : score)) });
}

// The edits, in one block only unless `layer` is undefined.
function inBlock(layer, depth, edits) {
  if (layer === undefined) return edits;
  one("layer", layer, depth);
  const only = (edit) => (x, now) => { if (now === layer) edit(x); };
  return Object.fromEntries(Object.entries(edits).map(([stage, edit]) => [stage, only(edit)]));
}

function replace(x, change) {
  for (let k = 0; k < x.length; k++) x[k] = change(x[k], k);
}

function pick(kind, table, name) {
  if (!Object.hasOwn(table, name)) throw new Error(`no ${kind} ${name}: there are ${Object.keys(table).join(", ")}`);
  return table[name];
}

function one(kind, index, count) {
  if (!(Number.isInteger(index) && index >= 0 && index < count)) throw new Error(`${kind} must be from 0 to ${count - 1}, got ${index}`);
  return index;
}

function chosen(kind, indices, count) {
  if (indices === undefined) return new Set(Array(count).keys());
  if (!Array.isArray(indices)) throw new Error(`expected a list of ${kind} numbers, got ${indices}`);
  return new Set(indices.map((index) => one(kind, index, count)));
}

// --- the same product in WebAssembly, which multiplies four numbers at once

// The weights lie in panels of eight outputs: for each input, the eight numbers that it is multiplied
// by. A tile of the result, four rows of eight outputs, stays in the processor's registers until it is
// done. This is a program for a stack machine: a name or a number is pushed, =name takes what was
// pushed last, an instruction takes one or two of them and pushes what it makes. Lengths are in bytes.
const perRow = (words) => [0, 1, 2, 3].map((row) => words.replaceAll("#", row)).join(" ");
const PROGRAM = `
  loop  x =x0  y =out  0 =n
    loop  x0 I + =x1  x1 I + =x2  x2 I + =x3  ${perRow("bias load =a#  bias load+16 =b#")}
      w =p  0 =i
      loop  p load =w0  p load+16 =w1
        ${perRow("x# i + splat =s  a# s w0 v* v+ =a#  b# s w1 v* v+ =b#")}
        p 32 + =p  i 4 + =i  i I < repeat end
      ${perRow("out a# store  out b# store+16  out O + =out")}
      x3 I + =x0  n 4 + =n  n rows < repeat end
    p =w  bias 32 + =bias  y 32 + =y  o 32 + =o  o O < repeat end`;
const ARGUMENTS = ["x", "w", "bias", "y", "rows", "I", "O"];
const NUMBERS = ["o", "n", "i", "p", "out", "x0", "x1", "x2", "x3"];
const VECTORS = ["w0", "w1", "s", "a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"];
const INSTRUCTIONS = {
  loop: [0x03, 0x40], repeat: [0x0d, 0], end: [0x0b], "+": [0x6a], "<": [0x48],
  load: [0xfd, 0, 0, 0], "load+16": [0xfd, 0, 0, 16], splat: [0xfd, 9, 0, 0], // one number, four times
  store: [0xfd, 11, 0, 0], "store+16": [0xfd, 11, 0, 16], "v*": [0xfd, 0xe6, 1], "v+": [0xfd, 0xe4, 1],
};

function assemble() {
  const locals = [...ARGUMENTS, ...NUMBERS, ...VECTORS];
  const code = PROGRAM.trim().split(/\s+/).flatMap((word) => INSTRUCTIONS[word]
    ?? (/^\d+$/.test(word) ? [0x41, Number(word)] : word[0] === "=" ? [0x21, locals.indexOf(word.slice(1))] : [0x20, locals.indexOf(word)]));
  const sized = (bytes) => [(bytes.length & 127) | 128, bytes.length >> 7, ...bytes];
  const body = [2, NUMBERS.length, 0x7f, VECTORS.length, 0x7b, ...code, 0x0b]; // 0x7f: i32, 0x7b: v128
  return new Uint8Array([
    0, 97, 115, 109, 1, 0, 0, 0, // "\0asm", version 1
    1, ...sized([1, 0x60, ARGUMENTS.length, ...ARGUMENTS.map(() => 0x7f), 0]), // the type of the function
    2, ...sized([1, 1, 109, 1, 109, 2, 0, 1]), // it needs a memory, m.m
    3, ...sized([1, 0]),
    7, ...sized([1, 1, 102, 0, 0]), // its name outside is f
    10, ...sized([1, ...sized(body)]),
  ]);
}

// `product` by that program; null where WebAssembly or its SIMD is lacking, or a page's security policy
// forbids it. `matrices`, [weights, O] each, are put in place once; others, such as keys and values,
// whenever they are multiplied by.
function simdProduct(matrices) {
  let memory, f;
  try {
    memory = new WebAssembly.Memory({ initial: 1 });
    f = new WebAssembly.Instance(new WebAssembly.Module(assemble()), { m: { m: memory } }).exports.f;
  } catch {
    return null;
  }
  const eight = (O) => Math.ceil(O / 8) * 8;
  let numbers, taken = 0; // how many numbers of the memory hold matrices
  const reserve = (count) => {
    const missing = 4 * count - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / 65536));
    numbers = new Float32Array(memory.buffer);
  };
  const write = (w, O, start) => {
    const I = w.length / O;
    numbers.fill(0, start, start + eight(O) * I);
    for (let o = 0; o < O; o++) {
      const panel = start + (o - (o % 8)) * I + (o % 8);
      for (let i = 0; i < I; i++) numbers[panel + 8 * i] = w[o * I + i];
    }
  };
  const places = new Map();
  for (const [w, O] of matrices) {
    const size = eight(O) * (w.length / O);
    reserve(taken + size);
    write(w, O, taken);
    places.set(w, taken);
    taken += size;
  }
  return (x, w, O, bias) => {
    const I = w.length / O, rows = x.length / I, wide = eight(O), four = Math.ceil(rows / 4) * 4;
    const atX = taken, atBias = atX + four * I, atY = atBias + wide, own = atY + four * wide;
    reserve(own + (places.has(w) ? 0 : wide * I));
    if (!places.has(w)) write(w, O, own);
    numbers.set(x, atX);
    numbers.set(bias, atBias);
    f(4 * atX, 4 * (places.get(w) ?? own), 4 * atBias, 4 * atY, four, 4 * I, 4 * wide);
    if (wide === O) return numbers.slice(atY, atY + rows * O);
    const out = new Float32Array(rows * O);
    for (let n = 0; n < rows; n++) out.set(numbers.subarray(atY + n * wide, atY + n * wide + O), n * O);
    return out;
  };
}
