"use strict";
// A picture of surveys in an order: how many tokens are in holes.
//
// timeline.draw(container, {points: [{x, y, label, title, href, hollow}], xTicks(low, high)|null, xLabel, yLabel, label, line})
// x is a number (a time in milliseconds where xTicks is timeline.dates). Drawn anew where the width changes.
const timeline = (() => {
  const NS = "http://www.w3.org/2000/svg";
  const HEIGHT = 300, LEFT = 62, RIGHT = 18, TOP = 26, BOTTOM = 46;
  const DAY = 86400000;

  function make(tag, attributes = {}, ...children) {
    const element = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  /** Round steps from 0 up to a number. */
  function steps(high, count) {
    const raw = high / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = Math.max(1, [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw));
    return Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => i * step);
  }

  /** Ticks at the beginnings of years, quarters or months, or at days. */
  function dates(low, high, room) {
    const span = (high - low) / DAY;
    const months = [1, 3, 6, 12, 24, 60, 120].find((size) => span / (size * 30.4) <= room);
    if (span < 45) {
      const days = Math.max(1, Math.ceil(span / room));
      const first = Math.ceil(low / DAY) * DAY;
      const ticks = [];
      for (let at = first; at <= high; at += days * DAY) ticks.push([at, new Date(at).toISOString().slice(0, 10)]);
      return ticks.length ? ticks : [[low, new Date(low).toISOString().slice(0, 10)]];
    }
    const start = new Date(low);
    const ticks = [];
    let month = Math.ceil((start.getUTCFullYear() * 12 + start.getUTCMonth() + 1 / 31) / months) * months;
    for (; ; month += months) {
      const at = Date.UTC(Math.floor(month / 12), month % 12, 1);
      if (at > high) return ticks;
      ticks.push([at, new Date(at).toISOString().slice(0, months >= 12 ? 4 : 7)]);
    }
  }

  function picture(width, options) {
    const { points } = options;
    const svg = make("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "group", "aria-label": options.label });
    const xs = points.map((point) => point.x), ys = points.map((point) => point.y);
    let low = Math.min(...xs), high = Math.max(...xs);
    if (low === high) [low, high] = [low - (options.dates ? 15 * DAY : 1), high + (options.dates ? 15 * DAY : 1)];
    const pad = (high - low) * 0.04;
    low -= pad;
    high += pad;
    const most = Math.max(1, ...ys) * 1.12;
    const x = (value) => LEFT + ((value - low) / (high - low)) * (width - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - BOTTOM - TOP);
    const text = (content, at, attributes) => {
      const element = make("text", { x: at[0], y: at[1], class: "axis", ...attributes });
      element.textContent = content;
      return element;
    };
    for (const value of steps(most, 4)) {
      svg.append(make("line", { x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value), class: "rule" }));
      svg.append(text(value.toLocaleString("en"), [LEFT - 8, y(value) + 4], { "text-anchor": "end" }));
    }
    svg.append(text(options.yLabel, [0, 12], {}));
    svg.append(text(options.xLabel, [width - RIGHT, HEIGHT - 6], { "text-anchor": "end" }));
    const room = Math.max(2, Math.floor((width - LEFT - RIGHT) / 90));
    const ticks = options.dates ? dates(low, high, room) : numbered(points, room);
    for (const [at, name] of ticks) {
      svg.append(make("line", { x1: x(at), x2: x(at), y1: y(0), y2: y(0) + 5, class: "rule" }));
      svg.append(text(name, [x(at), y(0) + 19], { "text-anchor": "middle" }));
    }
    if (options.line) {
      const path = points.map((point, i) => `${i ? "L" : "M"}${x(point.x)} ${y(point.y)}`).join("");
      svg.append(make("path", { d: path, class: "line" }));
    } else {
      for (const point of points) svg.append(make("line", { x1: x(point.x), x2: x(point.x), y1: y(0), y2: y(point.y), class: "stem" }));
    }
    const taken = points.map((point) => [x(point.x) - 6, x(point.x) + 6, y(point.y)]); // no name lies on a dot
    for (const point of [...points].sort((a, b) => b.y - a.y)) {
      const at = [x(point.x), y(point.y)];
      const dot = make("circle", { cx: at[0], cy: at[1], r: points.length > 80 ? 3.5 : 5, class: point.hollow ? "dot hollow" : "dot" });
      const title = make("title");
      title.textContent = point.title;
      dot.append(title);
      const link = make("a", { href: point.href, "aria-label": point.title });
      link.append(dot);
      svg.append(link);
      if (options.line) continue; // the axis names the points
      const name = point.label.length > 34 ? point.label.slice(0, 33) + "…" : point.label;
      const long = name.length * 7.2;
      const side = at[0] + 10 + long > width ? -1 : 1;
      const box = side === 1 ? [at[0] + 8, at[0] + 8 + long] : [at[0] - 8 - long, at[0] - 8];
      if (box[0] < 0 || taken.some((other) => box[0] < other[1] && other[0] < box[1] && Math.abs(other[2] - at[1]) < 14)) continue;
      taken.push([...box, at[1]]);
      svg.append(text(name, [at[0] + side * 9, at[1] + 4], { "text-anchor": side === 1 ? "start" : "end", class: "name" }));
    }
    return svg;
  }

  function numbered(points, room) {
    const every = Math.max(1, Math.ceil(points.length / room));
    return points.filter((_, i) => i % every === 0).map((point) => [point.x, short(point.label)]);
  }
  function short(label) {
    return label.length > 12 ? label.slice(0, 11) + "…" : label;
  }

  const drawn = new WeakMap();
  function draw(container, options) {
    const redraw = () => container.replaceChildren(picture(Math.max(280, container.clientWidth), drawn.get(container)));
    const isNew = !drawn.has(container);
    drawn.set(container, options);
    if (isNew) {
      let width = 0;
      new ResizeObserver(() => {
        if (container.clientWidth !== width) redraw();
        width = container.clientWidth;
      }).observe(container);
    }
    redraw();
  }

  return { draw };
})();
