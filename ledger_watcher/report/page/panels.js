// What stands above and below the chart: the run at a glance, filters, lists.
function summary(app) {
  const element = h("header", { class: "summary" });

  function draw() {
    const { data } = app, { totals } = data, newest = data.attempts.at(-1);
    const facts = [`${clock(data, 0)}`, newest?.dbt && `dbt ${newest.dbt}`, newest?.target && `target ${newest.target}`,
      newest?.threads && several(newest.threads, "thread"), data.attempts.length > 1 && several(data.attempts.length, "attempt")];
    const share = totals.seconds ? totals.node_seconds / totals.seconds : null;
    const critical = data.critical;
    element.replaceChildren(
      h("div", { class: "line" }, badge(data.status.word), data.status.detail && h("span", { class: "muted" }, data.status.detail)),
      h("h1", {}, bdi(data.title)),
      h("p", { class: "muted" }, bdi(facts.filter(Boolean).join(" · ")), data.live && ` · as of ${data.made_at.slice(0, 19).replace("T", " ")}Z`),
      h("dl", { class: "totals" },
        total("Took", duration(totals.seconds) || "–", data.live ? "so far" : data.attempts.length > 1 ? "all attempts" : "start to end"),
        total("Nodes done", `${number(totals.done)} / ${number(totals.nodes)}`, data.counts.failed ? `${number(data.counts.failed)} failed` : data.counts.success ? `${number(data.counts.success)} success` : ""),
        total("Work", duration(totals.node_seconds), share ? `${share.toFixed(1)} nodes at a time` : ""),
        critical?.nodes.length ? total("Critical path", duration(critical.seconds), critical.waited >= 0.005 ? `and ${duration(critical.waited)} waiting` : "no waiting") : total("Critical path", "–", critical ? "nothing ran" : "edges not known"),
        totals.rows !== null && total("Rows", number(totals.rows), "affected, as dbt says")),
      ...data.notes.map((note) => h("p", { class: "note", role: "note" }, bdi(note))));
  }

  const total = (name, value, more) => h("div", {}, h("dt", {}, name), h("dd", {}, value), more && h("dd", { class: "muted" }, more));
  return { element, draw };
}

