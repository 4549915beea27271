"use strict";
/** Numbers for pictures: statistics, round ticks, scales, how numbers are written, palettes. Touches no document. */
const scales = (() => {
  const GROUPED = new Intl.NumberFormat("en");
  const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  const MINUS = "\u2212";

  /** 49,152 */
  const count = (value) => GROUPED.format(value);
  /** 49.2K, for cells that are narrow */
  const short = (value) => (value < 10000 ? GROUPED.format(value) : SHORT.format(value));

  /** A number with at most `digits` significant digits; powers of ten where it is very large or small. */
  function number(value, digits = 4) {
    if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "inf" : `${MINUS}inf`;
    if (value === 0) return "0";
    const size = Math.abs(value);
    const text =
      size >= 1e6 || size < 1e-4
        ? value
            .toExponential(digits - 1)
            .replace(/\.?0+e/, "e")
            .replace("e+", "e")
        : new Intl.NumberFormat("en", { maximumSignificantDigits: digits }).format(value);
    return text.replaceAll("-", MINUS);
  }

  /** A share as a percentage: 0.031 %, 47 %, 99.98 %. */
  function percent(share) {
    const value = 100 * share;
    if (!(value > 0)) return "0 %";
    if (value >= 99.995) return "100 %";
    return `${value >= 99 ? value.toFixed(2).replace(/\.?0+$/, "") : number(value, value < 10 ? 2 : 3)} %`;
  }

  /** `1 token`, `7 tokens`. */
  const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

  /** The finite values in ascending order. */
  const sorted = (values) => Float64Array.from(values).filter(Number.isFinite).sort();
  /** The value below which a share of sorted values lies. */
  const quantile = (ascending, share) => ascending[Math.round(share * (ascending.length - 1))];
  /** Mean of the finite values; NaN of none. */
  function mean(values) {
    let sum = 0;
    let size = 0;
    for (const value of values)
      if (Number.isFinite(value)) {
        sum += value;
        size += 1;
      }
    return sum / size;
  }

  /** Round numbers between two values, at most half more than `wanted`, 1, 2 or 5 times a power of ten apart. */
  function ticks(low, high, wanted) {
    const span = high - low;
    if (!(span > 0)) return [low];
    const least = span / wanted / 1.5;
    const power = 10 ** Math.floor(Math.log10(least));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= least * 0.999);
    const found = [];
    for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) {
      found.push(Number((index * step).toPrecision(12)));
    }
    return found;
  }

  /** Powers of ten between two positive values; 2 and 5 times them as well where there are few. */
  function logTicks(low, high) {
    const factors = high / low < 1000 ? [1, 2, 5] : [1];
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const factor of factors) found.push(Number(`${factor}e${power}`));
    }
    return found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  }

  /** Maps [low, high] to [from, to]; one value alone to the middle. */
  const linear = (low, high, from, to) => (value) =>
    high > low ? from + ((value - low) / (high - low)) * (to - from) : (from + to) / 2;
  const log = (low, high, from, to) => {
    const inner = linear(Math.log(low), Math.log(high), from, to);
    return (value) => inner(Math.log(value));
  };

  const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const hex = (colour) => `#${colour.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;
  /** A palette of 256 colours, [r, g, b] each, through evenly spaced anchors. */
  function ramp(anchors) {
    const stops = anchors.map(rgb);
    return Array.from({ length: 256 }, (_, index) => {
      const place = (index / 255) * (stops.length - 1);
      const left = Math.min(Math.floor(place), stops.length - 2);
      return stops[left].map((part, channel) => part + (stops[left + 1][channel] - part) * (place - left));
    });
  }
  const viridis = ramp([
    "#440154",
    "#482475",
    "#414487",
    "#355f8d",
    "#2a788e",
    "#21918c",
    "#22a884",
    "#44bf70",
    "#7ad151",
    "#bddf26",
    "#fde725",
  ]);
  const inferno = ramp([
    "#000004",
    "#160b39",
    "#420a68",
    "#6a176e",
    "#932667",
    "#bc3754",
    "#dd513a",
    "#f37819",
    "#fca50a",
    "#f6d746",
    "#fcffa4",
  ]);

  // Okabe and Ito's colours, which the colour-blind tell apart; lighter ones for the night sky.
  const BY_DAY = {
    ordinary: "#9db4c8",
    special: "#d55e00",
    reserved: "#0072b2",
    byte: "#009e73",
    partialutf: "#e0b400",
    beyondtokenizer: "#cc79a7",
  };
  const BY_NIGHT = {
    ordinary: "#8496ab",
    special: "#ff8a1f",
    reserved: "#56b4e9",
    byte: "#2fd6a3",
    partialutf: "#f0e442",
    beyondtokenizer: "#f08cc4",
  };
  const SPARE = ["#999933", "#882255", "#44aa99", "#ddcc77"];
  // However a class is written: partial_utf8, partial UTF-8.
  const key = (name) => name.toLowerCase().replace(/[^a-z]/g, "");
  const classColour = (palette) => (name, index) => palette[key(name)] || SPARE[index % SPARE.length];

  return {
    count,
    short,
    number,
    percent,
    plural,
    sorted,
    quantile,
    mean,
    ticks,
    logTicks,
    linear,
    log,
    rgb,
    hex,
    viridis,
    inferno,
    classByDay: classColour(BY_DAY),
    classByNight: classColour(BY_NIGHT),
  };
})();
