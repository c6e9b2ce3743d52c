// The page of `hmgan explore`. A state decides every picture; it is in the address, so that each can be kept and shared.

import { triangle } from "./triangle.js";

const $ = (id) => document.getElementById(id);
const { models, noises, bounds } = await (await fetch("/model")).json();
const LEVELS = ["coarse", "middle", "fine"];
const STRIP = 8, HISTORY = 24, SEARCHED = 12, THUMBS = 60, PIXELS = 128;
const byDigest = Object.fromEntries(models.map((model) => [model.digest, model]));
const seedIn = (text) => Math.min(bounds.seed, Math.max(0, Math.trunc(Number(text)) || 0));
const made = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};

// The state, and its way into the address and back.

let state, past = [];
const locked = [false, false, false];

const first = () => ({
  model: models[0].digest, classes: models[0].conditional ? [[0, 1]] : [], seeds: [0, 0, 0], trunc: 1,
  noise: "random", towards: "mean", source: false, beside: "",
});

const query = (s) => new URLSearchParams({
  model: s.model, classes: s.classes.map(([label, w]) => `${label}:${w.toFixed(3)}`).join(), seeds: s.seeds.join(),
  trunc: s.trunc.toFixed(2), noise: s.noise,
  // Said only where it is not the default: links and kept pictures of models without centres stay as they are.
  ...(s.towards === "class" && byDigest[s.model].centres ? { towards: "class" } : {}),
});

const image = (s) => `/image?${query(s).toString().replaceAll("%2C", ",").replaceAll("%3A", ":")}`;

function written(s) {
  const all = query(s);
  if (s.source) all.set("source", "1");
  if (s.beside) all.set("beside", s.beside);
  return "#" + all.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
}

function readFrom(hash) {
  const given = new URLSearchParams(hash.slice(1)), s = first();
  if (byDigest[given.get("model")]) s.model = given.get("model");
  else if (given.get("model")) say("That link is of another model; this is the one at hand.");
  const { classes, conditional } = byDigest[s.model];
  const named = (given.get("classes") ?? "0:1").split(",").map((part) => part.split(":").map(Number))
    .filter(([label, w]) => label in classes && w >= 0 && w <= 1).slice(0, 3);
  const sum = named.reduce((total, [, w]) => total + w, 0);
  s.classes = conditional ? (sum > 0 ? named.map(([label, w]) => [label, w / sum]) : [[0, 1]]) : [];
  const seeds = (given.get("seeds") ?? "0").split(",").map(seedIn);
  s.seeds = LEVELS.map((_, i) => seeds[i] ?? seeds[0]);
  s.trunc = Math.min(1.5, Math.max(0, Number(given.get("trunc") ?? 1) || 0));
  s.noise = noises.includes(given.get("noise")) ? given.get("noise") : "random";
  s.towards = given.get("towards") === "class" ? "class" : "mean";
  s.source = given.get("source") === "1";
  s.beside = byDigest[given.get("beside")] ? given.get("beside") : "";
  return s;
}

function say(text, wrong = false) {
  $("said").textContent = text;
  $("said").toggleAttribute("data-wrong", wrong);
}

// Pictures: one on its way per figure. What was asked for meanwhile waits, and only its newest is drawn.

const views = new Map();

function view(name) {
  if (!views.has(name)) {
    const picture = made("img", { alt: "", draggable: false }), caption = made("figcaption");
    views.set(name, { figure: made("figure", { id: `figure-${name}` }, picture, caption), picture, caption });
  }
  return views.get(name);
}

async function fill(each, url, alt) {
  each.wanted = { url, alt };
  if (each.busy) return each.busy;
  if (each.shown === url) return;
  each.figure.toggleAttribute("data-waiting", true);
  each.busy = (async () => {
    while (each.wanted && each.wanted.url !== each.shown) {
      const { url, alt } = each.wanted;
      try {
        const got = await fetch(url);
        if (!got.ok) throw new Error(await got.text());
        const old = each.picture.src;
        each.picture.src = URL.createObjectURL(await got.blob());
        each.picture.alt = alt;
        await each.picture.decode();
        if (old.startsWith("blob:")) URL.revokeObjectURL(old);
        each.shown = url;
        if ($("said").hasAttribute("data-wrong")) say("");
      } catch (error) {
        say(error instanceof TypeError ? "The server does not answer; is hmgan explore still running?" : error.message, true);
        if (each.wanted.url === url) break;
      }
    }
    each.busy = null;
    each.figure.toggleAttribute("data-waiting", false);
  })();
  return each.busy;
}

