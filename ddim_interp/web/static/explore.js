// The page's hands and eyes. What lies on the table is the server's: it is asked for (`refresh`),
// shown (`show`), and changed by asking (`tell`). Here live only what is looked at, and the clock.
"use strict";

const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), slider = $("slider"), form = $("wish");

let table = { keyframes: [], film: null, working: false };
let chosen = null; // the keyframe whose verdict is shown
let mode = "film";
let shown = ""; // what is on the canvas
let touched = false; // whether the slider has been somewhere

// ---- speaking with the server ----

// Told once, behind the #; then kept where only pages of this very port look.
let token = new URLSearchParams(location.hash.slice(1)).get("token");
try {
  if (token) localStorage.setItem("token", token);
  else token = localStorage.getItem("token");
} catch { /* a browser that keeps nothing: for this tab only */ }
if (location.hash.includes("token=")) history.replaceState(null, "", "/");

class Refusal extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function ask(method, path, body, more = {}) {
  const headers = { ...more, Authorization: `Bearer ${token}` };
  let answer;
  try {
    answer = await fetch(path, { method, body, headers, cache: "no-store" });
  } catch {
    throw new Refusal(0, "ddim-interp does not answer. If it was ended, start it again, and open its new address.");
  }
  if (answer.ok) return answer;
  let said = answer.statusText;
  try { said = (await answer.json()).error; } catch { /* no JSON: its status must do */ }
  throw new Refusal(answer.status, said);
}

const askJson = (method, path, what) =>
  ask(method, path, JSON.stringify(what), { "Content-Type": "application/json" });

async function tell(method, path, what) {
  try {
    show(await (await askJson(method, path, what)).json());
    return true;
  } catch (refusal) {
    say(refusal.message);
    return false;
  } finally {
    soon(150);
  }
}

let timer = 0, lost = false;
function soon(wait) { clearTimeout(timer); timer = setTimeout(refresh, wait); }
async function refresh() {
  try {
    show(await (await ask("GET", "/state")).json());
    if (lost) { lost = false; $("toast").hidden = true; }
  } catch (refusal) {
    lost = true;
    say(refusal.message, true);
  }
  soon(lost ? 3000 : table.working ? 250 : document.hidden ? 10000 : 2500);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(0); });

let fading = 0;
function say(message, stays = false) {
  (dialog.open ? dialog : document.body).append($("toast")); // nothing is seen above a dialog
  $("toast").textContent = message;
  $("toast").hidden = false;
  clearTimeout(fading);
  if (!stays) fading = setTimeout(() => { $("toast").hidden = true; }, 6000);
}

// ---- frames: fetched in the background, those near the slider first ----

const reel = {
  id: null, count: 0, frames: [], sketch: [], ready: 0, sketched: 0, loading: 0,

  take(film) {
    if (!film) { this.id = null; this.count = 0; return; }
    if (film.id !== this.id) {
      Object.assign(this, { id: film.id, count: film.count, frames: [], sketch: [], loading: 0 });
    }
    this.ready = film.ready;
    this.sketched = film.sketched;
    this.fetch();
  },

  fetch() {
    while (this.loading < 6) {
      // Frames come in order: of those that are not there yet, the sketch.
      const next = this.next("frames", 0, this.ready) ?? this.next("sketch", this.ready, this.sketched);
      if (!next) return;
      this.load(...next);
    }
  },

  next(kind, from, to) {
    const list = this[kind];
    for (let away = 0; away < this.count; away++) {
      for (const number of [position() + away, position() - away]) {
        if (number >= from && number < to && !list[number]) return [kind, number];
      }
    }
    return null;
  },

  load(kind, number) {
    const id = this.id, picture = new Image();
    this[kind][number] = { picture, loaded: false };
    this.loading++;
    const over = (well) => {
      if (id !== this.id) return;
      this.loading--;
      this[kind][number].loaded = well;
      if (well && mode === "film") paint();
      this.fetch();
    };
    picture.onload = () => over(true);
    picture.onerror = () => over(false);
    picture.src = `/films/${id}/${kind}/${number}.png`;
  },

  // The frame of that number, or the sketch of it, or the nearest there is.
  best(number) {
    for (const kind of ["frames", "sketch"]) {
      const one = this[kind][number];
      if (one?.loaded) return { picture: one.picture, kind, number };
    }
    for (let away = 1; away < this.count; away++) {
      for (const kind of ["frames", "sketch"]) {
        for (const near of [number - away, number + away]) {
          const one = this[kind][near];
          if (one?.loaded) return { picture: one.picture, kind, number: near };
        }
      }
    }
    return null;
  },
};

