"use strict";
/** What a reader does with the token cloud: zoom, move, point, pick; by mouse, fingers and keys. */
const cloudInput = (() => {
  const FARTHEST = 500;
  const REACH = 12;
  const { clamp, at, fromX, fromY, widest } = cloudView;

  const quoted = (survey, id) =>
    survey.text && survey.text[id] !== null ? `“${survey.text[id].replaceAll(" ", "\u00a0")}”` : `token ${id}`;

  const shortened = (text) => (text.length > 40 ? `${text.slice(0, 38)}…` : text);

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
      const texts = Array.from(ids.subarray(0, size), (id) => shortened(quoted(survey, id)));
      return texts.join(" ") + (ids.length > size ? " …" : "");
    };
    const head = (hole) => `hole ${hole.id}: ${scales.plural(hole.population, "token")}`;
    if (holes.length === 1) {
      const [hole] = holes;
      return [
        head(hole),
        ...(Number.isFinite(hole.norm) ? [`norm ${scales.number(hole.norm, 6)}`] : []),
        sample(hole, 8),
      ];
    }
    const lines = holes.slice(0, 8).map((hole) => `${head(hole)} ${sample(hole, 1)}`);
    const more = holes.length - lines.length;
    return [`${holes.length} holes lie here`, ...lines, ...(more ? [`and ${scales.plural(more, "more hole")}`] : [])];
  }

  /** What a reader can do to the view. */
  function moves(state, paint, point) {
    function zoom(factor, x, y) {
      const [px, py] = [x ?? state.plot.left + state.plot.width / 2, y ?? state.plot.top + state.plot.height / 2];
      const [dx, dy] = [fromX(state, px), fromY(state, py)];
      const scale = clamp(state.view.scale * factor, state.fitted.scale * widest(state), state.fitted.scale * FARTHEST);
      const share = state.view.scale / scale;
      state.view = { x: dx + (state.view.x - dx) * share, y: dy + (state.view.y - dy) * share, scale };
      point.leave();
      paint.all();
    }
    function pan(dx, dy) {
      state.view = { ...state.view, x: state.view.x - dx / state.view.scale, y: state.view.y + dy / state.view.scale };
      point.leave();
      paint.all();
    }
    function reset() {
      state.view = { ...state.fitted };
      point.leave();
      paint.all();
    }
    return { zoom, pan, reset };
  }

  /** Hover and what a click takes: a disc first, else the nearest token. */
  function pointing(state, paint, tip) {
    let nearest = null;
    let key = "";
    let holes = [];
    function find(x, y) {
      state.disc = state.discs.findLast((one) => Math.hypot(one.x - x, one.y - y) <= one.r + 3) || null;
      holes = state.disc ? state.disc.holes : [];
      if (key !== state.axes.join()) {
        key = state.axes.join();
        const [across, up] = state.axes.map((axis) => state.directions[axis - 1]);
        nearest = sky.index({ ids: state.ids, x: across, y: up });
      }
      const place = state.disc ? -1 : nearest(fromX(state, x), fromY(state, y), REACH / state.view.scale);
      state.hover = place < 0 ? -1 : state.ids[place];
    }
    function show(x, y) {
      if (holes.length) tip.show(x, y, holeLines(state.survey, holes));
      else if (state.hover >= 0) tip.show(x, y, tokenLines(state.survey, state.hover));
      else tip.hide();
      state.canvas.dataset.hover = holes.length ? `hole ${holes[0].id}` : state.hover >= 0 ? state.hover : "";
      paint.pointed();
    }
    function hover(x, y) {
      find(x, y);
      show(x, y);
    }
    /** Tells one hole, whatever others its disc stands for. */
    function tell(hole) {
      state.disc = state.discs.find((disc) => disc.holes.includes(hole));
      state.hover = -1;
      holes = [hole];
      show(state.disc.x, state.disc.y);
    }
    function leave() {
      [state.hover, state.disc, holes] = [-1, null, []];
      tip.hide();
      state.canvas.dataset.hover = "";
      paint.pointed();
    }
    function taken() {
      if (holes.length) return holes.flatMap(({ id }) => Array.from(members.of(state.survey).hole(id)));
      return state.hover >= 0 ? [state.hover] : [];
    }
    return { hover, tell, leave, taken };
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
      if (!down.has(event.pointerId)) {
        point.hover(x, y);
        return;
      }
      const [fromLeft, fromTop] = down.get(event.pointerId);
      down.set(event.pointerId, [x, y]);
      moved += Math.abs(x - fromLeft) + Math.abs(y - fromTop);
      if (moved > 4) point.leave();
      if (down.size === 2) {
        const [other] = [...down].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
        const before = Math.hypot(fromLeft - other[0], fromTop - other[1]);
        if (before > 0)
          move.zoom(Math.hypot(x - other[0], y - other[1]) / before, (x + other[0]) / 2, (y + other[1]) / 2);
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
    // A finger that was lifted leaves, too; what it touched stays told.
    box.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && point.leave());
    box.addEventListener("blur", () => point.leave());
    box.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey && document.activeElement !== box) return;
        event.preventDefault();
        move.zoom(Math.exp(-clamp(event.deltaY * (event.deltaMode ? 30 : 1), -200, 200) / 300), ...local(event));
      },
      { passive: false },
    );
  }

  /** Shows the next or previous hole in the middle of the view and tells it. */
  function stepHole(state, step, paint, point) {
    if (!state.holes.length) return;
    const size = state.holes.length;
    state.stepped = state.stepped === undefined ? (step > 0 ? 0 : size - 1) : (state.stepped + step + size) % size;
    const hole = state.holes[state.stepped];
    const place = state.place.get(hole.id);
    state.view = { ...state.view, x: at(state, place, 0), y: at(state, place, 1) };
    paint.now();
    point.tell(hole);
  }

  function listenToKeys(state, box, move, paint, point, pick) {
    const actions = {
      ArrowLeft: () => move.pan(60, 0),
      ArrowRight: () => move.pan(-60, 0),
      ArrowUp: () => move.pan(0, 60),
      ArrowDown: () => move.pan(0, -60),
      "+": () => move.zoom(1.5),
      "=": () => move.zoom(1.5),
      "-": () => move.zoom(1 / 1.5),
      0: () => move.reset(),
      n: () => stepHole(state, 1, paint, point),
      p: () => stepHole(state, -1, paint, point),
      Enter: () => pick(point.taken()),
      Escape: () => point.leave(),
    };
    box.addEventListener("keydown", (event) => {
      const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      action();
    });
  }

  return { moves, pointing, listenToPointer, listenToKeys };
})();
