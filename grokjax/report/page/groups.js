// Which runs are looked at, how they are grouped, and what is said of a group.

/** What holds for every view; the address has what is not as here. */
const USUAL = { filter: "", group: "setting", summary: "mean" };
const state = { ...USUAL };

// Words of the filter for columns.
const ALIASES = {
  generalised: "generalisation_step",
  memorised: "memorisation_step",
  accuracy: "last_test_accuracy",
  p: "prime",
  n: "prime",
  task: "operation",
};

// Beyond so many settings runs are grouped by an axis, and the first view is the phase diagram.
const MANY_SETTINGS = 30;

/** Axes of the grid, those of most values first, without seeds. */
const byValues = () =>
  data.axes
    .filter((own) => own.column !== "seed")
    .toSorted((a, b) => b.values.length - a.values.length);

const many = () => data.settings.length > MANY_SETTINGS && byValues().length > 0;

/** Takes up what an address says; what it does not say stays. */
function takeUp(words) {
  const usual = many() ? byValues()[0].column : "setting";
  if (state.group === USUAL.group) state.group = usual;
  USUAL.group = usual;
  for (const name of Object.keys(USUAL)) if (words.has(name)) state[name] = words.get(name);
  if (!axisOf(state.group)) state.group = "setting";
  const groups = [["setting", "setting"], ...data.axes.map((own) => [own.column, own.title])];
  $("group").replaceChildren(...groups.map(([value, name]) => element("option", { value }, name)));
  for (const name of Object.keys(USUAL)) {
    if ($(name).value !== state[name]) $(name).value = state[name];
  }
  const example = data.axes[0];
  $("filter").placeholder = example ? wordOf([example.column, example.values[0]]) : "";
  $("tools").hidden = runs().length < 2;
}

// ---------------------------------------------------------------- filter

const split = (filter) => filter.split(/\s+/).filter(Boolean);

/** The runs that pass a filter. */
function chosen(filter = state.filter) {
  const tests = split(filter).map(test);
  return runs().filter((run) => tests.every((passes) => passes(run)));
}

const wordOf = ([column, value]) => `${column}=${value ?? "none"}`;

/** The filter with these values of columns, or without them where it has them already. */
function narrowed(values) {
  const words = Object.entries(values).map(wordOf);
  const own = split(state.filter);
  const there = words.every((word) => own.includes(word));
  const others = own.filter((word) => !Object.keys(values).some((c) => word.startsWith(`${c}=`)));
  return [...others, ...(there ? [] : words)].join(" ");
}

/** What a word of the filter stands for: a number, true or false, or itself. */
function plain(text) {
  if (/^(true|false)$/i.test(text)) return text.toLowerCase() === "true";
  return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

/** A word of the filter as a test of a run. */
function test(word) {
  const found = /^([a-z_0-9]+)(<=|>=|<|>|=)(.+)$/i.exec(word);
  const name = found && (ALIASES[found[1].toLowerCase()] ?? found[1].toLowerCase());
  if (!found || !(name in data.runs)) {
    const wanted = word.toLowerCase();
    const shown = table.columns().map(([column]) => column);
    return (run) => shown.some((column) => String(run[column]).toLowerCase().includes(wanted));
  }
  const [, , sign, text] = found;
  if (sign === "=" && /^(none|never)$/i.test(text)) {
    return (run) => run[name] == null || run[name] === text;
  }
  const wanted = data.words[name]?.[text] ?? plain(text);
  const compare = {
    "<": (a) => a < wanted,
    ">": (a) => a > wanted,
    "<=": (a) => a <= wanted,
    ">=": (a) => a >= wanted,
    "=": (a) => a === wanted,
  };
  return (run) =>
    run[name] != null && typeof run[name] === typeof wanted && compare[sign](run[name]);
}

// ---------------------------------------------------------------- groups

const axisOf = (column) => data.axes.find((own) => own.column === column);

/** Runs by setting, or by the value that they have on an axis. */
function groups(own = chosen()) {
  const axis = axisOf(state.group);
  const members = new Map();
  for (const run of own) {
    const key = axis ? axis.values.indexOf(run[axis.column]) : run.setting;
    if (!members.has(key)) members.set(key, []);
    members.get(key).push(run);
  }
  return [...members.keys()]
    .sort((a, b) => a - b)
    .map((key) => {
      const first = members.get(key)[0];
      const columns = axis ? [axis] : data.axes.filter((one) => one.column !== "seed");
      return {
        ...(axis ? { name: axis.names[key], line: axis.names[key] } : data.settings[key]),
        key,
        runs: members.get(key),
        values: Object.fromEntries(columns.map(({ column }) => [column, first[column]])),
      };
    });
}

// ---------------------------------------------------------------- statistics

/** By linear interpolation, of at least one value, ascending. */
function quantile(sorted, share) {
  const at = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return low + (high - low) * (at - Math.floor(at));
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** With n − 1, of at least two values. */
function deviation(values) {
  const middle = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1));
}

const usesMedian = () => state.summary.startsWith("median");
const showsRuns = () => state.summary.endsWith("runs");

/** Centre, and the ends of what lies around it: mean ± SD, or median and quartiles; null: none. */
function around(values) {
  const own = new Float64Array(known(values));
  if (own.length < 2) return [own[0] ?? null, null, null];
  if (usesMedian()) {
    own.sort();
    return [0.5, 0.25, 0.75].map((share) => quantile(own, share));
  }
  const [middle, spread] = [mean(own), deviation(own)];
  return [middle, middle - spread, middle + spread];
}

/** Mean or median of what is there; null if nothing is. */
const centre = (values) => around(values)[0];

/** The same in words. */
function inWords(values) {
  const [middle, low, high] = around(values);
  if (!usesMedian()) return plusMinus(middle, high == null ? null : high - middle);
  return number(middle) + (low == null ? "" : ` (${number(low)} to ${number(high)})`);
}

/**
 * The step by which half of the runs got somewhere, those that never did counted in full; null where
 * fewer did. Kaplan and Meier's median: runs still going count for as long as they have run.
 */
function halfway(own, column = "generalisation_step") {
  const at = (run) => run[column] ?? Infinity;
  let left = 1;
  for (const step of [...new Set(known(own.map((run) => run[column])))].sort((a, b) => a - b)) {
    const still = own.filter((run) => Math.min(at(run), run.horizon) >= step).length;
    left *= 1 - own.filter((run) => at(run) === step).length / still;
    if (left <= 0.5 + 1e-9) return step;
  }
  return null;
}