const position = () => Number(slider.value);

function paint() {
  const best = reel.count ? reel.best(position()) : null;
  if (best) {
    put(best.picture, `Frame ${best.number + 1} of ${reel.count}`, `${reel.id}/${best.kind}/${best.number}`);
    $("sketch").hidden = best.kind !== "sketch";
  }
  const u = reel.count > 1 ? position() / (reel.count - 1) : 0;
  $("where").textContent = reel.count
    ? `u = ${u.toFixed(2)}   ·   ${position() + 1} of ${reel.count}` : "";
  slider.setAttribute("aria-valuetext", `frame ${position() + 1} of ${reel.count}`);
}

function put(picture, words, name) {
  if (name && name === shown) return;
  shown = name;
  const width = picture.naturalWidth || picture.width, height = picture.naturalHeight || picture.height;
  const size = Math.min(1024, Math.round(canvas.clientWidth * devicePixelRatio)) || width;
  const scale = Math.max(1, size / Math.max(width, height));
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, 0, 0, w, h);
  canvas.setAttribute("aria-label", words);
}
new ResizeObserver(() => { shown = ""; if (mode === "film") paint(); }).observe(canvas);

// ---- playing ----

let playing = false, clock = 0, exact = 0;
function play(on) {
  playing = on && reel.count > 1;
  $("play").setAttribute("aria-pressed", String(playing));
  $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  if (playing) { clock = performance.now(); exact = position(); requestAnimationFrame(tick); }
}
function tick(now) {
  if (!playing) return;
  if (table.keyframes.length < 2) { play(false); return; }
  if (reel.count) { // or a new film is on its way
    exact += ((now - clock) / 1000) * (table.wish?.fps ?? 30) * Number($("speed").value);
    exact %= reel.count;
    if (Math.floor(exact) !== position()) { slider.value = Math.floor(exact); paint(); }
  }
  clock = now;
  requestAnimationFrame(tick);
}
$("play").addEventListener("click", () => play(!playing));
slider.addEventListener("input", () => { play(false); paint(); });
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, button, code, dialog, a");
  if (event.key === " " && mode === "film" && (!typing || event.target === slider)) { event.preventDefault(); play(!playing); }
});

// ---- showing what lies on the table ----

const GRADES = {
  typical: ["typical", "The model knows the way to others."],
  unusual: ["unusual", "Films work; middles may look a little odd."],
  far: ["far off", "Middles may look wrong."],
  partial: ["partial", "The walk stops short of noise."],
};

function words(card) {
  if (card.kind === "seed") return ["noise", "A seed is a point of noise space. Nothing had to be found."];
  if (!card.found) return ["looking …", "It is being looked for in noise space."];
  if (!card.grade) return [card.verdict ? "no certificate" : "a latent", card.verdict ?? "A latent from a file."];
  const [noise, why] = GRADES[card.grade];
  const rough = card.comes_back !== "exactly" && parseFloat(card.comes_back.slice(3)) < 40;
  const ends = rough ? " The film's ends are the picture all the same." : "";
  const back = card.comes_back === "exactly" ? "exact" : `${Math.round(parseFloat(card.comes_back.slice(3)))} dB`;
  return [`${back} · ${noise}`, `${capital(card.verdict)}. ${why}${ends}`];
}
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function show(now) {
  table = now;
  showCards();
  const film = now.film;
  reel.take(film);
  const count = film?.count ?? 0;
  if (count) {
    slider.max = count - 1;
    // What lies between is what one came to see.
    if (!touched) { slider.value = Math.round((count - 1) / 2 / Math.max(1, now.keyframes.length - 1)); touched = true; }
  }
  slider.disabled = $("play").disabled = !count;
  slider.style.setProperty("--ready", count ? film.ready / count : 0);
  slider.style.setProperty("--sketched", count ? film.sketched / count : 0);
  $("empty").hidden = now.keyframes.length > 0;
  $("trouble").hidden = !now.trouble;
  $("trouble").textContent = now.trouble ?? "";
  const share = now.progress?.share ?? 0;
  $("progress").style.setProperty("--share", now.progress ? Math.max(0.02, share) : 1);
  $("progress").style.setProperty("--shown", now.progress ? 1 : 0);
  $("status").textContent = status(now);
  $("walk").textContent = now.walk && now.keyframes.length ? `Decoded by ${now.walk}.` : "";
  showWish(now.wish);
  showKeep(now);
  showMap(now);
  showSheet(now);
  if (mode === "film") {
    if (count) paint();
    else if (now.keyframes.length) showOne(now.keyframes[0]);
    else clear();
  }
}

