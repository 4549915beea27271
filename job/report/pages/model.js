"use strict";
// The page of one model: decodes its columns after the first paint, and links its tables and pictures.
const model = (() => {
  const make = table.make;
  const count = (n) => n.toLocaleString("en");
  const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
  const number = (x) => (Number.isFinite(x) ? x.toPrecision(5) : "–");
  const MAX_CHIPS = 2000;
  const MANY = 40; // of so many tokens, the extremes come first
  const FEW = 10;
  const THREE = { 1: "yes", 0: "no", 2: "cannot be told" };

  /** The data of the page, as the pictures take them. */
  async function load() {
    const facts = columns.facts();
    const names = ["hole", "norm", "gamma-norm", "class", "script", "text", "round-trips", "reachable", "hole-population",
      "hole-norm", "hole-distances", "coordinate-0", "coordinate-1", "coordinate-2"];
    const [hole, norm, gammaNorm, klass, script, text, roundTrips, reachable, population, holeNorm, holeDistances, ...axes] =
      await Promise.all(names.map(columns.read));
    return {
      n: facts.n, hiddenSize: facts.hiddenSize, dtype: facts.dtype, model: facts.model,
      hole: hole ?? new Int32Array(facts.n), norm, gammaNorm,
      klass, classNames: facts.classNames, script, scriptNames: facts.scriptNames,
      text: text && text.map((token) => token || null), roundTrips, reachable, coordinates: axes[0] && coordinates(axes, facts), explained: facts.explained,
      holes: Array.from(population, (rows, h) => ({ id: h + 1, population: rows, norm: holeNorm[h] })),
      holeDistances, knowsHoles: hole !== null,
    };
  }

  function coordinates(axes, facts) {
    const found = new Float32Array(3 * facts.n);
    axes.forEach((axis, k) => {
      const [low, high] = facts.scales[k];
      for (let i = 0; i < facts.n; i++) {
        found[3 * i + k] = axis[i] === 65535 ? NaN : low + (axis[i] / 65534) * (high - low);
      }
    });
    return found;
  }

  const nameOf = (survey, i) => survey.text?.[i] ?? `#${i}`;

  /** How many of these rows have each name of a column, most first: [[name, count], …]. */
  function counts(rows, codes, names) {
    const found = new Uint32Array(names.length + 1);
    for (const i of rows) found[codes[i]]++;
    return names.map((name, code) => [name, found[code]]).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
  }

  /** The first and the last of these rows: of many, the extremes tell more than the lowest. */
  function extremes(rows, n) {
    if (rows.length <= n) return [...rows];
    const half = n >> 1;
    return [...rows.subarray(0, half), ...rows.subarray(rows.length - half)];
  }

  function nearest(survey, h) {
    const n = survey.holeDistances ? Math.round(Math.sqrt(survey.holeDistances.length)) : 0;
    if (h > n || n < 2) return null;
    let best = null;
    for (let other = 1; other <= n; other++) {
      const distance = survey.holeDistances[(h - 1) * n + other - 1];
      if (other !== h && Number.isFinite(distance) && (!best || distance < best.distance)) best = { other, distance };
    }
    return best;
  }

  function holesTable(container, survey, link) {
    const ids = (h) => members.of(survey).hole(h + 1);
    const kinds = survey.holes.map(({ id }) => (survey.klass ? counts(ids(id - 1), survey.klass, survey.classNames) : []));
    const scripts = survey.holes.map(({ id }) => (survey.script ? counts(ids(id - 1), survey.script, survey.scriptNames) : []));
    const described = (list) => list.map(([name, n]) => `${count(n)} ${name}`).join(", ");
    const hasName = (list, wanted) => list.some(([name]) => name === wanted);
    const namesIn = (lists) => [...new Set(lists.flatMap((list) => list.map(([name]) => name)))].sort();
    const choice = (name, title, lists) => ({
      name, title, options: namesIn(lists).map((value) => ({ value, title: value })), test: (h, value) => hasName(lists[h], value),
    });
    const all = [
      { name: "hole", title: "hole", kind: "number", value: (h) => h + 1, text: (h) => count(h + 1), width: "4.5rem" },
      { name: "population", title: "rows", kind: "number", value: (h) => survey.holes[h].population,
        text: (h) => count(survey.holes[h].population), width: "5rem" },
      { name: "norm", title: "norm", kind: "number", value: (h) => survey.holes[h].norm, text: (h) => number(survey.holes[h].norm) },
      { name: "first", title: "lowest id", kind: "number", value: (h) => ids(h)[0], text: (h) => count(ids(h)[0]), shown: survey.knowsHoles },
      { name: "kinds", title: "of these", kind: "text", value: (h) => described(kinds[h]), width: "minmax(11rem, 1fr)", shown: survey.klass },
      { name: "tokens", title: "first and last", kind: "tokens", value: (h) => nameOf(survey, ids(h)[0]),
        text: (h) => extremes(ids(h), 6).map((i) => nameOf(survey, i)),
        search: (h) => Array.from(ids(h), (i) => nameOf(survey, i)).join("\u0002"), width: "minmax(18rem, 2fr)", shown: survey.text },
    ];
    return table.create(container, {
      n: survey.holes.length, columns: all.filter((column) => column.shown !== undefined ? column.shown : true),
      label: "Black holes", noun: "holes", searchLabel: "Search the tokens in holes",
      filters: [choice("class", "with tokens of class", kinds), choice("script", "with script", scripts)].filter((f) => f.options.length > 1),
      initialSort: { name: "hole", descending: false },
      onPick: ([h]) => link(ids(h), "holes"),
      detail: (element, h) => holeDetail(element, survey, h + 1, ids(h), kinds[h], scripts[h], link),
    });
  }

  /** Fills what unfolds below a hole: its numbers, and all its tokens. */
  function holeDetail(element, survey, h, rows, kinds, scripts, link) {
    const list = (items) => items.map(([name, n]) => `${count(n)} ${name}`).join(", ");
    const near = nearest(survey, h);
    const lines = [
      `${plural(rows.length, "row")}, ids ${count(rows[0])} to ${count(rows[rows.length - 1])}, norm ${number(survey.holes[h - 1].norm)}`,
      kinds.length ? `by class: ${list(kinds)}` : "",
      scripts.length ? `by script: ${list(scripts)}` : "",
      near ? `the nearest of the holes is ${near.other}, at a distance of ${number(near.distance)}` : "",
    ];
    const text = make("p", { class: "small" });
    lines.filter(Boolean).forEach((line, k) => text.append(...(k ? [make("br")] : []), line));
    const chips = (ids) => make("div", { class: "tokens" }, ...Array.from(ids, (i) => {
      const chip = make("button", { type: "button", class: "token", title: `id ${i}` }, nameOf(survey, i));
      chip.addEventListener("click", () => link([i], "chip"));
      return chip;
    }));
    const buttons = make("div", { class: "controls" });
    if (link.showHole) {
      const button = make("button", { type: "button", class: "button" }, `Show all ${count(rows.length)} in the table of tokens`);
      button.addEventListener("click", () => link.showHole(h));
      buttons.append(button);
    }
    buttons.append(copyButton("Copy the ids", () => `[${rows.join(", ")}]`));
    element.append(text, buttons);
    if (rows.length <= MANY) {
      element.append(chips(rows));
      return;
    }
    const some = [["lowest ids", rows.subarray(0, FEW)], ["highest ids", rows.subarray(rows.length - FEW)]];
    for (const [name, n] of kinds.filter(([name]) => name !== "ordinary")) {
      const code = survey.classNames.indexOf(name);
      some.push([`${name}, ${n > FEW ? `the first of ${count(n)}` : `all ${count(n)}`}`, rows.filter((i) => survey.klass[i] === code).subarray(0, FEW)]);
    }
    for (const [title, ids] of some) element.append(make("p", { class: "quiet small chips-title" }, title), chips(ids));
    const all = make("details", {}, make("summary", {}, rows.length > MAX_CHIPS
      ? `The first ${count(MAX_CHIPS)} of ${count(rows.length)} tokens` : `All ${count(rows.length)} tokens`));
    all.addEventListener("toggle", () => all.append(chips(rows.subarray(0, MAX_CHIPS))), { once: true });
    element.append(all);
  }

  function tokensTable(container, survey, link) {
    const choice = (name, title, codes, names) => ({
      name, title, options: names.map((option, code) => ({ value: code, title: option })).filter(({ value }) => codes.includes(value))
        .sort((a, b) => (a.title < b.title ? -1 : 1)),
      test: (i, value) => codes[i] === Number(value),
    });
    const three = (name, title, codes) => choice(name, title, codes, [THREE[0], THREE[1], THREE[2]]);
    const code = (codes, names) => (i) => names[codes[i]] ?? "";
    const all = [
      { name: "id", title: "id", kind: "number", value: (i) => i, width: "4.2rem", search: (i) => `#${i}` },
      { name: "token", title: "token", kind: "tokens", value: (i) => survey.text[i],
        width: "minmax(10rem, 1fr)", search: (i) => survey.text[i], shown: survey.text },
      { name: "class", title: "class", kind: "text", value: code(survey.klass, survey.classNames), width: "7rem", shown: survey.klass },
      { name: "script", title: "script", kind: "text", value: code(survey.script, survey.scriptNames), width: "5.5rem", shown: survey.klass },
      { name: "norm", title: "norm", hint: "Euclidean norm of the row of W", kind: "number", value: (i) => survey.norm[i],
        text: (i) => number(survey.norm[i]), width: "4.4rem" },
      { name: "gamma-norm", title: "γ′ norm", hint: "Euclidean norm of the row of γ′ = W − μ", kind: "number",
        value: (i) => survey.gammaNorm[i], text: (i) => number(survey.gammaNorm[i]), width: "4.8rem" },
      { name: "round-trips", title: "round-trips", kind: "text", value: (i) => THREE[survey.roundTrips[i]], width: "6rem", shown: survey.roundTrips },
      { name: "reachable", title: "reachable", kind: "text", value: (i) => THREE[survey.reachable[i]], width: "5.2rem", shown: survey.reachable },
      { name: "hole", title: "hole", kind: "number", value: (i) => survey.hole[i] || null, width: "3.2rem" },
    ];
    const filters = [{ name: "holes", title: "only in holes", test: (i) => survey.hole[i] > 0 }];
    if (survey.klass) {
      filters.unshift(
        choice("class", "class", survey.klass, survey.classNames), choice("script", "script", survey.script, survey.scriptNames),
        three("round-trips", "round-trips", survey.roundTrips), three("reachable", "reachable", survey.reachable));
    }
    return table.create(container, {
      n: survey.n, columns: all.filter((column) => column.shown !== undefined ? column.shown : true), filters,
      label: "All tokens", noun: "rows", searchLabel: "Search tokens, or #id", initialSort: { name: "id", descending: false },
      onPick: (ids) => link(ids, "tokens"), onFilter: link.onFilter,
    });
  }

  function copyButton(title, text) {
    const button = make("button", { type: "button", class: "button" }, title);
    button.addEventListener("click", async () => {
      const copied = await copy(text());
      button.textContent = copied ? "Copied" : "Not copied";
      setTimeout(() => (button.textContent = title), 1500);
    });
    return button;
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch { // a page from a server without encryption has no clipboard
      const area = make("textarea", { class: "visually-hidden" });
      area.value = text;
      document.body.append(area);
      area.select();
      const copied = document.execCommand("copy");
      area.remove();
      return copied;
    }
  }

  /** A box above the cloud that searches the table of all tokens, whose hits the cloud lights up. */
  function searchBox(container, search) {
    const input = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
    const found = make("output", { "aria-live": "polite" });
    container.append(make("label", {}, "Light up tokens", input), found);
    let timer = 0;
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => search(input.value), 60);
    });
    return { tell: (ids) => (found.textContent = ids ? `${plural(ids.length, "token")} lit, and listed in the table of all tokens` : "") };
  }

  /** Names the folder that this page was opened from, and gives each piece of code a button that copies it. */
  function code() {
    const key = "/" + columns.facts().key;
    const path = decodeURIComponent(location.pathname);
    const output = document.getElementById("code-output");
    if (location.protocol === "file:" && path.endsWith(key)) {
      output.textContent = `OUTPUT = ${JSON.stringify(path.slice(0, -key.length))}\n`;
    }
    for (const block of document.querySelectorAll(".code")) {
      const shown = block.querySelector("code");
      const text = () => (shown === output ? "" : output.textContent + "\n") + shown.textContent;
      block.append(copyButton("Copy", text));
    }
  }

  async function draw() {
    code();
    await columns.painted();
    const survey = await load();
    const at = (name) => document.getElementById(name);
    let holes = null, tokens = null, sky = null;

    /** Lights these rows up wherever they are shown, but for where they were chosen. */
    function link(ids, from) {
      sky?.highlight(ids);
      if (from !== "tokens" && from !== "holes") tokens?.show(ids);
      const numbers = new Set(Array.from(ids, (i) => survey.hole[i]));
      if (from !== "holes" && from !== "chip") holes?.show(numbers.size === 1 && !numbers.has(0) ? [[...numbers][0] - 1] : []);
    }
    if (survey.norm) {
      link.showHole = (h) => {
        tokens.setFilter((i) => survey.hole[i] === h, `Hole ${h}`);
        at("tokens-heading").scrollIntoView();
      };
    }
    const search = at("cloud") && survey.norm && survey.text ? searchBox(at("cloud-search"), (text) => tokens.search(text)) : null;
    let filtered = 0;
    link.onFilter = (ids) => {
      search?.tell(ids);
      const latest = ++filtered; // the table first, and the cloud when nobody types any more
      setTimeout(() => latest === filtered && sky?.highlight(ids ?? []), 120);
    };
    if (at("cloud")) at("cloud").replaceChildren();
    if (at("cloud")) sky = cloud.create(at("cloud"), survey, { onPick: (ids) => link(ids, "cloud") });
    await columns.painted();
    if (at("holes") && survey.knowsHoles) holes = holesTable(at("holes"), survey, link);
    await columns.painted();
    charts.draw(at("pictures"), survey, { onPick: (ids) => link(ids, "charts") });
    await columns.painted();
    if (at("tokens")) tokens = tokensTable(at("tokens"), survey, link);
    document.documentElement.dataset.drawn = "";
  }

  return { drawn: draw() };
})();
