"use strict";
/** The token cloud: all tokens on two principal directions as a night sky, with holes, search hits, zoom and hover. */
const cloud = (() => {
  const TITLE = "Tokens on the principal directions of γ′";
  const KEYS = "Arrow keys move, + and − zoom, 0 shows all, N and P go from hole to hole, Enter picks.";
  const AXES = [
    [1, 2],
    [1, 3],
    [2, 3],
  ];
  const { at, toX, toY, colours } = cloudView;

  function sentence(state) {
    const { survey, ids, holes } = state;
    const parts = [
      `${scales.plural(ids.length, "token")} by their rows of γ′ = W − μ. A pixel has the mean colour of the ` +
        "tokens there and is the brighter the more they are.",
    ];
    parts.push(
      holes.length
        ? "Holes are black, ringed in white, the larger the more tokens they hold; those that lie " +
            "together are spread out, with a line to their place."
        : survey.holes.length
          ? "Where the holes lie is not published."
          : "There is no black hole.",
    );
    const left = survey.n - ids.length;
    if (left)
      parts.push(`${scales.plural(left, "token")} without finite coordinates ${left === 1 ? "is" : "are"} left out.`);
    return parts.join(" ");
  }

  function choicesOfColour(survey) {
    return [
      ...(survey.norm ? [["norm", "norm"]] : []),
      ["third", "third direction"],
      ...(survey.klass ? [["class", "class"]] : []),
    ];
  }

  function assemble(container, state, paint, move, act) {
    const axes = figures.select(
      "directions",
      AXES.map((pair) => [pair.join(), pair.join(" × ")]),
      "1,2",
      (value) => act.setAxes(...value.split(",").map(Number)),
    );
    const colour = figures.select("colour", choicesOfColour(state.survey), state.colour, act.setColour);
    const png = () =>
      new Promise((resolve) => {
        paint.now();
        state.canvas.toBlob(resolve, "image/png");
      });
    const zooms = [
      ["+", "Zoom in", () => move.zoom(1.6)],
      ["−", "Zoom out", () => move.zoom(1 / 1.6)],
      ["all", "Show all again", () => move.reset()],
    ].map(([label, title, action]) => {
      const button = figures.button(label, title, action);
      button.setAttribute("aria-label", title);
      button.dataset.zoom = { "+": "in", "−": "out", all: "reset" }[label];
      return button;
    });
    const tools = figures.element(
      "div",
      { class: "picture-tools" },
      axes,
      colour,
      figures.element("span", { class: "picture-downloads" }, ...zooms),
      figures.downloads("token-cloud", TITLE, () => cloudView.asSvg(state, paint.night), png),
    );
    const status = figures.element("p", { class: "cloud-status", role: "status" });
    container.append(
      figures.element(
        "figure",
        { class: "picture", "data-picture": "cloud" },
        figures.element(
          "div",
          { class: "picture-head" },
          figures.element("h3", { class: "picture-title" }, TITLE),
          tools,
        ),
        state.box,
        status,
        figures.element(
          "figcaption",
          {},
          sentence(state),
          figures.element(
            "p",
            { class: "cloud-keys" },
            `Drag moves; Ctrl and the wheel zoom (after a click, the wheel alone). ${KEYS}`,
          ),
        ),
      ),
    );
    return { axes: axes.querySelector("select"), colour: colour.querySelector("select"), status };
  }

  /** What `create` returns where there is nothing to draw. */
  const nothing = { highlight() {}, setAxes() {}, setColour() {}, place: () => null };

  function empty(container, reason) {
    figures.missing(container, "cloud", TITLE, reason);
    return nothing;
  }

  /** Makes the cloud in `container`; `onPick` gets the ids of a token or of a hole's tokens that a reader clicks on. */
  function create(container, given, { onPick = () => {} } = {}) {
    const survey = members.named(given);
    if (!survey.coordinates) {
      return empty(container, "The survey has no principal directions: TENSORS with “projection” publishes them.");
    }
    const ids = sky.placed(survey);
    if (!ids.length) return empty(container, "No token has finite coordinates.");
    const state = cloudView.stateOf(survey, ids);
    state.colour = choicesOfColour(survey)[0][0];
    const canvas = figures.element("canvas", { class: "cloud-canvas", role: "img" });
    const box = figures.element(
      "div",
      { class: "cloud-sky", tabindex: 0, role: "group", "aria-label": `${TITLE}. ${KEYS}` },
      canvas,
    );
    Object.assign(state, { canvas, box, hover: -1, disc: null, discs: [], colours: colours(state), told: () => {} });
    canvas.setAttribute("aria-label", `${TITLE}: ${sentence(state)}`);
    const paint = cloudView.painter(state, canvas);
    const point = cloudInput.pointing(state, paint, figures.tooltip(box));
    const move = cloudInput.moves(state, paint, point);
    const pick = (picked) => {
      if (picked.length) onPick(picked);
    };
    const control = {
      /** Lights tokens up; none: all as before. */
      highlight(lit) {
        state.lit = Array.from(lit).filter((id) => Number.isFinite(survey.coordinates[3 * id]));
        paint.over();
      },
      /** Shows two of the directions 1, 2, 3. */
      setAxes(first, second) {
        state.axes = [first, second];
        point.leave();
        Object.assign(state, { view: null, colours: colours(state) });
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
      const text = [
        state.lit.length
          ? `${scales.plural(state.lit.length, "token")} lit` +
            `${away ? `, ${scales.count(away)} outside the view` : ""}.`
          : "",
        outside
          ? `${scales.plural(outside, "token")} outside the view: zoom out or move to see ${outside === 1 ? "it" : "them"}.`
          : "",
      ]
        .join(" ")
        .trim();
      if (controls.status.textContent !== text) controls.status.textContent = text;
    };
    paint.layout();
    paint.now();
    cloudInput.listenToPointer(state, box, move, point, pick);
    cloudInput.listenToKeys(state, box, move, paint, point, pick);
    new ResizeObserver(() => {
      if (Math.max(280, Math.floor(box.clientWidth)) !== state.width) {
        paint.layout();
        paint.all();
      }
    }).observe(box);
    return control;
  }

  return { create };
})();
