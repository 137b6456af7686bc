// The board of references: one card for each marker, with its pictures, its short text, and what they are used as.
//
// `props.value` is [{text, pictures: [{name, source, kind, variation}]}]; Python reads `text` and `name` alone. `name`
// is the picture that is used, `source` the photo that a control was computed from. A card's place is its marker.
// The pad and the pictures drawn hand pictures over with "studio:add"; "studio:board" tells them what is here, also
// when somebody who came later asks with "studio:who".

const MOST_MARKERS = 9;
const KINDS = { edge: "edges", mask: "mask", depth: "depth", sketch: "sketch" };
const TEXTS = { edge: "edge map", mask: "mask", depth: "depth map", sketch: "sketch" };
const root = element.querySelector(".board");
let cards = [];
let busy = 0;

const marker = (index) => `[ref#${index + 1}]`;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function button(label, text, action, extra = {}) {
  return make("button", { type: "button", "aria-label": label, title: label, onclick: action, ...extra }, text);
}

function filePicker(label, hint, index) {
  const input = make("input", { type: "file", accept: "image/*", multiple: true, "aria-label": label });
  input.addEventListener("change", () => {
    addFiles([...input.files], index);
    input.value = "";
  });
  return make("label", { class: "picker", title: label }, input, ...hint);
}

// ---- drawing the board -------------------------------------------------------------------------------------------

function render() {
  const focused = document.activeElement?.dataset?.focus;
  const list = make("ol", { class: "cards" });
  cards.forEach((card, index) => list.append(cardNode(card, index)));
  if (cards.length < MOST_MARKERS) list.append(emptyNode());
  root.replaceChildren(list, make("p", { class: "notice", role: "alert" }));
  if (focused) root.querySelector(`[data-focus="${focused}"]`)?.focus();
}

function emptyNode() {
  const hint = [make("span", { class: "plus", "aria-hidden": "true" }, "+"), make("span", {}, "Drop or choose pictures")];
  const node = make("li", { class: "card new" }, filePicker("Add pictures, each with a marker of its own", hint, null));
  return droppable(node, null);
}

function cardNode(card, index) {
  const name = marker(index);
  const head = make("div", { class: "head" },
    button(`Put ${name} into the instruction`, name, () => insert(name), { class: "marker", "data-focus": `m${index}` }),
    make("span", { class: "space" }),
    index > 0 ? button(`Move ${name} to the left`, "←", () => move(index, -1)) : null,
    index < cards.length - 1 ? button(`Move ${name} to the right`, "→", () => move(index, 1)) : null,
    button(`Remove ${name}`, "✕", () => remove(index)));
  const pictures = make("div", { class: "pictures" });
  card.pictures.forEach((picture, place) => pictures.append(pictureNode(card, picture, index, place)));
  pictures.append(filePicker(`Add another picture of ${name}`, [make("span", { class: "plus" }, "+")], index));
  const text = make("input", {
    type: "text", value: card.text, maxlength: 200, placeholder: "what it is, such as fox",
    "aria-label": `What ${name} is`, "data-focus": `t${index}`,
    oninput: (event) => { card.text = event.target.value; commit(); },
  });
  return droppable(make("li", { class: `card m${index + 1}` }, head, pictures, text, useNode(card, index)), index);
}

function pictureNode(card, picture, index, place) {
  const figure = make("figure", {},
    make("img", { src: `thumbnails/${picture.name}.png`, alt: `${marker(index)}, picture ${place + 1}`, draggable: "false" }));
  if (card.pictures.length > 1) {
    figure.append(button(`Remove picture ${place + 1} of ${marker(index)}`, "✕", () => {
      card.pictures.splice(place, 1);
      render();
      root.querySelector(`[data-focus="m${index}"]`).focus();
      commit();
    }));
  }
  return figure;
}

function useNode(card, index) {
  const kind = card.pictures[0].kind ?? "picture";
  const select = make("select", { "aria-label": `Use ${marker(index)} as`, "data-focus": `k${index}` },
    make("option", { value: "picture", selected: kind === "picture" }, "as it is"));
  for (const control of props.controls) {
    const words = KINDS[control] + (props.needs_network.includes(control) ? " (needs a network)" : "");
    select.append(make("option", { value: control, selected: kind === control }, words));
  }
  select.addEventListener("change", () => use(card, select.value, 0));
  const again = kind === "edge" || kind === "sketch"
    ? button(`Another ${KINDS[kind]} of ${marker(index)}`, "↻", () => use(card, kind, (card.pictures[0].variation ?? 0) + 1))
    : null;
  return make("div", { class: "use" }, make("span", { "aria-hidden": "true" }, "Use"), select, again);
}

