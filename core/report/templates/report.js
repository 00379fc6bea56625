"use strict";
// The gallery's order and filters, the viewer of one image, and the theme. Without it every card can still be read.

const PRINTED = 24; // cards that are printed
const galleries = [...document.querySelectorAll(".gallery")];
const cards = [...document.querySelectorAll(".card")];
const controls = document.getElementById("controls");

// -- order and filters ---------------------------------------------------------------------------------------------

const BY_IMAGE = new Set(["random", "number"]);

function compareBy(order) {
  const falling = order.startsWith("-");
  const key = falling ? order.slice(1) : order;
  return (one, other) => {
    const [a, b] = [one.dataset[key], other.dataset[key]];
    if ((a === "") !== (b === "")) return a === "" ? 1 : -1; // what is not known comes last
    const difference = key === "oracle" ? a.localeCompare(b) : a - b;
    return (falling ? -difference : difference) || one.dataset.random - other.dataset.random
      || one.dataset.experiment - other.dataset.experiment;
  };
}

function wanted(card, f) {
  const data = card.dataset;
  const same = (name) => !f[name] || data[name] === f[name];
  const among = (list, value) => !value || list.split(" ").includes(value);
  const figure = data[f.measure];
  const inRange = (f.least === "" || (figure !== "" && +figure >= +f.least))
    && (f.most === "" || (figure !== "" && +figure <= +f.most));
  return ["experiment", "direction", "reached", "right", "oracle"].every(same) && among(data.attributes, f.attribute)
    && among(data.failures, f.failure) && inRange && data.text.includes(f.text.trim().toLowerCase());
}

function images(count) {
  return `${count.toLocaleString("en")} image${count === 1 ? "" : "s"}`;
}

function arrange() {
  const filters = Object.fromEntries(new FormData(controls));
  const [gallery] = galleries;
  const ordered = cards.toSorted(compareBy(filters.order));
  let shown = 0;
  for (const card of ordered) {
    card.hidden = !wanted(card, filters);
    shown += !card.hidden;
    card.classList.toggle("beyond", card.hidden || shown > PRINTED);
  }
  gallery.append(...ordered);
  gallery.classList.toggle("together", gallery.dataset.together === "yes" && BY_IMAGE.has(filters.order) && !filters.experiment);
  document.getElementById("count").textContent = shown === cards.length ? images(shown) : `${shown} of ${images(cards.length)}`;
}

if (controls) {
  galleries[0].dataset.together = galleries[0].classList.contains("together") ? "yes" : "no";
  controls.hidden = false;
  controls.addEventListener("input", arrange);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("reset", () => setTimeout(arrange));
  arrange(); // a browser may have kept the choices of an earlier visit
}

// -- one image -----------------------------------------------------------------------------------------------------

const viewer = document.getElementById("viewer");
const body = document.getElementById("viewer-body");
let current = null;

function move(to) {
  const slider = body.querySelector("input");
  if (!slider) return;
  slider.value = to;
  body.querySelector(".compare").style.setProperty("--at", `${slider.value}%`);
}

function show(card) {
  if (!card) return;
  current = card;
  document.getElementById("viewer-title").textContent = [...card.querySelector("h3").children].map((each) => each.textContent).join(" · ");
  body.replaceChildren(card.querySelector("template").content.cloneNode(true));
  body.querySelector("input")?.addEventListener("input", (event) => move(event.target.value));
  if (!viewer.open) viewer.showModal();
  viewer.scrollTop = 0;
  history.replaceState(null, "", `#${card.id}`);
}

function step(by) {
  const order = [...document.querySelectorAll(".card:not([hidden])")];
  show(order[order.indexOf(current) + by]);
}

function fromAddress() {
  const card = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (card?.classList.contains("card")) show(card);
}

document.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (!card || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  show(card);
});
viewer.addEventListener("keydown", (event) => {
  const onSlider = event.target.type === "range";
  if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    const slider = body.querySelector("input");
    if (!slider) return;
    event.preventDefault();
    move(+slider.value + (event.key === "ArrowUp" ? 10 : -10));
  } else if (!onSlider && event.key === "ArrowRight") step(1);
  else if (!onSlider && event.key === "ArrowLeft") step(-1);
});
viewer.addEventListener("close", () => {
  history.replaceState(null, "", location.pathname + location.search);
  current?.querySelector(".open").focus();
});
viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
document.getElementById("close").addEventListener("click", () => viewer.close());
document.getElementById("previous").addEventListener("click", () => step(-1));
document.getElementById("next").addEventListener("click", () => step(1));
window.addEventListener("hashchange", fromAddress);
fromAddress();

// -- dark and light ------------------------------------------------------------------------------------------------

const toggle = document.getElementById("theme");
const root = document.documentElement;

function isDark() {
  return (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
}

function setTheme(theme) {
  if (theme) root.dataset.theme = theme;
  toggle.textContent = isDark() ? "Light" : "Dark";
}

function remembered() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null; // a browser may forbid it to files
  }
}

toggle.hidden = false;
setTheme(remembered());
toggle.addEventListener("click", () => {
  setTheme(isDark() ? "light" : "dark");
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {}
});
