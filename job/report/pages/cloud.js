"use strict";
/** The token cloud: all tokens on two principal directions as a night sky, with holes, search hits, zoom and hover. */
const cloud = (() => {
  const TITLE = "The token cloud";
  const LIT = "#7fdbff";
  const MOST_PIXELS = 1600000;
  const MOST_NAMES = 80;
  const FARTHEST = 500;
  const KEYS = "Arrow keys move, + and − zoom, 0 shows all, N and P go from hole to hole, Enter picks.";
  const AXES = [[1, 2], [1, 3], [2, 3]];

  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
  const quoted = (survey, id) => (survey.text && survey.text[id] !== null ? `“${survey.text[id].replaceAll(" ", "\u00a0")}”` : `token ${id}`);

  function tokenLines(survey, id) {
    const facts = [`id ${id}`];
    if (survey.klass) facts.push(survey.classNames[survey.klass[id]].replaceAll("_", " "));
    if (survey.script && survey.scriptNames[survey.script[id]]) facts.push(survey.scriptNames[survey.script[id]]);
    const lines = [quoted(survey, id), facts.join(" · ")];
    if (survey.norm) lines.push(`norm ${scales.number(survey.norm[id])}`);
    if (survey.gammaNorm) lines.push(`distance from the centroid ${scales.number(survey.gammaNorm[id])}`);
    lines.push(survey.hole[id] > 0 ? `in hole ${survey.hole[id]}` : "in no hole");
    return lines;
  }

  function holeLines(survey, holes) {
    const sample = (hole, size) => {
      const ids = members.of(survey).hole(hole.id);
      return Array.from(ids.subarray(0, size), (id) => quoted(survey, id)).join(" ") + (ids.length > size ? " …" : "");
    };
    if (holes.length === 1) {
      const [hole] = holes;
      return [`hole ${hole.id}: ${scales.plural(hole.population, "token")}`, `norm ${scales.number(hole.norm, 6)}`,
        sample(hole, 8)];
    }
    const lines = holes.slice(0, 8).map((hole) =>
      `hole ${hole.id}: ${scales.plural(hole.population, "token")} ${sample(hole, 1)}`);
    const more = holes.length - lines.length;
    return [`${holes.length} holes lie here`, ...lines, ...(more ? [`and ${scales.plural(more, "more hole")}`] : [])];
  }

  /** The state that all parts of one cloud share, and the geometry that follows from it. */
  function model(survey, ids) {
    const directions = [0, 1, 2].map((axis) => sky.direction(survey.coordinates, ids, axis));
    const place = new Map();
    for (const hole of survey.holes) {
      const id = members.of(survey).hole(hole.id).find((member) => Number.isFinite(survey.coordinates[3 * member]));
      if (id !== undefined) place.set(hole.id, id);
    }
    const holes = survey.holes.filter(({ id }) => place.has(id)).sort((a, b) => b.population - a.population || a.id - b.id);
    return { survey, ids, directions, holes, place, axes: [1, 2], colour: "norm", lit: [], view: null, plot: null };
  }

  const at = (state, id, which) => state.survey.coordinates[3 * id + state.axes[which] - 1];
  const toX = (state, x) => state.plot.left + state.plot.width / 2 + (x - state.view.x) * state.view.scale;
  const toY = (state, y) => state.plot.top + state.plot.height / 2 - (y - state.view.y) * state.view.scale;
  const fromX = (state, x) => state.view.x + (x - state.plot.left - state.plot.width / 2) / state.view.scale;
  const fromY = (state, y) => state.view.y - (y - state.plot.top - state.plot.height / 2) / state.view.scale;

  /** The view that shows the cloud without its far outliers, but with the holes that are not far out. */
  function fit(state) {
    const sides = [0, 1].map((which) => {
      const [low, high] = state.directions[state.axes[which] - 1].most;
      const span = high - low;
      const near = state.holes.map(({ id }) => at(state, state.place.get(id), which))
        .filter((value) => value > low - span && value < high + span);
      return [near.reduce((a, b) => Math.min(a, b), low), near.reduce((a, b) => Math.max(a, b), high)];
    });
    const scale = (size, [low, high]) => (high > low ? (0.92 * size) / (high - low) : Infinity);
    const both = Math.min(scale(state.plot.width, sides[0]), scale(state.plot.height, sides[1]));
    return { x: (sides[0][0] + sides[0][1]) / 2, y: (sides[1][0] + sides[1][1]) / 2,
      scale: Number.isFinite(both) ? both : 1 };
  }

  /** How far one may zoom out: until the farthest token is in view. */
  function widest(state) {
    const [x, y] = state.axes.map((axis) => state.directions[axis - 1].whole);
    const whole = Math.min(state.plot.width / (x[1] - x[0] || 1e-9), state.plot.height / (y[1] - y[0] || 1e-9));
    return Math.min(0.5, (0.4 * whole) / state.fitted.scale);
  }

  function colours(state) {
    const { survey, ids, axes } = state;
    if (state.colour === "class") return sky.byClass(survey, ids);
    if (state.colour === "norm") return sky.byValue((id) => survey.norm[id], ids, "norm of the row of W");
    const other = 6 - axes[0] - axes[1];
    return sky.byValue((id) => survey.coordinates[3 * id + other - 1], ids, `direction ${other}`);
  }

  function axisLabel(survey, axis) {
    const share = survey.explained ? survey.explained[axis - 1] : NaN;
    return `direction ${axis}` + (Number.isFinite(share) ? ` (${scales.percent(share)} of the variance)` : "");
  }

  /** Draws all that lies over the sky with a pen, and keeps the discs for the pointer. */
  function drawOver(state, pen) {
    const { plot, survey } = state;
    const inside = (x, y) => x >= plot.left && y >= plot.top && x <= plot.left + plot.width && y <= plot.top + plot.height;
    const points = state.lit.map((id) => [toX(state, at(state, id, 0)), toY(state, at(state, id, 1))])
      .filter((point) => inside(...point));
    const size = points.length > 3000 ? 2.5 : 6;
    if (size > 3) pen.dots(points, size + 3, "#000000");
    pen.dots(points, size, LIT);
    if (survey.text) {
      cloudMarks.drawNames(pen, plot, state.within.ids.map((id) => ({ text: survey.text[id] ?? "",
        x: toX(state, at(state, id, 0)), y: toY(state, at(state, id, 1)) })));
    }
    const spots = state.holes.map((hole) => ({ hole, x: toX(state, at(state, state.place.get(hole.id), 0)),
      y: toY(state, at(state, state.place.get(hole.id), 1)), r: cloudMarks.radius(hole.population, state.holes.length) }))
      .filter(({ x, y }) => inside(x, y));
    const keep = (x, y, r) => ({ x: clamp(x, plot.left + r, plot.left + plot.width - r),
      y: clamp(y, plot.top + r, plot.top + plot.height - r) });
    state.discs = cloudMarks.discs(spots, keep);
    const current = state.discs.find(({ holes }) => holes.some(({ id }) => id === state.current)) || null;
    cloudMarks.drawHoles(pen, state.discs, current);
    if (state.hover >= 0) {
      pen.circle(toX(state, at(state, state.hover, 0)), toY(state, at(state, state.hover, 1)), 5, null, "#ffffff", 1.5);
    }
    cloudMarks.drawAxes(pen, plot, { toX: (x) => toX(state, x), toY: (y) => toY(state, y),
      horizontal: [fromX(state, plot.left), fromX(state, plot.left + plot.width)],
      vertical: [fromY(state, plot.top + plot.height), fromY(state, plot.top)],
      labels: state.axes.map((axis) => axisLabel(survey, axis)) });
    cloudMarks.drawLegend(pen, plot, state.colours, survey.classNames);
    state.litInView = points.length;
  }

  /** Paints the sky of the current view into a canvas of its own. */
  function paintSky(state, target) {
    const { plot } = state;
    const ratio = Math.min(window.devicePixelRatio || 1, 2, Math.sqrt(MOST_PIXELS / (plot.width * plot.height)));
    const [width, height] = [Math.max(1, Math.round(plot.width * ratio)), Math.max(1, Math.round(plot.height * ratio))];
    [target.width, target.height] = [width, height];
    const context = target.getContext("2d");
    const pixels = context.createImageData(width, height);
    const size = state.ids.length;
    const base = size < 300 ? 4 : size < 3000 ? 2.6 : size < 20000 ? 1.7 : 1.05;
    const radius = Math.min(8, base * ratio * clamp((state.view.scale / state.fitted.scale) ** 0.4, 0.9, 3.2));
    const drawn = { ids: state.ids, x: state.directions[state.axes[0] - 1], y: state.directions[state.axes[1] - 1] };
    sky.paint(pixels, drawn, state.colours, { ...state.view, scale: state.view.scale * ratio }, { width, height, radius });
    context.putImageData(pixels, 0, 0);
    state.within = sky.within(drawn, state.view, plot, MOST_NAMES);
  }

  /** The canvas and how it is drawn again: `all` after a change of view, `over` after one of marks. */
  function painter(state, canvas) {
    const night = document.createElement("canvas");
    let [waiting, stale] = [false, false];
    function layout() {
      const width = Math.max(280, Math.floor(canvas.parentElement.clientWidth));
      const height = Math.round(clamp(width * (width < 600 ? 0.95 : 0.6), 300, 680));
      const left = width < 600 ? 60 : 66;
      state.plot = { left, top: 42, width: width - left - 12, height: height - 42 - 44 };
      [state.width, state.height] = [width, height];
      const before = state.fitted;
      state.fitted = fit(state);
      if (!before || !state.view) state.view = { ...state.fitted };
      else state.view = { ...state.view, scale: (state.view.scale * state.fitted.scale) / before.scale };
    }
    function compose() {
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [Math.round(state.width * ratio), Math.round(state.height * ratio)];
      if (canvas.width !== width || canvas.height !== height) {
        [canvas.width, canvas.height] = [width, height];
        [canvas.style.width, canvas.style.height] = [`${state.width}px`, `${state.height}px`];
      }
      const context = canvas.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.fillStyle = scales.hex(sky.NIGHT);
      context.fillRect(0, 0, state.width, state.height);
      context.globalAlpha = state.lit.length ? 0.6 : 1;
      context.drawImage(night, state.plot.left, state.plot.top, state.plot.width, state.plot.height);
      context.globalAlpha = 1;
      drawOver(state, cloudMarks.canvasPen(context));
      canvas.dataset.scale = (state.view.scale / state.fitted.scale).toPrecision(5);
      canvas.dataset.axes = state.axes.join("×");
      canvas.dataset.colour = state.colour;
      canvas.dataset.highlighted = state.lit.length;
      canvas.dataset.discs = JSON.stringify(state.discs.slice(0, 24).map(({ x, y, holes }) =>
        [Math.round(x), Math.round(y), ...holes.slice(0, 8).map(({ id }) => id)]));
      state.told();
    }
    function soon(sky_too) {
      stale = stale || sky_too;
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        if (stale) paintSky(state, night);
        stale = false;
        compose();
      });
    }
    return { layout, night, all: () => soon(true), over: () => soon(false), now: () => { paintSky(state, night); compose(); } };
  }

  /** The picture as an SVG file: the sky as an image, all else as shapes. */
  function asSvg(state, night) {
    const nodes = [figures.svg("rect", { x: 0, y: 0, width: state.width, height: state.height,
      fill: scales.hex(sky.NIGHT) }), figures.svg("image", { x: state.plot.left, y: state.plot.top,
      width: state.plot.width, height: state.plot.height, href: night.toDataURL(), opacity: state.lit.length ? 0.6 : 1,
      preserveAspectRatio: "none" })];
    drawOver(state, cloudMarks.svgPen(nodes));
    const drawing = figures.svg("svg", { xmlns: "http://www.w3.org/2000/svg", width: state.width, height: state.height,
      viewBox: `0 0 ${state.width} ${state.height}` }, ...nodes);
    return new XMLSerializer().serializeToString(drawing);
  }

  /** What a reader can do to the view. */
  function moves(state, paint) {
    function zoom(factor, x, y) {
      const [px, py] = [x ?? state.plot.left + state.plot.width / 2, y ?? state.plot.top + state.plot.height / 2];
      const [dx, dy] = [fromX(state, px), fromY(state, py)];
      const scale = clamp(state.view.scale * factor, state.fitted.scale * widest(state), state.fitted.scale * FARTHEST);
      const share = state.view.scale / scale;
      state.view = { x: dx + (state.view.x - dx) * share, y: dy + (state.view.y - dy) * share, scale };
      paint.all();
    }
    function pan(dx, dy) {
      state.view = { ...state.view, x: state.view.x - dx / state.view.scale, y: state.view.y + dy / state.view.scale };
      paint.all();
    }
    function reset() {
      state.view = { ...state.fitted };
      paint.all();
    }
    return { zoom, pan, reset };
  }

  /** Hover and what a click takes: a disc first, else the nearest token. */
  function pointing(state, paint, tip) {
    let nearest = null;
    let [key, disc] = ["", null];
    function find(x, y) {
      disc = state.discs.findLast((one) => Math.hypot(one.x - x, one.y - y) <= one.r + 3) || null;
      if (key !== state.axes.join()) {
        key = state.axes.join();
        nearest = sky.index({ ids: state.ids, x: state.directions[state.axes[0] - 1],
          y: state.directions[state.axes[1] - 1] });
      }
      const place = disc ? -1 : nearest(fromX(state, x), fromY(state, y), 12 / state.view.scale);
      state.hover = place < 0 ? -1 : state.ids[place];
      state.current = disc ? disc.holes[0].id : 0;
    }
    function show(x, y) {
      const { canvas } = state;
      if (disc) tip.show(x, y, holeLines(state.survey, disc.holes));
      else if (state.hover >= 0) tip.show(x, y, tokenLines(state.survey, state.hover));
      else tip.hide();
      canvas.dataset.hover = disc ? `hole ${disc.holes[0].id}` : state.hover >= 0 ? state.hover : "";
      paint.over();
    }
    function leave() {
      [state.hover, state.current, disc] = [-1, 0, null];
      tip.hide();
      state.canvas.dataset.hover = "";
      paint.over();
    }
    const taken = () => (disc ? disc.holes.flatMap(({ id }) => [...members.of(state.survey).hole(id)])
      : state.hover >= 0 ? [state.hover] : []);
    return { hover: (x, y) => { find(x, y); show(x, y); }, leave, taken };
  }

  /** Pointer, wheel and pinch. One finger scrolls the page up and down, two zoom. */
  function listenToPointer(state, box, move, point, pick) {
    const down = new Map();
    let moved = 0;
    const local = (event) => {
      const frame = state.canvas.getBoundingClientRect();
      return [event.clientX - frame.left, event.clientY - frame.top];
    };
    box.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      down.set(event.pointerId, local(event));
      moved = 0;
      box.setPointerCapture(event.pointerId);
    });
    box.addEventListener("pointermove", (event) => {
      const [x, y] = local(event);
      if (!down.has(event.pointerId)) { point.hover(x, y); return; }
      const [fromLeft, fromTop] = down.get(event.pointerId);
      down.set(event.pointerId, [x, y]);
      moved += Math.abs(x - fromLeft) + Math.abs(y - fromTop);
      if (moved > 4) point.leave();
      if (down.size === 2) {
        const [other] = [...down].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
        const before = Math.hypot(fromLeft - other[0], fromTop - other[1]);
        if (before > 0) move.zoom(Math.hypot(x - other[0], y - other[1]) / before, (x + other[0]) / 2, (y + other[1]) / 2);
      }
      if (moved > 4) move.pan((x - fromLeft) / down.size, (y - fromTop) / down.size);
    });
    const lift = (event) => {
      const held = down.delete(event.pointerId);
      if (event.type !== "pointerup" || !held || moved > 4) return;
      point.hover(...local(event));
      pick(point.taken());
    };
    box.addEventListener("pointerup", lift);
    box.addEventListener("pointercancel", lift);
    box.addEventListener("pointerleave", () => point.leave());
    box.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== box) return;
      event.preventDefault();
      move.zoom(Math.exp(-clamp(event.deltaY * (event.deltaMode ? 30 : 1), -200, 200) / 300), ...local(event));
    }, { passive: false });
  }

  /** Shows the next or previous hole in the middle of the view and tells it. */
  function stepHole(state, step, paint, point) {
    if (!state.holes.length) return;
    const size = state.holes.length;
    state.stepped = state.stepped === undefined ? (step > 0 ? 0 : size - 1) : (state.stepped + step + size) % size;
    const { id } = state.holes[state.stepped];
    const place = state.place.get(id);
    state.view = { ...state.view, x: at(state, place, 0), y: at(state, place, 1) };
    paint.now();
    const disc = state.discs.find(({ holes }) => holes.some((hole) => hole.id === id));
    point.hover(disc.x, disc.y);
  }

  function listenToKeys(state, box, move, paint, point, pick) {
    const actions = {
      ArrowLeft: () => move.pan(60, 0), ArrowRight: () => move.pan(-60, 0), ArrowUp: () => move.pan(0, 60),
      ArrowDown: () => move.pan(0, -60), "+": () => move.zoom(1.5), "=": () => move.zoom(1.5),
      "-": () => move.zoom(1 / 1.5), 0: () => move.reset(), n: () => stepHole(state, 1, paint, point),
      p: () => stepHole(state, -1, paint, point), Enter: () => pick(point.taken()), Escape: () => point.leave(),
    };
    box.addEventListener("keydown", (event) => {
      const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      action();
    });
  }

  function sentence(state) {
    const { survey, ids, holes } = state;
    const parts = [`${scales.plural(ids.length, "token")} by their rows of γ′ = W − μ. A pixel has the mean colour of the ` +
      "tokens there and is the brighter the more they are."];
    parts.push(holes.length ? "Holes are black, ringed in white, the larger the more tokens they hold; those that lie " +
      "together are spread out, with a line to their place." : "There is no black hole.");
    const left = survey.n - ids.length;
    if (left) parts.push(`${scales.plural(left, "token")} without finite coordinates ${left === 1 ? "is" : "are"} left out.`);
    return parts.join(" ");
  }

  function choicesOfColour(survey) {
    return [...(survey.norm ? [["norm", "norm"]] : []), ["third", "third direction"],
      ...(survey.klass ? [["class", "class"]] : [])];
  }

  function assemble(container, state, paint, move, act) {
    const axes = figures.select("directions", AXES.map((pair) => [pair.join(), pair.join(" × ")]), "1,2",
      (value) => act.setAxes(...value.split(",").map(Number)));
    const colour = figures.select("colour", choicesOfColour(state.survey), state.colour, act.setColour);
    const png = () => new Promise((resolve) => { paint.now(); state.canvas.toBlob(resolve, "image/png"); });
    const zooms = [["+", "Zoom in", () => move.zoom(1.6)], ["−", "Zoom out", () => move.zoom(1 / 1.6)],
      ["all", "Show all again", () => move.reset()]].map(([label, title, action]) => {
      const button = figures.button(label, title, action);
      button.setAttribute("aria-label", title);
      button.dataset.zoom = { "+": "in", "−": "out", all: "reset" }[label];
      return button;
    });
    const tools = figures.element("div", { class: "picture-tools" }, axes, colour,
      figures.element("span", { class: "picture-downloads" }, ...zooms),
      figures.downloads("token-cloud", TITLE, () => asSvg(state, paint.night), png));
    const status = figures.element("p", { class: "cloud-status", role: "status" });
    container.append(figures.element("figure", { class: "picture", "data-picture": "cloud" },
      figures.element("div", { class: "picture-head" }, figures.element("h3", { class: "picture-title" }, TITLE), tools),
      state.box, status, figures.element("figcaption", {}, sentence(state)),
      figures.element("p", { class: "cloud-keys" }, `Drag moves; Ctrl and the wheel zoom (after a click, the wheel alone). ${KEYS}`)));
    return { axes: axes.querySelector("select"), colour: colour.querySelector("select"), status };
  }

  /** What `create` returns where there is nothing to draw. */
  const nothing = { highlight() {}, setAxes() {}, setColour() {}, place: () => null };

  function empty(container, reason) {
    figures.missing(container, "cloud", TITLE, reason);
    return nothing;
  }

  /** Makes the cloud in `container`; `onPick` gets the ids of a token or of a hole's tokens that a reader clicks on. */
  function create(container, survey, { onPick = () => {} } = {}) {
    if (!survey.coordinates) {
      return empty(container, "The survey has no principal directions: TENSORS with “projection” publishes them.");
    }
    const ids = sky.placed(survey);
    if (!ids.length) return empty(container, "No token has finite coordinates.");
    const state = model(survey, ids);
    state.colour = choicesOfColour(survey)[0][0];
    const canvas = figures.element("canvas", { class: "cloud-canvas", role: "img" });
    const box = figures.element("div", { class: "cloud-sky", tabindex: 0, role: "group",
      "aria-label": `${TITLE}. ${KEYS}` }, canvas);
    Object.assign(state, { canvas, box, hover: -1, current: 0, discs: [], colours: colours(state), told: () => {} });
    canvas.setAttribute("aria-label", `${TITLE}: ${sentence(state)}`);
    const paint = painter(state, canvas);
    const move = moves(state, paint);
    const point = pointing(state, paint, figures.tooltip(box));
    const pick = (picked) => { if (picked.length) onPick(picked); };
    const control = {
      /** Lights tokens up; none: all as before. */
      highlight(lit) {
        state.lit = Array.from(lit).filter((id) => Number.isFinite(survey.coordinates[3 * id]));
        paint.over();
      },
      /** Shows two of the directions 1, 2, 3. */
      setAxes(first, second) {
        state.axes = [first, second];
        Object.assign(state, { hover: -1, current: 0, view: null, colours: colours(state) });
        controls.axes.value = state.axes.join();
        paint.layout();
        paint.all();
      },
      /** Colours by "norm", "third" or "class". */
      setColour(kind) {
        if (!choicesOfColour(survey).some(([value]) => value === kind)) return;
        state.colour = kind;
        state.colours = colours(state);
        controls.colour.value = kind;
        paint.all();
      },
      /** Where a token lies on the canvas, in CSS pixels. */
      place: (id) => [toX(state, at(state, id, 0)), toY(state, at(state, id, 1))],
    };
    const controls = assemble(container, state, paint, move, control);
    state.told = () => {
      const away = state.lit.length - state.litInView;
      const outside = state.view.scale === state.fitted.scale ? ids.length - state.within.size : 0;
      const text = [state.lit.length ? `${scales.plural(state.lit.length, "token")} lit` +
        `${away ? `, ${scales.count(away)} outside the view` : ""}.` : "",
      outside ? `${scales.plural(outside, "token")} outside the view: zoom out or move to see ${outside === 1 ? "it" : "them"}.`
        : ""].join(" ").trim();
      if (controls.status.textContent !== text) controls.status.textContent = text;
    };
    paint.layout();
    paint.now();
    listenToPointer(state, box, move, point, pick);
    listenToKeys(state, box, move, paint, point, pick);
    new ResizeObserver(() => {
      if (Math.max(280, Math.floor(box.clientWidth)) !== state.width) { paint.layout(); paint.all(); }
    }).observe(box);
    return control;
  }

  return { create };
})();
