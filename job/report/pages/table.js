"use strict";
// A table of any number of rows, of which only those in sight are in the document. It sorts, filters and searches.
//
// table.create(container, options) with these options:
//   n          the number of rows; columns and filters are asked for row 0 to n - 1
//   columns    [{name, title, kind: "number"|"text"|"tokens"|"link"|"bool", value(i), text(i)?, search(i)?, href(i)?,
//              width?, align?, hint?}]: value is what is sorted by (null and NaN come last), text what is shown (a list
//              of texts for tokens), search what the search box looks in, href where a link leads to
//   filters    [{name, title, options: [{value, title}], test(i, value)}] for a choice; without options, a check box
//   initialSort  {name, descending}
//   onPick(ids)  a row was chosen; onFilter(ids)  which rows are shown has changed: ids, or null for all
//   detail(element, i)  fills what unfolds below a row
//   label, noun ("tokens"), placeholder, searchLabel
// It returns {show(ids), setFilter(test, title), search(text), clear(), shown(), element}.
const table = (() => {
  const MAX_HEIGHT = 10e6; // browsers draw no element higher than 16 to 33 million pixels
  const OVERSCAN = 8;
  const INSTANT = 20000; // with more rows, a search waits until nobody types
  const DEBOUNCE = 30;
  let created = 0;

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined) continue;
      if (name === "class") element.className = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  /** Which of n texts hold the searched one: one long text is searched, not n short ones. */
  function searchIndex(n, columns) {
    const starts = new Uint32Array(n + 1);
    const parts = [];
    let length = 0;
    for (let i = 0; i < n; i++) {
      let text = "\u0001";
      for (const column of columns) text += (column.search(i) ?? "") + "\u0001";
      text = text.toLowerCase();
      parts.push(text);
      starts[i + 1] = length += text.length;
    }
    const joined = parts.join("");
    return (query) => {
      const hits = new Uint8Array(n);
      const searched = query.toLowerCase();
      let row = 0;
      for (let at = joined.indexOf(searched); at !== -1; at = joined.indexOf(searched, starts[row + 1])) {
        let low = row, high = n - 1; // the last row that begins at or before the hit
        while (low < high) {
          const middle = (low + high + 1) >> 1;
          if (starts[middle] <= at) low = middle; else high = middle - 1;
        }
        row = low;
        hits[row] = 1;
        if (row === n - 1) break;
      }
      return hits;
    };
  }

  /** The row numbers in the order of a column. Equal values stay in the order of the rows, nothing comes last. */
  function sorted(n, column, descending) {
    const isNumber = column.kind === "number" || column.kind === "bool";
    const value = isNumber ? (i) => column.value(i) ?? NaN : ranks(n, column);
    const keys = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      const key = Number(value(i));
      keys[i] = (descending ? -key : key) + 0; // −0 equals 0
    }
    return inOrder(keys);
  }

  /** A function that gives the rank of a row's text among all texts; NaN of an empty one. */
  function ranks(n, column) {
    const texts = Array.from({ length: n }, (_, i) => column.value(i) ?? "");
    const rank = new Map([...new Set(texts)].sort().map((text, k) => [text, text === "" ? NaN : k]));
    return (i) => rank.get(texts[i]);
  }

  const MAX_PACKED = 2 ** 21;
  /** The indices of these keys in ascending order, NaN last; those of equal keys in ascending order. */
  function inOrder(keys) {
    const n = keys.length;
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    const singles = Float32Array.from(keys);
    if (n > MAX_PACKED || keys.some((key, i) => key !== singles[i] && !Number.isNaN(key))) {
      const compare = (a, b) => (a < b ? -1 : a > b ? 1 : Number.isNaN(a) - Number.isNaN(b));
      return order.sort((a, b) => compare(keys[a], keys[b]) || a - b);
    }
    // Numbers without a comparison of their own sort ten times as fast: 32 bits of the key, then 21 of the index.
    const bits = new Uint32Array(singles.buffer);
    const rising = (b, i) => (Number.isNaN(keys[i]) ? 0xffffffff : (b >>> 31 ? ~b : b | 0x80000000) >>> 0);
    const packed = Float64Array.from(bits, (b, i) => rising(b, i) * MAX_PACKED + i);
    packed.sort().forEach((key, k) => (order[k] = key % MAX_PACKED));
    return order;
  }

  function fill(cell, column, i) {
    const value = column.value(i);
    const shown = column.text ? column.text(i) : value;
    if (column.kind === "tokens") {
      const texts = Array.isArray(shown) ? shown : shown === null || shown === undefined ? [] : [shown];
      cell.replaceChildren(...texts.map((text) => make("span", { class: "token" }, text)));
      if (texts.length === 0) cell.textContent = "–";
    } else if (column.kind === "link" && column.href(i)) {
      cell.replaceChildren(make("a", { href: column.href(i) }, String(shown)));
    } else if (column.kind === "bool") {
      cell.textContent = column.text ? shown : value === null || value === undefined ? "–" : value ? "yes" : "no";
    } else {
      cell.textContent = shown === null || shown === undefined || Number.isNaN(shown) ? "–" : String(shown);
    }
    if (column.kind === "text" || column.kind === "tokens") cell.title = cell.textContent;
  }

  const WIDTHS = { number: "6rem", bool: "6rem", text: "minmax(8rem, 1fr)", link: "minmax(10rem, 2fr)", tokens: "minmax(14rem, 2fr)" };

  function create(container, options) {
    const { n, columns: shownColumns, detail = null } = options;
    const id = "table-" + ++created;
    const noun = options.noun ?? "rows";
    const byName = new Map(shownColumns.map((column) => [column.name, column]));
    const searchable = shownColumns.filter((column) => column.search);
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const rowHeight = Math.round((options.rowHeight ?? 2.2) * rem);

    let find = null; // made when it is first needed
    let query = "";
    let outer = null;
    let sort = options.initialSort ?? { name: null, descending: false };
    let order = Uint32Array.from({ length: n }, (_, i) => i);
    let shown = order;
    let current = -1;
    let selected = new Set();
    const rows = new Map(); // by position
    const unfolded = new Map(); // by row: {element, height, position, watch}
    let open = []; // those of them that are shown, by position

    // The controls above the table.
    const controls = make("div", { class: "controls" });
    const chosen = new Map();
    const inputs = [];
    let searchInput = null;
    if (searchable.length) {
      searchInput = make("input", {
        type: "search", autocomplete: "off", spellcheck: "false", placeholder: options.placeholder ?? null,
      });
      controls.append(make("label", {}, options.searchLabel ?? "Search", searchInput));
      let timer = 0;
      searchInput.addEventListener("input", () => {
        clearTimeout(timer);
        if (n <= INSTANT) runSearch();
        else timer = setTimeout(runSearch, DEBOUNCE);
      });
      const prepare = () => (find ??= searchIndex(n, searchable));
      searchInput.addEventListener("focus", prepare, { once: true });
      if (window.requestIdleCallback) requestIdleCallback(prepare, { timeout: 500 });
      else setTimeout(prepare, 200);
      searchInput.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowDown" || !shown.length) return;
        event.preventDefault();
        grid.focus();
      });
    }
    for (const filter of options.filters ?? []) {
      const input = filter.options
        ? make("select", {}, make("option", { value: "" }, "all"),
            ...filter.options.map((option) => make("option", { value: String(option.value) }, option.title)))
        : make("input", { type: "checkbox" });
      input.addEventListener("change", () => {
        const value = filter.options ? input.value : input.checked;
        if (value === "" || value === false) chosen.delete(filter);
        else chosen.set(filter, value);
        update();
      });
      inputs.push(input);
      controls.append(filter.options ? make("label", {}, filter.title, input) : make("label", { class: "check" }, input, filter.title));
    }
    const lift = make("button", { type: "button", class: "button", hidden: "" });
    lift.addEventListener("click", () => setFilter(null));
    const hits = make("output", { "aria-live": "polite" });
    controls.append(lift, hits);

    // The table itself.
    const head = make("div", { class: "grid-head", role: "row", "aria-rowindex": "1" });
    for (const column of shownColumns) {
      const button = make("button", { type: "button", title: column.hint ?? null }, column.title);
      button.addEventListener("click", () => {
        const descending = sort.name === column.name ? !sort.descending : column.kind === "number" && column.name !== "id";
        setSort({ name: column.name, descending });
      });
      head.append(make("div", {
        role: "columnheader", "aria-sort": "none", class: alignment(column), "data-name": column.name,
      }, button));
    }
    const body = make("div", { class: "grid-body", role: "rowgroup" });
    const grid = make("div", {
      class: options.onPick || detail ? "grid picks" : "grid", role: "grid", tabindex: "0",
      "aria-label": options.label ?? options.caption ?? noun, "aria-colcount": String(shownColumns.length), id,
    }, make("div", { role: "rowgroup", class: "grid-top" }, head), body);
    grid.style.setProperty("--columns", shownColumns.map((column) => column.width ?? WIDTHS[column.kind]).join(" "));
    const box = make("div", { class: "grid-box" }, grid);
    const nothing = make("p", { class: "grid-empty", hidden: "" }, `None of the ${noun} match.`);
    container.replaceChildren(controls, box, nothing);
    if (!searchable.length && !(options.filters ?? []).length) hits.hidden = true;

    function alignment(column) {
      return column.kind === "number" || column.align === "right" ? "number" : "";
    }

    // Where rows lie. ``top`` is how far the rows are scrolled; the box scrolls less where they are too high for it.
    let top = 0;
    let scrolledTo = 0;
    let frame = 0;
    const totalHeight = () => shown.length * rowHeight + open.reduce((sum, entry) => sum + entry.height, 0);
    const viewHeight = () => Math.max(0, box.clientHeight - head.offsetHeight);
    function ratio() {
      const total = totalHeight(), view = viewHeight();
      return total <= MAX_HEIGHT ? 1 : (total - view) / (MAX_HEIGHT - view);
    }
    function topOf(position) {
      let y = position * rowHeight;
      for (const entry of open) if (entry.position < position) y += entry.height;
      return y;
    }
    function positionAt(y) {
      let extra = 0;
      for (const entry of open) {
        const begin = (entry.position + 1) * rowHeight + extra;
        if (y < begin) break;
        if (y < begin + entry.height) return entry.position;
        extra += entry.height;
      }
      return Math.max(0, Math.floor((y - extra) / rowHeight));
    }
    function scrollTo(y) {
      top = Math.max(0, Math.min(y, totalHeight() - viewHeight()));
      box.scrollTop = top / ratio();
      scrolledTo = box.scrollTop;
      render();
    }
    box.addEventListener("scroll", () => {
      if (box.scrollTop !== scrolledTo) {
        scrolledTo = box.scrollTop;
        top = scrolledTo * ratio();
      }
      frame ||= requestAnimationFrame(render);
    }, { passive: true });

    function render() {
      cancelAnimationFrame(frame);
      frame = 0;
      const first = Math.max(0, positionAt(top) - OVERSCAN);
      const last = Math.min(shown.length - 1, positionAt(top + viewHeight()) + OVERSCAN);
      for (const [position, row] of rows) {
        if (position >= first && position <= last) continue;
        rows.delete(position);
        unfolded.get(row.i)?.element.remove();
        row.element.remove();
      }
      let next = null;
      const shift = scrolledTo - top;
      for (let position = last; position >= first; position--) {
        const i = shown[position];
        const entry = unfolded.get(i);
        let row = rows.get(position);
        if (!row) {
          row = { i, element: rowElement(i, position) };
          rows.set(position, row);
          body.insertBefore(row.element, next);
        }
        row.element.style.top = topOf(position) + shift + "px";
        if (entry) {
          if (!entry.element.isConnected) body.insertBefore(entry.element, row.element.nextSibling);
          entry.element.style.top = topOf(position) + rowHeight + shift + "px";
        }
        next = row.element;
      }
    }

    function rowElement(i, position) {
      const element = make("div", {
        class: "grid-row", role: "row", id: `${id}-${i}`, "aria-rowindex": String(position + 2),
        "aria-selected": options.onPick ? String(selected.has(i)) : null,
      });
      element.style.height = rowHeight + "px";
      element.classList.toggle("current", position === current);
      shownColumns.forEach((column, number) => {
        const cell = make("div", { role: "gridcell", class: alignment(column) });
        fill(cell, column, i);
        if (detail && number === 0) {
          const button = make("button", { type: "button", class: "unfold", tabindex: "-1", "aria-label": "details" });
          toggle(button, unfolded.has(i));
          cell.prepend(button);
        }
        element.append(cell);
      });
      return element;
    }

    /** Draw all rows anew. */
    function redraw() {
      for (const row of rows.values()) row.element.remove();
      for (const entry of unfolded.values()) entry.element.remove();
      rows.clear();
      layout();
    }

    /** Give the rows their places, after their number or what is unfolded below them has changed. */
    function layout() {
      open = [];
      if (unfolded.size) {
        shown.forEach((i, position) => {
          const entry = unfolded.get(i);
          if (entry) open.push(Object.assign(entry, { position }));
        });
      }
      body.style.height = Math.min(totalHeight(), MAX_HEIGHT) + "px";
      grid.setAttribute("aria-rowcount", String(shown.length + 1));
      nothing.hidden = shown.length > 0;
      scrollTo(top);
      mark();
    }

    function mark() {
      for (const [position, row] of rows) {
        row.element.classList.toggle("current", position === current);
        if (options.onPick) row.element.setAttribute("aria-selected", String(selected.has(row.i)));
      }
      if (rows.has(current)) grid.setAttribute("aria-activedescendant", `${id}-${shown[current]}`);
      else grid.removeAttribute("aria-activedescendant");
    }

    // Sorting, filtering, searching.
    function setSort(to) {
      sort = to;
      order = sorted(n, byName.get(sort.name), sort.descending);
      for (const cell of head.children) {
        const is = cell.dataset.name === sort.name;
        cell.setAttribute("aria-sort", is ? (sort.descending ? "descending" : "ascending") : "none");
      }
      update({ quiet: true });
    }

    function update({ quiet = false } = {}) {
      const kept = current >= 0 ? shown[current] : -1;
      let found = null;
      if (query) {
        find ??= searchIndex(n, searchable);
        found = find(columns.shown(query));
      }
      const tests = [...chosen].map(([filter, value]) => (i) => filter.test(i, value));
      if (outer) tests.push(outer);
      if (!found && !tests.length) {
        shown = order;
      } else {
        const passed = new Uint32Array(n);
        let count = 0;
        for (let k = 0; k < n; k++) {
          const i = order[k];
          if ((!found || found[i]) && tests.every((test) => test(i))) passed[count++] = i;
        }
        shown = passed.subarray(0, count);
      }
      hits.textContent = shown.length === n
        ? `${n.toLocaleString("en")} ${noun}`
        : `${shown.length.toLocaleString("en")} of ${n.toLocaleString("en")} ${noun}`;
      current = kept >= 0 ? shown.indexOf(kept) : -1;
      top = 0;
      redraw();
      if (!quiet) options.onFilter?.(shown.length === n ? null : shown);
    }

    function runSearch() {
      if (query === searchInput.value) return;
      query = searchInput.value;
      update();
    }
    function search(text) {
      if (!searchInput) return;
      searchInput.value = text;
      runSearch();
    }
    function setFilter(test, title) {
      outer = test;
      lift.hidden = !test;
      lift.textContent = test ? `${title ?? "chosen rows"} ×` : "";
      lift.setAttribute("aria-label", `Show all ${noun} again`);
      update();
    }
    function clear() {
      query = "";
      outer = null;
      chosen.clear();
      lift.hidden = true;
      if (searchInput) searchInput.value = "";
      for (const input of inputs) {
        if (input.type === "checkbox") input.checked = false;
        else input.value = "";
      }
      update();
    }

    // Choosing and unfolding rows.
    function makeCurrent(position) {
      current = Math.max(0, Math.min(position, shown.length - 1));
      const y = topOf(current), view = viewHeight();
      if (y < top) scrollTo(y);
      else if (y + rowHeight > top + view) scrollTo(y + rowHeight - view);
      mark();
    }
    function show(ids) {
      selected = new Set(ids);
      let position = shown.findIndex((i) => selected.has(i));
      if (position === -1 && selected.size) {
        clear();
        position = shown.findIndex((i) => selected.has(i));
      }
      if (position === -1) return mark();
      current = position;
      const y = topOf(position), view = viewHeight();
      if (y < top || y + rowHeight > top + view) scrollTo(y - view / 3);
      mark();
    }
    function pick(position) {
      if (position < 0 || position >= shown.length) return;
      const i = shown[position];
      if (options.onPick) selected = new Set([i]);
      makeCurrent(position);
      if (detail) {
        unfold(i);
        const bottom = topOf(position + 1);
        if (bottom > top + viewHeight()) scrollTo(Math.min(topOf(position), bottom - viewHeight()));
      }
      options.onPick?.([i]);
    }
    function unfold(i) {
      const known = unfolded.get(i);
      if (known) {
        known.watch.disconnect();
        known.element.remove();
        unfolded.delete(i);
      } else {
        const cell = make("div", { role: "gridcell" });
        const element = make("div", { class: "grid-detail", role: "row", tabindex: "0" }, cell);
        detail(cell, i);
        body.append(element); // to be measured
        const entry = { element, height: element.offsetHeight, position: 0 };
        entry.watch = new ResizeObserver(() => {
          if (!element.isConnected || element.offsetHeight === entry.height) return;
          entry.height = element.offsetHeight;
          layout();
        });
        entry.watch.observe(element);
        unfolded.set(i, entry);
      }
      for (const row of rows.values()) {
        if (row.i === i) toggle(row.element.querySelector(".unfold"), unfolded.has(i));
      }
      layout();
    }
    function toggle(button, is) {
      button.setAttribute("aria-expanded", String(is));
      button.textContent = is ? "▾" : "▸";
    }

    body.addEventListener("click", (event) => {
      const row = event.target.closest(".grid-row");
      if (!row || event.target.closest("a")) return;
      grid.focus({ preventScroll: true });
      pick(Number(row.getAttribute("aria-rowindex")) - 2);
    });
    grid.addEventListener("keydown", (event) => {
      if (event.target !== grid || event.ctrlKey || event.metaKey || event.altKey) return;
      const page = Math.max(1, Math.floor(viewHeight() / rowHeight) - 1);
      const moves = {
        ArrowDown: current + 1, ArrowUp: current - 1, PageDown: current + page, PageUp: current - page,
        Home: 0, End: shown.length - 1,
      };
      if (event.key in moves && shown.length) makeCurrent(moves[event.key]);
      else if (event.key === "Enter" || event.key === " ") pick(current);
      else return;
      event.preventDefault();
    });
    grid.addEventListener("focus", () => {
      if (current < 0 && shown.length && grid.matches(":focus-visible")) makeCurrent(positionAt(top));
    });
    new ResizeObserver(() => (frame ||= requestAnimationFrame(render))).observe(box);

    if (sort.name) setSort(sort);
    else update({ quiet: true });
    return { show, setFilter, search, clear, shown: () => shown, element: box };
  }

  return { create, make };
})();
