"use strict";
/** Row norms before and after centring: two histograms, the rows in holes marked under them. */
const normsChart = (() => {
  const TITLE = "Norms of the rows before and after centring";
  const FEW = 60;
  const HANGING = 30;

  /** The values' range without far outliers, but with the holes unless they are far out themselves. */
  function rangeOf(ascending, holeNorms) {
    const [low, high] = [scales.quantile(ascending, 0.0005), scales.quantile(ascending, 0.9995)];
    const span = high - low || Math.abs(high) || 1;
    const near = (value) => value >= low - 3 * span && value <= high + 3 * span;
    const [first, last] = [ascending[0], ascending[ascending.length - 1]];
    const kept = [low, high, ...holeNorms.filter(near)];
    if (first >= low - span) kept.push(first);
    if (last <= high + span) kept.push(last);
    const [from, to] = [kept.reduce((a, b) => Math.min(a, b)), kept.reduce((a, b) => Math.max(a, b))];
    return to > from ? [from, to] : [from - span / 2, to + span / 2];
  }

  /** Rows a bin, and those in holes among them. */
  function histogram(values, hole, [low, high], size) {
    const rows = new Int32Array(size);
    const held = new Int32Array(size);
    let beyond = 0;
    for (let id = 0; id < values.length; id += 1) {
      const place = ((values[id] - low) / (high - low)) * size;
      if (!(place >= 0 && place <= size)) {
        if (Number.isFinite(values[id])) beyond += 1;
        continue;
      }
      const bin = Math.min(size - 1, Math.floor(place));
      rows[bin] += 1;
      if (hole[id] > 0) held[bin] += 1;
    }
    return { rows, held, beyond };
  }

  function measured(survey, key, label, symbol) {
    const values = survey[key];
    if (!values) return null;
    const ascending = scales.sorted(values);
    if (!ascending.length) return { key, label, symbol, values, ascending, empty: true };
    const held = members.of(survey);
    const holeNorms = survey.holes.map(({ id }) => values[held.hole(id)[0]]);
    const range = rangeOf(ascending, holeNorms.filter(Number.isFinite));
    const ofHeld = scales.mean(Array.from(held.all(), (id) => values[id]));
    return { key, label, symbol, values, ascending, holeNorms, range, mean: scales.mean(ascending), ofHeld };
  }

  /** Ids of the rows with a norm in [low, high). */
  function within(values, low, high, closed) {
    const found = [];
    for (let id = 0; id < values.length; id += 1) {
      if (values[id] >= low && (values[id] < high || (closed && values[id] === high))) found.push(id);
    }
    return found;
  }

  function binBoxes(survey, panel, bins, scale, top, floor) {
    const size = bins.rows.length;
    const [low, high] = panel.shown;
    return Array.from(bins.rows, (rows, bin) => {
      const [from, to] = [low + ((high - low) * bin) / size, low + ((high - low) * (bin + 1)) / size];
      return {
        x: scale(from),
        y: top,
        w: scale(to) - scale(from),
        h: floor - top,
        lines: () => [
          `${scales.number(from)} to ${scales.number(to)}`,
          scales.plural(rows, "row"),
          `${scales.plural(bins.held[bin], "row")} in holes`,
        ],
        ids: () => within(panel.values, from, to, bin === size - 1),
      };
    });
  }

  /** A stroke for each hole, the longer the more tokens it holds. */
  function strokes(survey, panel, scale, floor) {
    const most = Math.log(survey.holes.reduce((sofar, { population }) => Math.max(sofar, population), 2));
    const shown = survey.holes
      .map((hole, index) => ({ hole, norm: panel.holeNorms[index] }))
      .filter(({ norm }) => norm >= panel.shown[0] && norm <= panel.shown[1]);
    const nodes = shown.map(({ hole, norm }) =>
      figures.svg("rect", {
        class: "picture-hole",
        x: scale(norm) - 1.25,
        y: floor + 2,
        width: 2.5,
        height: 8 + ((HANGING - 10) * Math.log(hole.population)) / most,
      }),
    );
    const marks = shown.map(({ hole, norm }) => ({
      x: scale(norm) - 4,
      y: floor + 1,
      w: 8,
      h: HANGING,
      lines: () => [`hole ${hole.id}`, scales.plural(hole.population, "token"), `norm ${scales.number(norm, 6)}`],
      ids: () => members.of(survey).hole(hole.id),
    }));
    return { nodes, marks };
  }

  /** Bars that hang under the axis, for many holes: how many rows in holes lie in each bin. */
  function hanging(bins, marks, floor) {
    const most = Math.log1p(bins.held.reduce((sofar, held) => Math.max(sofar, held), 1));
    return marks
      .map(
        ({ x, w }, bin) =>
          bins.held[bin] &&
          figures.svg("rect", {
            class: "picture-hole",
            x: x + 0.5,
            y: floor + 1,
            width: Math.max(1, w - 1),
            height: 3 + ((HANGING - 3) * Math.log1p(bins.held[bin])) / most,
          }),
      )
      .filter(Boolean);
  }

  function drawPanel(survey, panel, { left, top, width, height }) {
    const [right, floor] = [left + width, top + height];
    if (panel.empty) {
      return {
        nodes: [
          figures.svg("text", { class: "picture-label", x: left, y: top + 30 }, `${panel.label}: none is finite`),
        ],
        marks: [],
      };
    }
    const size = Math.max(5, Math.min(Math.floor(width / 7), Math.ceil(2 * Math.cbrt(panel.ascending.length))));
    const bins = histogram(panel.values, survey.hole, panel.shown, size);
    const across = scales.linear(...panel.shown, left, right);
    const most = bins.rows.reduce((sofar, rows) => Math.max(sofar, rows), 1);
    const up = scales.linear(0, most, floor, top);
    const marks = binBoxes(survey, panel, bins, across, top, floor);
    const bars = marks
      .map(
        ({ x, w }, bin) =>
          bins.rows[bin] &&
          figures.svg("rect", {
            class: "picture-bar",
            x: x + 0.5,
            width: Math.max(1, w - 1),
            y: Math.min(up(bins.rows[bin]), floor - 1),
            height: Math.max(1, floor - up(bins.rows[bin])),
          }),
      )
      .filter(Boolean);
    const wholes = scales.ticks(0, most, 4).filter(Number.isInteger);
    const few =
      survey.holes.length <= FEW
        ? strokes(survey, panel, across, floor)
        : { nodes: hanging(bins, marks, floor), marks: [] };
    const base = floor + (members.of(survey).all().length ? HANGING + 4 : 0);
    const nodes = [
      ...figures.axisLeft(up, wholes, { x: left, right, top, label: "rows" }),
      ...bars,
      ...few.nodes,
      ...figures.axisBelow(across, scales.ticks(...panel.shown, Math.max(3, width / 80)), {
        left,
        right,
        y: base,
        label: panel.label,
      }),
      figures.svg("line", {
        class: "picture-mean",
        x1: across(panel.mean),
        x2: across(panel.mean),
        y1: top,
        y2: floor,
      }),
      figures.svg(
        "text",
        { class: "picture-tick", x: across(panel.mean), y: top - 8, "text-anchor": "middle" },
        `mean ${scales.number(panel.mean)}`,
      ),
    ];
    if (bins.beyond) {
      nodes.push(
        figures.svg(
          "text",
          { class: "picture-tick", x: right, y: top - 10, "text-anchor": "end" },
          `${scales.plural(bins.beyond, "row")} outside`,
        ),
      );
    }
    return { nodes, marks: [...marks, ...few.marks] };
  }

  function sentence(survey, panels) {
    const full = panels.filter((panel) => !panel.empty);
    const parts = full.map(
      (panel) =>
        `Rows of ${panel.symbol} have norms from ${scales.number(panel.ascending[0])} to ` +
        `${scales.number(panel.ascending[panel.ascending.length - 1])}, ${scales.number(panel.mean)} on average` +
        (Number.isFinite(panel.ofHeld) ? `; rows in holes ${scales.number(panel.ofHeld)}.` : "."),
    );
    const last = full.find((panel) => panel.key === "gammaNorm" && Number.isFinite(panel.ofHeld));
    if (last) {
      const farther = last.ascending.reduce((sofar, value) => sofar + (value > last.ofHeld), 0);
      parts.push(
        `${scales.percent(farther / last.ascending.length)} of all rows lie farther from the centroid μ than ` +
          "the rows in holes do on average.",
      );
    }
    const odd = panels.map((panel) => panel.values.length - panel.ascending.length);
    const worst = Math.max(...odd);
    if (worst)
      parts.push(`${scales.plural(worst, "norm")} ${worst === 1 ? "is" : "are"} NaN or infinite and left out.`);
    return parts.join(" ");
  }

  function legend(survey) {
    if (!survey.holes.length) return " No row is in a hole.";
    if (!members.of(survey).all().length)
      return " Which rows are in holes is not published: TENSORS has no “black_holes”.";
    if (survey.holes.length <= FEW) return " A stroke below the axis is a hole, the longer the more tokens it holds.";
    return " Bars below the axis count the rows in holes, on a logarithmic scale.";
  }

  const overlap = ([a, b], [c, d]) => (Math.min(b, d) - Math.max(a, c)) / (Math.max(b, d) - Math.min(a, c));

  function draw(container, survey, onPick) {
    const panels = [
      measured(survey, "norm", "Euclidean norm of the rows of W", "W"),
      measured(survey, "gammaNorm", "Euclidean norm of the rows of γ′ = W − μ", "γ′"),
    ].filter(Boolean);
    if (!panels.length) {
      figures.missing(
        container,
        "norms",
        TITLE,
        "The survey has no norms of rows: TENSORS with “tokens” publishes them.",
      );
      return;
    }
    const ranges = panels.filter((panel) => !panel.empty).map((panel) => panel.range);
    let same = ranges.length === 2 && overlap(...ranges) > 0.4;
    const settle = () =>
      panels.forEach((panel) => {
        panel.shown = same
          ? [Math.min(...ranges.map(([low]) => low)), Math.max(...ranges.map(([, high]) => high))]
          : panel.range;
      });
    settle();
    const caption = sentence(survey, panels);
    const again = figures.picture(
      container,
      {
        name: "norms",
        title: TITLE,
        gist: `Two histograms. ${caption}`,
        caption: caption + legend(survey),
        options:
          ranges.length === 2
            ? [
                figures.checkbox("one scale for both", same, (checked) => {
                  same = checked;
                  settle();
                  again();
                }),
              ]
            : [],
        draw: (width) => drawBoth(survey, panels, width),
      },
      onPick,
    );
  }

  function drawBoth(survey, panels, width) {
    const beside = width >= 640 && panels.length === 2;
    const [margin, height, below] = [56, 190, members.of(survey).all().length ? HANGING + 46 : 46];
    const room = (beside ? width / 2 : width) - margin - 18;
    const drawn = panels.map((panel, index) =>
      drawPanel(survey, panel, {
        width: room,
        height,
        left: margin + (beside ? (index * width) / 2 : 0),
        top: 28 + (beside ? 0 : index * (height + below + 34)),
      }),
    );
    const rows = beside ? 1 : panels.length;
    return {
      height: rows * (28 + height + below) + (rows - 1) * 6,
      nodes: drawn.flatMap(({ nodes }) => nodes),
      marks: figures.boxes(drawn.flatMap(({ marks }) => marks)),
    };
  }

  return { draw };
})();