function toolbar(app) {
  const { filters } = app;
  const search = h("input", { type: "search", placeholder: "Filter by name", "aria-label": "Filter by name", oninput: () => { filters.text = search.value; app.filter(); } });
  const states = h("div", { class: "chips", role: "group", "aria-label": "Status" });
  const types = h("div", { class: "chips", role: "group", "aria-label": "Type" });
  const path = h("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: () => { filters.critical = !filters.critical; app.filter(); } }, "critical path");
  const clear = h("button", { type: "button", class: "link", onclick: () => { app.clear(); search.focus(); } }, "Clear");
  const result = h("output", { class: "muted" });
  const element = h("div", { class: "toolbar", role: "search" }, search, states, types, path, clear, result);

  const toggle = (set, value) => { if (!set.delete(value)) set.add(value); app.filter(); };
  const chip = (set, value, ...content) => h("button", { type: "button", class: "chip", "data-value": value, "aria-pressed": String(set.has(value)), onclick: () => toggle(set, value) }, content);

  function draw() {
    const { data } = app;
    const found = new Map();
    for (const node of data.nodes) found.set(node.type, (found.get(node.type) ?? 0) + 1);
    const count = (value) => h("span", { class: "count" }, number(value));
    states.replaceChildren(...Object.entries(data.counts).filter(([, value]) => value).map(([state, value]) =>
      chip(filters.states, state, badge(state), count(value))));
    types.replaceChildren(...(found.size > 1 ? [...found].map(([type, value]) => chip(filters.types, type, bdi(type), count(value))) : []));
    path.hidden = !data.critical?.nodes.length;
    refresh();
  }

  function refresh() {
    for (const [group, set] of [[states, filters.states], [types, filters.types]]) {
      for (const button of group.children) button.setAttribute("aria-pressed", String(set.has(button.dataset.value)));
    }
    path.setAttribute("aria-pressed", String(filters.critical));
    const all = app.data.nodes.length;
    if (!filters.text) search.value = "";
    clear.hidden = !app.filtered;
    result.textContent = app.filtered ? `${number(app.shown.size)} of ${several(all, "node")}` : several(all, "node");
  }

  return { element, draw, refresh };
}

const TROUBLE = ["failed", "cancelled", "unfinished"], FIRST_FAILED = 5;

// `first`, what failed and why, stands above the chart: it is what people come for, and it never gets shorter while a run goes on.
function lists(app) {
  const element = h("div", { class: "lists" });
  const first = h("div", { class: "lists" });

  function draw() {
    const { data } = app, trouble = failed(data);
    first.hidden = !trouble;
    first.replaceChildren(trouble || "");
    element.replaceChildren(...[running(data), slowest(data), critical(data), attempts(data), against(data)].filter(Boolean));
  }

  const card = (title, ...content) => h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, title)), content);
  const link = (at) => h("button", { type: "button", class: "link", onclick: () => app.select(at, true) }, bdi(app.data.nodes[at].name));

  function row(data, at, share, text) {
    const node = data.nodes[at];
    return h("li", {}, badge(node.state, ""), link(at), h("span", { class: "track", "aria-hidden": "true" }, meter(share, node.state)), h("span", { class: "figure" }, text));
  }

  function meter(share, state) {
    const fill = h("span", { class: `fill s-${state}` });
    fill.style.width = `${Math.max(1, Math.min(100, share * 100))}%`;
    return fill;
  }

  function failed(data) {
    const places = data.nodes.map((node, at) => at).filter((at) => TROUBLE.includes(data.nodes[at].state));
    if (!places.length) return null;
    places.sort((a, b) => TROUBLE.indexOf(data.nodes[a].state) - TROUBLE.indexOf(data.nodes[b].state) || a - b);
    const one = (at) => h("li", {}, badge(data.nodes[at].state, ""), h("div", {}, link(at), " ", bdi(data.nodes[at].type, { class: "muted" }),
      data.nodes[at].state !== "failed" && h("span", { class: "muted" }, ` · ${word(data.nodes[at].state)}`), bdi(reason(data.nodes[at].message), { class: "reason" })));
    const all = places.length > FIRST_FAILED && h("button", { type: "button", class: "link", onclick: () => app.only(TROUBLE) }, `Show all ${number(places.length)}`);
    return card(`What failed (${number(places.length)})`, h("ul", { class: "why" }, places.slice(0, FIRST_FAILED).map(one)), all);
  }

  // dbt's first line names the kind of error, the node and its file; what went wrong comes after it. The escapes of colours say nothing.
  function reason(message) {
    const lines = (message ?? "").replace(/\\x1b\[[0-9;]*m/g, "").split("\n").map((line) => line.trim()).filter((line) => line && !line.startsWith("compiled code at "));
    return (lines.length > 1 && /^[A-Z]\w+ Error( in .+)?$/.test(lines[0]) ? lines.slice(1) : lines).slice(0, 3).join(" ").slice(0, 400);
  }

  function running(data) {
    const places = data.nodes.map((node, at) => at).filter((at) => data.nodes[at].state === "running");
    if (!places.length) return null;
    places.sort((a, b) => (data.nodes[b].seconds ?? 0) - (data.nodes[a].seconds ?? 0));
    const most = Math.max(...places.map((at) => data.nodes[at].seconds ?? 0), 0.001);
    const before = (node) => (typeof node.before?.seconds === "number" ? ` (before ${duration(node.before.seconds)})` : "");
    return card(`${data.status.word === "running" ? "Running now" : "Running when last seen"} (${number(places.length)})`, h("ol", { class: "rows" },
      places.map((at) => row(data, at, (data.nodes[at].seconds ?? 0) / most, `${duration(data.nodes[at].seconds)}${before(data.nodes[at])}`))));
  }

  function slowest(data) {
    if (!data.slowest.length) return null;
    const most = data.nodes[data.slowest[0]].seconds;
    return card("Slowest ten", h("ol", { class: "rows" }, data.slowest.map((at) => row(data, at, data.nodes[at].seconds / most, duration(data.nodes[at].seconds)))));
  }

  function critical(data) {
    if (!data.critical) return card("Critical path", h("p", { class: "muted" }, "Not known: the run has no manifest in its ledger, so what waited for what is not known."));
    const { nodes, seconds, waited } = data.critical;
    if (!nodes.length) return null;
    const most = Math.max(...nodes.map((at) => data.nodes[at].seconds ?? 0), 0.001);
    return card("Critical path", h("p", { class: "muted" }, `${several(nodes.length, "node")}, ${duration(seconds)} of work and ${duration(waited)} of waiting between them. Each waited for the one before.`),
      h("ol", { class: "rows" }, nodes.map((at) => row(data, at, (data.nodes[at].seconds ?? 0) / most, duration(data.nodes[at].seconds)))));
  }

  function attempts(data) {
    const telling = data.attempts.length > 1 || data.attempts.some((one) => one.message || one.incomplete || one.hooks.some((hook) => hook.state === "failed"));
    if (!telling) return null;
    return card(data.attempts.length > 1 ? "Attempts" : "Attempt", h("ol", { class: "attempts" }, data.attempts.map((one) => h("li", {},
      h("p", { class: "line" }, badge(one.state, `${one.attempt}: ${word(one.state)}`), h("span", { class: "muted" }, [one.detail, clock(data, one.start), duration(one.seconds)].filter(Boolean).join(" · "))),
      one.command && h("code", { class: "command" }, one.command),
      one.message && h("pre", { dir: "auto" }, one.message),
      one.incomplete && h("p", { class: "note" }, bdi(`The ledger is incomplete: ${one.incomplete}`)),
      one.hooks.filter((hook) => hook.state === "failed").map((hook) => h("p", { class: "note" }, bdi(`Hook ${hook.id} failed: ${firstLine(hook.message)}`)))))));
  }

  function against(data) {
    const other = data.against;
    if (!other) return null;
    const change = (at) => data.nodes[at].seconds - data.nodes[at].before.seconds;
    const most = Math.max(...[...other.slower, ...other.faster].map((at) => Math.abs(change(at))), 0.001);
    const moved = (title, places) => places.length > 0 && [h("h3", {}, title), h("ol", { class: "rows" }, places.map((at) => row(data, at, Math.abs(change(at)) / most, signed(change(at)))))];
    const named = (title, items) => items.length > 0 && [h("h3", {}, `${title} (${items.length})`), h("p", { class: "names" }, items.slice(0, 60).map((item, index) => [index ? ", " : "", item]), items.length > 60 && ` and ${items.length - 60} more`)];
    const status = (at) => [link(at), ` ${word(data.nodes[at].before.state)} → ${word(data.nodes[at].state)}`];
    const took = data.totals.seconds !== null && other.seconds !== null ? ` (${signed(data.totals.seconds - other.seconds)})` : "";
    return h("section", { class: "card wide" }, h("div", { class: "head" }, h("h2", {}, "Compared with ", bdi(other.title))),
      h("p", { class: "muted" }, `That run: ${word(other.status)}, took ${duration(other.seconds) || "–"}. This one took ${duration(data.totals.seconds) || "–"}${took}.`),
      h("div", { class: "columns" }, h("div", {}, moved("Slower", other.slower) || h("p", { class: "muted" }, "Nothing got slower.")), h("div", {}, moved("Faster", other.faster))),
      named("Another status", other.changed.map(status)), named("New", other.new.map(link)), named("No longer there", other.removed.map((name) => bdi(name))));
  }

  return { element, first, draw };
}
