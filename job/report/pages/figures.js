"use strict";
/** The frame of a picture: title, drawing, tooltip, keyboard, caption, numbers as a table, downloads. */
const figures = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const INLINED = [
    "fill",
    "stroke",
    "stroke-width",
    "stroke-dasharray",
    "opacity",
    "font-family",
    "font-size",
    "font-weight",
  ];

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }
  const element = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
  const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

  function button(label, title, action) {
    const node = element("button", { type: "button", class: "picture-button", title }, label);
    node.addEventListener("click", action);
    return node;
  }

  function checkbox(label, checked, change) {
    const box = element("input", { type: "checkbox" });
    box.checked = checked;
    box.addEventListener("change", () => change(box.checked));
    return element("label", { class: "picture-option" }, box, ` ${label}`);
  }

  function select(label, choices, chosen, change) {
    const box = element("select", {}, ...choices.map(([value, text]) => element("option", { value }, text)));
    box.value = chosen;
    box.addEventListener("change", () => change(box.value));
    return element("label", { class: "picture-option" }, `${label} `, box);
  }

  /** Hands a blob to the reader as a file. */
  function save(blob, fileName) {
    const link = element("a", { download: fileName });
    link.href = URL.createObjectURL(blob);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  /** The colour that lies behind a node. */
  function background(node) {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== "transparent" && !/, 0\)$/.test(colour)) return colour;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? "#15171c" : "#ffffff";
  }

  /** The text of an SVG file that needs no style sheet: what the page shows, under its title. */
  function standalone(drawn, title) {
    const copy = drawn.cloneNode(true);
    const originals = drawn.querySelectorAll("*");
    copy.querySelectorAll("*").forEach((node, index) => {
      const style = getComputedStyle(originals[index]);
      for (const name of INLINED) node.setAttribute(name, style.getPropertyValue(name));
      node.removeAttribute("class");
    });
    copy.querySelectorAll("[data-passing]").forEach((node) => node.remove());
    const { width, height } = drawn.viewBox.baseVal;
    const style = getComputedStyle(drawn);
    const heading = svg(
      "text",
      { x: 8, y: -14, fill: style.color, "font-size": 15, "font-weight": "bold", "font-family": style.fontFamily },
      title,
    );
    copy.prepend(svg("rect", { x: 0, y: -36, width, height: height + 44, fill: background(drawn) }), heading);
    fill(copy, { viewBox: `0 -36 ${width} ${height + 44}`, width, height: height + 44, xmlns: SVG }, []);
    copy.removeAttribute("class");
    return new XMLSerializer().serializeToString(copy);
  }

  /** The picture of an SVG file's text, at twice its size. */
  async function rasterised(text) {
    const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
    try {
      const image = new Image();
      image.src = url;
      await image.decode();
      const canvas = element("canvas", {});
      canvas.width = image.naturalWidth * 2;
      canvas.height = image.naturalHeight * 2;
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      return await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  /** Two buttons that download a picture; `asSvg` gives the text of an SVG file, `asPng` a blob. */
  function downloads(name, title, asSvg, asPng) {
    const group = element("span", { class: "picture-downloads" });
    const png = button("PNG", `Download “${title}” as PNG`, async () => save(await asPng(), `${name}.png`));
    const vector = button("SVG", `Download “${title}” as SVG`, () =>
      save(new Blob([asSvg()], { type: "image/svg+xml" }), `${name}.svg`),
    );
    png.dataset.download = "png";
    vector.dataset.download = "svg";
    group.append(png, vector);
    return group;
  }

  /** A box that follows the pointer and names what lies under it. */
  function tooltip(plot) {
    const box = element("div", { class: "picture-tip", "aria-live": "polite" });
    box.hidden = true;
    plot.append(box);
    function show(x, y, lines) {
      box.replaceChildren(...lines.map((line, index) => element(index ? "div" : "strong", {}, line)));
      box.hidden = false;
      const room = plot.clientWidth - box.offsetWidth;
      box.style.left = `${Math.max(0, Math.min(x + 14, room))}px`;
      box.style.top = `${y + 18}px`;
    }
    return {
      show,
      hide: () => {
        box.hidden = true;
      },
    };
  }

  /** Marks given as boxes {x, y, w, h, lines, ids}; the pointer finds the one it is in, or the last that holds it. */
  function boxes(list) {
    const holds = ({ x, y, w, h }, left, top) => left >= x && left < x + w && top >= y && top < y + h;
    return {
      size: list.length,
      at: (index) => list[index],
      find: (left, top) => list.findLastIndex((box) => holds(box, left, top)),
    };
  }

  const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
  /** Which mark a key leads to. */
  function nextMark(marks, current, key) {
    if (key === "Home") return 0;
    if (key === "End") return marks.size - 1;
    const step = marks.step ? marks.step(key) : STEPS[key];
    if (!step) return null;
    return current < 0 ? 0 : Math.max(0, Math.min(marks.size - 1, current + step));
  }

  /** Hover, click and keys on a drawing: one mark is current, outlined and told. */
  function interact(plot, onPick) {
    const tip = tooltip(plot);
    let drawn = null;
    let marks = null;
    let current = -1;
    let outline = null;
    function choose(index, x, y) {
      current = index;
      plot.dataset.current = index;
      if (index < 0) {
        outline.setAttribute("visibility", "hidden");
        tip.hide();
        return;
      }
      const mark = marks.at(index);
      fill(outline, { x: mark.x - 1, y: mark.y - 1, width: mark.w + 2, height: mark.h + 2, visibility: "visible" }, []);
      tip.show(x ?? mark.x + mark.w / 2, y ?? mark.y + mark.h, mark.lines());
    }
    function pick() {
      const ids = current >= 0 && marks.at(current).ids ? marks.at(current).ids() : [];
      if (ids.length && onPick) onPick(ids);
    }
    const point = (event) => {
      const frame = drawn.getBoundingClientRect();
      const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
      choose(marks.find(x, y), x, y);
    };
    plot.addEventListener("pointermove", point);
    plot.addEventListener("pointerdown", point);
    // A finger that was lifted leaves, too; what it touched stays told.
    plot.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && choose(-1));
    plot.addEventListener("blur", () => choose(-1));
    plot.addEventListener("click", pick);
    plot.addEventListener("keydown", (event) => {
      if (event.key === "Escape") choose(-1);
      if (event.key === "Enter") pick();
      const next = event.ctrlKey || event.metaKey || event.altKey ? null : nextMark(marks, current, event.key);
      if (next === null || !marks.size) return;
      event.preventDefault();
      choose(next);
    });
    return (newDrawing, newMarks) => {
      [drawn, marks, current] = [newDrawing, newMarks, -1];
      outline = svg("rect", { class: "picture-outline", "data-passing": "", visibility: "hidden" });
      drawn.append(outline);
      tip.hide();
    };
  }

  /** A folded table of the numbers in a picture: rows of texts under headings. */
  function numbers(headings, rows, note) {
    const cells = (kind, texts) => element("tr", {}, ...texts.map((text) => element(kind, {}, text)));
    const body = element("tbody", {}, ...rows.map((row) => cells("td", row)));
    const table = element("table", { class: "picture-table" }, element("thead", {}, cells("th", headings)), body);
    const holder = element(
      "div",
      { class: "picture-table-holder", tabindex: 0, role: "group", "aria-label": "the numbers as a table" },
      table,
    );
    return element(
      "details",
      { class: "picture-numbers" },
      element("summary", {}, note ? `The numbers as a table (${note})` : "The numbers as a table"),
      holder,
    );
  }

  /**
   * Puts a picture into `container`. `spec` has name, title, gist (the text alternative), caption, options (nodes),
   * table (node or null), and draw(width): {height, nodes, marks}. Returns a function that draws it again.
   */
  function picture(container, spec, onPick) {
    const plot = element("div", {
      class: "picture-plot",
      tabindex: 0,
      role: "group",
      "aria-label": `${spec.title}. The arrow keys go through it${onPick ? ", Enter picks tokens" : ""}.`,
    });
    const put = interact(plot, onPick);
    let drawn = null;
    function draw() {
      const width = Math.max(280, Math.floor(plot.clientWidth));
      const { height, nodes, marks } = spec.draw(width);
      if (drawn) drawn.remove();
      drawn = svg(
        "svg",
        {
          class: "picture-svg",
          role: "img",
          "aria-label": spec.gist,
          width,
          height,
          viewBox: `0 0 ${width} ${height}`,
        },
        ...nodes,
      );
      plot.prepend(drawn);
      put(drawn, marks);
      plot.dataset.width = width;
    }
    const asSvg = () => standalone(drawn, spec.title);
    const tools = element(
      "div",
      { class: "picture-tools" },
      ...(spec.options || []),
      downloads(spec.name, spec.title, asSvg, () => rasterised(asSvg())),
    );
    const head = element(
      "div",
      { class: "picture-head" },
      element("h3", { class: "picture-title" }, spec.title),
      tools,
    );
    const below = element("figcaption", {}, spec.caption, ...(spec.table ? [spec.table] : []));
    container.append(element("figure", { class: "picture", "data-picture": spec.name }, head, plot, below));
    draw();
    new ResizeObserver(() => {
      if (Math.floor(plot.clientWidth) !== Number(plot.dataset.width)) draw();
    }).observe(plot);
    return draw;
  }

  /** In place of a picture: why there is none. */
  function missing(container, name, title, reason) {
    container.append(
      element(
        "figure",
        { class: "picture picture-missing", "data-picture": name },
        element("h3", { class: "picture-title" }, title),
        element("p", {}, reason),
      ),
    );
  }

  /** Nodes of a horizontal axis below y: line, ticks at round numbers, what is measured. */
  function axisBelow(scale, values, { left, right, y, label, format = scales.number }) {
    const marks = values.map((value) => [
      svg("line", { class: "picture-axis", x1: scale(value), x2: scale(value), y1: y, y2: y + 4 }),
      svg("text", { class: "picture-tick", x: scale(value), y: y + 16, "text-anchor": "middle" }, format(value)),
    ]);
    return [
      svg("line", { class: "picture-axis", x1: left, x2: right, y1: y, y2: y }),
      ...marks.flat(),
      svg("text", { class: "picture-label", x: (left + right) / 2, y: y + 34, "text-anchor": "middle" }, label),
    ];
  }

  /** Nodes of a vertical axis left of x, with faint lines across, and its label above. */
  function axisLeft(scale, values, { x, right, top, label, format = scales.number }) {
    const marks = values.map((value) => [
      svg("line", { class: "picture-grid", x1: x, x2: right, y1: scale(value), y2: scale(value) }),
      svg("text", { class: "picture-tick", x: x - 6, y: scale(value) + 4, "text-anchor": "end" }, format(value)),
    ]);
    return [...marks.flat(), svg("text", { class: "picture-label", x: Math.max(4, x - 40), y: top - 10 }, label)];
  }

  return {
    element,
    svg,
    button,
    checkbox,
    select,
    save,
    downloads,
    tooltip,
    boxes,
    numbers,
    picture,
    missing,
    axisBelow,
    axisLeft,
  };
})();
