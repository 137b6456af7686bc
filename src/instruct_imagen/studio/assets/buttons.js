// Pictures drawn, and the history: a click on a button tells Python what the button carries. A picture becomes a
// reference without that way, by a word to the board.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.name) {
    document.dispatchEvent(new CustomEvent("studio:add", { detail: { name: button.dataset.name } }));
  } else {
    trigger("select", { ...button.dataset });
  }
});
