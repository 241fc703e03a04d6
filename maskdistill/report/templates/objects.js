"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("objects-data").textContent);
  const { objects, pictures, side, across } = data;
  const total = objects.score.length;
  const categories = new Map(data.categories.map((category) => [category.id, category]));
  const shares = objects.area.map((area, i) => {
    const [width, height] = sizeOf(i);
    return (100 * area) / (width * height);
  });
  const [GAP, TOLD, AHEAD] = [8, 38, 2];
  const [grid, form, dialog] = [byId("grid"), document.querySelector(".filters"), byId("one")];
  const field = (name) => form.elements[name];
  const chips = [...document.querySelectorAll(".chips a")];

  let cluster = "";
  let found = []; // objects that pass, in the order shown
  let active = 0; // place in found that the keyboard is at
  let columns = 1;
  let cell = side;
  let cells = new Map(); // place in found -> element: of those in view, and of the active one

  function sizeOf(i) {
    const place = 2 * objects.picture[i];
    return [pictures.size[place], pictures.size[place + 1]];
  }
  const boxOf = (i) => objects.box.slice(4 * i, 4 * i + 4);
  const fileOf = (i) => pictures.name[objects.picture[i]];
  const nameOf = (i) => categories.get(objects.category[i]).name;
  const number = (value) => value.toLocaleString("en-US");
  const percent = (value) => `${value.toFixed(value < 10 ? 1 : 0)} %`;

  // Names typed in the report and not yet saved, where the browser shares them between local pages.
  function useTypedNames() {
    let kept = null;
    try {
      kept = JSON.parse(localStorage.getItem(`maskdistill names ${data.run} ${data.sizes.join(" ")}`));
    } catch {
      return; // a browser that keeps nothing for local files
    }
    if (!kept || kept.given !== JSON.stringify(data.given)) return;
    for (const category of data.categories) category.name = kept.names[category.cluster]?.trim() || category.usual;
    chips.forEach((chip) => {
      if (chip.dataset.cluster) chip.querySelector("span").textContent = data.categories[chip.dataset.cluster].name;
    });
  }

  // Filter and order. Objects lie category by category, the most confident first: that is the order of equal ones.
  const ORDERS = {
    score: (a, b) => objects.score[b] - objects.score[a],
    "-score": (a, b) => objects.score[a] - objects.score[b],
    size: (a, b) => shares[a] - shares[b],
    "-size": (a, b) => shares[b] - shares[a],
    cluster: () => 0,
    file: (a, b) => objects.picture[a] - objects.picture[b] || objects.score[b] - objects.score[a],
  };
  const limit = (name, otherwise) => (Number.isFinite(field(name).valueAsNumber) ? field(name).valueAsNumber : otherwise);

  function choose() {
    const wanted = cluster === "" ? 0 : +cluster + 1;
    const [lowest, highest] = [limit("score-from", 0), limit("score-to", 1)];
    const [smallest, largest] = [limit("size-from", 0), limit("size-to", 100)];
    const text = field("file").value.toLowerCase();
    const named = pictures.name.map((name) => name.toLowerCase().includes(text));
    found = [];
    for (let i = 0; i < total; i++) {
      const score = objects.score[i];
      if (wanted && objects.category[i] !== wanted) continue;
      if (score < lowest || score > highest || shares[i] < smallest || shares[i] > largest) continue;
      if (named[objects.picture[i]]) found.push(i);
    }
    const order = ORDERS[field("sort").value];
    found.sort((a, b) => order(a, b) || a - b);
    active = 0;
    clear();
    byId("count").textContent = found.length === total
      ? `${number(total)} objects`
      : `${number(found.length)} of ${number(total)} objects`;
    byId("none").hidden = found.length > 0;
    chips.forEach((chip) => {
      if (chip.dataset.cluster === cluster) chip.setAttribute("aria-current", "true");
      else chip.removeAttribute("aria-current");
    });
    measure();
  }

  // The grid: only what is in view is in the page.
  function clear() {
    cells.forEach((element) => element.remove());
    cells = new Map();
  }

  function measure() {
    const width = grid.clientWidth;
    columns = Math.max(1, Math.floor((width + GAP) / (side + GAP)));
    cell = Math.floor((width - GAP * (columns - 1)) / columns);
    grid.style.height = `${Math.ceil(found.length / columns) * rowHeight()}px`;
    clear();
    draw();
  }
  const rowHeight = () => cell + TOLD + GAP;

  function draw() {
    const top = -grid.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / rowHeight()) - AHEAD) * columns;
    const last = Math.min(found.length, (Math.ceil((top + innerHeight) / rowHeight()) + AHEAD) * columns);
    const places = [];
    for (let place = first; place < last; place++) places.push(place);
    // The active one stays, for it may have the focus.
    if (active < found.length && active < first) places.unshift(active);
    if (active < found.length && active >= Math.max(first, last)) places.push(active);
    const kept = new Set(places);
    cells.forEach((element, place) => {
      if (kept.has(place)) return;
      element.remove();
      cells.delete(place);
    });
    let next = grid.firstChild;
    for (const place of places) {
      const known = cells.get(place);
      if (known) {
        next = known.nextSibling;
        continue;
      }
      cells.set(place, make(place));
      grid.insertBefore(cells.get(place), next);
    }
  }

  function thumb(i, size) {
    const element = document.createElement("span");
    const place = i % data.per_sheet;
    const sheet = String(Math.floor(i / data.per_sheet) + 1).padStart(4, "0");
    element.className = "thumb";
    element.style.width = element.style.height = `${size}px`;
    element.style.backgroundImage = `url("${data.sheets}sheet-${sheet}.jpg")`;
    element.style.backgroundSize = `${across * size}px auto`;
    element.style.backgroundPosition = `${-size * (place % across)}px ${-size * Math.floor(place / across)}px`;
    return element;
  }

  function told(text) {
    const element = document.createElement("span");
    element.className = "told";
    element.textContent = text;
    return element;
  }

  function make(place) {
    const i = found[place];
    const [item, button] = [document.createElement("li"), document.createElement("button")];
    item.style.left = `${(place % columns) * (cell + GAP)}px`;
    item.style.top = `${Math.floor(place / columns) * rowHeight()}px`;
    item.style.width = `${cell}px`;
    item.setAttribute("aria-setsize", found.length);
    item.setAttribute("aria-posinset", place + 1);
    button.type = "button";
    button.tabIndex = place === active ? 0 : -1;
    button.title = fileOf(i);
    const figures = `${objects.score[i].toFixed(2)} · ${percent(shares[i])}`;
    button.setAttribute("aria-label", `${nameOf(i)}, ${figures}, ${fileOf(i)}`);
    button.append(thumb(i, cell), told(nameOf(i)), told(figures));
    button.addEventListener("click", () => enlarge(place));
    button.addEventListener("focus", () => activate(place));
    item.append(button);
    return item;
  }

  const buttonAt = (place) => cells.get(place)?.firstChild;

  function activate(place) {
    if (place === active) return;
    const before = buttonAt(active);
    if (before) before.tabIndex = -1;
    active = place;
    if (buttonAt(active)) buttonAt(active).tabIndex = 0;
  }

  function goTo(place) {
    if (!found.length) return;
    activate(Math.min(Math.max(place, 0), found.length - 1));
    const top = grid.getBoundingClientRect().top + Math.floor(active / columns) * rowHeight();
    const beyond = top < GAP ? top - GAP : Math.max(0, top + rowHeight() - innerHeight);
    if (beyond) scrollBy({ top: beyond, behavior: "instant" });
    draw();
    buttonAt(active).focus({ preventScroll: true });
  }

  grid.addEventListener("keydown", (event) => {
    const page = columns * Math.max(1, Math.floor(innerHeight / rowHeight()) - 1);
    const along = { ArrowLeft: -1, ArrowRight: 1, Home: -total, End: total };
    const steps = { ...along, ArrowUp: -columns, ArrowDown: columns, PageUp: -page, PageDown: page };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    goTo(active + steps[event.key]);
  });

  // One object, enlarged: from its photograph where that can be shown, else its thumbnail.
  const SVG = "http://www.w3.org/2000/svg";

  function view(figure, i, [x, y, width, height], failed) {
    const [whole, tall] = sizeOf(i);
    const [left, top, wide, high] = boxOf(i);
    const image = new Image();
    image.alt = "";
    image.style.width = `${(100 * whole) / width}%`;
    image.style.height = `${(100 * tall) / height}%`;
    image.style.left = `${(-100 * x) / width}%`;
    image.style.top = `${(-100 * y) / height}%`;
    image.addEventListener("error", failed);
    image.src = pictures.link[objects.picture[i]];
    const drawing = document.createElementNS(SVG, "svg");
    drawing.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
    drawing.setAttribute("role", "img");
    drawing.setAttribute("aria-label", `${nameOf(i)} in ${fileOf(i)}`);
    const scale = Math.max(wide, high) / data.steps;
    for (const [color, thick] of [["#000", 5], ["#fff", 2.5]]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", objects.outline[i]);
      path.setAttribute("transform", `translate(${left} ${top}) scale(${scale})`);
      path.style.stroke = color;
      path.style.strokeWidth = `${thick}px`;
      drawing.append(path);
    }
    const frame = figure.querySelector(".view");
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.width = `min(100%, ${(62 * width) / height}vh)`;
    frame.replaceChildren(image, drawing);
  }

  let shown = 0; // place in found of the one that is enlarged

  function show(place) {
    shown = place;
    const i = found[place];
    const [width, height] = sizeOf(i);
    const [left, top, wide, high] = boxOf(i);
    const [near, whole] = [byId("near"), byId("whole")];
    const thumbnail = () => {
      if (found[shown] !== i) return;
      const frame = near.querySelector(".view");
      frame.style.aspectRatio = "";
      frame.style.width = "fit-content";
      const large = thumb(i, Math.min(3 * side, innerWidth - 80));
      large.setAttribute("role", "img");
      large.setAttribute("aria-label", `${nameOf(i)} in ${fileOf(i)}`);
      frame.replaceChildren(large);
      near.querySelector("figcaption").textContent = "its thumbnail: the photograph itself cannot be shown from here";
      whole.hidden = true;
    };
    whole.hidden = false;
    near.querySelector("figcaption").textContent = "the object";
    if (pictures.link[objects.picture[i]]) {
      const border = Math.round(0.12 * Math.max(wide, high)) + 2;
      const [x, y] = [Math.max(0, left - border), Math.max(0, top - border)];
      const end = [Math.min(width, left + wide + border), Math.min(height, top + high + border)];
      view(near, i, [x, y, end[0] - x, end[1] - y], thumbnail);
      view(whole, i, [0, 0, width, height], thumbnail);
    } else thumbnail();
    byId("one-title").textContent = nameOf(i);
    const facts = {
      score: objects.score[i].toFixed(4),
      size: `${wide} × ${high} pixels, ${percent(shares[i])} of the photograph`,
      photograph: fileOf(i),
    };
    byId("facts").replaceChildren(...Object.entries(facts).map(([name, text]) => {
      const [entry, term, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
      term.textContent = name;
      value.textContent = text;
      entry.append(term, value);
      return entry;
    }));
    byId("place").textContent = `${number(place + 1)} of ${number(found.length)}`;
    byId("before").disabled = place === 0;
    byId("after").disabled = place === found.length - 1;
  }

  function enlarge(place) {
    show(place);
    dialog.showModal();
  }

  const step = (by) => {
    if (found[shown + by] !== undefined) show(shown + by);
  };
  byId("before").addEventListener("click", () => step(-1));
  byId("after").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("close", () => goTo(shown));

  // The address keeps what is chosen, so that it can be linked to: objects.html#cluster=3&sort=-size.
  function remember() {
    const chosen = new URLSearchParams(cluster === "" ? {} : { cluster });
    for (const input of form.elements) {
      const usual = input.name === "sort" ? "score" : "";
      if (input.name && input.value !== usual) chosen.set(input.name, input.value);
    }
    history.replaceState(null, "", `#${chosen}`);
  }

  function recall() {
    const chosen = new URLSearchParams(location.hash.slice(1));
    cluster = categories.has(+chosen.get("cluster") + 1) ? (chosen.get("cluster") ?? "") : "";
    form.reset();
    for (const [name, value] of chosen) {
      if (field(name) && (name !== "sort" || value in ORDERS)) field(name).value = value;
    }
    choose();
  }

  function change() {
    remember();
    choose();
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", change);
  byId("all").addEventListener("click", () => {
    form.reset();
    cluster = "";
    change();
  });
  chips.forEach((chip) => chip.addEventListener("click", (event) => {
    event.preventDefault();
    cluster = chip.dataset.cluster;
    change();
  }));
  addEventListener("hashchange", recall);
  addEventListener("storage", () => {
    useTypedNames();
    measure();
  });
  let waiting = 0;
  addEventListener("scroll", () => {
    waiting ||= requestAnimationFrame(() => {
      waiting = 0;
      draw();
    });
  }, { passive: true });
  new ResizeObserver(() => {
    if (grid.clientWidth !== measured) {
      measured = grid.clientWidth;
      measure();
    }
  }).observe(grid);
  let measured = grid.clientWidth;
  document.querySelector(".filter").open = innerWidth > 640;
  useTypedNames();
  recall();
})();