function status(now) {
  const { progress, film } = now;
  if (progress) {
    const there = film?.ready > 1 && film.ready < film.count ? `, ${film.ready} of ${film.count} ready` : "";
    return `${progress.doing} · ${Math.round(progress.share * 100)} %${there}`;
  }
  if (now.film && now.film.ready === now.film.count) return `${now.film.count} frames ready`;
  if (now.keyframes.length === 1) return "One keyframe more makes a film";
  return now.working ? "Working" : "";
}

// Until there is a film: what was there before it, or the first keyframe, if no film is to come.
function showOne(card) {
  $("where").textContent = "";
  if (!card.pictured || reel.count || (shown && table.keyframes.length > 1)) return;
  const picture = document.querySelector(`.card[data-id="${card.id}"] img`);
  $("sketch").hidden = true;
  if (picture?.complete && picture.naturalWidth) put(picture, card.name, `card/${card.id}`);
}
function clear() {
  if (!shown) return;
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  shown = "";
  $("where").textContent = "";
  $("sketch").hidden = true;
}

function showCards() {
  const list = $("cards"), there = new Map([...list.children].map((each) => [each.dataset.id, each]));
  table.keyframes.forEach((card, number) => {
    const item = there.get(card.id) ?? newCard(card);
    there.delete(card.id);
    if (list.children[number] !== item) list.insertBefore(item, list.children[number] ?? null);
    const [main, tools] = item.children;
    if (card.pictured && !main.firstChild) {
      const picture = new Image();
      picture.alt = "";
      picture.src = `/keyframes/${card.id}.png`;
      picture.onload = () => { if (mode === "film" && !reel.count) showOne(table.keyframes[0]); };
      main.append(picture);
    }
    main.classList.toggle("waits", !card.pictured);
    const [grade, why] = words(card);
    const line = item.querySelector(".grade");
    line.textContent = grade;
    line.dataset.is = card.kind === "seed" ? "typical" : (card.grade ?? "");
    item.title = `${card.name}\n${why}`;
    main.setAttribute("aria-label", `Keyframe ${number + 1}, ${card.name}: ${grade}`);
    tools.children[0].disabled = number === 0;
    tools.children[1].disabled = number === table.keyframes.length - 1;
    item.setAttribute("aria-current", String(card.id === chosen));
  });
  there.forEach((item) => item.remove());
  const card = table.keyframes.find((each) => each.id === chosen);
  const said = card ? `${card.name}: ${words(card)[1]}` : "";
  if ($("verdict").textContent !== said) $("verdict").textContent = said;
}

