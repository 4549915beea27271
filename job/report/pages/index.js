"use strict";
// index.html: the table of surveys, the families and the revisions.
(async () => {
  const make = table.make;
  await columns.painted();
  const facts = columns.facts();
  const names = [
    "model", "organisation", "family", "commit", "revision", "revisions", "released", "committed", "published_at", "tensor", "tie", "dtype", "w_sha256",
    "tool_version", "n_rows", "hidden_size", "unique_rows", "duplicate_rows", "black_holes", "black_hole_tokens", "largest", "n_tokens",
    "unreachable", "reserved", "reserved_in_black_hole", "valid_ids", "n_warnings", "joined", "left", "is_latest", "chosen_by_user", "changed",
    "share_of_rows", "mu_norm", "mean_row_norm", "mean_gamma_centered_norm", "mean_black_hole_row_norm", "seconds", "bytes_fetched",
    "checkpoint_nbytes", "w_nbytes",
  ];
  const data = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await columns.read(name)])));
  const n = facts.pages.length;

  const integer = (value) => (value === null || value < 0 ? null : value.toLocaleString("en"));
  const percent = (value) => (Number.isNaN(value) ? null : value === 0 ? "0 %" : `${(100 * value).toPrecision(3)} %`);
  const digits = (value) => (Number.isNaN(value) ? null : Number(value.toPrecision(5)).toLocaleString("en", { maximumFractionDigits: 6 }));
  const bytes = (value) => {
    if (Number.isNaN(value)) return null;
    const units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let unit = 0;
    while (value >= 1000 && unit < units.length - 1) (value /= 1000), unit++;
    return `${unit ? value.toPrecision(3) : value} ${units[unit]}`;
  };
  const day = (text) => text.slice(0, 10);
  const released = (i) => data.released[i] || data.published_at[i];
  const known = (name) => (i) => (data[name][i] < 0 ? null : data[name][i]);
  const count = (name, title, more = {}) => ({ name, title, kind: "number", value: known(name), text: (i) => integer(data[name][i]), ...more });
  const revision = (i) => data.revision[i] || data.commit[i].slice(0, 8);
  const tokens = (list) => list.map((token) => make("span", { class: "token" }, token));

  function changes(i) {
    if (data.changed[i] < 0) return null;
    return data.changed[i] ? `+${integer(data.joined[i])} −${integer(data.left[i])}` : "same";
  }

  function detail(element, i) {
    const listed = [
      ["commit", data.commit[i]], ["revisions", data.revisions[i]], ["tensor", data.tensor[i]], ["tie with the embedding", data.tie[i].replaceAll("_", " ")],
      ["unique rows", integer(data.unique_rows[i])], ["duplicate rows", integer(data.duplicate_rows[i])],
      ["norm of mu", digits(data.mu_norm[i])], ["mean norm of rows", digits(data.mean_row_norm[i])],
      ["of centred rows", digits(data.mean_gamma_centered_norm[i])], ["of rows in holes", digits(data.mean_black_hole_row_norm[i])],
      ["tokens of the tokenizer", integer(data.n_tokens[i])], ["unreachable", integer(data.unreachable[i])],
      ["reserved", integer(data.reserved[i])], ["reserved and in a hole", integer(data.reserved_in_black_hole[i])],
      ["valid ids", integer(data.valid_ids[i])], ["W", bytes(data.w_nbytes[i])],
      ["fetched", [bytes(data.bytes_fetched[i]), bytes(data.checkpoint_nbytes[i])].filter(Boolean).join(" of ")],
      ["seconds", digits(data.seconds[i])], ["created on the Hub", day(data.released[i])], ["changed on the Hub", day(data.committed[i])],
      ["surveyed", data.published_at[i]], ["by version", data.tool_version[i]], ["SHA-256 of W", data.w_sha256[i].slice(0, 16) + "…"],
    ].filter(([, value]) => value);
    const list = make("dl", { class: "facts-list" }, ...listed.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    const heads = facts.heads[i].map(([population, first]) =>
      make("li", {}, `${integer(population)} rows: `, make("span", { class: "tokens" }, ...tokens(first), population > first.length ? "…" : "")));
    element.append(list);
    if (heads.length) element.append(make("ol", { class: "heads" }, ...heads));
  }

  function distinct(name) {
    const counts = new Map();
    for (const value of data[name]) counts.set(value, (counts.get(value) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 200)
      .map(([value, times]) => ({ value, title: `${value} (${times})` }));
  }

  if (n) {
    const hasRevisions = data.revision.some(Boolean);
    table.create(document.getElementById("survey-table"), {
      n, label: "Surveys", noun: "surveys", placeholder: "model, commit, token …", detail,
      initialSort: { name: "black_hole_tokens", descending: true },
      columns: [
        {
          name: "model", title: "model", kind: "link", width: "minmax(19rem, 2fr)", value: (i) => data.model[i],
          href: (i) => facts.pages[i],
          search: (i) => [data.model[i], data.commit[i], data.revision[i], data.revisions[i], data.tensor[i], data.w_sha256[i], ...facts.heads[i].flatMap((hole) => hole[1])].join(" "),
        },
        ...(hasRevisions ? [{ name: "revision", title: "revision", kind: "text", width: "7rem", value: revision }] : []),
        count("black_hole_tokens", "in holes", { width: "5rem", hint: "rows that are in a hole" }),
        count("black_holes", "holes", { width: "4.2rem" }),
        count("largest", "largest", { width: "4.8rem", hint: "the population of the largest hole" }),
        { name: "share_of_rows", title: "share", kind: "number", width: "5rem", value: (i) => data.share_of_rows[i], text: (i) => percent(data.share_of_rows[i]), hint: "rows in holes of all rows" },
        { name: "changed", title: "changed", kind: "number", width: "5.2rem", value: (i) => (data.changed[i] < 0 ? null : data.joined[i] + data.left[i]), text: changes, hint: "tokens that joined or left holes since the survey before" },
        count("n_rows", "rows", { width: "5rem" }), count("hidden_size", "columns", { width: "5rem" }),
        { name: "dtype", title: "dtype", kind: "text", width: "4rem", value: (i) => data.dtype[i] },
        { name: "released", title: "released", kind: "text", width: "6rem", value: (i) => data.released[i], text: (i) => day(data.released[i]) || "–", hint: "when the Hub says that the repository was created" },
        { name: "published_at", title: "surveyed", kind: "text", width: "6rem", value: (i) => data.published_at[i], text: (i) => day(data.published_at[i]) },
        count("n_warnings", "warnings", { width: "5.2rem" }),
      ],
      filters: [
        { name: "family", title: "Family", options: distinct("family"), test: (i, value) => data.family[i] === value },
        { name: "dtype", title: "dtype", options: distinct("dtype"), test: (i, value) => data.dtype[i] === value },
        { name: "latest", title: "newest only", test: (i) => data.is_latest[i] === 1 },
        { name: "holes", title: "with holes", test: (i) => data.black_holes[i] > 0 },
        { name: "changed", title: "changed", test: (i) => data.changed[i] === 1 },
      ],
    });
  }

  function cells(row, ...values) {
    row.append(...values.map((value) => (value instanceof Node ? value : make("td", {}, value ?? "–"))));
    return row;
  }
  const number = (value) => make("td", { class: "number" }, value ?? "–");
  const date = (text) => make("td", { class: "date" }, text);
  const link = (i, text) => make("td", {}, make("a", { href: facts.pages[i] }, text));
  const short = (i) => data.model[i].slice(data.organisation[i].length + 1) || data.model[i];

  function choose(id, options, show) {
    const select = document.getElementById(id);
    if (!select) return;
    select.append(...options.map((title, place) => make("option", { value: String(place) }, title)));
    select.addEventListener("change", () => show(Number(select.value)));
    show(0);
  }

  choose("family", facts.families.map((family) => `${family.name} (${family.releases.length})`), (place) => {
    const { releases, holes, name } = facts.families[place];
    const rows = releases.map((release) => release.row);
    timeline.draw(document.getElementById("family-chart"), {
      dates: true, line: false, xLabel: "released", yLabel: "tokens in holes",
      label: `Tokens in holes of the ${releases.length} models of ${name}, by date of release. The table below has the same numbers.`,
      points: releases.map(({ row, date, n_new }) => ({
        x: Date.parse(date) || 0, y: data.black_hole_tokens[row], label: short(row), href: facts.pages[row], hollow: n_new === 0,
        title: `${data.model[row]}, ${day(date)}: ${integer(data.black_hole_tokens[row])} tokens in ${integer(data.black_holes[row])} holes, ${integer(n_new)} of them new`,
      })),
    });
    document.getElementById("family-caption").textContent = rows.some((i) => !data.released[i])
      ? "Where the date of release is not known, the date of the survey stands for it. Hollow: no token is new."
      : "Hollow: no token is new in a hole.";
    document.querySelector("#family-releases tbody").replaceChildren(...releases.map((release) => cells(make("tr"),
      date(day(release.date)), link(release.row, short(release.row)), number(integer(data.black_holes[release.row])),
      number(integer(data.black_hole_tokens[release.row])), number((release.is_whole ? "" : "≥ ") + integer(release.n_new)), number(integer(release.n_gone)),
      make("td", {}, make("span", { class: "tokens" }, ...tokens(release.new), release.n_new > release.new.length ? `and ${integer(release.n_new - release.new.length)} more` : "")))));
    document.querySelector("#family-holes tbody").replaceChildren(...holes.map((hole) => cells(make("tr"),
      number(integer(hole.population)), link(releases[hole.first].row, short(releases[hole.first].row)), number(`${hole.n_releases} of ${releases.length}`),
      make("td", {}, make("span", { class: "tokens" }, ...tokens(hole.tokens), hole.population > hole.tokens.length ? "…" : "")))));
  });

  choose("model", facts.revisions.map((rows) => `${data.model[rows[0]]} (${rows.length})`), (place) => {
    const rows = facts.revisions[place];
    const same = rows.map((row, i) => i > 0 && data.w_sha256[row] === data.w_sha256[rows[i - 1]]);
    timeline.draw(document.getElementById("revision-chart"), {
      dates: false, line: true, xLabel: "revision", yLabel: "tokens in holes",
      label: `Tokens in holes of ${rows.length} revisions of ${data.model[rows[0]]}. The table below has the same numbers.`,
      points: rows.map((row, i) => ({
        x: i, y: data.black_hole_tokens[row], label: revision(row), href: facts.pages[row], hollow: same[i],
        title: `${revision(row)}: ${integer(data.black_hole_tokens[row])} tokens in ${integer(data.black_holes[row])} holes`,
      })),
    });
    const distinctW = new Set(rows.map((row) => data.w_sha256[row])).size;
    document.getElementById("revision-caption").textContent =
      `${rows.length} surveys, ${distinctW} different W. Hollow: W is that of the revision before.`;
    document.querySelector("#revision-rows tbody").replaceChildren(...rows.map((row, i) => cells(make("tr"),
      data.revisions[row] || data.revision[row] || "–", link(row, data.commit[row].slice(0, 8)), date(day(data.committed[row]) || "–"), number(integer(data.black_holes[row])),
      number(integer(data.black_hole_tokens[row])), number(data.changed[row] < 0 ? null : integer(data.joined[row])),
      number(data.changed[row] < 0 ? null : integer(data.left[row])), same[i] ? "the same" : data.w_sha256[row].slice(0, 8))));
  });
})();
