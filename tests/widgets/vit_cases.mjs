// Runs static/vit.js for the tests: `node vit_cases.mjs MODULE FOLDER` computes the cases of
// FOLDER/cases.json, one after the other, and prints what each gave, or the message of its error.
// The file of weights is read once for all cases that name it.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [module, folder] = process.argv.slice(2);
const { load, forward } = await import(pathToFileURL(module));
const read = (name) => new Uint8Array(readFileSync(join(folder, name)));
const models = {};

const results = JSON.parse(readFileSync(join(folder, "cases.json"))).map(({ weights, simd, pixels, options }) => {
  try {
    const model = (models[`${weights} ${simd}`] ??= load(read(weights), { simd }));
    if (pixels === null) return { fast: model.fast !== null, classes: model.classes, mean: model.mean, std: model.std };
    return forward(model, new Float32Array(read(pixels).buffer), options);
  } catch (error) {
    return { error: error.message, kind: error.constructor.name };
  }
});
const numbers = (_, value) => (value instanceof Float32Array ? Array.from(value) : value);
process.stdout.write(JSON.stringify(results, numbers));
