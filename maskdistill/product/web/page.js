// The page that `maskdistill export --web` writes: opens a picture, asks the worker, shows what it found.
"use strict";

const MOST_PIXELS = 40_000_000, MAX_ASPECT = 50; // as in segment.py, which shrinks larger pictures
const part = (name) => document.getElementById(name);
const { settings } = MODELS;
const asked = new Map();
let worker;
let result = null; // {name, width, height, picture: ImageData, labels, objects, seconds, png}
let work = Promise.resolve(); // pictures one after the other

/** PASCAL VOC's colour of a label: of its bits the lowest make the colours' highest. */
function color(label) {
  const rgb = [0, 0, 0];
  for (let step = 0; step < 8; step += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      rgb[channel] |= ((label >> (3 * step + channel)) & 1) << (7 - step);
    }
  }
  return rgb;
}

function bytes(text) {
  const size = (text.length / 4) * 3 - (text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0);
  const found = new Uint8Array(size);
  const step = 1 << 20; // a multiple of 4: whole groups
  for (let start = 0, end = 0; start < text.length; start += step) {
    const piece = atob(text.slice(start, start + step));
    for (let place = 0; place < piece.length; place += 1) found[end++] = piece.charCodeAt(place);
  }
  return found;
}

async function through(data, filter) {
  return new Uint8Array(await new Response(new Blob([data]).stream().pipeThrough(filter)).arrayBuffer());
}

/** The worker's answer. */
function ask(given, transferred) {
  const number = asked.size;
  return new Promise((resolve, reject) => {
    asked.set(number, { resolve, reject });
    worker.postMessage({ number, given }, transferred);
  });
}

async function start() {
  const source = new Blob([RUNTIME.script, "\n", RUNTIME.worker], { type: "text/javascript" });
  worker = new Worker(URL.createObjectURL(source));
  worker.onmessage = ({ data: { number, answer, failure } }) => {
    const { resolve, reject } = asked.get(number);
    if (failure === undefined) resolve(answer);
    else reject(new Error(failure));
  };
  const wasm = await through(bytes(RUNTIME.wasm), new DecompressionStream("gzip"));
  const models = {};
  for (const name of ["segmenter", "detector"]) {
    models[name] = bytes(MODELS[name]);
    MODELS[name] = null; // the text is no longer needed
  }
  const buffers = [wasm, ...Object.values(models)].map((one) => one.buffer);
  await ask({ module: RUNTIME.module, wasm, models }, buffers);
}

/** A picture as it is seen: upright, on white, without its colour profile, as segment.py opens it. */
async function decode(file) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(file, options).catch(() => {
    throw new Error("this browser cannot decode it; segment.py may");
  });
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error("more than 40 megapixels; take segment.py");
  if (Math.max(width, height) > MAX_ASPECT * Math.min(width, height)) {
    throw new Error(`one side is more than ${MAX_ASPECT} times the other; cut it`);
  }
  const canvas = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  canvas.fillStyle = "white";
  canvas.fillRect(0, 0, width, height);
  canvas.drawImage(bitmap, 0, 0);
  return canvas.getImageData(0, 0, width, height);
}

async function segment(file) {
  say(`Segmenting ${file.name} …`);
  try {
    const picture = await decode(file);
    const { width, height, data } = picture;
    const pixels = new Uint8Array(3 * width * height);
    for (let from = 0, to = 0; from < data.length; from += 4) {
      pixels[to++] = data[from];
      pixels[to++] = data[from + 1];
      pixels[to++] = data[from + 2];
    }
    const found = await ask({ pixels, width, height, least: settings.least_score }, [pixels.buffer]);
    result = { name: file.name, width, height, picture, ...found };
    result.png = await indexedPng(found.labels, width, height);
    show();
    const [map, objects] = found.seconds.map((value) => value.toFixed(2));
    say(`${file.name}: label map in ${map} s, objects in ${objects} s.`);
  } catch (error) {
    say(`${file.name}: ${error.message}.`);
  }
}

function say(text) {
  part("status").textContent = text;
}

