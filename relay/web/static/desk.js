"use strict";
// "/" goes to the search, from anywhere but where somebody writes.
addEventListener("keydown", (pressed) => {
  if (pressed.key !== "/" || pressed.ctrlKey || pressed.metaKey || pressed.altKey) return;
  if (pressed.target.closest("input, textarea, select, [contenteditable]")) return;
  pressed.preventDefault();
  document.getElementById("find").focus();
});
// The case that a link leads to stands open, as the first one does.
const unfold = () => document.getElementById(location.hash.slice(1))?.querySelector(".why")?.setAttribute("open", "");
addEventListener("hashchange", unfold);
unfold();
