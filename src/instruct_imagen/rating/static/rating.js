// Signs in, takes answers, and keeps the page in step with the server. Nothing is stored here but preferences: where a
// rater stands is always what the server says.

import { byId, fillGuidelines, isShown, say, showAlert, showItem, showPage, showProgress } from "./view.js";

const RETRY_MS = 4000;
let state = null; // what the server said last
let busy = false; // a request is on its way
let retry = null; // what to do again once the connection is back
let watch = { since: 0, seconds: 0 }; // how long this picture has been looked at

class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function call(method, path, body) {
  const options = { method, headers: {}, credentials: "same-origin", cache: "no-store" };
  if (method !== "GET") {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body ?? {});
  }
  const answer = await fetch(path, options);
  if (answer.status === 204) return null;
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, content.error ?? "The server could not answer.");
  return content;
}

/**
 * Runs one request at a time. What a broken connection stops is offered again, with the answers still chosen; every
 * request may be sent twice, since the first may have arrived without its answer.
 */
async function attempt(action, broken = "The server cannot be reached.") {
  if (busy) return;
  busy = true;
  updateSave();
  let after = null;
  try {
    await action();
    retry = null;
    showAlert(null);
  } catch (error) {
    const again = () => attempt(action, broken);
    retry = null;
    if (!(error instanceof Refused) || error.status >= 500) {
      retry = again;
      showAlert(broken);
      setTimeout(() => retry === again && again(), RETRY_MS);
    } else if (error.status === 401) {
      signedOut(error.message);
    } else if (error.status === 409) {
      after = refresh; // another window of the same rater went on
    } else {
      showAlert(error.message, false);
    }
  } finally {
    busy = false;
    updateSave();
  }
  if (after) await after();
}

const refresh = () => attempt(async () => show(await call("GET", "/api/state")));

function signedOut(why) {
  showAlert(null);
  if (why) byId("sign-in-why").textContent = why;
  showPage("sign-in");
}

async function signIn(text) {
  const token = text.slice(text.lastIndexOf("#") + 1).trim(); // a whole link, or the token alone
  await attempt(async () => {
    await call("POST", "/api/session", { token });
    sessionStorage.clear();
    byId("token").value = "";
    enter(await call("GET", "/api/state"));
  });
}

/** The first page of a visit. */
function enter(next) {
  state = next;
  fillGuidelines(state.guidelines);
  if (!state.item || sessionStorage.getItem("begun")) {
    show(state);
    if (state.item && sessionStorage.getItem("paused")) pause();
    return;
  }
  showProgress(state);
  const back = state.num_rated > 0;
  byId("welcome-title").textContent = back ? `Welcome back, ${state.rater}` : `Welcome, ${state.rater}`;
  byId("welcome-text").textContent = back
    ? `You have rated ${state.num_rated} of ${state.num_total} pictures; you go on where you stopped.`
    : `There are ${state.num_total} pictures to rate. Take the time you need; you can pause whenever you like.`;
  byId("begin").textContent = back ? "Continue" : "Begin";
  showPage("welcome");
}

function show(next, said = "") {
  state = next;
  showProgress(state);
  if (!state.item) {
    const any = state.num_rated > 0;
    byId("done-title").textContent = any ? "All done. Thank you!" : "Nothing to rate just now";
    byId("done-text").textContent = any
      ? `You have rated ${state.num_rated} pictures. You can still take the last ones back.`
      : "Others are rating what there is. Please look again later.";
    showPage("done");
    say(said);
    return;
  }
  const { picture } = state.item;
  showItem(state.item, zoom).then(updateSave, () => {
    if (state.item?.picture !== picture) return; // the page went on before it was there
    retry = refresh;
    showAlert("The picture could not be loaded.");
  });
  showPage("rate");
  watch = { since: performance.now(), seconds: 0 };
  focusQuestion("sc");
  updateSave();
  say(`${said} Picture ${state.num_rated + 1} of ${state.num_total}. ${byId("instruction").textContent}`.trim());
}

const chosen = (question) => document.querySelector(`input[name=${question}]:checked`)?.value ?? null;

const canSave = () => !busy && isShown() && chosen("sc") !== null && chosen("pq") !== null;

function updateSave() {
  byId("save").disabled = !canSave();
}

function focusQuestion(question) {
  const radios = document.querySelectorAll(`input[name=${question}]`);
  const target = [...radios].find((radio) => radio.checked) ?? radios[0];
  target.focus({ preventScroll: true });
}

/** The question that a digit answers: where the focus is, or else the first that is open. */
function markedQuestion() {
  const within = document.activeElement?.closest("fieldset")?.id;
  return within ?? (chosen("sc") === null ? "sc" : "pq");
}

function answer(question, place) {
  document.querySelectorAll(`input[name=${question}]`)[place].checked = true;
  answered(question);
}