/** An indexed PNG whose values are the labels, in the colours of this page (ISO/IEC 15948). */
async function indexedPng(labels, width, height) {
  const rows = new Uint8Array((width + 1) * height);
  for (let y = 0; y < height; y += 1) {
    rows.set(labels.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  }
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head.set([8, 3], 8); // bits, palette
  const colors = new Uint8Array(768);
  for (let label = 0; label < 256; label += 1) colors.set(color(label), 3 * label);
  const packed = await through(rows, new CompressionStream("deflate"));
  const chunks = [["IHDR", head], ["PLTE", colors], ["IDAT", packed], ["IEND", new Uint8Array(0)]];
  const begin = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  return new Blob([begin, ...chunks.map((one) => chunk(...one))], { type: "image/png" });
}

function chunk(name, data) {
  const whole = new Uint8Array(data.length + 12);
  const view = new DataView(whole.buffer);
  view.setUint32(0, data.length);
  whole.set(new TextEncoder().encode(name), 4);
  whole.set(data, 8);
  let sum = ~0;
  for (const value of whole.subarray(4, data.length + 8)) {
    sum ^= value;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  view.setUint32(data.length + 8, ~sum);
  return whole;
}

/** Objects that are asked for. */
function kept() {
  return result.objects.filter(({ score }) => score >= Number(part("score").value));
}

/** Draw the picture with what is asked for, and say what is in it. */
function show() {
  const { width, height, picture, labels } = result;
  const how = document.querySelector("input[name=view]:checked").value;
  const strength = how === "picture" ? 0 : part("strength").value / 100;
  const drawn = new ImageData(picture.data.slice(), width, height);
  const blend = (pixel, rgb, share) => {
    for (let channel = 0; channel < 3; channel += 1) {
      const place = 4 * pixel + channel;
      drawn.data[place] = (1 - share) * drawn.data[place] + share * rgb[channel];
    }
  };
  const colors = settings.classes.map((_, label) => color(label));
  const counts = new Array(settings.classes.length).fill(0);
  for (let pixel = 0; pixel < labels.length; pixel += 1) {
    counts[labels[pixel]] += 1;
    if (how === "labels" && labels[pixel]) blend(pixel, colors[labels[pixel]], strength);
  }
  if (how === "objects") {
    for (const one of kept().reverse()) drawObject(one, colors[one.category], strength, blend);
  }
  const canvas = part("canvas");
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(drawn, 0, 0);
  const present = counts.map((count, label) => ({ label, share: count / labels.length }));
  const drawnObjects = how === "objects" ? new Set(kept().map(({ category }) => category)) : new Set();
  const seen = present.filter(({ label, share }) => label && (share || drawnObjects.has(label)));
  seen.sort((one, other) => other.share - one.share);
  part("legend").replaceChildren(...(seen.length ? seen.map(entry) : [text("li", "nothing but background")]));
  const names = seen.map(({ label }) => settings.classes[label]).join(", ");
  canvas.setAttribute("aria-label", `${result.name}: ${names || "nothing but background"}`);
  list(kept());
  URL.revokeObjectURL(part("download").href);
  part("download").href = URL.createObjectURL(result.png);
  part("download").download = `${result.name.replace(/\.[^.]*$/, "")}-labels.png`;
  part("nothing").hidden = true;
  part("found").hidden = false;
}

/** A filled mask with a rim in its full colour. */
function drawObject({ mask }, rgb, strength, blend) {
  const { x, y, width, height, bits } = mask;
  const inside = (row, column) =>
    row >= 0 && row < height && column >= 0 && column < width && bits[row * width + column];
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      if (!inside(row, column)) continue;
      const around = [[row - 1, column], [row + 1, column], [row, column - 1], [row, column + 1]];
      const rim = !around.every((place) => inside(...place));
      blend((y + row) * result.width + x + column, rgb, rim ? 1 : strength);
    }
  }
}

function text(kind, words, style = "") {
  return Object.assign(document.createElement(kind), { textContent: words, className: style });
}

/** A category's colour, name and share of the picture. */
function entry({ label, share }) {
  const item = document.createElement("li");
  const swatch = text("span", "", "swatch");
  swatch.style.background = `rgb(${color(label)})`;
  item.append(swatch, `${settings.classes[label]}, ${(100 * share).toFixed(1)} %`);
  return item;
}

function list(objects) {
  const table = document.createElement("table");
  table.append(text("caption", `${objects.length} with at least this score`));
  if (objects.length) {
    const head = table.createTHead().insertRow();
    for (const name of ["Category", "Score", "x", "y", "Width", "Height"]) {
      head.append(Object.assign(text("th", name), { scope: "col" }));
    }
  }
  const body = table.createTBody();
  for (const { category, score, mask } of objects) {
    const row = body.insertRow();
    row.append(text("td", settings.classes[category]), text("td", score.toFixed(3), "number"));
    const box = [mask.x, mask.y, mask.width, mask.height];
    row.append(...box.map((value) => text("td", String(value), "number")));
  }
  part("objects").replaceChildren(table);
}

/** One picture: the first of what was given. */
function take(files) {
  if (files.length) work = work.then(() => segment(files[0]));
}

function listen() {
  part("file").addEventListener("change", (event) => take([...event.target.files]));
  for (const name of ["strength", "score"]) part(name).addEventListener("input", show);
  for (const choice of document.querySelectorAll("input[name=view]")) choice.addEventListener("change", show);
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      part("drop").classList.toggle("over", name === "dragover");
      if (name === "drop") take([...event.dataTransfer.files]);
    });
  }
}

part("about").textContent = settings.about;
part("score").value = settings.min_score;
work = start().then(
  () => {
    listen();
    part("file").disabled = false;
    say("Ready.");
  },
  (error) => say(`The models cannot be started in this browser: ${error.message}.`),
);
