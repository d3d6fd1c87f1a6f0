"use strict";
// The listening page. Pairs are numbered per listener, and sounds have random names valid for one session.

const MIN_SECONDS = 2; // to play of each clip after the common beginning before an answer
const NAME = "mgen-listen-name";
const SECTIONS = ["gate", "welcome", "listen", "done"];
const $ = id => document.getElementById(id);

const wait = seconds => new Promise(done => setTimeout(done, 1000 * seconds));
const sides = {};
let pair = null; // the current pair
let study = ""; // identifies the votes file of the server
let undoPlace = null;
let busy = false; // an answer is being sent
let warned = false; // about an unplayed clip

// ---------------------------------------------------------------- the server

class Refused extends Error {
  constructor(status, content) {
    super(content.error || "The server refused.");
    this.status = status;
    this.need = content.need;
  }
}

async function ask(path, body) {
  const options = body === undefined ? {} :
    {method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(body)};
  const response = await fetch(path, {...options, credentials: "same-origin", cache: "no-store"});
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, content);
  return content;
}

// Retries until there is an answer. A refusal that a retry cannot change is thrown.
async function insist(path, body) {
  let entered = 0;
  for (let pause = 0.5; ; pause = Math.min(2 * pause, 8)) {
    try {
      const content = await ask(path, body);
      trouble("");
      return content;
    } catch (error) {
      if (error instanceof Refused && error.need === "name" && remembered(NAME) && path !== "/api/rater" && !entered++) {
        await enter(remembered(NAME)); // the server was restarted
        continue;
      }
      if (error instanceof Refused && error.status < 500) throw error;
      trouble(error instanceof Refused ? error.message : "The server does not answer. No vote is lost; trying again …");
      await wait(pause);
    }
  }
}

async function enter(name) {
  const state = await insist("/api/rater", {name});
  if (study && state.study !== study) location.reload(); // another study under the same address
  study = state.study;
}

function remembered(key) {
  try { return localStorage.getItem(key); } catch { return null; } // not available in some private windows
}

function remember(key, value) {
  try { value === null ? localStorage.removeItem(key) : localStorage.setItem(key, value); } catch { /* as above */ }
}

function fresh() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, "0")).join("");
}

// ------------------------------------------------------------------ sections

function show(name) {
  for (const section of SECTIONS) $(section).hidden = section !== name;
  $("who").textContent = name === "listen" || name === "done" ? remembered(NAME) || "" : "";
  $("leave").hidden = !$("who").textContent;
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

function need(error) {
  if (!(error instanceof Refused)) throw error;
  stop();
  if (error.need === "token") { show("gate"); $("token").focus(); }
  else if (error.need === "name") { show("welcome"); $("name").value = remembered(NAME) || ""; $("name").focus(); }
  else trouble(error.message);
}

async function start() {
  try {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) {
      history.replaceState(null, "", location.pathname); // keeps the token out of the history
      await insist("/api/login", {token: given});
    }
    const state = await insist("/api/state");
    $("question").textContent = state.question;
    study = state.study;
    if (!state.rater) {
      if (!remembered(NAME)) { show("welcome"); $("name").focus(); return; }
      await enter(remembered(NAME));
    }
    await deliver();
    await next();
  } catch (error) { need(error); }
}

function form(id, input, send) {
  $(id).addEventListener("submit", async event => {
    event.preventDefault();
    const wrong = $(id).querySelector(".wrong");
    wrong.textContent = "";
    try { await send($(input).value); }
    catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.need === "token" && id !== "gate-form") need(error);
      else { wrong.textContent = error.message; $(input).select(); }
    }
  });
}

// --------------------------------------------------------------------- pairs

