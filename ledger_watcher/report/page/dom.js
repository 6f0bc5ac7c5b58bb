// Making elements. Text becomes text, never markup: nothing here or elsewhere parses HTML.
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== undefined && child !== null && child !== false && child !== "") element.append(child);
  }
  return element;
}

const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

// A name or a message of somebody else's: what it reads from right to left stays within it.
const bdi = (text, attributes) => h("bdi", attributes, text);

const LOOKS = {
  success: "✓", warn: "!", failed: "✗", skipped: "»", noop: "·", reused: "↺", cancelled: "⊘",
  running: "▶", waiting: "…", unfinished: "?", not_run: "–", silent: "?", superseded: "?", unknown: "?",
};
const word = (state) => state.replace("_", " ");

function badge(state, text) {
  return h("span", { class: `badge s-${state}` }, h("span", { class: "glyph", "aria-hidden": "true" }, glyph(state)), text ?? word(state));
}

function duration(seconds) {
  if (seconds === undefined || seconds === null) return "";
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

const signed = (seconds) => (Math.abs(seconds) < 0.005 ? "±0 s" : `${seconds > 0 ? "+" : "−"}${duration(Math.abs(seconds))}`);
const number = (value) => (value === undefined || value === null ? "" : value.toLocaleString("en"));
const firstLine = (text) => (text ?? "").split("\n").map((line) => line.trim()).find(Boolean) ?? "";
const several = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;

function clock(data, seconds) {
  return `${new Date(Date.parse(data.origin) + seconds * 1000).toISOString().slice(0, 19).replace("T", " ")}Z`;
}

const glyph = (state) => LOOKS[state] ?? "?";

const dom = { glyph, h, s, bdi, badge, word, duration, number, several, firstLine };
