// Looks again every minute: but not while nobody sees the page, or somebody reads or works in it.
"use strict";
const shown = document.querySelector("[data-again]");
const every = 60000;

async function look() {
  const main = document.getElementById("main");
  const busy = main.contains(document.activeElement) || !getSelection().isCollapsed;
  if (document.hidden || busy) return;
  const answer = await fetch(shown.dataset.again, { redirect: "manual" });
  if (answer.type === "opaqueredirect") location.reload(); // the session has ended
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const open = shown.querySelector("details")?.open;
  shown.replaceChildren(...page.querySelector("[data-again]").childNodes);
  if (open) shown.querySelector("details").open = true;
}

setInterval(() => look().catch(() => {}), every);
