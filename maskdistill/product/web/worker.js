// Runs the models beside the page, which stays responsive; follows the text of ONNX Runtime Web.
"use strict";

const sessions = {};

/** Start the models. The glue's address is made here: a worker may import no other's. */
async function begin({ module, wasm, models }) {
  ort.env.wasm.numThreads = 1; // several need headers of a server
  ort.env.wasm.wasmBinary = wasm.buffer;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([module], { type: "text/javascript" })) };
  for (const [name, model] of Object.entries(models)) {
    sessions[name] = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  }
}

/** Label map and objects of a picture: `pixels`, RGB bytes, row by row; objects with at least a score. */
async function look({ pixels, width, height, least }) {
  const picture = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
  const begun = performance.now();
  const { labels } = await sessions.segmenter.run({ picture }, ["labels"]);
  const between = performance.now();
  const feeds = { picture, least_score: new ort.Tensor("float32", [least], []) };
  const found = await sessions.detector.run(feeds, ["boxes", "labels", "scores", "masks"]);
  const side = found.masks.dims[1];
  const objects = [];
  for (let number = 0; number < found.scores.data.length; number += 1) {
    const box = found.boxes.data.subarray(4 * number, 4 * number + 4);
    const grid = found.masks.data.subarray(number * side * side, (number + 1) * side * side);
    const mask = paste(grid, side, box, width, height);
    if (!mask) continue;
    objects.push({ category: Number(found.labels.data[number]), score: found.scores.data[number], mask });
  }
  const seconds = [between - begun, performance.now() - between].map((value) => value / 1000);
  return { labels: labels.data, objects, seconds };
}

/**
 * Mask of probabilities that fill a box, as `paste` in segment.py: set where the bilinear probability at a
 * pixel's centre is at least 0.5. Gives the smallest rectangle that holds it and its pixels, or null.
 */
function paste(grid, side, [x1, y1, x2, y2], width, height) {
  if (x2 <= x1 || y2 <= y1) return null;
  const left = Math.max(Math.floor(x1) - 1, 0), right = Math.min(Math.ceil(x2) + 1, width);
  const top = Math.max(Math.floor(y1) - 1, 0), bottom = Math.min(Math.ceil(y2) + 1, height);
  const bits = new Uint8Array((right - left) * (bottom - top));
  const across = new Float64Array(side); // the grid's row at the pixels' height
  let [low, high, first, last] = [right, left, bottom, top];
  for (let y = top; y < bottom; y += 1) {
    const down = ((y + 0.5 - y1) / (y2 - y1)) * side - 0.5;
    for (let cell = 0; cell < side; cell += 1) {
      across[cell] = between((row) => grid[row * side + cell], down, side);
    }
    for (let x = left; x < right; x += 1) {
      const place = ((x + 0.5 - x1) / (x2 - x1)) * side - 0.5;
      if (between((column) => across[column], place, side) < 0.5) continue;
      bits[(y - top) * (right - left) + x - left] = 1;
      [low, high] = [Math.min(low, x), Math.max(high, x + 1)];
      [first, last] = [Math.min(first, y), Math.max(last, y + 1)];
    }
  }
  if (last <= first) return null;
  const kept = new Uint8Array((high - low) * (last - first));
  for (let y = first; y < last; y += 1) {
    const start = (y - top) * (right - left) + low - left;
    kept.set(bits.subarray(start, start + high - low), (y - first) * (high - low));
  }
  return { x: low, y: first, width: high - low, height: last - first, bits: kept };
}

/** Between two neighbours of `length` values; 0 beyond the ends. */
function between(value, place, length) {
  const cell = Math.floor(place), share = place - cell;
  const before = cell >= 0 && cell < length ? value(cell) : 0;
  const after = cell + 1 >= 0 && cell + 1 < length ? value(cell + 1) : 0;
  return before * (1 - share) + after * share;
}

onmessage = async ({ data: { number, given } }) => {
  try {
    postMessage({ number, answer: given.models ? await begin(given) : await look(given) });
  } catch (error) {
    postMessage({ number, failure: String(error.message ?? error) });
  }
};