async function next() {
  stop();
  $("clips").classList.add("waiting");
  hint("Preparing the next pair …");
  const found = await insist("/api/pair");
  undoPlace = found.undo;
  progress(found);
  for (const id of ["undo", "undo-done"]) $(id).hidden = undoPlace === null;
  if (found.place === undefined) {
    pair = null;
    $("thanks").textContent = `${found.total === 1 ? "The one pair is" : `All ${found.total} pairs are`} answered. You can close this page.`;
    show("done");
    $("done").querySelector("h1").focus();
    return;
  }
  show("listen");
  const sounds = await Promise.all([found.a, found.b].map(fetchSound));
  if (sounds.includes(null)) return next(); // the names have expired
  pair = found;
  warned = false;
  const part = `${(100 * found.prompt_seconds / found.seconds).toFixed(2)}%`;
  ["a", "b"].forEach((side, i) => sides[side].load(sounds[i], part));
  $("shared").replaceChildren();
  if (found.prompt_seconds > 0) {
    const seconds = Math.round(found.prompt_seconds);
    const words = seconds > 1 ? `The first ${seconds} seconds are` : "The very beginning is";
    $("shared").append(document.createElement("i"), `${words} the same in both.`);
  }
  $("clips").classList.remove("waiting");
  hint("");
  unplayed();
  $("question").focus({preventScroll: true});
}

async function fetchSound(name) {
  for (let pause = 0.5; ; pause = Math.min(2 * pause, 8)) {
    try {
      const response = await fetch(`/api/sound/${name}`, {credentials: "same-origin", cache: "no-store"});
      if (response.ok) { trouble(""); return await response.blob(); }
      if (response.status < 500) return null;
    } catch { /* reported below, then retried */ }
    trouble("The sound does not arrive; trying again …");
    await wait(pause);
  }
}

function progress({done, total}) {
  $("count").textContent = `${Math.min(done + 1, total)} of ${total}`;
  $("progress").style.setProperty("--done", `${100 * done / Math.max(total, 1)}%`);
  $("progress").setAttribute("aria-valuemax", total);
  $("progress").setAttribute("aria-valuenow", done);
}

function hint(text) { $("hint").textContent = text; }

// Returns the clips that have not played enough; the buttons look inactive until there are none.
function unplayed() {
  const missing = ["a", "b"].filter(side => !sides[side].playedEnough());
  document.querySelector(".choices").classList.toggle("early", missing.length > 0);
  if (!missing.length && warned) { warned = false; hint(""); }
  return missing;
}

// --------------------------------------------------------------------- votes

async function choose(choice) {
  if (busy || !pair) return;
  const missing = unplayed();
  if (missing.length) {
    warned = true;
    const names = missing.map(side => side.toUpperCase()).join(" and ");
    hint(`Please listen to ${names} first${pair.prompt_seconds > 0 ? ", beyond the common beginning" : ""}.`);
    return;
  }
  await send({
    place: pair.place, choice,
    seconds_a: +sides.a.played.toFixed(2), seconds_b: +sides.b.played.toFixed(2),
  });
}

async function undo() {
  if (busy || undoPlace === null) return;
  await send({place: undoPlace, choice: "undo", seconds_a: 0, seconds_b: 0});
}

async function send(vote) {
  busy = true;
  stop();
  pair = null;
  unsaved = {id: fresh(), ...vote};
  remember(pendingKey(), JSON.stringify(unsaved)); // until the server has written it to disk
  try {
    await deliver();
    await next();
  } catch (error) { need(error); }
  finally { busy = false; }
}

let unsaved = null; // an answer without acknowledgement

function pendingKey() { return `mgen-listen-pending ${study} ${remembered(NAME)}`; }

// Sends the unacknowledged answer again; its id makes repeated sends one vote.
async function deliver() {
  const key = pendingKey(), kept = remembered(key);
  const vote = kept ? JSON.parse(kept) : unsaved;
  try {
    if (vote) await insist("/api/vote", vote);
  } catch (error) {
    if (error.status === 409) { remember(key, null); unsaved = null; } // sending it again changes nothing
    throw error;
  }
  remember(key, null);
  unsaved = null;
}

// --------------------------------------------------------------------- sound

class Side {
  constructor(element) {
    this.element = element;
    this.button = element.querySelector(".play");
    this.range = element.querySelector("input");
    this.note = element.querySelector(".status");
    this.letter = element.dataset.side.toUpperCase();
    this.audio = new Audio();
    this.audio.preload = "auto";
    this.played = 0;
    this.last = null;
    this.button.addEventListener("click", () => this.toggle());
    this.range.addEventListener("input", () => this.seek(this.range.value / 1000 * this.length()));
    this.range.addEventListener("pointerup", () => this.range.blur()); // the arrow keys answer again
    for (const name of ["play", "pause", "ended", "timeupdate", "seeked"]) this.audio.addEventListener(name, () => this.draw());
  }