const nameOf = (s) => {
  const { classes, conditional, name } = byDigest[s.model];
  const parts = s.classes.filter(([, w]) => w >= 0.005).map(([label, w]) => [classes[label], Math.round(100 * w)]);
  if (!conditional || !parts.length) return name;
  return parts.length === 1 ? parts[0][0] : parts.map(([each, w]) => `${each} ${w}%`).join(", ");
};

function beside(s) {
  // The same class by its name, else by its place; a model without classes draws as it is.
  const mine = byDigest[s.model].classes, theirs = byDigest[s.beside];
  const classes = s.classes.map(([label, w]) => [theirs.classes.indexOf(mine[label]), w]).filter(([label]) => label >= 0);
  return { ...s, model: s.beside, classes: theirs.conditional ? (classes.length ? classes : [[0, 1]]) : [] };
}

let later;
async function draw(settled) {
  const model = byDigest[state.model];
  const shown = [["target", state, nameOf(state)]];
  if (state.source && model.conditional) shown.unshift(["source", { ...state, classes: [] }, "source"]);
  if (state.beside) {
    const { name, conditional } = byDigest[state.beside];
    shown.push(["beside", beside(state), conditional ? `${name}: ${nameOf(beside(state))}` : name]);
  }
  const figures = shown.map(([name]) => view(name).figure);
  if (figures.some((figure, i) => $("figures").children[i] !== figure) || $("figures").children.length !== figures.length)
    $("figures").replaceChildren(...figures);
  $("figures").classList.toggle("pixels", model.resolution <= PIXELS);
  controls();
  const filled = shown.map(([name, s, title]) => {
    const each = view(name);
    each.caption.replaceChildren(made("b", { textContent: title }), ` · seed ${[...new Set(s.seeds)].join(" / ")}`);
    return fill(each, image(s), `${title}, seeds ${s.seeds.join(", ")}`);
  });
  clearTimeout(later);
  if (settled) {
    await Promise.all(filled);
    later = setTimeout(thumbnails, 30);
  }
}

// Changes. What a person lets go of is a step of the history; what is being dragged is not yet.

function change(part, settled = true) {
  state = { ...state, ...part };
  if (settled) {
    const hash = written(state);
    if (hash !== location.hash) history.pushState(null, "", hash);
    remember(hash);
  }
  draw(settled);
}

function remember(hash) {
  if (past.at(-1) === hash) return;
  past = [...past.filter((each) => each !== hash), hash].slice(-HISTORY);
  try { sessionStorage.setItem("past", JSON.stringify(past)); } catch { /* a private window keeps none */ }
}

const unlocked = () => (locked.every(Boolean) ? [] : LEVELS.map((_, i) => i).filter((i) => !locked[i]));
const moved = (seed) => state.seeds.map((old, i) => (unlocked().includes(i) ? seed : old));
const current = () => state.seeds[unlocked()[0] ?? 0];
const roll = () => (unlocked().length ? change({ seeds: moved(Math.floor(Math.random() * 1e6)) }) : say("Everything is locked."));
const step = (by) => change({ seeds: moved(Math.max(0, Math.min(bounds.seed, current() + by))) });
const pick = (label) => label in byDigest[state.model].classes && byDigest[state.model].conditional && change({ classes: [[label, 1]] });
const truncate = (by) => change({ trunc: Math.min(1.5, Math.max(0, Math.round((state.trunc + by) * 20) / 20)) });
const lock = (i) => { locked[i] = !locked[i]; draw(true); };
const towards = () => byDigest[state.model].centres && change({ towards: state.towards === "class" ? "mean" : "class" });
const source = () => change({ source: !state.source });

// Controls

let corners = [], shape, shapeOf;

