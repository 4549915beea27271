"use strict";
/** The token cloud as numbers: which tokens have a place, how they are coloured, the pixels, what lies nearest. */
const sky = (() => {
  const NIGHT = [4, 4, 10];
  // The darkest quarter of inferno cannot be told from the night.
  const GLOWING = Array.from({ length: 256 }, (_, index) => scales.inferno[Math.round(66 + (index / 255) * 189)]);
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
    const sample = scales.sorted(Array.from(ids).filter((_, at) => at % stride === 0).map((id) => values(id)));
    const [low, high] = sample.length ? [scales.quantile(sample, 0.005), scales.quantile(sample, 0.995)] : [0, 1];
    const level = scales.linear(low, high, 0, 255);
    const levels = Uint8ClampedArray.from(ids, (id) => level(values(id)));
    return { levels, palette: GLOWING, weights: new Float32Array(256).fill(1), low, high, label };
  }

  function byClass(survey, ids) {
    const palette = Array.from({ length: 256 }, (_, index) =>
      scales.rgb(scales.classByNight(survey.classNames[index], index)));
    const counts = new Int32Array(256);
    for (const id of ids) counts[survey.klass[id]] += 1;
    const present = [...survey.classNames.keys()].filter((index) => counts[index]).sort((a, b) => counts[b] - counts[a]);
    // Rare classes would drown among the others.
    const weights = Float32Array.from(counts, (count) => (count * 10 < ids.length ? 6 : 1));
    return { levels: Uint8ClampedArray.from(ids, (id) => survey.klass[id]), palette, weights, present, label: "class" };
  }

  /** Offsets and weights of the pixels that one token lights. */
  function kernel(radius) {
    const reach = Math.max(1, Math.ceil(radius));
    const found = [];
    for (let y = -reach; y <= reach; y += 1) {
      for (let x = -reach; x <= reach; x += 1) {
        const weight = Math.exp((-2 * (x * x + y * y)) / (radius * radius));
        if (weight > 0.08) found.push({ x, y, weight });
      }
    }
    return found;
  }

  /** Adds up light and colour of the tokens in view: four floats a pixel. */
  function gather(cloud, colours, view, { width, height, radius }) {
    const light = new Float32Array(4 * width * height);
    const lit = kernel(radius);
    const [xs, ys] = [cloud.x.values, cloud.y.values];
    for (let at = 0; at < xs.length; at += 1) {
      const x = Math.round((xs[at] - view.x) * view.scale + width / 2);
      const y = Math.round((view.y - ys[at]) * view.scale + height / 2);
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      const level = colours.levels[at];
      const [red, green, blue] = colours.palette[level];
      const weight = colours.weights[level];
      for (let part = 0; part < lit.length; part += 1) {
        const px = x + lit[part].x;
        const py = y + lit[part].y;
        if (px < 0 || py < 0 || px >= width || py >= height) continue;
        const share = weight * lit[part].weight;
        const cell = 4 * (py * width + px);
        light[cell] += share * red;
        light[cell + 1] += share * green;
        light[cell + 2] += share * blue;
        light[cell + 3] += share;
      }
    }
    return light;
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
    const light = gather(cloud, colours, view, frame);
    const full = Math.log(brightest(light));
    const out = new Uint32Array(pixels.data.buffer);
    const night = 0xff000000 | (NIGHT[2] << 16) | (NIGHT[1] << 8) | NIGHT[0];
    for (let pixel = 0, cell = 0; pixel < out.length; pixel += 1, cell += 4) {
      const amount = light[cell + 3];
      if (amount < 0.02) { out[pixel] = night; continue; }
      const shade = Math.min(1, amount < 1 ? 0.55 * amount : 0.55 + (0.45 * Math.log(amount)) / full) / amount;
      const red = NIGHT[0] + light[cell] * shade;
      const green = NIGHT[1] + light[cell + 1] * shade;
      const blue = NIGHT[2] + light[cell + 2] * shade;
      out[pixel] = 0xff000000 | (Math.min(255, blue) << 16) | (Math.min(255, green) << 8) | Math.min(255, red);
    }
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
    cells.forEach((cell, at) => { order[next[cell]] = at; next[cell] += 1; });

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

  return { NIGHT, placed, direction, byValue, byClass, paint, index };
})();
