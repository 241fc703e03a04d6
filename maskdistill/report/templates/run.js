"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const read = (id) => (byId(id) ? JSON.parse(byId(id).textContent) : null);

  function explore(data) {
    const slider = byId("tau-slider");
    const number = (value) => value.toLocaleString("en-US");
    const share = (value) => (value === null ? "—" : value.toFixed(1) + " %");
    const ranks = data.samples.map((sample) => {
      const pixels = new Uint16Array(sample.width * sample.height);
      let at = 0;
      for (let i = 0; i < sample.runs.length; i += 2) {
        pixels.fill(sample.runs[i + 1], at, at + sample.runs[i]);
        at += sample.runs[i];
      }
      return pixels;
    });

    function draw(canvas, place) {
      const sample = data.samples[+canvas.dataset.sample];
      const pixels = ranks[+canvas.dataset.sample];
      const { width, height } = sample;
      const passed = sample.levels.filter((level) => level > place).length;
      const painted = Math.max(passed, Math.min(1, sample.levels.length));
      const context = canvas.getContext("2d");
      const image = context.createImageData(width, height);
      for (let y = 0, at = 0; y < height; y++) {
        for (let x = 0; x < width; x++, at++) {
          const rank = pixels[at];
          const edge =
            (x + 1 < width && pixels[at + 1] !== rank) || (y + 1 < height && pixels[at + width] !== rank);
          const above = rank > 0 && rank <= painted;
          if (edge) {
            const filled = above || [at + 1, at + width].some((next) => pixels[next] > 0 && pixels[next] <= painted);
            image.data.set([255, 255, 255, filled ? 255 : 120], 4 * at);
          } else if (above) image.data.set([...sample.colors[rank - 1], 173], 4 * at);
        }
      }
      context.putImageData(image, 0, 0);
      const fallback = passed === 0 && painted ? ", by fallback" : "";
      canvas.closest("figure").querySelector("b").textContent = `${painted} of ${sample.found}${fallback}`;
    }

    function show() {
      const place = +slider.value;
      const tau = data.taus[place];
      byId("tau-value").textContent = String(tau);
      slider.setAttribute("aria-valuetext", String(tau));
      byId("tau-images").textContent = `${number(data.images_kept[place])} of ${number(data.images)}`;
      byId("tau-fallback").textContent = number(data.fallback[place]);
      byId("tau-objects").textContent = number(data.objects_kept[place]);
      byId("tau-pixels").textContent = share(data.coverage[place]);
      for (const [name, values] of Object.entries(data.truth)) {
        byId("tau-" + name).textContent = share(values[place]);
      }
      const line = byId("tau-line");
      const [left, right] = [+line.dataset.left, +line.dataset.right];
      line.style.left = left + (right - left) * tau + "%";
      document.querySelectorAll("canvas[data-sample]").forEach((canvas) => draw(canvas, place));
    }

    slider.addEventListener("input", show);
    byId("tau-reset").addEventListener("click", () => {
      slider.value = data.own;
      show();
    });
    byId("tau").hidden = false;
    show();
  }

  function nameClusters(data) {
    const inputs = [...document.querySelectorAll("input[data-cluster]")];
    const clean = (text) => text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff]+/g, " ").trim();
    const yaml = () => {
      const named = inputs.map((input) => [input.dataset.cluster, clean(input.value)]).filter(([, name]) => name);
      return [
        `# Names of the clusters of the run ${data.run}; in its configuration: clusters: {names: ${data.file}}`,
        `clusters: ${data.sizes.length}`,
        `sizes: [${data.sizes.join(", ")}]`,
        named.length ? "names:" : "names: {}",
        ...named.map(([cluster, name]) => `  ${cluster}: ${JSON.stringify(name)}`),
        "",
      ].join("\n");
    };
    // names typed and not yet saved; those of another clustering, or older than the page's own, are not taken
    const key = `maskdistill names ${data.run} ${data.sizes.join(" ")}`;
    const given = JSON.stringify(inputs.map((input) => input.value));
    const store = (change) => {
      try {
        return change(window.localStorage);
      } catch {
        return null; // a browser that keeps nothing for local files
      }
    };
    const kept = JSON.parse(store((storage) => storage.getItem(key)) || "null");
    if (kept && kept.given === given) inputs.forEach((input, place) => (input.value = kept.names[place] || ""));
    const show = () => {
      byId("names-yaml").textContent = yaml();
      inputs.forEach((input, place) => {
        const name = clean(input.value) || data.titles[place];
        document.querySelectorAll(`[data-name="${input.dataset.cluster}"]`).forEach((spot) => (spot.textContent = name));
      });
    };
    const typed = () => {
      const names = inputs.map((input) => input.value);
      store((storage) => storage.setItem(key, JSON.stringify({ given, names })));
      show();
    };
    inputs.forEach((input) => input.addEventListener("input", typed));
    byId("names-save").addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([yaml()], { type: "application/yaml" }));
      link.download = data.file;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    document.querySelectorAll(".naming").forEach((element) => (element.hidden = false));
    show();
  }

  const [thresholds, clusters] = [read("tau-data"), read("names-data")];
  if (thresholds) explore(thresholds);
  if (clusters) nameClusters(clusters);
})();