function newCard(card) {
  const item = document.createElement("li");
  item.className = "card";
  item.dataset.id = card.id;
  item.draggable = true;
  const main = make("button", { type: "button" });
  main.addEventListener("click", () => choose(card.id));
  const tools = make("div", { className: "tools" });
  tools.append(
    tool("←", `Move ${card.name} to the left`, () => move(card.id, -1)),
    tool("→", `Move ${card.name} to the right`, () => move(card.id, 1)),
    tool("×", `Remove ${card.name}`, () => remove(card.id)),
  );
  const below = [make("div", { className: "name", textContent: card.name }), make("span", { className: "grade" })];
  below.forEach((each) => each.addEventListener("click", () => choose(card.id))); // the button is for the keyboard, too
  item.append(main, tools, ...below);
  item.addEventListener("dragstart", (event) => {
    event.dataTransfer.setData("text/x-keyframe", card.id);
    event.dataTransfer.effectAllowed = "move";
  });
  item.addEventListener("dragover", (event) => {
    if (event.dataTransfer.types.includes("text/x-keyframe")) event.preventDefault();
  });
  item.addEventListener("drop", (event) => {
    const moved = event.dataTransfer.getData("text/x-keyframe");
    if (!moved || moved === card.id) return;
    event.preventDefault();
    const ids = table.keyframes.map((each) => each.id);
    const [from, to] = [ids.indexOf(moved), ids.indexOf(card.id)];
    ids.splice(to, 0, ...ids.splice(from, 1));
    arrange(ids);
  });
  return item;
}
function make(name, properties) { return Object.assign(document.createElement(name), properties); }
function tool(sign, label, act) {
  const button = make("button", { type: "button", textContent: sign, title: label });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", act);
  return button;
}

function choose(id) {
  chosen = chosen === id ? null : id;
  showCards();
  // To its place on the path, where that is known without measuring.
  const number = table.keyframes.findIndex((each) => each.id === id);
  const { ending, pace } = table.wish ?? {};
  if (mode !== "film" || !reel.count || pace !== "uniform") return;
  const legs = table.keyframes.length - (ending === "loop" ? 0 : 1);
  const last = ending === "once" ? reel.count - 1 : ending === "loop" ? reel.count : reel.count / 2;
  play(false);
  slider.value = Math.round((number / legs) * last);
  paint();
}
const arrange = (ids) => tell("PUT", "/keyframes", { ids });
async function move(id, by) {
  const ids = table.keyframes.map((each) => each.id), from = ids.indexOf(id);
  ids.splice(from + by, 0, ...ids.splice(from, 1));
  chosen = id;
  await arrange(ids);
  focusOn(id);
}
async function remove(id) {
  const ids = table.keyframes.map((each) => each.id), from = ids.indexOf(id);
  const inside = document.querySelector(`.card[data-id="${id}"]`)?.contains(document.activeElement);
  ids.splice(from, 1);
  await arrange(ids);
  if (inside) focusOn(ids[Math.min(from, ids.length - 1)]);
}
function focusOn(id) { (document.querySelector(`.card[data-id="${id}"] > button`) ?? $("files")).focus(); }

// ---- adding pictures ----

async function upload(files) {
  for (const file of files) {
    try {
      const headers = { "Content-Type": "application/octet-stream", "X-File-Name": encodeURIComponent(file.name.slice(0, 300)) };
      show(await (await ask("POST", "/keyframes/pictures", file, headers)).json());
    } catch (refusal) { say(refusal.message); }
  }
  soon(150);
}
$("files").addEventListener("change", async () => { await upload([...$("files").files]); $("files").value = ""; });
$("begin").addEventListener("click", async () => {
  const any = () => Math.floor(Math.random() * 1000);
  if (await tell("POST", "/keyframes/seeds", { seed: any() })) await tell("POST", "/keyframes/seeds", { seed: any() });
});
let depth = 0;
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => { if (holdsFiles(event)) { depth++; document.body.classList.add("dropping"); } });
addEventListener("dragleave", (event) => { if (holdsFiles(event) && --depth <= 0) document.body.classList.remove("dropping"); });
addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  depth = 0;
  document.body.classList.remove("dropping");
  if (!holdsFiles(event)) return;
  event.preventDefault();
  upload([...event.dataTransfer.files]);
});

// ---- the choices ----

