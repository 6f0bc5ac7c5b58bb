// The chart: a lane per thread of dbt, a bar per node and attempt, bands for attempts, the critical path as a line.
const LANE = 26, BAR = 18, TICK = 4, AXIS = 24, BANDS = 20, LEAST = 2.5, LETTER = 6.4, MOST_ZOOM = 200;

function gantt(app) {
  const labels = h("div", { class: "lanes", "aria-hidden": "true" });
  const scroller = h("div", { class: "scroller" });
  const tip = h("div", { class: "tip", hidden: true });
  const level = h("output", { class: "level" });
  const zoomButton = (text, label, factor) => h("button", { type: "button", "aria-label": label, title: label, onclick: () => zoomTo(zoom * factor) }, text);
  const tools = h("div", { class: "zoom", role: "group", "aria-label": "Zoom" },
    zoomButton("−", "Zoom out (-)", 1 / 1.6), level, zoomButton("+", "Zoom in (+)", 1.6),
    h("button", { type: "button", onclick: () => zoomTo(1) }, "Fit"));
  const title = h("h2", { id: "lt-chart" }, "Timeline");
  const empty = h("p", { class: "muted" });
  const element = h("section", { class: "card chart", "aria-labelledby": "lt-chart" },
    h("div", { class: "head" }, title, h("p", { class: "hint" }, "Arrow keys move, Enter opens, + and − zoom."), tools),
    empty, h("div", { class: "frame" }, labels, scroller), tip);

  let zoom = 1, drawn = 0, bars = [], current = 0, svg = null, over = null;

  function draw() {
    const { data } = app;
    const keep = document.activeElement?.closest?.("svg") === svg && svg !== null;
    bars = collect(data);
    current = Math.min(current, Math.max(0, bars.length - 1));
    empty.hidden = bars.length > 0;
    empty.textContent = data.live ? "No node has begun yet." : "No node was begun.";
    element.classList.toggle("empty", bars.length === 0);
    labels.replaceChildren(...data.lanes.map((threads, lane) => h("span", { title: threads }, `thread ${lane + 1}`)));
    labels.classList.toggle("banded", data.attempts.length > 1);
    drawn = scroller.clientWidth;
    const width = Math.max(320, drawn - 2) * zoom;
    const top = AXIS + (data.attempts.length > 1 ? BANDS : 0);
    const height = top + data.lanes.length * LANE + 6;
    const scale = axis(data, width - 12);
    const x = (time) => 4 + scale.x(time);
    const marks = s("g", { class: "marks" });
    svg = s("svg", {
      width, height, viewBox: `0 0 ${width} ${height}`, role: "group",
      "aria-label": `Timeline: ${several(data.nodes.length, "node")} on ${several(data.lanes.length, "thread")}. The table below says the same.`,
    }, patterns(), bands(data, x, height), ticks(scale, x, top, height), folds(data, x, top, height),
    bars.map((bar) => place(bar, x, top, marks)), marks, criticalLine(data, x, top));
    scroller.replaceChildren(svg);
    level.textContent = `${zoom < 10 ? zoom.toFixed(1).replace(".0", "") : Math.round(zoom)}×`;
    rove(current, keep);
    refresh();
  }

  function collect(data) {
    const found = [];
    data.nodes.forEach((node, at) => {
      for (const [index, earlier] of (node.earlier ?? []).entries()) found.push({ at, index, state: earlier.state, span: earlier.bar, message: earlier.message });
      if (node.bar) found.push({ at, index: -1, state: node.state, span: node.bar, message: firstLine(node.message) });
    });
    const order = (bar) => bar.span[0];
    return found.sort((a, b) => order(a) - order(b) || a.at - b.at);
  }

  function place(bar, x, top, marks) {
    const { data } = app, node = data.nodes[bar.at];
    const [start, end, lane] = bar.span;
    const zero = end !== null && end - start < 0.0005; // skipped: a tick below the bars
    const left = x(start), width = Math.max(LEAST, x(end ?? data.span) - left), height = zero ? TICK : BAR;
    const y = top + lane * LANE + (zero ? LANE - TICK : (LANE - BAR) / 2);
    const kind = `bar s-${bar.state}${bar.index >= 0 ? " earlier" : ""}`;
    bar.rect = s("rect", { class: kind, x: left, y, width, height, rx: Math.min(3, width / 2), tabindex: -1, role: "button", "aria-label": said(data, node, bar) });
    bar.rect.ledgerBar = bar;
    if (node.batches && end === null) {
      marks.append(s("rect", { class: "progress", x: left, y: y + BAR - 4, width: (width * node.batches[0]) / node.batches[1], height: 4 }));
    }
    const room = zero ? 0 : Math.floor((width - 8) / LETTER);
    const letters = room >= 2 ? Array.from(node.name) : [];
    if (letters.length && (room >= 7 || room >= letters.length)) {
      const text = letters.length > room ? `${letters.slice(0, room - 1).join("")}…` : node.name;
      bar.text = s("text", { class: "name", x: left + 5, y: y + BAR - 5 }, text);
      marks.append(bar.text);
    }
    return bar.rect;
  }

  function said(data, node, bar) {
    const parts = [node.name, node.type, word(bar.state)];
    parts.push(bar.span[1] === null ? "not finished" : duration(bar.index < 0 && node.seconds !== undefined ? node.seconds : bar.span[1] - bar.span[0]));
    parts.push(`thread ${bar.span[2] + 1}`);
    if (data.attempts.length > 1) parts.push(`attempt ${bar.span[3]}`);
    if (bar.index < 0 && app.critical.has(bar.at)) parts.push("on the critical path");
    return parts.join(", ");
  }

  // What changes without the geometry: filters, the selection and its neighbours.
  function refresh() {
    const { data, selected } = app;
    const near = new Set(selected < 0 ? [] : [...(data.nodes[selected].up ?? []), ...app.down[selected]]);
    element.classList.toggle("filtered", app.filtered && !app.filters.critical);
    for (const { at, index, rect, text } of bars) {
      const { classList } = rect, dim = !app.shown.has(at);
      classList.toggle("dim", dim);
      text?.classList.toggle("dim", dim);
      classList.toggle("critical", index < 0 && app.critical.has(at));
      classList.toggle("selected", at === selected);
      classList.toggle("near", near.has(at));
    }
  }

  function rove(index, focus) {
    bars[current]?.rect.setAttribute("tabindex", -1);
    current = index;
    const rect = bars[current]?.rect;
    rect?.setAttribute("tabindex", 0);
    if (focus) rect?.focus();
  }

  const barOf = (target) => target.ledgerBar;

  function hover(event) {
    const bar = barOf(event.target);
    if (!bar) return leave();
    if (over !== bar) describe(bar);
    over = bar;
    tip.hidden = false;
    const box = element.getBoundingClientRect();
    const left = Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${event.clientY - box.top + 18}px`;
  }

  function leave() {
    tip.hidden = true;
    over = null;
  }

  function describe(bar) {
    const { data } = app, node = data.nodes[bar.at];
    const seconds = bar.index < 0 ? node.seconds : bar.span[1] - bar.span[0];
    const facts = [node.type, duration(seconds), node.rows === undefined || bar.index >= 0 ? "" : several(node.rows, "row"),
      node.batches && bar.index < 0 ? `batch ${node.batches[0]} of ${node.batches[1]}` : "", data.attempts.length > 1 ? `attempt ${bar.span[3]}` : ""];
    tip.replaceChildren(...[bdi(node.name, { class: "name" }), badge(bar.state), h("span", { class: "muted" }, facts.filter(Boolean).join(" · ")),
      bar.message && bar.state !== "success" ? bdi(bar.message.slice(0, 300), { class: "message" }) : ""].filter(Boolean));
  }

  function click(event) {
    const bar = barOf(event.target);
    if (!bar) return;
    rove(bars.indexOf(bar), false);
    app.select(bar.at, false);
  }

  function focusin(event) {
    const bar = barOf(event.target);
    if (bar && app.selected >= 0 && app.selected !== bar.at) app.select(bar.at, false);
  }

  function keydown(event) {
    const moves = { ArrowRight: () => along(1), ArrowLeft: () => along(-1), ArrowDown: () => across(1), ArrowUp: () => across(-1),
      Home: () => end(0), End: () => end(-1), Enter: () => open(), " ": () => open(),
      "+": () => zoomTo(zoom * 1.6), "=": () => zoomTo(zoom * 1.6), "-": () => zoomTo(zoom / 1.6), 0: () => zoomTo(1) };
    if (event.ctrlKey || event.metaKey || event.altKey || !moves[event.key] || !bars.length) return;
    event.preventDefault();
    moves[event.key]();
  }

  const open = () => app.select(bars[current].at, true);
  const visible = () => bars.filter((bar) => app.shown.has(bar.at));
  const goTo = (bar) => bar && rove(bars.indexOf(bar), true);
  const end = (which) => goTo(visible().at(which));

  function along(step) {
    const lane = visible().filter((bar) => bar.span[2] === bars[current].span[2] || bar === bars[current]);
    goTo(lane[lane.indexOf(bars[current]) + step]);
  }

  function across(step) {
    const from = bars[current].span;
    const lanes = [...new Set(visible().map((bar) => bar.span[2]))].sort((a, b) => a - b);
    const lane = step > 0 ? lanes.find((one) => one > from[2]) : lanes.findLast((one) => one < from[2]);
    const away = (bar) => Math.abs(bar.span[0] - from[0]);
    goTo(visible().filter((bar) => bar.span[2] === lane).sort((a, b) => away(a) - away(b))[0]);
  }

  function zoomTo(wanted, clientX) {
    const before = zoom;
    zoom = Math.min(MOST_ZOOM, Math.max(1, wanted));
    if (zoom === before && zoom !== 1) return;
    const box = scroller.getBoundingClientRect();
    const offset = clientX === undefined ? box.width / 2 : clientX - box.left;
    const share = (scroller.scrollLeft + offset) / before;
    draw();
    scroller.scrollLeft = share * zoom - offset;
  }

  scroller.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoomTo(zoom * (event.deltaY < 0 ? 1.25 : 0.8), event.clientX);
  }, { passive: false });
  // Not on the svg: one that listens for focus can be focused itself.
  for (const [name, handler] of Object.entries({ pointermove: hover, pointerleave: leave, click, keydown, focusin })) scroller.addEventListener(name, handler);
  scroller.addEventListener("scroll", leave, { passive: true });

  new ResizeObserver(() => {
    if (app.data && Math.abs(scroller.clientWidth - drawn) > 4) draw();
  }).observe(scroller);

  function show(at) {
    const bar = bars.find((one) => one.at === at && one.index < 0);
    if (!bar) return;
    rove(bars.indexOf(bar), false);
    const left = Number(bar.rect.getAttribute("x"));
    if (left < scroller.scrollLeft || left > scroller.scrollLeft + scroller.clientWidth - 40) scroller.scrollLeft = left - scroller.clientWidth / 3;
  }

  return { element, draw, refresh, show };
}

function patterns() {
  const stripes = (name, turn) => s("pattern", { id: `lt-${name}`, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${turn})` },
    s("rect", { class: `ground ${name}`, width: 6, height: 6 }), s("rect", { class: "stripe", width: 2.2, height: 6 }));
  return s("defs", {}, stripes("failed", 45), stripes("cancelled", -45), stripes("unfinished", 90));
}

