"use strict";
// What all views share: the data, small helpers, colours of the two themes.

let data = JSON.parse(document.getElementById("payload").textContent);

const $ = (id) => document.getElementById(id);

/** A new element with attributes (a function is an event's listener) and children. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}

/** Row i of a packed matrix, decoded once; NaN is missing. Inverse of page.pack. */
function packedRow(packed, i) {
  const n = packed.shape[1];
  if (!packed.values) {
    const ends = new Float32Array(bytes(packed.limits));
    packed.values = Float32Array.from(new Uint16Array(bytes(packed.data)), (value, at) => {
      const k = 2 * Math.floor(at / n);
      return value === 65535 ? NaN : ends[k] + ((ends[k + 1] - ends[k]) * value) / 65534;
    });
  }
  return packed.values.subarray(i * n, (i + 1) * n);
}

/** The same as an array; null is missing. */
const row = (packed, i) =>
  Array.from(packedRow(packed, i), (value) => (Number.isNaN(value) ? null : value));

/** The least and the greatest value of packed matrices; 0 and 1 where there is none. */
function extent(...packed) {
  let [low, high] = [Infinity, -Infinity];
  for (const one of packed) {
    for (let i = 0; i < one.shape[0]; i++) {
      for (const value of row(one, i)) {
        if (value != null) [low, high] = [Math.min(low, value), Math.max(high, value)];
      }
    }
  }
  return low <= high ? [low, high] : [0, 1];
}

const isThere = (value) => value != null && !Number.isNaN(value);
const known = (values) => values.filter(isThere);
const range = (n) => Array.from({ length: n }, (_, i) => i);

/** The runs as objects, each with its place in the table. */
const runs = () =>
  (data.list ??= range(data.runs.run_id.length).map((i) => ({
    index: i,
    ...Object.fromEntries(Object.entries(data.runs).map(([name, column]) => [name, column[i]])),
  })));
const hasEmbedding = (run) => data.settings[run.setting].elements > 0;
const hasEnded = (run) => run.status === "diverged" || run.status === "failed";

// ---------------------------------------------------------------- text

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

/** A number as the tables show it: three figures, steps and counts whole. */
function number(value) {
  if (value == null) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return whole.format(value);
  return Math.abs(value) >= 1000 ? whole.format(value) : String(+value.toPrecision(3));
}

/** Mean and spread to the same decimals, the spread to two figures. */
function plusMinus(mean, spread) {
  if (mean == null || spread == null || spread === 0) return number(mean);
  const decimals = Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(spread))));
  return `${mean.toFixed(decimals)} ± ${spread.toFixed(decimals)}`;
}

const percent = (value) => (value == null ? "–" : `${+(100 * value).toPrecision(2)} %`);
const plural = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;

function download(name, text, kind = "text/csv") {
  const address = URL.createObjectURL(new Blob([text], { type: kind }));
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function csv(header, rows) {
  const cell = (value) => {
    const text = value == null ? "" : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [header, ...rows].map((cells) => cells.map(cell).join(",")).join("\n") + "\n";
}

// ---------------------------------------------------------------- colours

// Okabe and Ito (2008), in the dark lightened so that they stand out from the ground.
const PALETTE = {
  light: ["#0072B2", "#D55E00", "#009E73", "#B5568A", "#B87A00", "#3A8FC4", "#17191d"],
  dark: ["#56B4E9", "#F0853A", "#2FC79A", "#E39AC4", "#E6B94D", "#9DD3F7", "#eceef2"],
};
const hexes = (text) => text.split(" ").map((own) => `#${own}`);

// matplotlib's cividis, for more settings than hues can tell apart and for elements in no cycle, and
// twilight, for those of one.
const ORDERED = hexes(
  "00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838",
);
const CYCLE = hexes(
  "e2d9e2 bccbd1 89adc5 6989be 5f61b4 5c359a 491564 2f1436 " +
    "501444 7f2350 a54350 bc6b59 ca997c d6c2b6 e2d9e2",
);

let theme = "light";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The colour at a place from 0 to 1 along a list of hex colours. */
function between(list, place) {
  const at = place * (list.length - 1);
  const i = Math.min(Math.floor(at), list.length - 2);
  const channel = (c) => {
    const [a, b] = [list[i], list[i + 1]].map((hex) => parseInt(hex.slice(c, c + 2), 16));
    return Math.round(a + (b - a) * (at - i));
  };
  return `rgb(${channel(1)},${channel(3)},${channel(5)})`;
}

/** Colours of n things: hues if they can be told apart, else an ordered scale. */
function colours(n) {
  const hues = PALETTE[theme];
  if (n <= hues.length) return hues.slice(0, n);
  const [low, high] = theme === "light" ? [0, 0.85] : [0.3, 1];
  return range(n).map((i) => between(ORDERED, low + ((high - low) * i) / (n - 1)));
}

const DASHES = ["solid", "dash", "dot", "dashdot"];