let pending = 0, asked = ""; // a change on its way to the server
function showWish(wish) {
  if (pending || form.contains(document.activeElement) && JSON.stringify(wish) === asked) return;
  asked = JSON.stringify(wish);
  for (const [name, value] of Object.entries(wish)) {
    const field = form.elements[name];
    if (typeof value === "boolean") field.checked = value;
    else field.value = value;
  }
  $("frames-range").value = wish.frames;
}
function readWish() {
  const field = form.elements;
  return {
    frames: Math.round(Number(field.frames.value)), fps: Math.round(Number(field.fps.value)), blend: field.blend.value,
    pace: field.pace.value, ending: field.ending.value, smooth: field.smooth.checked, quick: field.quick.checked,
  };
}
form.addEventListener("submit", (event) => event.preventDefault());
$("frames-range").addEventListener("input", () => { $("frames").value = $("frames-range").value; });
form.addEventListener("change", () => {
  clearTimeout(pending);
  const mine = pending = setTimeout(async () => {
    const wish = readWish();
    // A boomerang of an odd number of frames would stumble where it turns.
    if (wish.ending === "boomerang" && wish.frames % 2) wish.frames++;
    await tell("PUT", "/film", wish);
    if (pending !== mine) return; // another change came meanwhile, and will be told
    pending = 0;
    asked = "";
    showWish(table.wish);
  }, 120);
});

// ---- to take home ----

const keeping = new Set();
function showKeep(now) {
  const whole = now.film && now.film.ready === now.film.count;
  document.querySelectorAll("[data-format]").forEach((button) => {
    const format = button.dataset.format;
    const can = format === "frame" ? (mode === "map" ? now.map : now.film?.ready > 0) : format === "latents" ? Boolean(now.film) : whole;
    button.disabled = !can || keeping.has(format);
  });
  $("command-box").hidden = !now.command;
  if (now.command && $("command").textContent !== now.command) $("command").textContent = now.command;
}
document.querySelectorAll("[data-format]").forEach((button) => button.addEventListener("click", async () => {
  const format = button.dataset.format;
  keeping.add(format);
  button.setAttribute("aria-busy", "true");
  showKeep(table);
  try {
    const what = format === "frame" && mode === "map" ? { format: "point", ...point } : { format, number: position() };
    const kept = await (await askJson("POST", "/kept", what)).json();
    const link = make("a", { href: `/kept/${kept.id}`, download: kept.name });
    document.body.append(link);
    link.click();
    link.remove();
  } catch (refusal) { say(refusal.message); }
  keeping.delete(format);
  button.removeAttribute("aria-busy");
  showKeep(table);
}));
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("command").textContent);
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("command"));
    $("copy").textContent = "Press Ctrl-C";
  }
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1600);
});

// ---- the map ----

const pad = $("pad");
const point = { down: 0.5, across: 0.5 };
let looking = false, wanted = null, calm = 0;

function switchTo(which) {
  mode = which;
  play(false);
  document.body.classList.toggle("map", which === "map");
  for (const name of ["film", "map"]) {
    $(`tab-${name}`).setAttribute("aria-selected", String(name === which));
    $(`tab-${name}`).tabIndex = name === which ? 0 : -1;
    $(`${name}-controls`).hidden = name !== which;
  }
  document.querySelector("[data-format=frame]").textContent = which === "map" ? "This point" : "This frame";
  $("sketch").hidden = true;
  shown = "";
  show(table);
  if (which === "map" && table.map) look();
}
$("tab-film").addEventListener("click", () => switchTo("film"));
$("tab-map").addEventListener("click", () => switchTo("map"));
document.querySelector(".switch").addEventListener("keydown", (event) => {
  if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  switchTo(mode === "film" ? "map" : "film");
  $(`tab-${mode}`).focus();
});

let hung = ""; // the map whose overview hangs on the pad
function showMap(now) {
  const map = now.map;
  $("map-hint").textContent = map
    ? `What lies between the first ${map.corners === 3 ? "three" : "four"} keyframes. Drag the point, or use the arrow keys.`
    : now.keyframes.length < 3 ? "A map lies between three or four keyframes. Add some." : "Looking for the keyframes in noise space …";
  pad.dataset.corners = map?.corners ?? 0;
  pad.classList.toggle("waits", !map);
  if (mode !== "map") return;
  if (hung !== (map?.id ?? "")) {
    hung = map?.id ?? "";
    $("survey").replaceChildren();
    if (map) {
      tell("POST", "/map/survey", {});
      goTo(point.down, point.across);
    }
  }
  const list = $("survey").children;
  for (let number = list.length; map && number < map.ready; number++) {
    $("survey").append(make("img", { src: `/maps/${map.id}/${number}.png`, alt: "" }));
  }
}

