// Asks the questions in an order that the seed decides, keeps the answers, and saves them as JSON.
"use strict";

const QUESTION_TEXTS = {
  mos: ["How natural does it sound?", "From 1, not like human speech, to 5, as human speech"],
  smos: ["How much does it sound like the person in the reference?", "From 1, surely another person, to 5, surely the same person"],
  abx: ["Which sounds more like the person in the reference, A or B?", "Choose one, even if you must guess"],
};
const SCALE = { mos: ["Bad", "Poor", "Fair", "Good", "Excellent"], smos: ["Surely another", "Probably another", "Cannot tell", "Probably the same", "Surely the same"] };
const get = (id) => document.getElementById(id);
const shown = (id) => ["start", "asking", "done"].forEach((other) => { get(other).hidden = other !== id; });

// mulberry32: the same seed gives the same order in every browser
const random = (seed) => () => {
  seed = (seed + 0x6d2b79f5) >>> 0;
  let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
  t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const shuffled = (items, seed) => {
  const draw = random(seed), order = [...items];
  for (let last = order.length - 1; last > 0; last -= 1) {
    const other = Math.floor(draw() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
};

let order = [], place = 0, answers = {}, listener = "", seed = 1, asked = 0;
const key = () => `bowerbird-listening-${TEST}-${listener}-${seed}`;
const keep = () => { try { localStorage.setItem(key(), JSON.stringify(answers)); } catch { /* a browser without storage */ } };
const recall = () => { try { return JSON.parse(localStorage.getItem(key()) ?? "{}"); } catch { return {}; } };

const player = (label, source) => {
  const figure = document.createElement("div"), name = document.createElement("b"), audio = document.createElement("audio");
  name.textContent = label;
  Object.assign(audio, { controls: true, preload: "auto", src: source });
  audio.setAttribute("aria-label", label);
  audio.addEventListener("play", () => document.querySelectorAll("audio").forEach((other) => other !== audio && other.pause()));
  figure.append(name, audio);
  return figure;
};

const ask = () => {
  const question = order[place], [title, scale] = QUESTION_TEXTS[question.kind];
  get("question").textContent = title;
  get("scale").textContent = scale;
  get("place").textContent = `Question ${place + 1} of ${order.length}`;
  const players = question.clips.map((source, side) => player(question.kind === "abx" ? "AB"[side] : "Recording", source));
  if (question.reference) players.unshift(player("Reference: the person", question.reference));
  get("players").replaceChildren(...players);
  const options = question.kind === "abx" ? [["A", "A", ""], ["B", "B", ""]] : SCALE[question.kind].map((name, at) => [String(at + 1), String(at + 1), name]);
  get("choices").replaceChildren(...options.map(([value, label, description]) => {
    const choice = document.createElement("label"), input = document.createElement("input"), small = document.createElement("small");
    Object.assign(input, { type: "radio", name: "answer", value, checked: answers[question.id]?.answer === value });
    input.addEventListener("change", () => answer(value));
    small.textContent = description;
    choice.append(input, ` ${label}`, small);
    return choice;
  }));
  get("back").disabled = place === 0;
  get("next").disabled = !answers[question.id];
  get("progress").value = Object.keys(answers).length;
  asked = performance.now();
  get("question").focus();
};

const answer = (value) => {
  const question = order[place];
  answers[question.id] = { answer: value, seconds: Math.round((performance.now() - asked) / 100) / 10, place };
  keep();
  get("next").disabled = false;
  get("progress").value = Object.keys(answers).length;
};
const choose = (value) => {
  const input = [...document.querySelectorAll("#choices input")].find((item) => item.value === value);
  if (!input) return;
  input.checked = true;
  answer(value);
};
const go = (to) => {
  place = to;
  if (place < order.length) return ask();
  document.querySelectorAll("audio").forEach((audio) => audio.pause());
  shown("done");
  get("thanks").focus();
};

const result = () => JSON.stringify({ test: TEST, version: 1, listener, seed, questions: QUESTIONS.length, answers }, null, 2);
const save = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([result()], { type: "application/json" }));
  link.download = `listening-${listener.replace(/[^\w-]+/g, "-") || "answers"}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  get("saved").textContent = `${Object.keys(answers).length} answers saved as ${link.download}.`;
};

get("who").addEventListener("submit", (event) => {
  event.preventDefault();
  listener = get("listener").value.trim();
  seed = Number(get("seed").value) >>> 0;
  if (!listener) return;
  order = shuffled(QUESTIONS, seed);
  answers = recall();
  shown("asking");
  const open = order.findIndex((question) => !answers[question.id]);
  go(open < 0 ? order.length : open);
});
get("next").addEventListener("click", () => go(place + 1));
get("back").addEventListener("click", () => go(place - 1));
get("early").addEventListener("click", save);
get("save").addEventListener("click", save);
document.addEventListener("keydown", (event) => {
  if (get("asking").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const players = [...document.querySelectorAll("#players audio")], name = event.key.toUpperCase();
  const question = order[place], own = question.reference ? players.slice(1) : players;
  if (/^[1-5AB]$/.test(name)) choose(name);
  else if (name === " ") own[own.length > 1 && !own[0].paused ? 1 : 0].play();
  else if (name === "R" && question.reference) players[0].play();
  else if (name === "ENTER" && !get("next").disabled && event.target.tagName !== "BUTTON") go(place + 1);
  else if (name === "BACKSPACE" && place > 0) go(place - 1);
  else return;
  event.preventDefault();
});
const given = Number(new URLSearchParams(location.search).get("seed"));
if (given) get("seed").value = String(given);
