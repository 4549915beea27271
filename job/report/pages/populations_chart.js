"use strict";
/** Populations of the holes by rank: bars for few, a logarithmic picture for many. */
const populationsChart = (() => {
  const TITLE = "How many tokens each hole holds";
  const FEW = 40;
  const FLOOR = 200;
  const TOP = 28;

  function told(survey, holes, index) {
    return () => [
      `hole ${holes[index].id}`,
      scales.plural(holes[index].population, "token"),
      ...(Number.isFinite(holes[index].norm) ? [`norm ${scales.number(holes[index].norm, 6)}`] : []),
    ];
  }
  const picked = (survey, holes, index) => () => members.of(survey).hole(holes[index].id);

  function drawFew(survey, holes, width) {
    const [left, right] = [52, width - 12];
    const slot = Math.min(90, (right - left) / holes.length);
    const up = scales.linear(0, holes[0].population, FLOOR, TOP);
    const marks = holes.map((hole, index) => ({
      x: left + slot * index,
      y: TOP,
      w: slot,
      h: FLOOR - TOP,
      lines: told(survey, holes, index),
      ids: picked(survey, holes, index),
    }));
    const bars = holes.map((hole, index) =>
      figures.svg("rect", {
        class: "picture-hole",
        x: left + slot * (index + 0.15),
        width: slot * 0.7,
        y: up(hole.population),
        height: FLOOR - up(hole.population),
      }),
    );
    const every = Math.ceil(24 / slot);
    const names = holes
      .filter((_, index) => index % every === 0)
      .map((hole, index) =>
        figures.svg(
          "text",
          {
            class: "picture-tick",
            x: left + slot * (index * every + 0.5),
            y: FLOOR + 16,
            "text-anchor": "middle",
          },
          String(hole.id),
        ),
      );
    const counts = holes.map((hole, index) =>
      figures.svg(
        "text",
        { class: "picture-tick", "text-anchor": "middle", x: left + slot * (index + 0.5), y: up(hole.population) - 4 },
        scales.short(hole.population),
      ),
    );
    const wholes = scales.ticks(0, holes[0].population, 4).filter(Number.isInteger);
    const end = left + slot * holes.length;
    return {
      height: FLOOR + 42,
      marks: figures.boxes(marks),
      nodes: [
        ...figures.axisLeft(up, wholes, { x: left, right: end, top: TOP, label: "tokens" }),
        ...bars,
        ...names,
        ...(slot >= 22 ? counts : []),
        figures.svg("line", { class: "picture-axis", x1: left, x2: end, y1: FLOOR, y2: FLOOR }),
        figures.svg(
          "text",
          { class: "picture-label", x: Math.max((left + end) / 2, 70), y: FLOOR + 34, "text-anchor": "middle" },
          "hole, by population",
        ),
      ],
    };
  }

  /** One path for all holes, so that thousands stay quick: a round dot for each where they are apart, a line where not. */
  function drawMany(survey, holes, width) {
    const [left, right] = [52, width - 16];
    const across = scales.log(1, holes.length, left + 6, right);
    const [most, least] = [holes[0].population, holes[holes.length - 1].population];
    const up = scales.log(Math.max(1, least / 1.3), most, FLOOR, TOP);
    const points = holes.map((hole, index) => [across(index + 1).toFixed(1), up(hole.population).toFixed(1)]);
    const dots = [...new Set(points.map(([x, y]) => `M${x} ${y}h0`))].join("");
    const nodes = [
      ...figures.axisLeft(up, scales.logTicks(Math.max(1, least / 1.3), most), {
        x: left,
        right,
        top: TOP,
        label: "tokens (logarithmic)",
        format: scales.count,
      }),
      figures.svg("path", { class: "picture-dots", d: dots, "stroke-linecap": "round" }),
      ...figures.axisBelow(across, scales.logTicks(1, holes.length), {
        left,
        right,
        y: FLOOR,
        label: "rank of the hole by population (logarithmic)",
        format: scales.count,
      }),
    ];
    const at = (index) => ({
      x: Number(points[index][0]) - 4,
      y: Number(points[index][1]) - 4,
      w: 8,
      h: 8,
      lines: told(survey, holes, index),
      ids: picked(survey, holes, index),
    });
    const find = (x, y) => {
      if (x < left - 6 || x > right + 8 || y < TOP - 10 || y > FLOOR + 4) return -1;
      const rank = Math.exp(((x - left - 6) / (right - left - 6)) * Math.log(holes.length));
      return Math.max(0, Math.min(holes.length - 1, Math.round(rank) - 1));
    };
    return { height: FLOOR + 42, nodes, marks: { size: holes.length, at, find } };
  }

  function sentence(holes) {
    const total = holes.reduce((sofar, { population }) => sofar + population, 0);
    const [most, median, least] = [0, Math.floor(holes.length / 2), holes.length - 1].map((at) => holes[at].population);
    if (holes.length === 1) return `The only hole holds ${scales.plural(most, "token")}.`;
    return (
      `The largest of ${scales.count(holes.length)} holes holds ${scales.count(most)} tokens, ` +
      `${scales.percent(most / total)} of the ${scales.count(total)} tokens in holes; half of the holes hold ` +
      `${median === least ? `only ${scales.count(median)}` : `${scales.count(median)} or fewer`}.`
    );
  }

  function draw(container, survey, onPick) {
    const holes = survey.holes.slice().sort((a, b) => b.population - a.population || a.id - b.id);
    if (!holes.length) {
      figures.missing(
        container,
        "populations",
        TITLE,
        "There is no black hole: every row of W differs from all others.",
      );
      return;
    }
    const caption = sentence(holes);
    const listed = holes.slice(0, 100);
    figures.picture(
      container,
      {
        name: "populations",
        title: TITLE,
        gist: caption,
        caption,
        draw: (width) => (holes.length <= FEW ? drawFew : drawMany)(survey, holes, width),
        table: figures.numbers(
          ["hole", "tokens", "norm"],
          listed.map(({ id, population, norm }) => [String(id), scales.count(population), scales.number(norm, 6)]),
          holes.length > listed.length ? `the largest ${listed.length}` : "",
        ),
      },
      onPick,
    );
  }

  return { draw };
})();
