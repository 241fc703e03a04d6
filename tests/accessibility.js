// What a reader needs who sees little, or uses no mouse: what the open page lacks of it, in words. Run by
// tests/test_report_access.py in a page that is shown.
(() => {
  const found = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length;
  const named = (element) => (element.outerHTML.length > 160 ? element.outerHTML.slice(0, 160) + "…" : element.outerHTML);

  // contrast (WCAG 2.2, 1.4.3): relative luminance of the text and of what is painted behind it
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = (color) => {
    probe.clearRect(0, 0, 1, 1);
    probe.fillStyle = color;
    probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data].map((value) => value / 255);
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, place) => a * value + (1 - a) * below[place]);
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      layers.push(pixel(getComputedStyle(at).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [1, 1, 1]);
  };
  const luminance = (color) => {
    const [r, g, b] = color.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.closest("script,style") || !shown(element)) continue;
    const style = getComputedStyle(element);
    const ground = behind(element);
    const ink = over(pixel(element.closest("svg") ? style.fill : style.color), ground);
    const [low, high] = [luminance(ink), luminance(ground)].sort((a, b) => a - b);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && +style.fontWeight >= 700);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < (large ? 3 : 4.5)) found.push(`contrast ${contrast.toFixed(2)}: ${texts.currentNode.data.trim()}`);
  }

  const levels = all("h1,h2,h3,h4,h5,h6").filter(shown).map((heading) => +heading.tagName[1]);
  if (levels.filter((level) => level === 1).length !== 1 || levels[0] !== 1) found.push(`h1: ${levels}`);
  levels.forEach((level, place) => {
    if (place && level > levels[place - 1] + 1) found.push(`h${level} after h${levels[place - 1]}`);
  });

  for (const name of ["header", "nav", "main", "footer"]) {
    if (all(`body > ${name}`).length !== 1) found.push(`not one ${name}`);
  }
  if (!document.documentElement.lang || !document.title) found.push("no language or no title");

  // what scrolls sideways or down is reached by keyboard and says what it is
  for (const element of all("main *")) {
    const { overflowX, overflowY } = getComputedStyle(element);
    const scrolls =
      (/auto|scroll/.test(overflowX) && element.scrollWidth > element.clientWidth) ||
      (/auto|scroll/.test(overflowY) && element.scrollHeight > element.clientHeight);
    if (scrolls && shown(element) && (element.tabIndex !== 0 || !element.getAttribute("aria-label")))
      found.push(`scroll area: ${named(element)}`);
  }
  const regions = all('[role="region"]').map((region) => region.getAttribute("aria-label"));
  if (new Set(regions).size !== regions.length) found.push(`regions of one name: ${regions}`);

  all("img").forEach((image) => image.alt || found.push(`no alt: ${named(image)}`));
  all("svg").forEach((drawing) => {
    if (drawing.getAttribute("aria-hidden") !== "true" || !drawing.closest('[role="img"][aria-label]'))
      found.push(`drawing without a text: ${named(drawing)}`);
  });
  all("button,a[href],input,summary").forEach((control) => {
    const text = [control, ...control.querySelectorAll("[alt],[aria-label]")].map(
      (part) => part.getAttribute("aria-label") || part.getAttribute("alt") || part.textContent.trim(),
    );
    if (!text.some(Boolean) && !control.labels?.length) found.push(`no name: ${named(control)}`);
  });
  all("[aria-label]:not([role]):is(div,span,p,i,b)").forEach((part) => found.push(`name without a role: ${named(part)}`));
  all("table").forEach((table) => {
    if (!table.closest('[role="region"][tabindex="0"]')) found.push(`table outside a scroll area: ${named(table)}`);
    if (!table.querySelector("th[scope]")) found.push(`table without a head: ${named(table)}`);
  });
  all("dl > div").forEach((pair) => {
    if ([...pair.children].map((part) => part.tagName).join() !== "DT,DD") found.push(`not dt, dd: ${named(pair)}`);
  });
  const ids = all("[id]").map((element) => element.id);
  ids.forEach((id, place) => ids.indexOf(id) < place && found.push(`id twice: ${id}`));
  return found;
})();
