// Sorting of tables, one player at a time, a playhead on the spectrograms. Without it the page reads the same.
"use strict";

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const bodies = [...table.tBodies].map((body) => ({ body, rows: [...body.rows].filter((row) => !row.classList.contains("group")) }));
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort")] ?? "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const value = (row) => parseFloat(row.cells[column].dataset.value);
      for (const { body, rows } of bodies) { // each group stays together
        const sorted = next ? [...rows].sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
          return next === "ascending" ? x - y : y - x;
        }) : rows;
        body.append(...sorted);
      }
    });
  });
}

// A link to a definition opens the list it stands in.
const open = () => document.getElementById(location.hash.slice(1))?.closest("details")?.setAttribute("open", "");
addEventListener("hashchange", open);
open();

const players = [...document.querySelectorAll("audio")];
document.addEventListener("play", (event) => {
  for (const player of players) if (player !== event.target) player.pause();
}, true);

for (const row of document.querySelectorAll(".sound")) {
  const player = row.querySelector("audio");
  const picture = row.querySelector(".spectrogram");
  if (!player || !picture) continue;
  const length = () => player.duration || parseFloat(picture.dataset.seconds);
  const show = () => picture.style.setProperty("--played", `${(100 * player.currentTime) / length()}%`);
  player.addEventListener("timeupdate", show);
  player.addEventListener("seeked", show);
  player.addEventListener("play", () => picture.classList.add("playing"));
  player.addEventListener("ended", () => picture.classList.remove("playing"));
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    player.currentTime = ((event.clientX - box.left) / box.width) * length();
    player.play();
  });
}

// The section in view is marked in the navigation.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -75% 0px" });
for (const section of document.querySelectorAll("main > section")) watcher.observe(section);
