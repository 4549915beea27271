"use strict";
/** Distances between the centroids of holes: a heat map with a scale of colours. */
const distancesChart = (() => {
  const TITLE = "Distances between the holes";
  const [LEFT, TOP, BAR] = [52, 14, 64];

  /** Distances between two different holes, by row and column in the order of population. */
  function matrix(survey) {
    const size = Math.round(Math.sqrt(survey.holeDistances.length));
    const holes = survey.holes.slice(0, size);
    const order = [...holes.keys()].sort(
      (a, b) => holes[b].population - holes[a].population || holes[a].id - holes[b].id,
    );
    const at = (row, column) => survey.holeDistances[order[row] * size + order[column]];
    const pairs = [];
    for (let row = 0; row < size; row += 1) {
      for (let column = row + 1; column < size; column += 1) pairs.push({ row, column, distance: at(row, column) });
    }
    const finite = pairs.filter(({ distance }) => Number.isFinite(distance)).sort((a, b) => a.distance - b.distance);
    return { size, holes: order.map((index) => holes[index]), at, pairs, finite };
  }

  /** Place of a distance on the scale of colours, from 0 to 1; NaN where it has none. */
  function placing(table, logarithmic) {
    const most = table.finite.length ? table.finite[table.finite.length - 1].distance : 0;
    const least = (table.finite.find(({ distance }) => distance > 0) || { distance: most }).distance;
    if (logarithmic && least < most) {
      const scale = scales.log(least, most, 0, 1);
      return {
        low: least,
        high: most,
        ticks: scales.logTicks(least, most),
        scale,
        place: (value) => (Number.isFinite(value) ? Math.max(0, scale(Math.max(value, least))) : NaN),
      };
    }
    const scale = scales.linear(0, most || 1, 0, 1);
    return {
      low: 0,
      high: most || 1,
      ticks: scales.ticks(0, most || 1, 5),
      scale,
      place: (value) => (Number.isFinite(value) ? scale(value) : NaN),
    };
  }

  /** The cells as a small image, one pixel each: 40,000 cells are one node. */
  function image(table, place) {
    const canvas = figures.element("canvas", { width: table.size, height: table.size });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(table.size, table.size);
    for (let cell = 0; cell < table.size ** 2; cell += 1) {
      const level = place(table.at(Math.floor(cell / table.size), cell % table.size));
      const colour = Number.isNaN(level) ? [150, 150, 150] : scales.viridis[Math.round(255 * Math.min(1, level))];
      pixels.data.set([...colour, 255], cell * 4);
    }
    context.putImageData(pixels, 0, 0);
    return canvas.toDataURL();
  }

  function colourBar(place, x, height) {
    const steps = 64;
    const nodes = Array.from({ length: steps }, (_, step) =>
      figures.svg("rect", {
        x,
        width: 14,
        y: TOP + (height * step) / steps,
        height: height / steps + 0.5,
        fill: scales.hex(scales.viridis[Math.round(255 * (1 - step / (steps - 1)))]),
      }),
    );
    for (const value of place.ticks) {
      const y = TOP + height * (1 - place.scale(value));
      nodes.push(
        figures.svg("line", { class: "picture-axis", x1: x + 14, x2: x + 18, y1: y, y2: y }),
        figures.svg("text", { class: "picture-tick", x: x + 21, y: y + 4 }, scales.number(value, 3)),
      );
    }
    return nodes;
  }

  function axes(table, cell, side) {
    const every = Math.ceil(26 / cell);
    const nodes = [];
    table.holes.forEach((hole, index) => {
      if (index % every) return;
      const place = (index + 0.5) * cell;
      nodes.push(
        figures.svg(
          "text",
          { class: "picture-tick", x: LEFT + place, y: TOP + side + 16, "text-anchor": "middle" },
          String(hole.id),
        ),
        figures.svg(
          "text",
          { class: "picture-tick", x: LEFT - 6, y: TOP + place + 4, "text-anchor": "end" },
          String(hole.id),
        ),
      );
    });
    nodes.push(
      figures.svg(
        "text",
        { class: "picture-label", x: LEFT + side / 2, y: TOP + side + 34, "text-anchor": "middle" },
        "hole, by population",
      ),
      figures.svg(
        "text",
        {
          class: "picture-label",
          x: 14,
          y: TOP + side / 2,
          "text-anchor": "middle",
          transform: `rotate(-90 14 ${TOP + side / 2})`,
        },
        "hole, by population",
      ),
    );
    return nodes;
  }

  function drawMap(survey, table, place, width) {
    const side = Math.min(width - LEFT - BAR - 16, table.size < 8 ? 56 * table.size + 60 : 460);
    const cell = side / table.size;
    const x = LEFT + side + 14;
    const nodes = [
      figures.svg("image", {
        x: LEFT,
        y: TOP,
        width: side,
        height: side,
        href: image(table, place.place),
        preserveAspectRatio: "none",
        class: "picture-cells",
        "image-rendering": "pixelated",
      }),
      ...axes(table, cell, side),
      ...colourBar(place, x, side),
      figures.svg("text", { class: "picture-label", x, y: TOP + side + 34 }, "distance"),
    ];
    const at = (index) => {
      const [row, column] = [Math.floor(index / table.size), index % table.size];
      const [one, other] = [table.holes[row], table.holes[column]];
      return {
        x: LEFT + column * cell,
        y: TOP + row * cell,
        w: cell,
        h: cell,
        lines: () => [
          row === column ? `hole ${one.id}` : `holes ${one.id} and ${other.id}`,
          `distance ${scales.number(table.at(row, column), 6)}`,
          `${scales.count(one.population)} and ${scales.count(other.population)} tokens`,
        ],
        ids: () => {
          const held = members.of(survey);
          return row === column ? held.hole(one.id) : [...held.hole(one.id), ...held.hole(other.id)];
        },
      };
    };
    const find = (left, top) => {
      const [column, row] = [Math.floor((left - LEFT) / cell), Math.floor((top - TOP) / cell)];
      return row >= 0 && column >= 0 && row < table.size && column < table.size ? row * table.size + column : -1;
    };
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: table.size, ArrowUp: -table.size };
    return { height: TOP + side + 42, nodes, marks: { size: table.size ** 2, at, find, step: (key) => moves[key] } };
  }

  function sentence(survey, table) {
    const named = ({ row, column, distance }) =>
      `holes ${table.holes[row].id} and ${table.holes[column].id} ` + `(${scales.number(distance)})`;
    const parts = [];
    if (table.finite.length) {
      const [nearest, farthest] = [table.finite[0], table.finite[table.finite.length - 1]];
      parts.push(
        table.finite.length === 1
          ? `The two holes lie ${scales.number(nearest.distance)} apart.`
          : `The nearest are ${named(nearest)}, the farthest ${named(farthest)}.`,
      );
      const typical = survey.norm ? scales.mean(survey.norm) : NaN;
      if (typical > 0) {
        const ratio = farthest.distance / typical;
        parts.push(
          `For comparison: a row of W has a norm of ${scales.number(typical)} on average; the farthest two lie ` +
            `${ratio < 0.99 ? `${scales.percent(ratio)} of` : `${scales.number(ratio, 3)} times`} that apart.`,
        );
      }
    }
    const odd = table.pairs.length - table.finite.length;
    if (odd) parts.push(`${scales.plural(odd, "pair")} ${odd === 1 ? "has" : "have"} no finite distance (grey).`);
    if (survey.holes.length > table.size) parts.push(`Only the ${table.size} most populous holes are shown.`);
    return parts.join(" ");
  }

  function draw(container, survey, onPick) {
    if (survey.holes.length < 2) return;
    if (!survey.holeDistances || survey.holeDistances.length < 4) {
      figures.missing(
        container,
        "distances",
        TITLE,
        "The survey has no centroids of holes: TENSORS with “black_holes” " + "publishes them.",
      );
      return;
    }
    const table = matrix(survey);
    const least = table.finite.find(({ distance }) => distance > 0);
    let kind = least && table.finite[table.finite.length - 1].distance > 200 * least.distance ? "log" : "linear";
    const caption = sentence(survey, table);
    const again = figures.picture(
      container,
      {
        name: "distances",
        title: TITLE,
        gist: `Heat map of Euclidean distances. ${caption}`,
        caption: `${caption} Euclidean distances between rows of W.`,
        options: [
          figures.select(
            "colours",
            [
              ["linear", "linear"],
              ["log", "logarithmic"],
            ],
            kind,
            (value) => {
              kind = value;
              again();
            },
          ),
        ],
        draw: (width) => drawMap(survey, table, placing(table, kind === "log"), width),
        table: figures.numbers(
          ["holes", "distance"],
          table.finite
            .slice(0, 50)
            .map(({ row, column, distance }) => [
              `${table.holes[row].id} and ${table.holes[column].id}`,
              scales.number(distance, 6),
            ]),
          table.finite.length > 50 ? "the 50 nearest pairs" : "",
        ),
      },
      onPick,
    );
  }

  return { draw };
})();
