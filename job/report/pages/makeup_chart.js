"use strict";
/** What the holes are made of: classes of each hole's tokens, and class by script of all tokens in holes. */
const makeupChart = (() => {
  const LARGEST = 30;
  const SCRIPTS = 14;

  const colour = (survey, index) => scales.classByDay(survey.classNames[index], index);
  const spoken = (name) => name.replaceAll("_", " ");

  /** Tokens of each class among ids. */
  function byClass(survey, ids) {
    const counts = new Int32Array(survey.classNames.length);
    for (const id of ids) counts[survey.klass[id]] += 1;
    return counts;
  }

  /** Class names with their colours, in rows that fit the width. */
  function legend(survey, present, width) {
    const nodes = [];
    let [x, y] = [8, 14];
    for (const index of present) {
      const name = spoken(survey.classNames[index]);
      const room = 26 + name.length * 7;
      if (x + room > width) {
        x = 8;
        y += 20;
      }
      nodes.push(
        figures.svg("rect", { x, y: y - 10, width: 12, height: 12, fill: colour(survey, index) }),
        figures.svg("text", { class: "picture-tick", x: x + 17, y }, name),
      );
      x += room;
    }
    return { nodes, height: y + 14 };
  }

  function drawBars(survey, rows, present, width) {
    const key = legend(survey, present, width);
    const [left, right, step] = [62, width - 78, rows.length > 12 ? 17 : 24];
    const across = scales.linear(0, 1, left, right);
    const nodes = [...key.nodes];
    const marks = [];
    const top = key.height + 6;
    rows.forEach(({ hole, counts }, row) => {
      const y = top + row * step;
      nodes.push(
        figures.svg(
          "text",
          { class: "picture-tick", x: left - 8, y: y + step / 2 + 3, "text-anchor": "end" },
          `hole ${hole.id}`,
        ),
        figures.svg(
          "text",
          { class: "picture-tick", x: right + 8, y: y + step / 2 + 3 },
          scales.plural(hole.population, "token"),
        ),
      );
      let sofar = 0;
      for (const index of present) {
        if (!counts[index]) continue;
        const [x, end] = [across(sofar / hole.population), across((sofar + counts[index]) / hole.population)];
        sofar += counts[index];
        const box = { x, y, w: Math.max(1, end - x), h: step - 3 };
        nodes.push(figures.svg("rect", { x, y, width: box.w, height: box.h, fill: colour(survey, index) }));
        marks.push({
          ...box,
          lines: () => [
            `hole ${hole.id}: ${spoken(survey.classNames[index])}`,
            `${scales.count(counts[index])} of ${scales.plural(hole.population, "token")}, ` +
              scales.percent(counts[index] / hole.population),
          ],
          ids: () =>
            members
              .of(survey)
              .hole(hole.id)
              .filter((id) => survey.klass[id] === index),
        });
      }
    });
    const y = top + rows.length * step + 2;
    nodes.push(
      ...figures.axisBelow(across, [0, 0.25, 0.5, 0.75, 1], {
        left,
        right,
        y,
        label: "share of the hole’s tokens",
        format: scales.percent,
      }),
    );
    return { height: y + 42, nodes, marks: figures.boxes(marks) };
  }

  function drawClasses(container, survey, onPick) {
    const title =
      survey.holes.length > LARGEST ? `What the largest ${LARGEST} holes are made of` : "What the holes are made of";
    const largest = survey.holes
      .slice()
      .sort((a, b) => b.population - a.population || a.id - b.id)
      .slice(0, LARGEST);
    const rows = largest.map((hole) => ({ hole, counts: byClass(survey, members.of(survey).hole(hole.id)) }));
    const all = byClass(survey, members.of(survey).all());
    const present = [...all.keys()].filter((index) => all[index]).sort((a, b) => all[b] - all[a]);
    const total = members.of(survey).all().length;
    const caption = `Of the ${scales.plural(total, "token")} in holes, ${present
      .map(
        (index) =>
          `${scales.count(all[index])} (${scales.percent(all[index] / total)}) ${all[index] === 1 ? "is" : "are"} ` +
          `${spoken(survey.classNames[index])}`,
      )
      .join(", ")}.`;
    figures.picture(
      container,
      {
        name: "makeup",
        title,
        gist: caption,
        caption,
        draw: (width) => drawBars(survey, rows, present, width),
        table: figures.numbers(
          ["hole", "tokens", ...present.map((index) => spoken(survey.classNames[index]))],
          rows.map(({ hole, counts }) => [
            String(hole.id),
            scales.count(hole.population),
            ...present.map((index) => scales.count(counts[index])),
          ]),
        ),
      },
      onPick,
    );
  }

  /** Tokens and tokens in holes for each pair of class and script; rare scripts are put together. */
  function crossed(survey) {
    const size = survey.scriptNames.length;
    const all = new Int32Array(survey.classNames.length * size);
    const held = new Int32Array(all.length);
    for (let id = 0; id < survey.n; id += 1) {
      const cell = survey.klass[id] * size + survey.script[id];
      all[cell] += 1;
      if (survey.hole[id] > 0) held[cell] += 1;
    }
    const sum = (cells, test) => cells.reduce((sofar, value, cell) => sofar + (test(cell) ? value : 0), 0);
    const weight = (script) => [
      sum(held, (cell) => cell % size === script),
      sum(all, (cell) => cell % size === script),
    ];
    const ordered = [...Array(size).keys()]
      .map((script) => ({ script, weight: weight(script) }))
      .filter((entry) => entry.weight[1])
      .sort((a, b) => b.weight[0] - a.weight[0] || b.weight[1] - a.weight[1])
      .map(({ script }) => script);
    const shown = ordered.length > SCRIPTS ? ordered.slice(0, SCRIPTS - 1) : ordered;
    const rest = ordered.slice(shown.length);
    const rows = shown.map((script) => ({ name: survey.scriptNames[script] || "no script", scripts: [script] }));
    if (rest.length) rows.push({ name: `${rest.length} others`, scripts: rest });
    const columns = [...survey.classNames.keys()].filter(
      (klass) => sum(all, (cell) => Math.floor(cell / size) === klass) > 0,
    );
    const cell = (cells, row, klass) => row.scripts.reduce((sofar, script) => sofar + cells[klass * size + script], 0);
    return { rows, columns, all: (row, klass) => cell(all, row, klass), held: (row, klass) => cell(held, row, klass) };
  }

  function idsIn(survey, row, klass) {
    const found = [];
    for (let id = 0; id < survey.n; id += 1) {
      if (survey.hole[id] > 0 && survey.klass[id] === klass && row.scripts.includes(survey.script[id])) found.push(id);
    }
    return found;
  }

  /** A column's name: level, or slanted where columns are narrow. */
  const heading = (name, x, y, narrow) =>
    figures.svg(
      "text",
      {
        class: "picture-tick",
        "text-anchor": narrow ? "start" : "middle",
        x,
        y,
        ...(narrow ? { transform: `rotate(-64 ${x} ${y})` } : {}),
      },
      name,
    );

  function drawCells(survey, table, width) {
    const { rows, columns } = table;
    const left = width < 480 ? 78 : 94;
    const step = 36;
    const wide = Math.min(130, (width - left - (width < 480 ? 46 : 4)) / columns.length);
    const narrow = wide < 62;
    const top = narrow ? 104 : 34;
    const write = wide >= 84 ? scales.count : scales.short;
    const nodes = [];
    const marks = [];
    columns.forEach((klass, column) =>
      nodes.push(heading(spoken(survey.classNames[klass]), left + wide * (column + 0.5), top - 8, narrow)),
    );
    rows.forEach((row, index) => {
      const y = top + index * step;
      nodes.push(
        figures.svg("text", { class: "picture-tick", x: left - 8, y: y + 21, "text-anchor": "end" }, row.name),
      );
      columns.forEach((klass, column) => {
        const [held, all] = [table.held(row, klass), table.all(row, klass)];
        const box = { x: left + wide * column + 1, y: y + 1, w: wide - 2, h: step - 2 };
        if (!all) {
          nodes.push(
            figures.svg("rect", { class: "picture-nothing", x: box.x, y: box.y, width: box.w, height: box.h }),
          );
          return;
        }
        const level = Math.sqrt(held / all);
        nodes.push(figures.svg("rect", { class: "picture-none", x: box.x, y: box.y, width: box.w, height: box.h }));
        if (held) {
          nodes.push(
            figures.svg("rect", {
              class: "picture-hole",
              x: box.x,
              y: box.y,
              width: box.w,
              height: box.h,
              opacity: (0.12 + 0.88 * level).toFixed(3),
            }),
          );
        }
        const tone = held && level > 0.5 ? "picture-on-hole" : "picture-cell";
        const middle = { x: box.x + box.w / 2, "text-anchor": "middle" };
        if (held)
          nodes.push(figures.svg("text", { ...middle, class: `${tone} picture-strong`, y: y + 16 }, write(held)));
        nodes.push(
          figures.svg(
            "text",
            { ...middle, class: held ? tone : "picture-faint", y: y + (held ? 29 : 22) },
            held && !narrow ? `of ${write(all)}` : write(all),
          ),
        );
        marks.push({
          ...box,
          lines: () => [
            `${spoken(survey.classNames[klass])}, ${row.name}`,
            `${scales.count(held)} of ${scales.plural(all, "token")} in holes, ${scales.percent(held / all)}`,
          ],
          ids: () => idsIn(survey, row, klass),
        });
      });
    });
    return { height: top + rows.length * step + 6, nodes, marks: figures.boxes(marks) };
  }

  function drawMatrix(container, survey, onPick) {
    const title = "Tokens in holes by class and script";
    const table = crossed(survey);
    const pairs = table.rows
      .flatMap((row) =>
        table.columns.map((klass) => ({ row, klass, held: table.held(row, klass), all: table.all(row, klass) })),
      )
      .filter(({ held }) => held);
    pairs.sort((a, b) => b.held - a.held);
    const total = members.of(survey).all().length;
    const caption = pairs.length
      ? `The largest share of the tokens in holes, ${scales.percent(pairs[0].held / total)}, ` +
        `is ${spoken(survey.classNames[pairs[0].klass])} (${pairs[0].row.name}): ${scales.count(pairs[0].held)} of ` +
        `${scales.plural(pairs[0].all, "such token")}. `
      : survey.holes.length
        ? ""
        : "No token is in a hole. ";
    figures.picture(
      container,
      {
        name: "matrix",
        title,
        gist: caption || title,
        caption:
          `${caption}A cell counts tokens in holes over all tokens of its class and script; the stronger its ` +
          "tone, the larger the share in holes.",
        draw: (width) => drawCells(survey, table, width),
        table:
          pairs.length &&
          figures.numbers(
            ["script", "class", "in holes", "tokens", "share"],
            pairs
              .slice(0, 60)
              .map((pair) => [
                pair.row.name,
                spoken(survey.classNames[pair.klass]),
                scales.count(pair.held),
                scales.count(pair.all),
                scales.percent(pair.held / pair.all),
              ]),
          ),
      },
      onPick,
    );
  }

  function draw(container, survey, onPick) {
    if (!survey.klass) {
      figures.missing(
        container,
        "makeup",
        "What the holes are made of",
        "The survey has no classes of tokens: TENSORS with “tokens” publishes them, where there is a tokenizer.",
      );
      return;
    }
    if (members.of(survey).all().length) drawClasses(container, survey, onPick);
    if (survey.script) drawMatrix(container, survey, onPick);
  }

  return { draw };
})();