  load(blob, part) {
    if (this.audio.src) URL.revokeObjectURL(this.audio.src);
    this.audio.src = URL.createObjectURL(blob);
    this.played = 0;
    this.last = null;
    this.range.style.setProperty("--prompt", part);
    this.draw();
  }

  length() { return pair ? pair.seconds : 1; }
  shared() { return pair ? pair.prompt_seconds : 0; }
  playedEnough() { return this.played >= Math.min(MIN_SECONDS, 0.8 * (this.length() - this.shared())); }

  toggle() {
    if (!pair) return;
    if (!this.audio.paused) { this.audio.pause(); return; }
    stop(this);
    if (this.audio.ended) this.audio.currentTime = 0;
    this.audio.play().catch(error => trouble(`The browser cannot play this: ${error.message}`));
    trouble("");
  }

  seek(seconds) {
    this.audio.currentTime = Math.max(0, Math.min(seconds, this.length() - 0.05));
    this.last = null;
    this.draw();
  }

  draw() {
    const playing = !this.audio.paused && !this.audio.ended;
    const now = this.audio.currentTime;
    if (this.last !== null && now - this.last < 2) this.played += Math.max(0, now - Math.max(this.last, this.shared()));
    this.last = playing ? now : null;
    const part = this.length() ? now / this.length() : 0;
    this.element.classList.toggle("playing", playing);
    this.button.setAttribute("aria-label", `${playing ? "Pause" : "Play"} ${this.letter}`);
    this.range.value = Math.round(1000 * part);
    this.range.style.setProperty("--at", `${(100 * part).toFixed(2)}%`);
    this.range.setAttribute("aria-valuetext", `${now.toFixed(0)} of ${this.length().toFixed(0)} seconds`);
    this.note.textContent = this.playedEnough() ? "✓ played" : playing ? "playing …" : "not played yet";
    if (pair) unplayed();
    if (playing && !this.scheduled) {
      this.scheduled = true;
      requestAnimationFrame(() => { this.scheduled = false; if (!this.audio.paused) this.draw(); });
    }
  }
}

function stop(but) { for (const side of Object.values(sides)) if (side !== but) side.audio.pause(); }

function current() { return Object.values(sides).find(side => !side.audio.paused); }

let recent = null;
function pauseOrResume() {
  const playing = current();
  if (playing) { recent = playing; playing.toggle(); }
  else (recent || sides.a).toggle();
}

// -------------------------------------------------------------------- events

const KEYS = {
  "1": () => sides.a.toggle(), a: () => sides.a.toggle(),
  "2": () => sides.b.toggle(), b: () => sides.b.toggle(),
  " ": pauseOrResume,
  s: () => { if (pair) for (const side of Object.values(sides)) side.seek(pair.prompt_seconds); },
  arrowleft: () => choose("a"), j: () => choose("a"),
  arrowright: () => choose("b"), k: () => choose("b"),
  arrowdown: () => choose("tie"), t: () => choose("tie"),
  u: undo, backspace: undo,
};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if ($("listen").hidden && $("done").hidden) return;
  const tag = event.target.tagName, key = event.key.toLowerCase();
  if (tag === "INPUT" && (event.target.type !== "range" || key.startsWith("arrow"))) return;
  if ((tag === "BUTTON" || tag === "SUMMARY") && key === " ") return; // activates the focused element
  if (KEYS[key]) { event.preventDefault(); KEYS[key](); }
});

for (const element of document.querySelectorAll(".clip")) sides[element.dataset.side] = new Side(element);
for (const button of document.querySelectorAll(".choice")) button.addEventListener("click", () => choose(button.dataset.choice));
$("undo").addEventListener("click", undo);
$("undo-done").addEventListener("click", undo);
$("leave").addEventListener("click", () => {
  stop();
  pair = null;
  remember(NAME, null);
  show("welcome");
  $("name").value = "";
  $("name").focus();
});
form("gate-form", "token", async token => { await insist("/api/login", {token}); $("token").value = ""; await start(); });
form("name-form", "name", async name => {
  await enter(name);
  remember(NAME, name.trim().replace(/\s+/g, " "));
  await deliver();
  await next();
});
document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); });
start();