function controls() {
  const model = byDigest[state.model];
  $("model").value = state.model;
  $("trunc").value = state.trunc;
  $("trunc-said").textContent = state.trunc.toFixed(2);
  $("noise").value = state.noise;
  $("towards-part").hidden = !model.centres;
  $("towards").checked = model.centres && state.towards === "class";
  $("centre").textContent = $("towards").checked ? "the class's centre" : "the mean";
  $("source").checked = state.source;
  $("beside").value = state.beside;
  $("class-part").hidden = $("source-part").hidden = !model.conditional;
  [...$("levels").children].forEach((row, i) => {
    row.hidden = i >= model.levels.length;
    const [, number, , button] = row.children;
    if (document.activeElement !== number) number.value = state.seeds[i];
    button.setAttribute("aria-pressed", locked[i]);
    button.textContent = locked[i] ? "locked" : "lock";
  });
  for (const button of $("classes").children)
    button.setAttribute("aria-pressed", state.classes.some(([label, w]) => label === Number(button.value) && w >= 0.005));
  blending(model);
}

function blending(model) {
  const count = Math.min(3, model.classes.length);
  $("triangle").hidden = $("corners").hidden = count < 2 || !model.conditional;
  if ($("triangle").hidden) return;
  if (shapeOf !== state.model) {
    corners = model.classes.map((_, i) => i).slice(0, count);
    shape = triangle($("triangle"), count, (weights, done) =>
      change({ classes: corners.map((label, i) => [label, weights[i]]).filter(([, w]) => w > 0.0005) }, done));
    $("corners").replaceChildren(...corners.map((_, i) => {
      const choice = made("select", { onchange: () => { corners[i] = Number(choice.value); draw(true); } });
      choice.append(...model.classes.map((name, label) => made("option", { value: label, textContent: name })));
      return made("label", {}, count === 3 ? ["left", "top", "right"][i] : ["left", "right"][i], choice);
    }));
    shapeOf = state.model;
  }
  for (const [label] of state.classes)
    if (!corners.includes(label)) corners[corners.findIndex((c) => !state.classes.some(([each]) => each === c))] = label;
  [...$("corners").children].forEach((each, i) => { each.querySelector("select").value = corners[i]; });
  shape(corners.map((corner) => state.classes.find(([label]) => label === corner)?.[1] ?? 0));
}

function listClasses() {
  const { classes } = byDigest[state.model], wanted = $("find").value.toLowerCase();
  $("find").hidden = classes.length <= SEARCHED;
  const some = classes.map((name, label) => [name, label]).filter(([name]) => name.toLowerCase().includes(wanted));
  $("classes").replaceChildren(...some.slice(0, THUMBS).map(([name, label]) => made("button", {
    type: "button", value: label, title: label < 9 ? `${name} (${label + 1})` : name, onclick: () => pick(label),
  }, made("img", { alt: "", className: pixels() }), name)));
}

const pixels = () => (byDigest[state.model].resolution <= PIXELS ? "pixels" : "");

function load(node, url) {
  if (node.getAttribute("src") !== url) node.src = url;  // and the browser leaves an older one
}

function thumbnails() {
  for (const button of $("classes").children)
    load(button.firstChild, image({ ...state, classes: [[Number(button.value), 1]] }));
  const start = Math.max(0, Math.min(bounds.seed - STRIP + 1, current() - (current() % STRIP)));
  tiles($("strip"), Array.from({ length: STRIP }, (_, i) => start + i), (seed) => ({
    url: image({ ...state, seeds: moved(seed) }), title: `seed ${seed}`, now: seed === current(),
    act: () => change({ seeds: moved(seed) }),
  }));
  tiles($("history"), [...past].reverse(), (hash) => ({
    url: image(readFrom(hash)), title: nameOf(readFrom(hash)), now: hash === written(state), act: () => change(readFrom(hash)),
  }));
}

function tiles(place, items, told) {
  while (place.children.length > items.length) place.lastChild.remove();
  while (place.children.length < items.length) place.append(made("button", { type: "button" }, made("img", { alt: "" })));
  items.forEach((item, i) => {
    const { url, title, now, act } = told(item), tile = place.children[i];
    Object.assign(tile, { title, onclick: act });
    tile.setAttribute("aria-label", title);
    tile.setAttribute("aria-current", now);
    tile.firstChild.className = pixels();
    load(tile.firstChild, url);
  });
}

// What leaves the page

function save(url, name) {
  made("a", { href: url, download: name }).click();
}

const named = (end) => `${nameOf(state).replace(/[^\w-]+/g, "-")}-${[...new Set(state.seeds)].join("-")}.${end}`;