function droppable(node, index) {
  const over = (on) => (event) => { event.preventDefault(); node.classList.toggle("over", on); };
  node.addEventListener("dragover", over(true));
  node.addEventListener("dragleave", over(false));
  node.addEventListener("drop", (event) => {
    over(false)(event);
    event.stopPropagation();
    addFiles([...event.dataTransfer.files], index);
  });
  return node;
}

// ---- what changes it ---------------------------------------------------------------------------------------------

function commit() {
  props.value = structuredClone(cards);
  trigger("change");
  tellOthers();
}

function tellOthers() {
  document.dispatchEvent(new CustomEvent("studio:board", { detail: cards.map((card) => card.pictures[0].name) }));
}

function notice(sentence) {
  const place = root.querySelector(".notice");
  if (place) place.textContent = sentence;
}

async function working(task) {
  busy += 1;
  root.setAttribute("aria-busy", "true");
  try {
    return await task();
  } catch (error) {
    console.error(error);
    return { error: "The studio does not answer, or the file is too large (30 MB are the most)." };
  } finally {
    busy -= 1;
    if (!busy) root.removeAttribute("aria-busy");
  }
}

async function addFiles(files, index) {
  const errors = [];
  for (const file of files) {
    const answer = await working(async () => server.take({ path: (await upload(file)).path }));
    if (answer.error) errors.push(answer.error);
    else addPicture(answer.name, index, "");
  }
  if (errors.length) notice(errors.join(" "));
}

function addPicture(name, index, text) {
  const picture = { name };
  if (index !== null && cards[index]) cards[index].pictures.push(picture);
  else if (cards.length < MOST_MARKERS) cards.push({ text, pictures: [picture] });
  else return notice(`${MOST_MARKERS} markers are the most; add the picture to one of them.`);
  render();
  commit();
}

async function use(card, kind, variation) {
  const wanted = [];
  for (const picture of card.pictures) {
    const source = picture.source ?? picture.name;
    const answer = kind === "picture" ? { name: source } : await working(() => server.control({ name: source, kind, variation }));
    if (answer.error) {
      render();
      return notice(answer.error);
    }
    wanted.push(kind === "picture" ? { name: source } : { name: answer.name, source, kind, variation });
  }
  card.pictures = wanted;
  if (!card.text || Object.values(TEXTS).includes(card.text)) card.text = TEXTS[kind] ?? "";
  render();
  commit();
}

function move(index, by) {
  const order = cards.map((_, place) => place + 1);
  for (const list of [cards, order]) list.splice(index + by, 0, list.splice(index, 1)[0]);
  changeOrder(order, `m${index + by}`);
}

function remove(index) {
  const order = cards.map((_, place) => place + 1);
  for (const list of [cards, order]) list.splice(index, 1);
  changeOrder(order, `m${Math.max(0, index - 1)}`);
}

function changeOrder(order, focus) {
  render();
  root.querySelector(`[data-focus="${focus}"]`)?.focus();
  commit();
  trigger("renumber", { order });
}

function insert(token) {
  const area = document.querySelector("#instruction textarea");
  const [start, end] = [area.selectionStart, area.selectionEnd];
  const [before, after] = [area.value.slice(0, start), area.value.slice(end)];
  const put = (/\S$/.test(before) ? " " : "") + token + (/^[^\s.,;:!?]/.test(after) ? " " : "");
  area.value = before + put + after;
  area.dispatchEvent(new Event("input", { bubbles: true }));
  area.focus();
  area.setSelectionRange(start + put.length, start + put.length);
}

// ---- from elsewhere ----------------------------------------------------------------------------------------------

function takeOver() {
  cards = structuredClone(props.value ?? []);
  render();
  tellOthers();
  trigger("change");
}

document.addEventListener("studio:add", async (event) => {
  const { name, file, text } = event.detail;
  if (name) return addPicture(name, null, text ?? "");
  const answer = await working(async () => server.take({ path: (await upload(file)).path }));
  return answer.error ? notice(answer.error) : addPicture(answer.name, null, text);
});
document.addEventListener("studio:who", tellOthers);
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
  if (files.length) addFiles(files, null);
});
for (const name of ["dragover", "drop"]) {
  document.addEventListener(name, (event) => { // beside a card, the browser would leave the page for the file
    if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    if (name === "drop") addFiles([...event.dataTransfer.files], null);
  });
}
watch("value", takeOver);
cards = structuredClone(props.value ?? []);
render();
