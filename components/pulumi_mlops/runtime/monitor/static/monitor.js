// Refreshes the dashboard and shows when that fails. The server formats all figures.
"use strict";

const main = document.getElementById("main");
const age = document.getElementById("age");
const announce = document.getElementById("announce");
const unreachable = document.getElementById("unreachable");
const refreshMs = Number(document.body.dataset.refreshSeconds) * 1000;
const stack = document.body.dataset.stack;

let received = Date.now();
let lost = false;
let timer = 0;

function show() {
  // Times in the time zone of the browser.
  for (const time of main.querySelectorAll("time")) {
    time.title = new Date(time.dateTime).toLocaleString();
  }
  const state = document.getElementById("state").dataset.state;
  const summary = document.getElementById("summary").textContent;
  // Announce changes only, not every refresh.
  if (announce.textContent !== summary) announce.textContent = summary;
  document.title = `${state === "ok" ? "" : `(${state}) `}${stack} · monitor`;
  tick();
}

function tick() {
  const seconds = Math.round((Date.now() - received) / 1000);
  age.textContent = seconds < 2 ? "Updated just now" : `Updated ${seconds} s ago`;
  if (lost) {
    const at = new Date(received).toLocaleTimeString();
    unreachable.textContent =
      `The monitor cannot be reached. The figures below are from ${at} and may be wrong. Retrying.`;
  }
}

function setLost(value) {
  lost = value;
  unreachable.hidden = !value;
  document.body.classList.toggle("lost", value);
  if (value) document.title = `(unreachable) ${stack} · monitor`;
}

async function update() {
  clearTimeout(timer);
  try {
    const response = await fetch("fragment", {
      cache: "no-store",
      signal: AbortSignal.timeout(10000),
    });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const html = await response.text();
    // Keep a selection of text that is about to be copied. The age shows that figures are old.
    if (document.getSelection().isCollapsed) {
      main.innerHTML = html;
      received = Date.now();
    }
    setLost(false);
    show();
  } catch {
    setLost(true);
    tick();
  }
  timer = setTimeout(update, refreshMs);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) update();
});
setInterval(tick, 1000);
show();
timer = setTimeout(update, refreshMs);
