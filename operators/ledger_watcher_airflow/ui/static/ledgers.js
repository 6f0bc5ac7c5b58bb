// Runs that have ledgers, newest first.
"use strict";

function list(data) {
  const one = asked.get("dag_id");
  const columns = [!one && "DAG", "Run", "Started", "Ledger", "Status", "Took", "Nodes"].filter(Boolean);
  const older = data.before !== null && h("button", { type: "button", class: "more", onclick: () => show(data.before) }, "Older runs");
  root.replaceChildren(h("main", {}, h("header", {}, h("h1", {}, one ? bdi(one) : "Ledgers"), h("p", { class: "muted" }, "Runs of dbt, newest first, of the DAGs that you may read.")),
    data.runs.length ? h("section", { class: "card" }, h("div", { class: "wide-table" }, h("table", {}, headings(columns),
      h("tbody", {}, data.runs.flatMap((run) => rows(run, one))))), older) : notice("No run with a ledger.")));
}

function rows(run, one) {
  const places = run.places.length ? run.places : [null];
  const lines = places.map((place) => h("tr", {}, !one && h("td", { class: "dag" }, bdi(run.dag_id)),
    h("th", { scope: "row" }, h("a", { href: address("run", { dag_id: run.dag_id, run_id: run.run_id, ...(place ? { group: place.group, map_index: place.map_index } : {}) }) }, bdi(run.run_id))),
    h("td", {}, time(run.started)),
    h("td", {}, place && [bdi(place.group || "dbt"), place.map_index >= 0 && h("span", { class: "muted" }, ` index ${place.map_index}`)]),
    place?.status ? [h("td", {}, badge(place.status.word)), h("td", { class: "right" }, duration(place.seconds)), h("td", {}, place.counts)]
      : h("td", { class: "muted", colspan: 3 }, brief(place ? place.problem : "The DAG has no ledger any more."))));
  if (run.more) lines.push(h("tr", {}, h("td", { class: "muted", colspan: 7 }, `and ${several(run.more, "ledger")} more: open the run`)));
  return lines;
}

const brief = (text) => (text.length > 120 ? h("details", {}, h("summary", {}, bdi(`${text.slice(0, 110)}…`)), bdi(text)) : bdi(text));

function show(before) {
  once("ledgers/data", { dag_id: asked.get("dag_id"), before }, list);
}

show(null);
