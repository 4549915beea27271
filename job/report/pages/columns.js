"use strict";
// Reads the data of a page from its inert tags. Nothing is decoded before it is asked for.
const columns = (() => {
  const types = { f32: Float32Array, u8: Uint8Array, u16: Uint16Array, i32: Int32Array };
  const decoded = new Map();

  function tag(name) {
    return document.getElementById("col-" + name);
  }

  async function decode(element) {
    const binary = atob(element.textContent);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const length = Number(element.dataset.length);
    if (element.dataset.type !== "text") {
      return new types[element.dataset.type](await new Response(stream).arrayBuffer(), 0, length);
    }
    return length === 0 ? [] : (await new Response(stream).text()).split("\0");
  }

  /** Whether the page has this column. */
  function has(name) {
    return tag(name) !== null;
  }

  /** A promise of the column's typed array, or of its array of texts; of null where the page has no such column. */
  function read(name) {
    if (!decoded.has(name)) decoded.set(name, has(name) ? decode(tag(name)) : Promise.resolve(null));
    return decoded.get(name);
  }

  let known = null;
  /** The facts of the page. */
  function facts() {
    known ??= JSON.parse(document.getElementById("facts").textContent);
    return known;
  }

  const unprintable = /[\p{C}\p{Zl}\p{Zp}\p{Zs}]/gu;
  const short = { "\t": "\\t", "\n": "\\n", "\r": "\\r" };
  /** The text as the page shows it: what somebody searches for is escaped as the texts of the page are. */
  function shown(text) {
    return text.replace(unprintable, (char) => {
      if (char === " ") return char;
      const code = char.codePointAt(0);
      const hex = code.toString(16);
      if (code < 0x100) return short[char] ?? "\\x" + hex.padStart(2, "0");
      return code < 0x10000 ? "\\u" + hex.padStart(4, "0") : "\\U" + hex.padStart(8, "0");
    });
  }

  /** Resolves after the page has been painted. */
  function painted() {
    return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  }

  return { has, read, facts, shown, painted };
})();