/** Goes to the question that is left; with none left, Enter saves, or this does. */
function answered(question) {
  updateSave();
  const revising = question === "sc" && state.item.previous !== null; // the other answer is from before
  if (byId("save-at-once").checked && canSave() && !revising) save();
  else focusQuestion(question === "pq" && chosen("sc") === null ? "sc" : "pq");
}

function save() {
  if (!state?.item || !canSave() || byId("rate").hidden) return;
  const seconds = lookedAt();
  attempt(async () => {
    const body = { picture: state.item.picture, sc: Number(chosen("sc")), pq: Number(chosen("pq")), seconds };
    show(await call("POST", "/api/ratings", body), "Saved.");
  }, "Not saved yet: the server cannot be reached. Your answers stay here.");
}

function undo() {
  if (!state?.latest) return;
  const picture = state.latest;
  attempt(async () => {
    const next = await call("POST", "/api/undo", { picture });
    sessionStorage.removeItem("paused");
    sessionStorage.setItem("begun", "yes");
    show(next, "Taken back.");
  });
}

/** Seconds that the picture was in sight. */
function lookedAt() {
  const running = watch.since === null ? 0 : (performance.now() - watch.since) / 1000;
  return Math.round((watch.seconds + running) * 10) / 10;
}

function stopWatch() {
  watch = { since: null, seconds: lookedAt() };
}

function pause() {
  if (!state?.item) return;
  sessionStorage.setItem("paused", "yes");
  stopWatch();
  byId("paused-text").textContent = `${state.num_rated} of ${state.num_total} pictures are rated and saved.`;
  showPage("paused");
}

function resume() {
  sessionStorage.setItem("begun", "yes");
  sessionStorage.removeItem("paused");
  refresh();
}

function zoom(picture, text) {
  byId("zoom-picture").src = `/pictures/${picture}`;
  byId("zoom-picture").alt = text;
  byId("zoom-text").textContent = text;
  byId("zoom").showModal();
}

const zoomOutput = () => zoom(state.item.picture, "the picture to rate");

function onKey(event) {
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (!plain || event.repeat || document.querySelector("dialog[open]") || event.target.id === "token") return;
  const rating = !byId("rate").hidden;
  const digit = /^(?:Digit|Numpad)([123])$/.exec(event.code)?.[1] ?? /^[123]$/.exec(event.key)?.[0];
  if (rating && digit && !event.shiftKey) {
    answer(markedQuestion(), Number(digit) - 1);
  } else if (rating && event.key === "Enter" && event.target.tagName !== "BUTTON") {
    save();
  } else if (byId("use-letters").checked && !byId("bar").hidden) {
    const actions = { u: undo, p: rating ? pause : null, g: () => byId("guidelines").showModal(), z: rating ? zoomOutput : null };
    const action = actions[event.key.toLowerCase()];
    if (!action) return;
    action();
  } else {
    return;
  }
  event.preventDefault();
}

function remember(id) {
  const box = byId(id);
  box.checked = (localStorage.getItem(id) ?? String(box.checked)) === "true";
  box.addEventListener("change", () => localStorage.setItem(id, String(box.checked)));
}

function wire() {
  document.addEventListener("keydown", onKey);
  byId("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(byId("token").value);
  });
  byId("questions").addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  for (const radio of document.querySelectorAll("#questions input")) {
    radio.addEventListener("click", (event) => { // a mouse has coordinates; arrow keys only move
      updateSave();
      if (event.detail > 0) answered(radio.name);
    });
    radio.addEventListener("change", updateSave);
  }
  byId("begin").addEventListener("click", resume);
  byId("resume").addEventListener("click", resume);
  byId("look-again").addEventListener("click", resume);
  byId("undo").addEventListener("click", undo);
  byId("pause").addEventListener("click", pause);
  byId("help").addEventListener("click", () => byId("guidelines").showModal());
  byId("output").addEventListener("click", zoomOutput);
  byId("zoom-picture").addEventListener("click", () => byId("zoom").close());
  byId("retry").addEventListener("click", () => retry?.());
  byId("sign-out").addEventListener("click", () => {
    byId("guidelines").close();
    attempt(async () => {
      await call("DELETE", "/api/session");
      sessionStorage.clear();
      signedOut("You are signed out.");
    });
  });
  remember("use-letters");
  remember("save-at-once");
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stopWatch();
    else if (watch.since === null && !byId("rate").hidden) watch.since = performance.now();
  });
  window.addEventListener("beforeunload", (event) => {
    if (retry !== null) event.preventDefault(); // an answer is not saved yet
  });
}

async function start() {
  wire();
  fillGuidelines("");
  const token = location.hash.slice(1);
  history.replaceState(null, "", location.pathname); // neither the history nor a shoulder keeps the token
  if (token) {
    await signIn(token);
    return;
  }
  await attempt(async () => {
    try {
      enter(await call("GET", "/api/state"));
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 401) throw error;
      signedOut(null);
    }
  });
}

start();
