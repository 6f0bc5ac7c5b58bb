// What the pages share: asking the app, and saying what went wrong. All text of others becomes text, by LedgerTimeline.dom.
"use strict";
const { glyph, h, s, bdi, badge, word, duration, number, several, firstLine } = LedgerTimeline.dom;
const asked = new URLSearchParams(location.search);
const root = document.getElementById("ledger-ui");

const REFUSED = {
  401: "You are not logged in (any more). Reload Airflow's page.",
  403: "You may not see the runs, tasks and logs of this DAG; ledgers are shown to those who may.",
};

class Refused extends Error {}

// The answer to `path` with these parameters; null: nothing has changed. Throws Refused if asking again does not help.
async function ask(path, parameters, seen) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== ""));
  const answer = await fetch(`${path}?${query}`, { cache: "no-store", credentials: "same-origin", headers: seen ? { "If-None-Match": seen } : {} });
  if (answer.status === 304) return null;
  const data = answer.headers.get("content-type")?.startsWith("application/json") ? await answer.json() : null;
  if (answer.ok && data) return { data, name: answer.headers.get("etag") };
  const said = REFUSED[answer.status] ?? (typeof data?.detail === "string" ? data.detail : `Airflow answered with HTTP ${answer.status}.`);
  throw answer.status < 500 && answer.status !== 429 && answer.status !== 408 ? new Refused(said) : new Error(said);
}

const notice = (text, wrong = false) => h("p", { class: wrong ? "notice wrong" : "notice", role: wrong ? "alert" : "status" }, bdi(text));

const time = (text) => (text ? `${new Date(text).toISOString().slice(0, 19).replace("T", " ")}Z` : "–");
const address = (page, parameters) => `${page}?${new URLSearchParams(parameters)}`;

// Buttons of which one is chosen.
function choice(label, items, chosen, pick) {
  return h("div", { class: "chips choice", role: "group", "aria-label": label }, items.map((item, at) =>
    h("button", { type: "button", class: "chip", "aria-pressed": String(at === chosen), onclick: () => pick(at) }, item)));
}

// A row of headings, over figures to the right.
const FIGURES = ["Took", "Rows", "Failures"];
const headings = (names) => h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col", class: FIGURES.includes(name) ? "right" : name === "Message" && "wide" }, name))));

// For pages that are asked for once.
async function once(path, parameters, draw) {
  root.replaceChildren(notice("Loading…"));
  try {
    draw((await ask(path, parameters)).data);
  } catch (error) {
    root.replaceChildren(notice(error instanceof Refused ? error.message : `${error.message} Reload to try again.`, true));
  }
}
