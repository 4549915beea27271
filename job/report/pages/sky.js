"use strict";
/** The token cloud as numbers: which tokens have a place, how they are coloured, the pixels, what lies nearest. */
const sky = (() => {
  const NIGHT = [4, 4, 10];
  // The darkest third of inferno cannot be told from the night.
  const GLOWING = Array.from({ length: 256 }, (_, index) => scales.inferno[Math.round(80 + (index / 255) * 175)]);
  const SAMPLE = 20000;

  /** Ids of the tokens whose coordinates are all finite. */
  function placed({ coordinates, n }) {
    const ids = new Int32Array(n);
    let size = 0;
    for (let id = 0; id < n; id += 1) {
      if (Number.isFinite(coordinates[3 * id] + coordinates[3 * id + 1] + coordinates[3 * id + 2])) {
        ids[size] = id;
        size += 1;
      }
    }
    return ids.slice(0, size);
  }

  /** One direction of the placed tokens: values by place, the whole range, and the range without far outliers. */
  function direction(coordinates, ids, axis) {
    const values = new Float32Array(ids.length);
    let [low, high] = [Infinity, -Infinity];
    for (let at = 0; at < ids.length; at += 1) {
      const value = coordinates[3 * ids[at] + axis];
      values[at] = value;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const stride = Math.ceil(ids.length / SAMPLE);
    const sample = scales.sorted(values.filter((_, at) => at % stride === 0));
    const [from, to] = [scales.quantile(sample, 0.001), scales.quantile(sample, 0.999)];
    const margin = 0.25 * (to - from);
    return { values, whole: [low, high], most: [Math.max(low, from - margin), Math.min(high, to + margin)] };
  }

  /** Colour of each placed token as an index into a palette of 256, and what the colours mean. */
  function byValue(values, ids, label) {
    const stride = Math.ceil(ids.length / SAMPLE);
    const sample = scales.sorted(
      Array.from(ids)
        .filter((_, at) => at % stride === 0)
        .map((id) => values(id)),
    );
    const [low, high] = sample.length ? [scales.quantile(sample, 0.005), scales.quantile(sample, 0.995)] : [0, 1];
    const level = scales.linear(low, high, 0, 255);
    const levels = Uint8ClampedArray.from(ids, (id) => level(values(id)));
    return { levels, palette: GLOWING, weights: new Float32Array(256).fill(1), glow: 1.45, low, high, label };
  }

  function byClass(survey, ids) {
    const palette = Array.from({ length: 256 }, (_, index) =>
      scales.rgb(scales.classByNight(survey.classNames[index] ?? "", index)),
    );
    const counts = new Int32Array(256);
    for (const id of ids) counts[survey.klass[id]] += 1;
    const present = [...survey.classNames.keys()]
      .filter((index) => counts[index])
      .sort((a, b) => counts[b] - counts[a]);
    // Rare classes would drown among the others.
    const weights = Float32Array.from(counts, (count) => (count * 10 < ids.length ? 6 : 1));
    return {
      levels: Uint8ClampedArray.from(ids, (id) => survey.klass[id]),
      palette,
      weights,
      glow: 1,
      present,
      label: "class",
    };
  }

  /** Offsets and weights of the pixels that one token lights. */
  function kernel(radius) {
    const reach = Math.max(1, Math.ceil(radius));
    const [across, down, weights] = [[], [], []];
    for (let y = -reach; y <= reach; y += 1) {
      for (let x = -reach; x <= reach; x += 1) {
        const weight = Math.min(1, 1.5 * Math.exp((-2 * (x * x + y * y)) / (radius * radius)));
        if (weight < 0.25) continue;
        across.push(x);
        down.push(y);
        weights.push(weight);
      }
    }
    return { reach, across: Int32Array.from(across), down: Int32Array.from(down), weights: Float32Array.from(weights) };
  }

  /** Adds up light and colour of the tokens in view: four floats a pixel, with a margin of the kernel's reach. */
  function gather(cloud, colours, view, { width, height, radius }) {
    const [usual, rare] = [kernel(radius), kernel(1.7 * radius + 0.5)];
    const { reach } = rare;
    const stride = width + 2 * reach;
    const light = new Float32Array(4 * stride * (height + 2 * reach));
    const cells = ({ across, down }) => across.map((x, part) => 4 * (down[part] * stride + x));
    const [usualCells, rareCells] = [cells(usual), cells(rare)];
    const flat = Float32Array.from(colours.palette.flat());
    const [xs, ys] = [cloud.x.values, cloud.y.values];
    const { levels } = colours;
    const { x: middle, y: centre, scale } = view;
    for (let at = 0; at < xs.length; at += 1) {
      const x = Math.floor((xs[at] - middle) * scale + width / 2);
      const y = Math.floor((centre - ys[at]) * scale + height / 2);
      if (!(x >= 0 && y >= 0 && x < width && y < height)) continue;
      const level = levels[at];
      const weight = colours.weights[level];
      const red = flat[3 * level];
      const green = flat[3 * level + 1];
      const blue = flat[3 * level + 2];
      const offsets = weight > 1 ? rareCells : usualCells;
      const shares = weight > 1 ? rare.weights : usual.weights;
      const base = 4 * ((y + reach) * stride + x + reach);
      for (let part = 0; part < offsets.length; part += 1) {
        const share = weight * shares[part];
        const cell = base + offsets[part];
        light[cell] += share * red;
        light[cell + 1] += share * green;
        light[cell + 2] += share * blue;
        light[cell + 3] += share;
      }
    }
    return { light, reach, stride };
  }

  /** The amount of light that only one lit pixel in a hundred exceeds. */
  function brightest(light) {
    const bins = new Int32Array(128);
    let lit = 0;
    for (let cell = 3; cell < light.length; cell += 4) {
      if (light[cell] < 0.5) continue;
      bins[Math.min(127, Math.floor(6 * Math.log2(1 + light[cell])))] += 1;
      lit += 1;
    }
    let left = lit * 0.01;
    for (let bin = 127; bin >= 0; bin -= 1) {
      left -= bins[bin];
      if (left < 0) return Math.max(3, 2 ** ((bin + 1) / 6) - 1);
    }
    return 3;
  }

  /** Paints the cloud: the mean colour of the tokens at a pixel, the brighter the more tokens (logarithmically). */
  function paint(pixels, cloud, colours, view, frame) {
    const { light, reach, stride } = gather(cloud, colours, view, frame);
    const full = Math.log(brightest(light));
    const { glow } = colours;
    // A token by itself is dim in a crowded view, and bright where tokens lie apart.
    const least = Math.max(0.6, Math.min(0.9 * glow, 1.6 - 0.3 * full));
    const out = new Uint32Array(pixels.data.buffer).fill(0xff000000 | (NIGHT[2] << 16) | (NIGHT[1] << 8) | NIGHT[0]);
    for (let row = 0, pixel = 0; row < frame.height; row += 1) {
      let cell = 4 * ((row + reach) * stride + reach);
      for (let column = 0; column < frame.width; column += 1, pixel += 1, cell += 4) {
        const amount = light[cell + 3];
        if (amount < 0.02) continue;
        const shade =
          Math.min(glow, amount < 1 ? least * amount : least + ((glow - least) * Math.log(amount)) / full) / amount;
        const red = Math.min(255, NIGHT[0] + light[cell] * shade);
        const green = Math.min(255, NIGHT[1] + light[cell + 1] * shade);
        const blue = Math.min(255, NIGHT[2] + light[cell + 2] * shade);
        out[pixel] = 0xff000000 | (blue << 16) | (green << 8) | red;
      }
    }
  }

  /** Which placed tokens lie within the view; only their number when there are more than `most`. */
  function within(cloud, view, { width, height }, most) {
    const found = [];
    let size = 0;
    const [xs, ys] = [cloud.x.values, cloud.y.values];
    const [across, down] = [width / 2 / view.scale, height / 2 / view.scale];
    for (let at = 0; at < xs.length; at += 1) {
      if (Math.abs(xs[at] - view.x) > across || Math.abs(ys[at] - view.y) > down) continue;
      size += 1;
      if (size <= most) found.push(cloud.ids[at]);
    }
    return { size, ids: size <= most ? found : [] };
  }

  /** Finds the token nearest to a point: tokens sorted by the cells of a grid. */
  function index(cloud) {
    const size = Math.max(1, Math.min(512, Math.ceil(Math.sqrt(cloud.ids.length))));
    const side = (axis) => {
      const [low, high] = axis.most;
      const scale = size / (high - low || 1);
      return (value) => Math.max(0, Math.min(size - 1, Math.floor((value - low) * scale)));
    };
    const [column, row] = [side(cloud.x), side(cloud.y)];
    const [xs, ys] = [cloud.x.values, cloud.y.values];
    const begins = new Int32Array(size * size + 1);
    const cells = Int32Array.from(xs, (x, at) => row(ys[at]) * size + column(x));
    for (const cell of cells) begins[cell + 1] += 1;
    for (let cell = 0; cell < size * size; cell += 1) begins[cell + 1] += begins[cell];
    const [next, order] = [begins.slice(), new Int32Array(xs.length)];
    cells.forEach((cell, at) => {
      order[next[cell]] = at;
      next[cell] += 1;
    });

    /** Place of the nearest token within reach, or -1. */
    return (x, y, reach) => {
      let [best, least] = [-1, reach * reach];
      for (let r = row(y - reach); r <= row(y + reach); r += 1) {
        const end = begins[r * size + column(x + reach) + 1];
        for (let at = begins[r * size + column(x - reach)]; at < end; at += 1) {
          const distance = (xs[order[at]] - x) ** 2 + (ys[order[at]] - y) ** 2;
          if (distance < least) [best, least] = [order[at], distance];
        }
      }
      return best;
    };
  }

  return { NIGHT, placed, direction, byValue, byClass, paint, within, index };
})();
