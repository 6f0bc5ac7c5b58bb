// The timeline of a DAG run's ledger. It asks again when the answer says so, and not while nobody looks.
"use strict";
const places = h("div", { class: "places" }), told = h("div", { class: "told", "aria-live": "polite" }), stage = h("div");
const chosen = { group: asked.get("group"), map_index: asked.get("map_index") };
let chart = null, seen = null, again = 0, failures = 0, timer = null, busy = false;
root.replaceChildren(h("div", { class: "above" }, places, told), stage);
told.replaceChildren(notice("Loading…"));

async function look() {
  clearTimeout(timer);
  timer = null;
  if (busy) return;
  busy = true;
  const wanted = { ...chosen };
  const still = () => wanted.group === chosen.group && wanted.map_index === chosen.map_index;
  try {
    const answer = await ask("run/data", { dag_id: asked.get("dag_id"), run_id: asked.get("run_id"), ...wanted }, seen);
    failures = 0;
    if (answer && still()) {
      draw(answer.data);
      seen = answer.name;
      again = answer.data.again;
    }
  } catch (error) {
    failures += 1;
    again = error instanceof Refused ? null : Math.min(60, 2 ** failures);
    seen = null;
    if (still()) told.replaceChildren(notice(again === null ? error.message : `${error.message} Asking again in ${again} s.`, true));
  }
  busy = false;
  if (still()) plan();
  else look();
}

function plan() {
  clearTimeout(timer);
  timer = again === null || document.hidden ? null : setTimeout(look, again * 1000);
}

function draw(data) {
  const at = data.places[data.chosen];
  places.replaceChildren(...(data.places.length > 1 ? [choice("Ledger", data.places.map(label), data.chosen, (index) => pick(data.places[index]))] : []));
  told.replaceChildren(...(data.problem ? [notice(data.problem, Boolean(data.timeline))] : []));
  root.dataset.state = data.timeline ? data.timeline.status.word : "none";
  stage.hidden = !data.timeline;
  if (!data.timeline) return;
  if (!chart) {
    stage.replaceChildren();
    chart = LedgerTimeline.mount(stage);
  }
  chart.update(data.timeline);
  document.title = `${data.timeline.status.word}: ${at.group || data.dag_id}`;
}

const label = (place) => [badge(LOOKED[place.state] ?? "waiting", ""), bdi(place.group || "dbt"), place.map_index >= 0 && h("span", { class: "muted" }, `index ${place.map_index}`)];
const LOOKED = { success: "success", failed: "failed", running: "running", up_for_retry: "failed", skipped: "skipped", upstream_failed: "skipped" };

function pick(place) {
  Object.assign(chosen, { group: place.group, map_index: String(place.map_index) });
  history.replaceState(null, "", address("run", { dag_id: asked.get("dag_id"), run_id: asked.get("run_id"), ...chosen }));
  chart = seen = null;
  stage.replaceChildren();
  told.replaceChildren(notice("Loading…"));
  look();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !busy && timer === null && again !== null) look();
});
look();