function bands(data, x, height) {
  if (data.attempts.length < 2) return [];
  return data.attempts.map((attempt, index) => {
    const left = x(attempt.start), width = Math.max(2, x(attempt.end) - left);
    const text = `attempt ${attempt.attempt} · ${word(attempt.state)}`;
    const room = Math.floor((width - 6) / LETTER);
    return s("g", { class: `band ${index % 2 ? "odd" : "even"} a-${attempt.state}` },
      s("rect", { x: left, y: 0, width, height }), s("rect", { class: "edge", x: left, y: 0, width, height: 3 }),
      s("text", { x: left + 5, y: 15 }, room >= text.length ? text : room >= 1 ? String(attempt.attempt) : ""));
  });
}

function ticks(scale, x, top, height) {
  return scale.ticks().map(({ time, label }) => s("g", { class: "axis" },
    s("line", { x1: x(time), x2: x(time), y1: top - 6, y2: height }), s("text", { x: x(time) + 3, y: top - 8 }, label)));
}

function folds(data, x, top, height) {
  return data.folds.map(([start, end]) => {
    const left = x(start), width = Math.max(3, x(end) - left), text = duration(end - start);
    const middle = `${left + width / 2 + 4} ${(top + height) / 2}`;
    const fits = width >= 14 && height - top > text.length * LETTER + 8;
    return s("g", { class: "fold" }, s("rect", { x: left, y: top, width, height: height - top }),
      fits && s("text", { transform: `translate(${middle}) rotate(-90)`, "text-anchor": "middle" }, text),
      s("title", {}, `${text} in which no node ran`));
  });
}

function criticalLine(data, x, top) {
  const points = (data.critical?.nodes ?? []).map((at) => data.nodes[at].bar).filter(Boolean);
  const y = (lane) => top + lane * LANE + LANE / 2;
  const steps = points.slice(1).map((bar, index) => {
    const before = points[index], from = x(before[1] ?? data.span), to = x(bar[0]);
    return `M${from} ${y(before[2])}L${to} ${y(bar[2])}`;
  });
  return s("path", { class: "path", d: steps.join("") });
}
