// "/" goes to the search, from anywhere but where somebody writes.
"use strict";
addEventListener("keydown", (pressed) => {
  if (pressed.key !== "/" || pressed.ctrlKey || pressed.metaKey || pressed.altKey) return;
  if (pressed.target.closest("input, textarea, select, [contenteditable]")) return;
  pressed.preventDefault();
  document.getElementById("find").focus();
});
