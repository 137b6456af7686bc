// Draws what the server says; knows nothing of keys or of the network.

export const byId = (id) => document.getElementById(id);

const PAGES = ["sign-in", "welcome", "paused", "done", "rate"];

/** Shows one of the pages and puts the focus where reading begins. */
export function showPage(name) {
  for (const page of PAGES) byId(page).hidden = page !== name;
  byId("bar").hidden = name === "sign-in";
  byId("pause").hidden = name !== "rate";
  document.querySelector(".skip").hidden = name !== "rate";
  window.scrollTo(0, 0);
  if (name !== "rate") byId(name).querySelector("h1").focus({ preventScroll: true });
}

export function say(text) {
  byId("status").textContent = text;
}

export function showAlert(text, canRetry = true) {
  byId("alert").hidden = !text;
  byId("alert-text").textContent = text ?? "";
  byId("retry").hidden = !canRetry;
}

/** Puts the guidelines, the owner's first, wherever they are shown. */
export function fillGuidelines(own) {
  for (const place of document.querySelectorAll("[data-guidelines]")) {
    const text = byId("guidelines-text").content.cloneNode(true);
    const first = text.querySelector(".own");
    if (own) first.textContent = own;
    else first.remove();
    place.replaceChildren(text);
  }
}

export function showProgress(state) {
  byId("study-title").textContent = state.title;
  document.title = state.title;
  byId("progress").max = Math.max(1, state.num_total);
  byId("progress").value = state.num_rated;
  byId("progress-text").textContent = `${state.num_rated} of ${state.num_total} rated`;
  byId("undo").disabled = state.latest === null;
}

/** Whether the picture to rate can be seen. */
export const isShown = () => !byId("picture").classList.contains("waiting");

/** Shows the picture to rate, its instruction and its references; settles when the picture is there, or fails. */
export function showItem(item, zoom) {
  const marker = (number, tag = "span") => {
    const chip = document.createElement(tag);
    chip.className = "marker";
    chip.dataset.marker = number;
    chip.textContent = number;
    return chip;
  };
  byId("instruction").replaceChildren(...item.text.map((part) => {
    if (part.marker === null) return part.text;
    const chip = marker(part.marker, "button");
    const named = item.references.find((reference) => reference.marker === part.marker);
    chip.type = "button";
    chip.setAttribute("aria-label", `picture ${part.marker}${named?.text ? `, ${named.text}` : ""}`);
    chip.addEventListener("click", () => zoom(named.pictures[0], caption(named)));
    return chip;
  }));
  byId("references").replaceChildren(...item.references.map((reference) => {
    const entry = document.createElement("li");
    entry.dataset.marker = reference.marker;
    for (const picture of reference.pictures) {
      const frame = document.createElement("button");
      frame.type = "button";
      frame.className = "frame";
      frame.setAttribute("aria-label", `Enlarge ${caption(reference)}`);
      const image = document.createElement("img");
      image.src = `/pictures/${picture}`;
      image.alt = caption(reference);
      image.draggable = false;
      frame.append(image);
      frame.addEventListener("click", () => zoom(picture, caption(reference)));
      entry.append(frame);
    }
    const name = document.createElement("span");
    name.className = "name";
    name.append(marker(reference.marker), reference.text);
    entry.append(name);
    return entry;
  }));
  tieMarkers();
  byId("conditions").replaceChildren(...conditions(item, marker));
  byId("place").textContent = item.num_places > 1 ? `· ${item.place} of ${item.num_places}` : "";
  const image = byId("picture");
  image.classList.add("waiting"); // the picture before must not stand beside the new instruction
  image.src = `/pictures/${item.picture}`;
  const shown = image.decode().then(() => image.classList.remove("waiting"));
  if (item.following) new Image().src = `/pictures/${item.following}`;
  for (const question of ["sc", "pq"]) {
    for (const radio of document.querySelectorAll(`input[name=${question}]`)) {
      radio.checked = item.previous !== null && Number(radio.value) === item.previous[question];
    }
  }
  byId("references").scrollLeft = 0;
  return shown;
}

function caption(reference) {
  return `picture ${reference.marker}${reference.text ? `: ${reference.text}` : ""}`;
}

/** What SC asks about: the words and each numbered picture. */
function conditions(item, marker) {
  if (!item.references.length) return ["Everything the words ask for."];
  const chips = item.references.flatMap((reference) => [" ", marker(reference.marker)]);
  return ["The weakest of these decides: the words", ...chips];
}

/** A marker under the pointer or the focus lights up wherever it stands. */
function tieMarkers() {
  const tied = document.querySelectorAll("#instruction .marker, #references li");
  const light = (number, on) => {
    for (const other of tied) if (other.dataset.marker === number) other.classList.toggle("lit", on);
  };
  for (const place of tied) {
    for (const [event, on] of [["pointerenter", true], ["pointerleave", false], ["focusin", true], ["focusout", false]]) {
      place.addEventListener(event, () => light(place.dataset.marker, on));
    }
  }
}
