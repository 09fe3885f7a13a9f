// In the editor of a draft: lines stay numbered, names are put in by a press, and what is typed is judged as it is by the button.
"use strict";
const texts = [...document.querySelectorAll(".editor textarea, .passage textarea")];
const written = (key) => texts.map((one) => one[key]).join("\0");
let text = texts[0]; // the one that was typed in last
const verdict = document.getElementById("verdict");
const judged = document.getElementById("judged");
const numbered = document.querySelector(".numbered");
let asked = written("defaultValue"); // what was judged last: a browser may have kept what was typed before a reload
let isAsking = false;
let pause;

function number() {
  if (!numbered) return;
  const lines = text.value.split("\n");
  while (numbered.childElementCount > lines.length) numbered.lastElementChild.remove();
  lines.forEach((line, at) => {
    const row = numbered.children[at] || numbered.appendChild(document.createElement("span"));
    row.id = `line-${at + 1}`;
    if (row.textContent !== line) row.textContent = line;
  });
}

function mark(page) {
  for (const one of texts) one.setAttribute("aria-invalid", page.getElementById(one.id).getAttribute("aria-invalid") || "false");
  for (const one of document.querySelectorAll(".passage [id^=wrong-]")) one.replaceChildren(...page.getElementById(one.id).childNodes);
  if (!numbered) return;
  for (const row of numbered.querySelectorAll("[class]")) row.removeAttribute("class");
  for (const one of judged.querySelectorAll("[data-line]")) {
    const row = numbered.children[one.dataset.line - 1];
    const kind = one.querySelector(".status").textContent;
    if (row && row.className !== "error") row.className = kind;
  }
}

async function judge() {
  if (isAsking || written("value") === asked) return;
  isAsking = true;
  asked = written("value");
  let said = "It could not be checked just now. The button below still may.";
  try {
    const body = new URLSearchParams(new FormData(text.form));
    body.set("act", "check");
    const answer = await fetch(location.pathname, { method: "POST", body, redirect: "manual", signal: AbortSignal.timeout(60000) });
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const open = [...judged.querySelectorAll("details")].map((one) => one.open);
      judged.replaceChildren(...page.getElementById("judged").childNodes);
      judged.querySelectorAll("details").forEach((one, at) => (one.open = open[at]));
      said = page.getElementById("verdict").textContent;
      mark(page);
    } else if (answer.type === "opaqueredirect") said = "You have been logged out. Copy your text, then log in again.";
  } catch {} // it is said below
  if (verdict.textContent !== said) verdict.textContent = said; // or it would be read aloud each time
  isAsking = false;
  judge(); // what was typed meanwhile
}

for (const one of texts) {
  one.addEventListener("focus", () => (text = one));
  one.addEventListener("input", () => {
    number();
    clearTimeout(pause);
    pause = setTimeout(judge, 500);
  });
}

for (const name of document.querySelectorAll("[data-name]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = name.textContent;
  button.setAttribute("aria-label", name.dataset.name);
  button.addEventListener("click", () => {
    text.focus();
    document.execCommand("insertText", false, `{{ ${name.dataset.name} }}`); // unlike setRangeText, it can be undone
  });
  name.replaceWith(button);
}

addEventListener("click", (pressed) => {
  const link = pressed.target.closest('a[href^="#line-"]');
  const row = link && document.querySelector(link.hash);
  if (!row) return;
  pressed.preventDefault();
  const before = text.value.split("\n").slice(0, link.hash.slice("#line-".length) - 1);
  const start = before.reduce((length, line) => length + line.length + 1, 0);
  text.focus({ preventScroll: true });
  text.setSelectionRange(start, start + row.textContent.length);
  row.scrollIntoView({ block: "center" });
});

number();
judge();