function goTo(down, across) {
  point.down = Math.min(1, Math.max(0, down));
  point.across = Math.min(1, Math.max(0, across));
  if (table.map?.corners === 3) {
    const reach = point.down / 2; // the triangle's row
    point.across = Math.min(0.5 + reach, Math.max(0.5 - reach, point.across));
  }
  $("point").style.top = `${100 * point.down}%`;
  $("point").style.left = `${100 * point.across}%`;
  if (table.map) look();
}

// A sketch at once, the picture itself when the hand rests; one question at a time.
function look() {
  clearTimeout(calm);
  wanted = { ...point, fine: false };
  calm = setTimeout(() => { wanted = { ...point, fine: true }; pursue(); }, 180);
  pursue();
}
async function pursue() {
  if (looking || !wanted) return;
  looking = true;
  const { fine, ...place } = wanted;
  wanted = null;
  try {
    const picture = await createImageBitmap(await (await askJson("POST", "/map", { ...place, fine })).blob());
    if (mode === "map") {
      put(picture, `The picture ${Math.round(100 * place.down)} % down and ${Math.round(100 * place.across)} % across the map`, "");
      $("sketch").hidden = fine;
    }
  } catch (refusal) {
    if (refusal.status !== 409) say(refusal.message);
  }
  looking = false;
  pursue();
}
function follow(event) {
  const box = pad.getBoundingClientRect();
  goTo((event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width);
}
pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); follow(event); });
pad.addEventListener("pointermove", (event) => { if (pad.hasPointerCapture(event.pointerId)) follow(event); });
pad.addEventListener("keydown", (event) => {
  const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!by) return;
  event.preventDefault();
  const step = event.shiftKey ? 0.2 : 0.05;
  goTo(point.down + step * by[0], point.across + step * by[1]);
});

// ---- seeds ----

const dialog = $("seeds"), size = Number(document.body.dataset.sheet);
const offer = (first) => {
  $("first").value = Math.max(0, Math.floor(first) || 0);
  return tell("POST", "/seeds", { first: Number($("first").value) });
};
$("open-seeds").addEventListener("click", () => {
  dialog.showModal();
  if (table.seeds) $("first").value = table.seeds[0].seed;
  else offer(0);
});
$("close-seeds").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => document.body.append($("toast")));
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
$("seed-form").addEventListener("submit", (event) => { event.preventDefault(); offer($("first").value); });
$("first").addEventListener("change", () => offer($("first").value));
$("earlier").addEventListener("click", () => offer(Number($("first").value) - size));
$("later").addEventListener("click", () => offer(Number($("first").value) + size));
$("chance").addEventListener("click", () => offer(Math.floor(Math.random() * 1e6)));

function showSheet(now) {
  if (!now.seeds) return;
  const list = $("sheet");
  if (list.dataset.first !== String(now.seeds[0].seed)) {
    list.dataset.first = now.seeds[0].seed;
    list.replaceChildren(...now.seeds.map(({ seed }) => {
      const button = make("button", { type: "button", className: "waits" });
      button.append(make("b", { textContent: seed }));
      button.addEventListener("click", () => {
        const there = table.keyframes.find((card) => card.name === `seed:${seed}`);
        if (there) remove(there.id);
        else tell("POST", "/keyframes/seeds", { seed });
      });
      const item = document.createElement("li");
      item.append(button);
      return item;
    }));
  }
  now.seeds.forEach(({ seed, pictured }, number) => {
    const button = list.children[number].firstChild;
    if (pictured && !button.querySelector("img")) {
      button.prepend(make("img", { src: `/seeds/${seed}.png`, alt: "" }));
      button.classList.remove("waits");
    }
    const taken = now.keyframes.some((card) => card.name === `seed:${seed}`);
    button.setAttribute("aria-pressed", String(taken));
    button.setAttribute("aria-label", `Seed ${seed}`);
  });
}

refresh();