function parameters() {
  const { name, classes, digest } = byDigest[state.model];
  const blend = Object.fromEntries(state.classes.map(([label, w]) => [classes[label], w]));
  const kept = {
    model: name, digest, classes: blend, seeds: Object.fromEntries(LEVELS.map((level, i) => [level, state.seeds[i]])),
    truncation: state.trunc, towards: $("towards").checked ? "class" : "mean", noise: state.noise, image: image(state),
  };
  const url = URL.createObjectURL(new Blob([JSON.stringify(kept, null, 1) + "\n"], { type: "application/json" }));
  save(url, named("json"));
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

async function link() {
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link to this picture is copied.");
  } catch {
    say(location.href);  // from another machine, a page without TLS has no clipboard
  }
}

function theme() {
  const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = dark === "dark" ? "light" : "dark";
  try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* not kept, then */ }
}

const KEYS = {
  " ": roll, ArrowLeft: () => step(-1), ArrowRight: () => step(1), "[": () => truncate(-0.05), "]": () => truncate(0.05),
  q: () => lock(0), w: () => lock(1), e: () => lock(2), s: source, c: towards, z: () => history.back(), t: theme,
  d: () => save(image(state), named("png")), p: parameters, l: link, "?": () => $("keys").showModal(),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox") return;
  if (event.key === " " && event.target.tagName === "BUTTON" && event.target.id !== "roll") return;
  const act = /^[1-9]$/.test(event.key) ? () => pick(Number(event.key) - 1) : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// Beginning

try {
  const kept = localStorage.getItem("theme");
  if (kept) document.documentElement.dataset.theme = kept;
  past = JSON.parse(sessionStorage.getItem("past") ?? "[]").filter((hash) => byDigest[new URLSearchParams(hash.slice(1)).get("model")]);
} catch { /* a private window */ }

const option = ({ digest, name }) => made("option", { value: digest, textContent: name });
$("model").append(...models.map(option));
$("beside").append(made("option", { value: "", textContent: "nothing else" }), ...models.map(option));
$("beside-part").hidden = models.length < 2;
$("noise").append(...noises.map((noise) => made("option", {
  value: noise, textContent: { random: "the seed's own", const: "the same for all seeds", none: "none" }[noise],
})));
$("levels").append(...LEVELS.map((level, i) => made("div", { className: "level" },
  made("label", { textContent: level, htmlFor: `seed-${level}` }),
  made("input", { type: "number", id: `seed-${level}`, min: 0, max: bounds.seed, onchange: (event) =>
    change({ seeds: state.seeds.map((seed, j) => (i === j ? seedIn(event.target.value) : seed)) }) }),
  made("button", { type: "button", textContent: "new", title: `Another ${level} style`, onclick: () =>
    change({ seeds: state.seeds.map((seed, j) => (i === j ? Math.floor(Math.random() * 1e6) : seed)) }) }),
  made("button", { type: "button", title: `Lock the ${level} style (${"QWE"[i]})`, onclick: () => lock(i) }),
)));
for (const [id, act] of Object.entries({
  roll, undo: () => history.back(), save: KEYS.d, parameters, link, theme, help: KEYS["?"],
  before: () => step(-STRIP), after: () => step(STRIP),
})) $(id).addEventListener("click", act);
$("trunc").addEventListener("input", () => change({ trunc: Number($("trunc").value) }, false));
$("trunc").addEventListener("change", () => change({}));
$("noise").addEventListener("change", () => change({ noise: $("noise").value }));
$("towards").addEventListener("change", towards);
$("source").addEventListener("change", () => change({ source: $("source").checked }));
$("beside").addEventListener("change", () => change({ beside: $("beside").value }));
$("find").addEventListener("input", () => { listClasses(); draw(true); });
$("model").addEventListener("change", () => {
  state = { ...state, model: $("model").value, classes: byDigest[$("model").value].conditional ? [[0, 1]] : [] };
  listClasses();
  change({});
});
addEventListener("popstate", () => {
  const before = state.model;
  state = readFrom(location.hash);
  if (before !== state.model) listClasses();
  draw(true);
});

state = readFrom(location.hash);
history.replaceState(null, "", written(state));
remember(location.hash);
listClasses();
draw(true);
