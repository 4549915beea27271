"use strict";
/** What is drawn over the cloud: holes told apart, axes, the scale of colours; on a canvas or as SVG alike. */
const cloudMarks = (() => {
  const INK = "#c9ced8";
  const FAINT = "#596171";
  const FANNED = 24;
  const NAMED = 120;
  const FONT = "system-ui, sans-serif";

  /** Whether two boxes [left, top, right, floor] overlap. */
  const cover = (one, other) => one[0] < other[2] && one[2] > other[0] && one[1] < other[3] && one[3] > other[1];

  /** A pen that draws on a canvas. */
  function canvasPen(context) {
    return {
      line(x1, y1, x2, y2, colour, width = 1) {
        context.strokeStyle = colour;
        context.lineWidth = width;
        context.beginPath();
        context.moveTo(x1, y1);
        context.lineTo(x2, y2);
        context.stroke();
      },
      circle(x, y, r, fill, stroke, width) {
        context.beginPath();
        context.arc(x, y, r, 0, 2 * Math.PI);
        if (fill) {
          context.fillStyle = fill;
          context.fill();
        }
        if (stroke) {
          context.strokeStyle = stroke;
          context.lineWidth = width;
          context.stroke();
        }
      },
      dots(points, size, colour) {
        context.strokeStyle = colour;
        context.lineWidth = size;
        context.lineCap = "round";
        context.beginPath();
        for (const { x, y } of points) {
          context.moveTo(x, y);
          context.lineTo(x + 0.01, y);
        }
        context.stroke();
      },
      rect(x, y, width, height, colour) {
        context.fillStyle = colour;
        context.fillRect(x, y, width, height);
      },
      text(
        x,
        y,
        string,
        { anchor = "start", colour = INK, size = 12, weight = "normal", turned = false, halo = false } = {},
      ) {
        context.save();
        context.font = `${weight} ${size}px ${FONT}`;
        context.textAlign = { start: "left", middle: "center", end: "right" }[anchor];
        context.fillStyle = colour;
        context.translate(x, y);
        if (turned) context.rotate(-Math.PI / 2);
        if (halo) {
          context.strokeStyle = "#000000";
          context.lineWidth = 3;
          context.lineJoin = "round";
          context.strokeText(string, 0, 0);
        }
        context.fillText(string, 0, 0);
        context.restore();
      },
    };
  }

  /** A pen that collects nodes of an SVG picture. */
  function svgPen(nodes) {
    const put = (name, attributes, ...children) => nodes.push(figures.svg(name, attributes, ...children));
    return {
      line: (x1, y1, x2, y2, colour, width = 1) =>
        put("line", { x1, y1, x2, y2, stroke: colour, "stroke-width": width }),
      circle: (x, y, r, fill, stroke, width) =>
        put("circle", { cx: x, cy: y, r, fill: fill || "none", stroke: stroke || "none", "stroke-width": width || 0 }),
      dots: (points, size, colour) =>
        put("path", {
          d: points.map(({ x, y }) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join(""),
          stroke: colour,
          "stroke-width": size,
          "stroke-linecap": "round",
          fill: "none",
        }),
      rect: (x, y, width, height, colour) => put("rect", { x, y, width, height, fill: colour }),
      text: (
        x,
        y,
        string,
        { anchor = "start", colour = INK, size = 12, weight = "normal", turned = false, halo = false } = {},
      ) =>
        put(
          "text",
          {
            x,
            y,
            "text-anchor": anchor,
            fill: colour,
            "font-size": size,
            "font-weight": weight,
            "font-family": FONT,
            ...(halo
              ? { stroke: "#000000", "stroke-width": 3, "stroke-linejoin": "round", "paint-order": "stroke" }
              : {}),
            ...(turned ? { transform: `rotate(-90 ${x} ${y})` } : {}),
          },
          string,
        ),
    };
  }

  /** Radius of a disc by the logarithm of the tokens in it; smaller where there are many holes. */
  function radius(tokens, holes) {
    const [least, step, most] = holes <= 40 ? [8, 2.2, 22] : holes <= 400 ? [4.5, 1.5, 16] : [2, 0.9, 11];
    return Math.min(most, least + step * Math.log(Math.max(2, tokens) / 2));
  }

  /** Puts holes whose discs would cover each other into one group, the most populous first. */
  function group(spots) {
    const cells = new Map();
    const groups = [];
    const side = Math.ceil(1.6 * spots.reduce((sofar, { r }) => Math.max(sofar, r), 4));
    const key = (x, y) => Math.floor(x / side) * 65536 + Math.floor(y / side);
    for (const spot of spots) {
      let home = null;
      for (let dx = -side; dx <= side && !home; dx += side) {
        for (let dy = -side; dy <= side && !home; dy += side) {
          home =
            (cells.get(key(spot.x + dx, spot.y + dy)) || []).find(
              (other) => Math.hypot(other.x - spot.x, other.y - spot.y) < 0.8 * (other.r + spot.r),
            ) || null;
        }
      }
      if (home) {
        home.spots.push(spot);
        continue;
      }
      const made = { x: spot.x, y: spot.y, r: spot.r, spots: [spot] };
      groups.push(made);
      const cell = key(spot.x, spot.y);
      if (cells.has(cell)) cells.get(cell).push(made);
      else cells.set(cell, [made]);
    }
    return groups;
  }

  const apart = (one, other) => Math.hypot(one.x - other.x, one.y - other.y) - one.r - other.r;

  /** Discs of a group on a ring around it, each with a line to its true place; wider where others are in the way. */
  function fan({ spots }, inside, others) {
    const size = spots.length;
    const around = spots.reduce((sofar, spot) => sofar + 2 * spot.r + 8, 0) / (2 * Math.PI);
    const least = Math.max(around, spots.reduce((sofar, spot) => Math.max(sofar, spot.r), 0) + 14);
    const [x, y] = ["x", "y"].map((axis) => spots.reduce((sofar, spot) => sofar + spot[axis], 0) / size);
    const ordered = [...spots].sort((a, b) => a.hole.id - b.hole.id);
    const ring = (reach, turn) =>
      ordered.map((spot, index) => {
        const angle = (2 * Math.PI * (index + turn)) / size - Math.PI / 2;
        const place = inside(x + reach * Math.cos(angle), y + reach * Math.sin(angle), spot.r);
        return { ...place, r: spot.r, from: [spot.x, spot.y], holes: [spot.hole] };
      });
    const tries = [1, 1.2, 1.45, 1.75].flatMap((wider) => [0, 0.5].map((turn) => ring(least * wider, turn)));
    return tries.find((ringed) => ringed.every((disc) => others.every((other) => apart(disc, other) > 2))) || tries[0];
  }

  /** The discs to draw: {x, y, r, from (true place, where it is elsewhere), holes}. `spots`: {x, y, r, hole}. */
  function discs(spots, inside) {
    const groups = group(spots);
    const fanned = ({ spots: { length } }) => length > 1 && length <= FANNED && groups.length <= 24;
    const shown = groups
      .filter((found) => !fanned(found))
      .map(({ x, y, r, spots: together }) => {
        const holes = together.map(({ hole }) => hole);
        const tokens = holes.reduce((sofar, { population }) => sofar + population, 0);
        return { x, y, r: holes.length > 1 ? Math.max(r, radius(tokens, spots.length)) : r, from: null, holes };
      });
    for (const found of groups.filter(fanned)) shown.push(...fan(found, inside, shown));
    return shown;
  }

  function drawHoles(pen, shown) {
    for (const disc of shown.filter(({ from }) => from)) {
      pen.line(...disc.from, disc.x, disc.y, "#b8bcc6", 1);
      pen.circle(...disc.from, 2, "#ffffff");
    }
    for (const disc of shown) {
      const many = disc.holes.length > 1;
      pen.circle(disc.x, disc.y, disc.r, "#000000", "#ffffff", disc.r < 4 ? 0.9 : disc.r < 7 ? 1.3 : 2);
      if (many && disc.r >= 6) pen.circle(disc.x, disc.y, disc.r - 3.5, null, "#ffffff", 1);
    }
    if (shown.length <= NAMED) nameHoles(pen, shown);
  }

  /** Numbers of holes: in their discs, or beside small ones where there is room. */
  function nameHoles(pen, shown) {
    const taken = shown.map(({ x, y, r }) => [x - r, y - r, x + r, y + r]);
    for (const { x, y, r, holes } of shown) {
      if (holes.length === 1 && r >= 6) {
        const size = Math.min(13, r * (holes[0].id > 99 ? 0.85 : 1.15));
        pen.text(x, y + size * 0.36, String(holes[0].id), {
          anchor: "middle",
          size,
          weight: "bold",
          colour: "#ffffff",
        });
        continue;
      }
      const name = holes.length > 1 ? `${holes.length} holes` : String(holes[0].id);
      const box = [x + r + 2, y - 6, x + r + 4 + 6.5 * name.length, y + 6];
      if (taken.some((other) => cover(box, other))) continue;
      taken.push(box);
      pen.text(x + r + 3, y + 4, name, { size: 11, halo: true });
    }
  }

  /** Texts beside tokens, as far as they do not cover each other. `named`: {x, y, text}. */
  function drawNames(pen, plot, named) {
    const taken = [];
    for (const { x, y, text } of named) {
      const short = text.length > 28 ? `${text.slice(0, 27)}…` : text;
      const box = [x + 6, y - 8, x + 12 + 7 * short.length, y + 6];
      if (box[2] > plot.left + plot.width) continue;
      if (taken.some((other) => cover(box, other))) continue;
      taken.push(box);
      pen.text(x + 8, y + 4, short, { size: 11, halo: true });
    }
  }

  /** Axes at the left and below; `toX` and `toY` map coordinates to pixels. */
  function drawAxes(pen, plot, { horizontal, vertical, toX, toY, labels }) {
    const [right, floor] = [plot.left + plot.width, plot.top + plot.height];
    pen.line(plot.left, floor, right, floor, FAINT);
    pen.line(plot.left, plot.top, plot.left, floor, FAINT);
    for (const value of scales.ticks(...horizontal, Math.max(2, plot.width / 110))) {
      pen.line(toX(value), floor, toX(value), floor + 4, FAINT);
      pen.text(toX(value), floor + 17, scales.number(value), { anchor: "middle", size: 11 });
    }
    for (const value of scales.ticks(...vertical, Math.max(2, plot.height / 80))) {
      pen.line(plot.left - 4, toY(value), plot.left, toY(value), FAINT);
      pen.text(plot.left - 7, toY(value) + 4, scales.number(value), { anchor: "end", size: 11 });
    }
    pen.text(plot.left + plot.width / 2, floor + 35, labels[0], { anchor: "middle" });
    pen.text(13, plot.top + plot.height / 2, labels[1], { anchor: "middle", turned: true });
  }

  /** What the colours mean: a scale with round numbers, or the classes. */
  function drawLegend(pen, plot, colours, classNames) {
    if (colours.present) {
      let [x, y] = [12, 17];
      for (const index of colours.present) {
        const name = classNames[index].replaceAll("_", " ");
        const room = 28 + 6.6 * name.length;
        if (x + room > plot.left + plot.width) {
          x = 12;
          y += 16;
        }
        pen.circle(x + 5, y - 4, 4.5, scales.hex(colours.palette[index]));
        pen.text(x + 14, y, name, { size: 12 });
        x += room;
      }
      return;
    }
    const width = Math.min(200, plot.width * 0.46);
    const left = plot.left + plot.width - width - 10;
    for (let step = 0; step < 64; step += 1) {
      pen.rect(left + (step * width) / 64, 10, width / 64 + 0.6, 9, scales.hex(colours.palette[step * 4]));
    }
    const across = scales.linear(colours.low, colours.high, left, left + width);
    for (const value of scales.ticks(colours.low, colours.high, 4)) {
      pen.line(across(value), 19, across(value), 22, FAINT);
      pen.text(across(value), 33, scales.number(value), { anchor: "middle", size: 11 });
    }
    pen.text(left - 10, 19, colours.label, { anchor: "end" });
  }

  return { canvasPen, svgPen, radius, discs, drawHoles, drawNames, drawAxes, drawLegend };
})();
