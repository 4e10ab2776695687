// The labelling widget: asks about one image by key, or shows a page of images filled in with
// predictions, to correct and confirm. Answers carry the index of their page, so that a key pressed
// twice answers once.

const KEYS = {
  y: "1", 1: "1", ArrowRight: "1", n: "0", 0: "0", ArrowLeft: "0",
  s: "skip", ArrowDown: "skip", b: "back", ArrowUp: "back", Backspace: "back",
};
const BUTTONS = [["no", "0", "0, n or ←"], ["yes", "1", "1, y or →"], ["skip", "skip", "s or ↓"],
  ["back", "back", "b or ↑"]];
const KEY_HELP = "y or 1 is yes, n or 0 is no, s skips, b goes back.";
const PAGE_HELP = "Click the wrong ones (or arrow keys and space), s skips the selected one, "
  + "Enter confirms the page, b goes back.";

function add(parent, tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

function button(parent, className, text, act) {
  const element = add(parent, "button", className, text);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

function render({ model, el }) {
  const box = add(el, "div", "ohlora-labeller");
  box.tabIndex = 0;
  box.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys stay out while this has focus
  box.setAttribute("role", "group");
  const question = add(box, "div", "ohlora-question");
  question.setAttribute("aria-live", "polite");
  const help = add(box, "div", "ohlora-help");
  const picture = add(box, "img", "ohlora-picture");
  const page = add(box, "div", "ohlora-page");
  const buttons = add(box, "div", "ohlora-buttons");
  const progress = add(box, "div", "ohlora-progress");
  const notes = add(box, "div", "ohlora-notes");
  notes.setAttribute("role", "status");
  let addresses = [], answers = [], at = 0; // of the page: its answers, and the marked image

  const view = () => model.get("view");
  const send = (given) => model.send({ answers: given, place: model.get("place") });
  const word = (answer) => answer === "skip" ? "skipped" : model.get("words")[answer];

  for (const [name, answer, keys] of BUTTONS) {
    button(buttons, "ohlora-" + name, `${name} (${keys})`, () => { send([answer]); box.focus(); });
  }
  const confirm = button(buttons, "ohlora-confirm", "", () => send(answers));
  const undo = button(buttons, "ohlora-undo", "back a page (b)", () => send(["back"]));

  function mark(k) { // draws the answer of an image on the page
    const tile = page.children[k], changed = answers[k] !== model.get("filled")[k];
    tile.dataset.answer = answers[k];
    tile.setAttribute("aria-pressed", answers[k] === "1");
    tile.lastChild.textContent = (changed ? "✎ " : "") + word(answers[k]);
    tile.setAttribute("aria-label", `${k + 1}: ${word(answers[k])}${changed ? ", changed" : ""}`);
  }

  function turn(k, answer) {
    answers[k] = answer;
    mark(k);
    move(k);
  }

  function move(k) { // one image of the page takes part in the tab order
    if (!page.children[k]) return;
    page.children[at].tabIndex = -1;
    at = k;
    page.children[at].tabIndex = 0;
    page.children[at].focus();
  }

  function fill() {
    page.replaceChildren();
    answers = [...model.get("filled")];
    at = 0;
    addresses.forEach((address, k) => {
      const tile = button(page, "ohlora-tile", "", () => turn(k, answers[k] === "1" ? "0" : "1"));
      tile.tabIndex = k ? -1 : 0;
      add(tile, "img", "").src = address;
      tile.firstChild.alt = "";
      add(tile, "span", "");
      mark(k);
    });
  }

  function pageKey(key) { // returns whether the key means something on a page
    const columns = getComputedStyle(page).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (key in steps) move(at + steps[key]);
    else if (key === " ") turn(at, answers[at] === "1" ? "0" : "1");
    else if (key === "s") turn(at, answers[at] === "skip" ? model.get("filled")[at] : "skip");
    else if (key === "Enter") send(answers);
    else if (key === "b" || key === "Backspace") send(["back"]);
    else return false;
    return true;
  }

  function questionKey(key) {
    if (KEYS[key] && (view() === "key" || KEYS[key] === "back")) send([KEYS[key]]);
    return key in KEYS;
  }

  box.addEventListener("keydown", (event) => {
    const { key, ctrlKey, metaKey, altKey, target } = event;
    const pressing = buttons.contains(target) && (key === "Enter" || key === " ");
    if (view() === "wait" || ctrlKey || metaKey || altKey || pressing) return;
    if ((view() === "grid" ? pageKey : questionKey)(key)) {
      event.preventDefault();
      event.stopPropagation();
    } else if (key.length === 1) {
      notes.textContent = `The key “${key}” does nothing here. ${help.textContent}`;
    }
  });

  function draw() {
    const kind = view(), wide = kind === "grid", held = el.contains(document.activeElement);
    addresses.forEach((address) => URL.revokeObjectURL(address));
    addresses = model.get("images").map(
      (bytes) => URL.createObjectURL(new Blob([bytes], { type: "image/png" })),
    );
    question.textContent = model.get("question");
    help.textContent = { key: KEY_HELP, grid: PAGE_HELP }[kind] || "";
    picture.hidden = kind !== "key";
    picture.src = kind === "key" ? addresses[0] : "";
    picture.alt = model.get("question");
    page.hidden = !wide;
    if (wide) fill(); else page.replaceChildren();
    confirm.textContent = `confirm all ${addresses.length} (Enter)`;
    confirm.hidden = undo.hidden = !wide;
    for (const [name] of BUTTONS) {
      const one = buttons.querySelector(".ohlora-" + name);
      one.hidden = wide;
      one.disabled = kind === "wait" || (kind === "done" && name !== "back");
    }
    progress.textContent = model.get("progress");
    notes.textContent = model.get("notes").join(" ");
    box.setAttribute("aria-label", `Labelling. ${help.textContent}`);
    box.dataset.place = model.get("place");
    box.dataset.view = kind;
    if (held) (wide ? page.firstChild : box).focus({ preventScroll: true });
  }

  model.on("change:shown", draw);
  model.on("change:notes", () => { notes.textContent = model.get("notes").join(" "); });
  draw();
  box.focus();
  return () => addresses.forEach((address) => URL.revokeObjectURL(address));
}

export default { render };
