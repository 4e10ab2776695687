"use strict";
// Frames of one picture over time become one frame and a slider; without this script they stand side by side.
for (const strip of document.querySelectorAll(".frames")) {
  const frames = [...strip.querySelectorAll("figure")];
  if (frames.length < 2) continue;
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: 0, max: frames.length - 1, step: 1, value: frames.length - 1 });
  const label = document.createElement("label");
  const said = document.createElement("output");
  label.append(strip.getAttribute("aria-label") || "Over time", slider, said);
  const show = () => {
    frames.forEach((frame, k) => { frame.hidden = k !== Number(slider.value); });
    const caption = frames[slider.value].querySelector("figcaption").textContent;
    said.textContent = caption;
    slider.setAttribute("aria-valuetext", caption);
  };
  slider.addEventListener("input", show);
  strip.style.display = "block";
  strip.before(label);
  label.className = "scrub";
  show();
}
// One switch for all code of the page.
const folds = [...document.querySelectorAll("details.source")];
if (folds.length > 1) {
  const button = document.createElement("button");
  const open = () => folds.every((fold) => fold.open);
  const say = () => { button.textContent = open() ? "Hide all code" : "Show all code"; };
  button.addEventListener("click", () => { const now = !open(); for (const fold of folds) fold.open = now; });
  for (const fold of folds) fold.addEventListener("toggle", say);
  button.className = "switch";
  (document.querySelector("nav.contents") || document.querySelector("main")).append(button);
  say();
}
