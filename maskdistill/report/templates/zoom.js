"use strict";
(() => {
  const LARGEST = 3; // times a picture's own pixels
  const groups = new Map();
  for (const button of document.querySelectorAll("button.zoom")) {
    const group = button.closest(".pictures") || button.parentElement;
    groups.set(group, [...(groups.get(group) || []), button]);
  }
  if (!groups.size) return;

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text) made.textContent = text;
    return made;
  };
  const dialog = element("dialog", "enlarged");
  const place = element("div", "place");
  const caption = element("p", "told");
  const bar = element("div", "bar-of-buttons");
  const [before, after, close] = ["‹ previous", "next ›", "close"].map((text) => {
    const button = element("button", "", text);
    button.type = "button";
    bar.append(button);
    return button;
  });
  dialog.setAttribute("aria-label", "Enlarged picture");
  caption.setAttribute("aria-live", "polite");
  dialog.append(place, caption, bar);
  document.body.append(dialog);

  let opener = null;
  let shown = [];
  let at = 0;

  // what is drawn over a photo goes with it
  function source(picture) {
    const drawn = picture.closest(".frame")?.querySelector("canvas");
    if (!drawn) return picture.src;
    const both = element("canvas");
    [both.width, both.height] = [drawn.width, drawn.height];
    const context = both.getContext("2d");
    context.drawImage(picture, 0, 0, both.width, both.height);
    context.drawImage(drawn, 0, 0);
    return both.toDataURL();
  }

  function copyOf(picture) {
    const drawing = picture.querySelector("svg");
    if (drawing) {
      const { width, height } = drawing.viewBox.baseVal;
      const copy = drawing.cloneNode(true);
      return [copy, width, height, picture.getAttribute("aria-label")];
    }
    const copy = element("img");
    copy.src = source(picture);
    copy.alt = picture.alt;
    return [copy, picture.naturalWidth, picture.naturalHeight, picture.alt];
  }

  function show(number) {
    at = (number + shown.length) % shown.length;
    const [copy, width, height, text] = copyOf(shown[at].firstElementChild);
    copy.style.width = `min(${LARGEST * width}px, 92vw, ${(76 * width) / height}vh)`;
    place.replaceChildren(copy);
    caption.textContent = shown.length > 1 ? `${text} (${at + 1} of ${shown.length})` : text;
    before.hidden = after.hidden = shown.length < 2;
  }

  function open(button) {
    opener = button;
    shown = groups.get(button.closest(".pictures") || button.parentElement);
    show(shown.indexOf(button));
    dialog.showModal();
    close.focus();
  }

  // Tab goes from strip to strip, arrows go along one
  for (const [group, buttons] of groups) {
    buttons.forEach((button, number) => {
      button.tabIndex = number ? -1 : 0;
      button.addEventListener("click", () => open(button));
    });
    if (buttons.length < 2) continue;
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const from = buttons.indexOf(document.activeElement);
      if (!step || from < 0) return;
      event.preventDefault();
      const to = (from + step + buttons.length) % buttons.length;
      buttons[from].tabIndex = -1;
      buttons[to].tabIndex = 0;
      buttons[to].focus();
    });
  }
  before.addEventListener("click", () => show(at - 1));
  after.addEventListener("click", () => show(at + 1));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(at + 1);
    if (event.key === "ArrowLeft") show(at - 1);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => {
    if (dialog.open) return; // the event comes late: another picture is shown already
    place.replaceChildren();
    opener.focus();
  });
})();
