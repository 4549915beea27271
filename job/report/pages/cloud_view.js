"use strict";
/** What the token cloud shows: its state, where a token lies on the canvas, how it is drawn. */
const cloudView = (() => {
  const LIT = "#7fdbff";
  const DIMMED = 0.6;
  const MOST_PIXELS = 1600000;
  const MOST_NAMES = 80;

  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

  /** The state that all parts of one cloud share, and the geometry that follows from it. */
  function stateOf(survey, ids) {
    const directions = [0, 1, 2].map((axis) => sky.direction(survey.coordinates, ids, axis));
    const place = new Map();
    for (const hole of survey.holes) {
      const id = members
        .of(survey)
        .hole(hole.id)
        .find((member) => Number.isFinite(survey.coordinates[3 * member]));
      if (id !== undefined) place.set(hole.id, id);
    }
    const holes = survey.holes
      .filter(({ id }) => place.has(id))
      .sort((a, b) => b.population - a.population || a.id - b.id);
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
      const near = state.holes
        .map(({ id }) => at(state, state.place.get(id), which))
        .filter((value) => value > low - span && value < high + span);
      return [near.reduce((a, b) => Math.min(a, b), low), near.reduce((a, b) => Math.max(a, b), high)];
    });
    const scale = (size, [low, high]) => (high > low ? (0.92 * size) / (high - low) : Infinity);
    const both = Math.min(scale(state.plot.width, sides[0]), scale(state.plot.height, sides[1]));
    return {
      x: (sides[0][0] + sides[0][1]) / 2,
      y: (sides[1][0] + sides[1][1]) / 2,
      scale: Number.isFinite(both) ? both : 1,
    };
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

  const spot = (state, id) => ({ x: toX(state, at(state, id, 0)), y: toY(state, at(state, id, 1)) });
  const inside = ({ left, top, width, height }, { x, y }) =>
    x >= left && y >= top && x <= left + width && y <= top + height;

  /** The discs of the holes in view. */
  function placeDiscs(state) {
    const { plot } = state;
    const spots = state.holes
      .map((hole) => ({
        ...spot(state, state.place.get(hole.id)),
        hole,
        r: (state.width < 600 ? 0.8 : 1) * cloudMarks.radius(hole.population, state.holes.length),
      }))
      .filter((place) => inside(plot, place));
    return cloudMarks.discs(spots, (x, y, r) => ({
      x: clamp(x, plot.left + r, plot.left + plot.width - r),
      y: clamp(y, plot.top + r, plot.top + plot.height - r),
    }));
  }

  /** Draws with a pen all that lies over the sky, but for what the pointer is on. */
  function drawOver(state, pen) {
    const { plot, survey } = state;
    const points = state.lit.map((id) => spot(state, id)).filter((place) => inside(plot, place));
    const size = points.length > 3000 ? 2.5 : 6;
    if (size > 3) pen.dots(points, size + 3, "#000000");
    pen.dots(points, size, LIT);
    if (survey.text) {
      const named = state.within.ids.map((id) => ({ ...spot(state, id), text: survey.text[id] ?? "" }));
      cloudMarks.drawNames(pen, plot, named);
    }
    cloudMarks.drawHoles(pen, state.discs);
    cloudMarks.drawAxes(pen, plot, {
      toX: (x) => toX(state, x),
      toY: (y) => toY(state, y),
      horizontal: [fromX(state, plot.left), fromX(state, plot.left + plot.width)],
      vertical: [fromY(state, plot.top + plot.height), fromY(state, plot.top)],
      labels: state.axes.map((axis) => axisLabel(survey, axis)),
    });
    cloudMarks.drawLegend(pen, plot, state.colours, survey.classNames);
    state.litInView = points.length;
  }

  /** Rings the token or the disc that the pointer is on. */
  function drawPointed(state, pen) {
    if (state.disc) pen.circle(state.disc.x, state.disc.y, state.disc.r, null, LIT, 3);
    if (state.hover < 0) return;
    const { x, y } = spot(state, state.hover);
    pen.circle(x, y, 5, null, "#ffffff", 1.5);
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
    sky.paint(
      pixels,
      drawn,
      state.colours,
      { ...state.view, scale: state.view.scale * ratio },
      { width, height, radius },
    );
    context.putImageData(pixels, 0, 0);
    state.within = sky.within(drawn, state.view, plot, MOST_NAMES);
  }

  /** Says on the canvas what it shows, for those who cannot see it. */
  function label(state, canvas) {
    canvas.dataset.scale = (state.view.scale / state.fitted.scale).toPrecision(5);
    canvas.dataset.axes = state.axes.join("×");
    canvas.dataset.colour = state.colour;
    canvas.dataset.highlighted = state.lit.length;
    canvas.dataset.discs = JSON.stringify(
      state.discs
        .slice(0, 24)
        .map(({ x, y, holes }) => [Math.round(x), Math.round(y), ...holes.slice(0, 8).map(({ id }) => id)]),
    );
    state.told();
  }

  function layout(state, canvas) {
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

  /** A canvas of the picture's size in device pixels, ready to be drawn on in CSS pixels. */
  function prepared(state, canvas) {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(state.width * ratio), Math.round(state.height * ratio)];
    if (canvas.width !== width || canvas.height !== height) {
      [canvas.width, canvas.height] = [width, height];
      [canvas.style.width, canvas.style.height] = [`${state.width}px`, `${state.height}px`];
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return context;
  }

  /** Draws the sky and the marks over it. */
  function drawScene(state, canvas, night) {
    const context = prepared(state, canvas);
    context.fillStyle = scales.hex(sky.NIGHT);
    context.fillRect(0, 0, state.width, state.height);
    context.globalAlpha = state.lit.length ? DIMMED : 1;
    context.drawImage(night, state.plot.left, state.plot.top, state.plot.width, state.plot.height);
    context.globalAlpha = 1;
    drawOver(state, cloudMarks.canvasPen(context));
  }

  /** How the canvas is drawn again: `all` after a change of view, `over` after one of marks, `pointed` after a hover. */
  function painter(state, canvas) {
    const [night, scene] = [document.createElement("canvas"), document.createElement("canvas")];
    const [POINTED, OVER, ALL] = [1, 2, 3];
    let stale = 0;
    function draw() {
      if (stale === ALL) {
        paintSky(state, night);
        state.discs = placeDiscs(state);
      }
      if (stale >= OVER) {
        drawScene(state, scene, night);
        label(state, canvas);
      }
      stale = 0;
      const context = prepared(state, canvas);
      context.drawImage(scene, 0, 0, state.width, state.height);
      drawPointed(state, cloudMarks.canvasPen(context));
    }
    function soon(what) {
      if (!stale) requestAnimationFrame(() => stale && draw());
      stale = Math.max(stale, what);
    }
    function now() {
      stale = ALL;
      draw();
    }
    return {
      layout: () => layout(state, canvas),
      night,
      all: () => soon(ALL),
      over: () => soon(OVER),
      pointed: () => soon(POINTED),
      now,
    };
  }

  /** The picture as an SVG file: the sky as an image, all else as shapes. */
  function asSvg(state, night) {
    const nodes = [
      figures.svg("rect", { x: 0, y: 0, width: state.width, height: state.height, fill: scales.hex(sky.NIGHT) }),
      figures.svg("image", {
        x: state.plot.left,
        y: state.plot.top,
        width: state.plot.width,
        height: state.plot.height,
        href: night.toDataURL(),
        opacity: state.lit.length ? DIMMED : 1,
        preserveAspectRatio: "none",
      }),
    ];
    drawOver(state, cloudMarks.svgPen(nodes));
    const drawing = figures.svg(
      "svg",
      {
        xmlns: "http://www.w3.org/2000/svg",
        width: state.width,
        height: state.height,
        viewBox: `0 0 ${state.width} ${state.height}`,
      },
      ...nodes,
    );
    return new XMLSerializer().serializeToString(drawing);
  }

  return { clamp, stateOf, at, toX, toY, fromX, fromY, widest, colours, painter, asSvg };
})();
