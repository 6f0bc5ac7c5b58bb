// A task's nodes over the last runs of its DAG: how long they took, what failed, how many rows.
"use strict";
const HIGH = 120, WIDE = 26, ABOVE = 16;

function tell(data) {
  const head = [h("h1", {}, bdi(data.task_id)), h("p", { class: "muted" }, bdi(data.dag_id), ` · ${several(data.runs.length, "run")}, newest first`)];
  if (data.indexes.length > 1) head.push(choice("Map index", data.indexes.map((index) => `index ${index}`), data.indexes.indexOf(data.map_index), (at) => show(data.indexes[at])));
  if (data.problem) head.push(notice(data.problem));
  else if (!data.runs.length) head.push(notice("No run of this DAG has this task yet."));
  root.replaceChildren(h("main", {}, h("header", {}, head), data.nodes.map((id, at) => story(data, id, at)), data.more > 0 && notice(`and ${several(data.more, "node")} more: the tab of a DAG run has all of them.`)));
}

function story(data, id, at) {
  const runs = data.runs.map((run) => ({ ...run, node: run.nodes[at] }));
  const took = runs.map((run) => run.node?.seconds).filter((value) => typeof value === "number");
  const failed = runs.filter((run) => run.node?.state === "failed").length;
  const usual = took.length ? [...took].sort((a, b) => a - b)[Math.floor((took.length - 1) / 2)] : null;
  const facts = [usual !== null && `usually ${duration(usual)}`, took.length && `longest ${duration(Math.max(...took))}`, `failed in ${failed} of ${several(runs.length, "run")}`];
  return h("section", { class: "card story" }, h("div", { class: "head" }, h("h2", {}, bdi(id)), h("p", { class: "muted" }, facts.filter(Boolean).join(" · "))),
    took.length > 0 && trend([...runs].reverse(), Math.max(...took)), history_(data, runs));
}

// Oldest first, one bar per run, as high as it took long. What is not a success has its symbol above, for those who do not see it by the colour.
function trend(runs, most) {
  const bars = runs.map((run, at) => {
    const seconds = run.node?.seconds;
    const high = typeof seconds === "number" ? Math.max(2, (seconds / Math.max(most, 0.001)) * HIGH) : 2;
    const state = run.node?.state ?? "not_run";
    return s("g", { class: `s-${state}` }, s("rect", { class: "column", x: at * WIDE + 3, y: ABOVE + HIGH - high, width: WIDE - 6, height: high, rx: 2 }),
      state !== "success" && s("text", { class: "mark", x: at * WIDE + WIDE / 2, y: ABOVE + HIGH - high - 4, "text-anchor": "middle" }, glyph(state)),
      s("title", {}, `${run.run_id}: ${word(state)}${typeof seconds === "number" ? `, ${duration(seconds)}` : ""}`));
  });
  const width = Math.max(runs.length, 1) * WIDE;
  return h("div", { class: "trend" }, s("svg", { width, height: ABOVE + HIGH, viewBox: `0 0 ${width} ${ABOVE + HIGH}`, role: "img", "aria-label": "Seconds per run, oldest first. The table below says the same." }, bars));
}

function history_(data, runs) {
  const columns = ["Run", "Started", "Status", "Took", "Rows", "Failures", "Message"];
  return h("div", { class: "wide-table" }, h("table", {}, headings(columns),
    h("tbody", {}, runs.map((run) => h("tr", {}, h("th", { scope: "row" }, h("a", { href: address("run", { dag_id: data.dag_id, run_id: run.run_id }) }, bdi(run.run_id))),
      h("td", {}, time(run.started)), h("td", {}, run.node ? badge(run.node.state) : h("span", { class: "muted" }, "not in the ledger")),
      h("td", { class: "right" }, duration(run.node?.seconds)), h("td", { class: "right" }, number(run.node?.rows)), h("td", { class: "right" }, number(run.node?.failures)),
      h("td", { class: "wide" }, said(run)))))));
}

function said(run) {
  const text = run.problem ?? run.node?.message;
  if (!text) return null;
  return text.includes("\n") ? h("details", {}, h("summary", {}, bdi(firstLine(text))), h("pre", { dir: "auto" }, text)) : bdi(text);
}

function show(index) {
  once("task/data", { dag_id: asked.get("dag_id"), task_id: asked.get("task_id"), map_index: index }, tell);
}

show(asked.get("map_index"));
