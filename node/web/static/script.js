// What a page without a script cannot do: follow the node, ask before a button that cannot be undone, and ask again for
// a picture that could not be made at once.
"use strict";

const parts = [...document.querySelectorAll("[data-live]")];
if (parts.length) {
  const asked = new URLSearchParams(parts.map((part) => ["part", part.id]));
  const source = new EventSource(`/events?${asked}`);
  source.addEventListener("part", (event) => {
    const { id, html } = JSON.parse(event.data);
    const part = document.getElementById(id);
    // nothing is taken from under somebody's hands
    if (part && !part.contains(document.activeElement)) part.innerHTML = html;
  });
  source.addEventListener("gone", () => {
    source.close();
    location.reload();
  });
}

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

const again = (image) => {
  const tried = Number(image.dataset.tried ?? 0);
  if (tried >= 5) return;
  image.dataset.tried = tried + 1;
  setTimeout(() => (image.src = image.src), 2000 * (tried + 1));
};
document.addEventListener("error", (event) => event.target instanceof HTMLImageElement && again(event.target), true);
