// One timeline in one element. The parts share `app`: the data, what is shown, what is selected.
function mount(root) {
  const app = {
    data: null, selected: -1, shown: new Set(), down: [], critical: new Set(), filtered: false,
    filters: { text: "", states: new Set(), types: new Set(), critical: false },
    select, filter, clear, only,
  };
  const top = summary(app), bar = toolbar(app), chart = gantt(app), panel = details(app), below = lists(app), nodes = table(app);
  root.classList.add("ledger-timeline");
  root.replaceChildren(h("main", {}, top.element, below.first, bar.element, chart.element, below.element, nodes.element), panel.element);
  let back = null;

  function update(data) {
    const id = app.data?.nodes[app.selected]?.id;
    app.data = data;
    app.critical = new Set(data.critical?.nodes);
    app.down = data.nodes.map(() => []);
    data.nodes.forEach((node, at) => (node.up ?? []).forEach((parent) => app.down[parent].push(at)));
    app.selected = id === undefined ? -1 : data.nodes.findIndex((node) => node.id === id);
    sift();
    const focused = held();
    for (const part of [top, bar, chart, below, nodes]) part.draw();
    panel.draw(false);
    focused?.();
  }

  // What gives the keyboard back to where it was, if that is drawn anew: to what has the same name in the same part. (The chart does that itself.)
  function held() {
    const at = document.activeElement;
    if (!root.contains(at) || at.closest("svg")) return null;
    const named = (one) => `${one.closest("section, .toolbar")?.querySelector("h2")?.textContent.replace(/\d/g, "") ?? ""}/${one.dataset.value ?? one.getAttribute("aria-label") ?? one.textContent}`;
    const name = named(at);
    return () => at.isConnected || [...root.querySelectorAll(at.tagName)].find((one) => named(one) === name)?.focus({ preventScroll: true });
  }

  function sift() {
    const { filters, data } = app, text = filters.text.trim().toLowerCase();
    const fits = (node, at) => (!text || node.name.toLowerCase().includes(text) || node.id.toLowerCase().includes(text))
      && (!filters.states.size || filters.states.has(node.state)) && (!filters.types.size || filters.types.has(node.type))
      && (!filters.critical || app.critical.has(at));
    app.shown = new Set(data.nodes.map((node, at) => (fits(node, at) ? at : -1)).filter((at) => at >= 0));
    app.filtered = Boolean(text || filters.states.size || filters.types.size || filters.critical);
  }

  function filter() {
    sift();
    for (const part of [bar, chart, nodes]) part.refresh();
  }

  function clear() {
    Object.assign(app.filters, { text: "", critical: false });
    app.filters.states.clear();
    app.filters.types.clear();
    filter();
  }

  function only(states) {
    clear();
    for (const state of states) if (app.data.counts[state]) app.filters.states.add(state);
    filter();
    nodes.element.scrollIntoView();
  }

  // `focus`: the panel is where the keyboard goes on; closing it goes back to where it came from.
  function select(at, focus = false) {
    if (at >= 0 && focus && !panel.element.contains(document.activeElement)) back = document.activeElement;
    app.selected = at;
    root.classList.toggle("with-details", at >= 0);
    panel.draw(focus);
    chart.refresh();
    nodes.mark();
    if (at >= 0 && focus) chart.show(at);
    if (at < 0 && back) {
      (back.isConnected ? back : root.querySelector("svg [tabindex='0']"))?.focus();
      back = null;
    }
  }

  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && app.selected >= 0) select(-1);
  });
  return { update };
}
