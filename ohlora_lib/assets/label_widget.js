// The labelling widget: shows an image and a question, sends answers by key or by button.
// An answer names the place it was given at, so that a key pressed twice answers once.

const KEYS = {
  y: "1", 1: "1", ArrowRight: "1", n: "0", 0: "0", ArrowLeft: "0",
  s: "skip", ArrowDown: "skip", b: "back", ArrowUp: "back", Backspace: "back",
};
const BUTTONS = [["no", "0", "0, n or ←"], ["yes", "1", "1, y or →"], ["skip", "skip", "s or ↓"],
  ["back", "back", "b or ↑"]];

function add(parent, tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  parent.append(element);
  return element;
}

function render({ model, el }) {
  const box = add(el, "div", "ohlora-labeller");
  box.tabIndex = 0;
  box.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys stay out while this has focus
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Labelling: y yes (1), n no (0), s skip, b back");
  const question = add(box, "div", "ohlora-question");
  question.setAttribute("aria-live", "polite");
  const picture = add(box, "img", "ohlora-picture");
  const buttons = add(box, "div", "ohlora-buttons");
  const progress = add(box, "div", "ohlora-progress");
  let address = null;

  const send = (answer) => model.send({ answer, place: model.get("place") });

  for (const [name, answer, keys] of BUTTONS) {
    const button = add(buttons, "button", "ohlora-" + name);
    button.type = "button";
    button.textContent = `${name} (${keys})`;
    button.addEventListener("click", () => { send(answer); box.focus(); });
  }

  box.addEventListener("keydown", (event) => {
    const answer = KEYS[event.key];
    if (!answer || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    send(answer);
  });

  function draw() {
    const bytes = model.get("image");
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    const done = model.get("done");
    picture.src = done ? "" : address;
    picture.hidden = done;
    picture.alt = model.get("question");
    question.textContent = model.get("question");
    progress.textContent = model.get("progress");
    box.dataset.place = model.get("place");
    for (const button of buttons.children) {
      button.disabled = done && !button.classList.contains("ohlora-back");
    }
  }

  model.on("change:shown", draw);
  draw();
  box.focus();
  return () => address && URL.revokeObjectURL(address);
}

export default { render };
