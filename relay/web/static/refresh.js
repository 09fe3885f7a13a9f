// Looks again every minute, or as the page says: but not while nobody sees the page, or somebody reads or works in it.
"use strict";
const shown = document.querySelector("[data-again]");
const every = 1000 * (shown.dataset.every || 60);

async function look() {
  const main = document.getElementById("main");
  const busy = main.contains(document.activeElement) || !getSelection().isCollapsed;
  if (document.hidden || busy || !shown.dataset.again) return; // none is named: it is over
  const answer = await fetch(shown.dataset.again, { redirect: "manual" });
  if (answer.type === "opaqueredirect") location.reload(); // the session has ended
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const open = shown.querySelector("details")?.open;
  const fresh = page.querySelector("[data-again]");
  shown.dataset.again = fresh.dataset.again;
  shown.replaceChildren(...fresh.childNodes);
  const said = document.querySelector("[role=status].sr"); // what a screen reader is to hear
  if (said && page.title !== document.title) said.textContent = page.title;
  document.title = page.title;
  if (open) shown.querySelector("details").open = true;
}

setInterval(() => look().catch(() => {}), every);
