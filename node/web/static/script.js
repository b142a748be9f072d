// What a page without a script cannot do: follow the node, ask before a button that cannot be undone, show on a narrow
// screen where in the navigation one is, and ask again for a picture that could not be made at once.
"use strict";

const parts = [...document.querySelectorAll("[data-live]")];
if (parts.length) {
  const asked = new URLSearchParams(parts.map((part) => ["part", part.id]));
  const source = new EventSource(`/events?${asked}`);
  source.addEventListener("part", (event) => {
    const { id, html } = JSON.parse(event.data);
    const part = document.getElementById(id);
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    // nothing is taken from under somebody's hands, and what is as it was stays: its pictures are not loaded anew
    if (part && !part.contains(document.activeElement) && fresh.innerHTML !== part.innerHTML) part.innerHTML = html;
  });
  source.addEventListener("gone", () => {
    source.close();
    location.reload();
  });
}

const here = document.querySelector("nav [aria-current]");
here?.closest("nav").scrollTo({ left: here.offsetLeft - 40 });

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
