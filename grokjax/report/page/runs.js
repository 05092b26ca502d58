// All runs as a table, sorted by its headers.

const FIRST_ROWS = 200;
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
    const statuses = ["", "done", "running", "diverged", "failed"];
    $("status-filter").replaceChildren(
      ...statuses.map((name) => element("option", { value: name }, name || "any")),
    );
    const [word] = split(state.filter).filter((own) => own.startsWith("status="));
    $("status-filter").value = word?.slice("status=".length) ?? "";
    this.sort = words.get("sort") ?? "setting";
    this.down = words.get("down") === "1";
    this.draw();
  },

  keep() {
    keep("runs", {
      sort: this.sort === "setting" ? null : this.sort,
      down: this.down ? 1 : null,
    });
  },

  /** The runs that pass the filter, in order. */
  sorted() {
    const sign = this.down ? -1 : 1;
    // What is missing comes last either way.
    return chosen().sort((a, b) => {
      const [x, y] = [a[this.sort], b[this.sort]];
      if (x == null || y == null) return (x == null) - (y == null) || a.index - b.index;
      const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
      return sign * order || a.index - b.index;
    });
  },

  draw() {
    const columns = this.columns();
    const found = this.sorted();
    const shown = this.all ? found : found.slice(0, FIRST_ROWS);
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
    $("more").hidden = shown.length === found.length;
    $("more").textContent = `Show all ${number(found.length)}`;
  },
};

/** Measurements with the same figures in all rows; other numbers as short as they are. */
function cell(name, value) {
  const measured = ["last_test_accuracy", "before", "after"].includes(name);
  if (measured && value != null) return value.toPrecision(3);
  const [word] = Object.entries(data.words[name] ?? {}).find(([, own]) => own === value) ?? [];
  return word ?? number(value);
}
