// All nodes as a table: what a screen reader reads, and what can be sorted.
const FIRST = 100, STEP = 500;

function table(app) {
  const body = h("tbody");
  const headings = h("tr");
  const more = h("button", { type: "button", class: "more", onclick: () => { most += STEP; refresh(); } });
  const element = h("section", { class: "card", "aria-labelledby": "lt-nodes" },
    h("div", { class: "head" }, h("h2", { id: "lt-nodes" }, "Nodes")), h("div", { class: "wide-table" }, h("table", {}, h("thead", {}, headings), body)), more);
  let most = FIRST, key = null, down = false;

  const columns = () => [
    { name: "Status", value: (node) => Object.keys(app.data.counts).indexOf(node.state), cell: (node) => badge(node.state) },
    { name: "Node", value: (node) => node.name.toLowerCase(), cell: (node, at) => h("button", { type: "button", class: "link", onclick: () => app.select(at, true) }, bdi(node.name)) },
    { name: "Type", value: (node) => node.type, cell: (node) => bdi(node.type) },
    app.data.attempts.length > 1 && { name: "Attempt", right: true, value: (node) => node.attempt, cell: (node) => number(node.attempt) },
    { name: "Started", right: true, value: (node) => node.bar?.[0], cell: (node) => node.bar && `+${duration(node.bar[0])}` },
    { name: "Took", right: true, value: (node) => node.seconds, cell: (node) => duration(node.seconds) },
    app.data.against && { name: "Before", right: true, value: (node) => node.before?.seconds, cell: (node) => node.before && duration(node.before.seconds) },
    app.data.against && { name: "Change", right: true, value: difference, cell: (node) => difference(node) !== undefined && signed(difference(node)) },
    { name: "Rows", right: true, value: (node) => node.rows, cell: (node) => number(node.rows) },
    { name: "Message", wide: true, cell: (node) => firstLine(node.message) && bdi(firstLine(node.message).slice(0, 160)) },
  ].filter(Boolean);

  const difference = (node) => (node.seconds === undefined || typeof node.before?.seconds !== "number" ? undefined : node.seconds - node.before.seconds);

  function sort(name) {
    [key, down] = key === name ? (down ? [null, false] : [name, true]) : [name, false];
    draw();
    [...headings.children].find((heading) => heading.textContent.startsWith(name))?.firstChild.focus();
  }

  function draw() {
    headings.replaceChildren(...columns().map((column) => {
      const sorted = key === column.name ? (down ? "descending" : "ascending") : null;
      return h("th", { scope: "col", class: column.right && "right", "aria-sort": sorted },
        column.value ? h("button", { type: "button", onclick: () => sort(column.name) }, column.name, h("span", { "aria-hidden": "true" }, sorted ? (down ? " ↓" : " ↑") : "")) : column.name);
    }));
    refresh();
  }

  function refresh() {
    const { data } = app;
    const places = [...app.shown];
    const column = columns().find((one) => one.name === key);
    if (column) places.sort((a, b) => compare(column.value(data.nodes[a]), column.value(data.nodes[b])) * (down ? -1 : 1) || a - b);
    const shown = places.slice(0, most);
    body.replaceChildren(...shown.map((at) => line(data.nodes[at], at)));
    if (!places.length) body.append(h("tr", {}, h("td", { colspan: columns().length, class: "muted" }, data.nodes.length ? "No node fits the filter." : data.live ? "No nodes yet." : "No nodes.")));
    more.hidden = shown.length === places.length;
    more.textContent = `Show ${number(Math.min(STEP, places.length - shown.length))} more of ${several(places.length, "node")}`;
  }

  function line(node, at) {
    return h("tr", { class: at === app.selected && "selected", "data-at": at }, columns().map((column) =>
      h(column.name === "Node" ? "th" : "td", { scope: column.name === "Node" ? "row" : null, class: column.right ? "right" : column.wide ? "wide" : column.name === "Type" && "type" }, column.cell(node, at))));
  }

  // What is not known comes last, either way.
  function compare(a, b) {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined) ? ((a === undefined) - (b === undefined)) * (down ? -1 : 1) : 0;
    return a < b ? -1 : a > b ? 1 : 0;
  }

  function mark() {
    for (const row of body.children) row.classList.toggle("selected", Number(row.dataset.at) === app.selected);
  }

  return { element, draw, refresh, mark };
}
