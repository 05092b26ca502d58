// All runs as a table: sorted by its headers, filtered by words and comparisons.

const FIRST_ROWS = 200;
const ALIASES = {
  generalised: "generalisation_step",
  memorised: "memorisation_step",
  accuracy: "last_test_accuracy",
  p: "prime",
  n: "prime",
  task: "operation",
};

const table = {
  sort: "setting",
  down: false,
  all: false,

  columns() {
    const differs = (name) => new Set(known(data.runs[name])).size > 1;
    return [
      ["run_id", "run"],
      ...data.columns.filter(differs).map((name) => [name, name.replaceAll("_", " ")]),
      ["seed", "seed"],
      ["status", "status"],
      ["memorisation_step", "memorised"],
      ["generalisation_step", "generalised"],
      ["last_test_accuracy", "last test accuracy"],
      ["before", "H1 max before"],
      ["after", "H1 max after"],
    ];
  },

  show(words) {
    $("filter").value = words.get("filter") ?? "";
    const statuses = ["", "done", "running", "diverged", "failed"];
    $("status-filter").replaceChildren(
      ...statuses.map((name) => element("option", { value: name }, name || "any")),
    );
    $("status-filter").value = words.get("status") ?? "";
    this.setting = Number(words.get("setting")) || null;
    this.sort = words.get("sort") ?? "setting";
    this.down = words.get("down") === "1";
    this.draw();
  },

  keep() {
    keep("runs", {
      filter: $("filter").value || null,
      status: $("status-filter").value || null,
      setting: this.setting,
      sort: this.sort === "setting" ? null : this.sort,
      down: this.down ? 1 : null,
    });
  },

  /** The runs that pass the filter, in order. */
  chosen() {
    const tests = $("filter").value.split(/\s+/).filter(Boolean).map(test);
    const status = $("status-filter").value;
    const kept = runs().filter(
      (run) =>
        (!status || run.status === status) &&
        (!this.setting || run.setting === this.setting - 1) &&
        tests.every((passes) => passes(run)),
    );
    const sign = this.down ? -1 : 1;
    // What is missing comes last either way.
    return kept.sort((a, b) => {
      const [x, y] = [a[this.sort], b[this.sort]];
      if (x == null || y == null) return (x == null) - (y == null) || a.index - b.index;
      const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
      return sign * order || a.index - b.index;
    });
  },

  draw() {
    const columns = this.columns();
    const chosen = this.chosen();
    const shown = this.all ? chosen : chosen.slice(0, FIRST_ROWS);
    const numeric = (name) => typeof known(data.runs[name])[0] !== "string";
    const head = columns.map(([name, label]) => {
      const sorted = this.sort === name ? (this.down ? "descending" : "ascending") : null;
      const press = () => {
        this.down = this.sort === name && !this.down;
        this.sort = name;
        this.keep();
        this.draw();
        $("runs-table").querySelector(`[data-column="${name}"]`).focus();
      };
      const arrow = sorted ? (this.down ? " ▼" : " ▲") : "";
      const button = element(
        "button",
        { type: "button", "data-column": name, click: press },
        label + arrow,
      );
      return element(
        "th",
        { scope: "col", "aria-sort": sorted, class: numeric(name) ? "number" : null },
        button,
      );
    });
    const body = shown.map((run) => {
      const cells = columns.map(([name]) => {
        if (name !== "run_id")
          return element("td", { class: numeric(name) ? "number" : null }, cell(name, run[name]));
        const link = element(
          "a",
          { href: `#run?id=${encodeURIComponent(run.run_id)}` },
          run.run_id,
        );
        return element("th", { scope: "row" }, link);
      });
      return element("tr", { class: hasEnded(run) ? "ended" : null }, ...cells);
    });
    $("runs-table").replaceChildren(
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...body),
    );
    const only = this.setting
      ? ` of setting ${this.setting}: ${data.settings[this.setting - 1]?.name}`
      : "";
    $("count").textContent = `${number(chosen.length)} of ${plural(runs().length, "run")}${only}`;
    $("more").hidden = shown.length === chosen.length;
    $("more").textContent = `Show all ${number(chosen.length)}`;
  },
};

/** Measurements with the same figures in all rows; other numbers as short as they are. */
function cell(name, value) {
  const measured = ["last_test_accuracy", "before", "after"].includes(name);
  if (measured && value != null) return value.toPrecision(3);
  const [word] = Object.entries(data.words[name] ?? {}).find(([, own]) => own === value) ?? [];
  return word ?? number(value);
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
  if (sign === "=" && /^(none|never)$/i.test(text)) return (run) => run[name] == null;
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
