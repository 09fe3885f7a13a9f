// Looks again every minute, or as the page says: but not while nobody sees the page, or somebody works in it.
"use strict";
const shown = document.querySelector("[data-again]");
const every = 1000 * (shown.dataset.every || 60);
const failed = shown.insertAdjacentElement("beforebegin", document.createElement("p"));
failed.className = "stale wrong";
failed.setAttribute("role", "status");
let last = new Date(); // when the page was as it stands

async function look() {
  const busy = document.activeElement?.closest("input, textarea, select, button, summary, a");
  if (document.hidden || shown.contains(busy) || !shown.dataset.again) return; // none is named: it is over
  const answer = await fetch(shown.dataset.again, { redirect: "manual", signal: AbortSignal.timeout(15000) });
  if (answer.type === "opaqueredirect") return location.reload(); // the session has ended
  if (!answer.ok) throw new Error(answer.statusText);
  put(new DOMParser().parseFromString(await answer.text(), "text/html"));
  last = new Date();
  failed.textContent = "";
}

function put(page) {
  const open = shown.querySelector("details")?.open;
  const fresh = page.querySelector("[data-again]");
  shown.dataset.again = fresh.dataset.again;
  shown.replaceChildren(...fresh.childNodes);
  document.getElementById("stopped").replaceChildren(...page.getElementById("stopped").childNodes);
  for (const link of document.querySelectorAll("nav a")) { // the number on the worklist
    const now = page.querySelector(`nav a[href="${link.getAttribute("href")}"]`);
    if (now) link.replaceChildren(...now.childNodes);
  }
  const said = document.querySelector("[role=status].sr"); // what a screen reader is to hear
  if (said && page.title !== document.title) said.textContent = page.title;
  document.title = page.title;
  if (open) shown.querySelector("details").open = true;
}

function tell() {
  const since = last.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const words = `Could not be refreshed since ${since}.`;
  if (failed.textContent !== words) failed.textContent = words; // or it would be read aloud each time
}

const again = () => look().catch(tell);
setInterval(again, every);
