// Keeps the page up to date by server-sent events. The server describes the whole content of <main>
// as ["element", {attributes}, children…]; texts are inserted as text, never as HTML.
"use strict";

const main = document.getElementById("main");
const live = document.getElementById("live");
const SVG = new Set(["svg", "rect"]);
// Seconds between two attempts, where the browser makes none by itself.
const RETRY = 5;
// Seconds without a message after which the stream counts as lost. The server sends one every 15 s.
const SILENCE = 40;

// The server's clock minus this one's, in seconds.
let ahead = 0;
const now = () => Date.now() / 1000 + ahead;

// The texts that depend on the time. `format.rs` has the same rules.
const two = (number) => String(number).padStart(2, "0");

function left(seconds) {
  if (seconds <= 0) return "now";
  if (seconds < 60) return `${seconds} s`;
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
  if (hours < 1) return `${minutes} min ${two(seconds % 60)} s`;
  if (days < 1) return `${hours} h ${two(minutes % 60)} min`;
  return `${days} d ${two(hours % 24)} h`;
}

function ago(seconds) {
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
  if (hours < 1) return `${minutes} min ago`;
  if (days < 1) return `${hours} h ago`;
  return `${days} d ago`;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function tick() {
  const seconds = Math.round(now());
  for (const element of main.querySelectorAll("[data-until]")) {
    setText(element, left(Number(element.dataset.until) - seconds));
  }
  for (const element of main.querySelectorAll("[data-since]")) {
    setText(element, ago(seconds - Number(element.dataset.since)));
  }
}

function create(name) {
  return SVG.has(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
}

function update(element, [, attributes, ...children]) {
  for (const name of element.getAttributeNames()) {
    // Whether details are open is the reader's decision.
    if (!(name in attributes) && name !== "open") element.removeAttribute(name);
  }
  for (const [name, value] of Object.entries(attributes)) {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
  if ("data-until" in attributes || "data-since" in attributes) return;
  updateChildren(element, children);
}

// Keeps elements that are already there, so that focus and selection stay.
function updateChildren(parent, children) {
  const keyed = new Map();
  for (const child of parent.children) {
    const key = child.getAttribute("data-key");
    if (key !== null) keyed.set(key, child);
  }
  let at = parent.firstChild;
  for (const child of children) {
    let next;
    if (typeof child === "string") {
      next = at?.nodeType === Node.TEXT_NODE ? at : document.createTextNode("");
      if (next.data !== child) next.data = child;
    } else {
      const key = child[1]["data-key"];
      const isPlain = at?.nodeType === Node.ELEMENT_NODE && !at.hasAttribute("data-key");
      const known = key === undefined ? (isPlain ? at : null) : keyed.get(key);
      next = known?.localName === child[0] ? known : create(child[0]);
      update(next, child);
    }
    if (next === at) {
      at = at.nextSibling;
    } else {
      parent.insertBefore(next, at);
    }
  }
  while (at) {
    const rest = at.nextSibling;
    at.remove();
    at = rest;
  }
}

// Whether a message was of this page's version. Behind a load balancer, the page and its stream may
// come from two versions, and reloading would not end.
let wasCurrent = false;

function show(message) {
  const { now, version, snapshot } = JSON.parse(message);
  receive(now);
  const isCurrent = version === document.body.dataset.version;
  // After an upgrade, this script and style may not fit the content.
  if (wasCurrent && !isCurrent) location.reload();
  wasCurrent ||= isCurrent;
  if (document.title !== snapshot.title) document.title = snapshot.title;
  updateChildren(main, snapshot.main);
  tick();
}

function report(state, text) {
  live.dataset.state = state;
  setText(live, text);
}

// Returns the seconds of the monotonic clock.
const uptime = () => performance.now() / 1000;

let events;
let retry;
// When the last message was received, or the stream was requested.
let receivedAt;

function receive(time) {
  ahead = time - Date.now() / 1000;
  receivedAt = uptime();
}

function connect() {
  clearTimeout(retry);
  events?.close();
  if (document.hidden) return;
  receivedAt = uptime();
  // Relative to the page, which may be nested with or without a slash at its end.
  events = new EventSource(location.pathname.replace(/\/?$/, "/events"));
  events.onmessage = (event) => {
    show(event.data);
    report("live", "Live");
  };
  events.addEventListener("now", (event) => receive(Number(event.data)));
  events.onerror = () => {
    report("lost", "Not live, connecting again");
    // After a response other than 200 the browser gives up.
    if (events.readyState === EventSource.CLOSED) retry = setTimeout(connect, RETRY * 1000);
  };
}

setInterval(() => {
  tick();
  if (document.hidden || uptime() - receivedAt < SILENCE) return;
  report("lost", "Not live, connecting again");
  connect();
}, 1000);

// A browser has six connections to a server that speaks HTTP/1.1, for all of its tabs.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    document.title = "Paused · Claviger";
    report("paused", "Paused");
  }
  connect();
});
connect();
