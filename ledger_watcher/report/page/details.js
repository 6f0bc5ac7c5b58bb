// What is known of one node, in a panel beside the chart.
function details(app) {
  const heading = h("h2", { tabindex: -1, id: "lt-node" });
  const body = h("div", { class: "body" });
  const close = h("button", { type: "button", class: "close", "aria-label": "Close (Esc)", title: "Close (Esc)", onclick: () => app.select(-1) }, "×");
  const element = h("aside", { class: "details", "aria-labelledby": "lt-node", hidden: true }, h("header", {}, heading, close), body);

  let drawn = null, shown = null;

  // Newer data that says the same of the node leaves everything as it is: where one reads, and what one has marked to copy it.
  function draw(focus) {
    const at = app.selected;
    element.hidden = at < 0;
    if (at < 0) return;
    const node = app.data.nodes[at];
    const known = JSON.stringify([node, at, [...(node.up ?? []), ...app.down[at]].map((one) => app.data.nodes[one].state), app.critical.has(at), app.data.attempts.length]);
    if (known !== drawn) tell(node, at);
    if (shown !== node.id) body.scrollTop = 0;
    [drawn, shown] = [known, node.id];
    if (focus) heading.focus();
  }

  function tell(node, at) {
    const top = body.scrollTop;
    heading.replaceChildren(bdi(node.name));
    body.replaceChildren(...[
      h("p", { class: "line" }, badge(node.state), h("span", { class: "muted" }, [node.type, node.materialized].filter(Boolean).join(" · ")),
        app.critical.has(at) && h("span", { class: "tag" }, "critical path")),
      facts(node), message(node), earlier(node), links("Upstream", node.up ?? []), links("Downstream", app.down[at]), log(node),
    ].flat().filter(Boolean));
    body.scrollTop = top;
  }

  function facts(node) {
    const { data } = app, [start, end] = node.bar ?? [];
    const before = node.before;
    const rows = [
      ["Took", duration(node.seconds)],
      ["Before", before && before.seconds !== null && [duration(before.seconds), node.seconds !== undefined && ` (${signed(node.seconds - before.seconds)})`]],
      ["Status before", before && before.state !== node.state && word(before.state)],
      ["Started", start !== undefined && `${clock(data, start)} (after ${duration(start)})`],
      ["Finished", end !== undefined && end !== null && clock(data, end)],
      ["Rows", node.rows !== undefined && `${number(node.rows)}${typeof before?.rows === "number" && before.rows !== node.rows ? ` (before ${number(before.rows)})` : ""}`],
      ["Failures", number(node.failures)],
      ["Batches", node.batches && `${node.batches[0]} of ${node.batches[1]}`],
      ["Query id", node.query_id && h("code", {}, node.query_id)],
      ["Relation", node.relation && h("code", {}, node.relation)],
      ["dbt status", node.status],
      ["Attempt", data.attempts.length > 1 && node.attempt !== undefined && String(node.attempt)],
      ["Carried over", node.from && `built by attempt ${node.from}, not run again`],
      ["Thread", node.thread],
      ["Skipped for", node.because && names(node.because)],
      ["Id", h("code", {}, node.id)],
    ];
    return h("dl", {}, rows.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, h("bdi", {}, value))]));
  }

  const names = (places) => places.map((at, index) => [index ? ", " : "", link(at)]);
  const link = (at) => h("button", { type: "button", class: "link", onclick: () => app.select(at, true) }, bdi(app.data.nodes[at].name));

  function message(node) {
    if (!node.message) return node.cut && [cutNote()];
    return [h("h3", {}, "Message"), h("pre", { class: `message s-${node.state}`, dir: "auto", tabindex: 0 }, node.message), node.cut && cutNote()];
  }

  const cutNote = () => h("p", { class: "muted" }, "Shortened: the page has no room for all texts. “ledger-watcher show LEDGER NODE” has all of it.");

  function earlier(node) {
    if (!node.earlier) return null;
    return [h("h3", {}, "Earlier attempts"), h("ul", { class: "plain" }, node.earlier.map((one) =>
      h("li", {}, badge(one.state, `attempt ${one.bar[3]}: ${word(one.state)}`), " ", one.bar[1] !== null && duration(one.bar[1] - one.bar[0]),
        one.message && bdi(one.message, { class: "said" }))))];
  }

  function links(title, places) {
    if (!places.length) return null;
    const shown = places.slice(0, 50);
    return [h("h3", {}, `${title} (${places.length})`), h("ul", { class: "plain links" },
      shown.map((at) => h("li", {}, badge(app.data.nodes[at].state, ""), link(at))), shown.length < places.length && h("li", { class: "muted" }, `and ${places.length - shown.length} more`))];
  }

  function log(node) {
    if (!node.log && !node.log_dropped) return null;
    const lines = [...(node.log ?? []), ...(node.log_dropped ? [`(${several(node.log_dropped, "line")} not kept)`] : [])];
    return [h("h3", {}, "Log"), h("pre", { class: "log", dir: "auto", tabindex: 0 }, lines.join("\n"))];
  }

  return { element, draw };
}
