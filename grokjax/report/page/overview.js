// The first view: what came out, by setting, and what was run.

const MOST_ROWS = 30;

const overview = {
  show() {
    this.words();
    this.when();
    this.rise();
  },

  /** All but the figures. */
  words() {
    this.table();
    this.provenance();
    $("notes").replaceChildren(...data.notes.map((note) => element("li", {}, note)));
  },

  table() {
    const own = groups();
    const statuses = ["running", "diverged", "failed"].filter((name) =>
      own.some((group) => group.runs.some((run) => run.status === name)),
    );
    const measured = own.some((group) => group.runs.some((run) => run.before != null));
    const header = ["#", $("group").selectedOptions[0].textContent];
    header.push("runs", "generalised", "half generalised by", "earliest to latest");
    if (measured) header.push("H1 max before", "H1 max after", "ratio");
    header.push(...statuses);
    const body = own.map((group, i) => this.row(group, i, measured, statuses));
    const head = header.map((name, i) =>
      element("th", { scope: "col", class: i === 1 ? null : "number" }, name),
    );
    $("settings").replaceChildren(
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...body),
    );
  },

  row(group, i, measured, statuses) {
    const own = group.runs;
    const grown = known(own.map((run) => run.generalisation_step));
    const words = narrowed(group.values);
    const half = halfway(own);
    const numbers = [
      element("a", { href: hash("runs", { filter: words }) }, number(own.length)),
      `${number(grown.length)} of ${number(own.length)}`,
      half == null ? "never" : number(half),
      grown.length > 1 ? `${number(Math.min(...grown))} to ${number(Math.max(...grown))}` : "–",
    ];
    if (measured) {
      const [before, after] = ["before", "after"].map((name) => own.map((run) => run[name]));
      const ratio = centre(before) ? centre(after) / centre(before) : null;
      numbers.push(inWords(before), inWords(after));
      numbers.push(ratio == null || centre(after) == null ? "–" : ratio.toFixed(2));
    }
    const count = (name) => own.filter((run) => run.status === name).length;
    numbers.push(...statuses.map((name) => number(count(name))));
    const name = element("a", { href: hash("overview", { filter: words }) }, group.name);
    return element(
      "tr",
      {},
      element("td", { class: "number" }, String(i + 1)),
      element("th", { scope: "row" }, name),
      ...numbers.map((value) => element("td", { class: "number" }, value)),
    );
  },

  /** A row a group: its name where there is room, else its number in the table. */
  rows(place) {
    const all = groups();
    const shown = all.slice(0, MOST_ROWS);
    const wide = $(place).clientWidth > 620;
    const short = shown.every((own) => own.name.length < 16);
    const names = shown.map((own, i) => (wide || short ? own.name : `# ${i + 1}`));
    const most = Math.max(1, ...shown.map((own) => own.runs.length));
    const height = Math.min(14 + Math.max(12, 3 * most), 420 / Math.max(1, shown.length) + 26);
    $(place).style.height = `${110 + height * shown.length}px`;
    const more = { tickmode: "array", tickvals: range(shown.length), ticktext: names };
    const y = axis("", { ...more, range: [shown.length - 0.5, -0.5] });
    const runs = shown.flatMap((own, row) =>
      // How far from the middle of its row each is drawn, so that none hides another.
      own.runs.map((run, i) => ({ ...run, up: row + 0.7 * ((i + 0.5) / own.runs.length - 0.5) })),
    );
    return [
      runs,
      y,
      all.length > MOST_ROWS ? ` (the first ${MOST_ROWS} of ${all.length} rows)` : "",
    ];
  },

  when() {
    const never = data.sweep.steps * 1.12;
    const [shown, y, only] = this.rows("when");
    if (!shown.length) return drawNothing("when", "No run passes the filter.");
    const at = (run) => run.generalisation_step ?? never;
    const mark = (run) =>
      hasEnded(run) ? "cross" : run.generalisation_step == null ? "open" : "circle";
    const hue = colours(2);
    const size = shown.length > 300 ? 3 : 4.5;
    const said = (run) => `${run.run_id}\n${run.status}`;
    const marks = [...Map.groupBy(shown, mark)].flatMap(([symbol, own]) =>
      points(own, at, symbol, hue[symbol === "cross" ? 1 : 0], size, said),
    );
    const n = $("when").clientWidth > 420 ? 4 : 2; // narrow: the last would run into "never"
    const ticks = range(n === 4 ? 5 : 2).map((i) => (i * data.sweep.steps) / n);
    const crosses = shown.some(hasEnded) ? "; ×: diverged or failed" : "";
    const x = axis(`step${crosses}${only}`, {
      range: [-0.03 * never, 1.06 * never],
      tickvals: [...ticks, never],
      ticktext: [
        ...ticks.map((step) => (step >= 1000 ? `${+(step / 1000).toFixed(2)}k` : String(step))),
        "never",
      ],
    });
    const grown = known(shown.map((run) => run.generalisation_step));
    const text =
      `Step at which each run generalised, a row a group. ${grown.length} of ${shown.length} ` +
      (grown.length
        ? `did, from step ${number(Math.min(...grown))} to ${number(Math.max(...grown))}.`
        : "did.");
    draw("when", [], layout(x, y), `${text}${crosses && " Crosses diverged or failed."}`, marks);
  },

  rise() {
    const [every, y, only] = this.rows("rise");
    const shown = every.filter((run) => run.before != null);
    if (!shown.length) {
      const none = every.length
        ? "Persistence of the embedding was not measured."
        : "No run passes the filter.";
      drawNothing("rise", none);
      return;
    }
    const hue = colours(2);
    const size = shown.length > 300 ? 2.5 : 4;
    const marks = [
      ["before", "open"],
      ["after", "diamond"],
    ].flatMap(([name, symbol], k) => {
      const own = shown.filter((run) => run[name] != null);
      const said = (run) => `${run.run_id}\n${name}: ${number(run[name])}`;
      return points(own, (run) => run[name], symbol, hue[k], size, said);
    });
    const top = Math.max(...known(shown.flatMap((run) => [run.before, run.after])));
    const x = axis(`H1 max: ○ before, ◆ after${only}`, { range: [0, 1.08 * top] });
    const text =
      "H1 max of the embedding of each run before and after generalisation, a row a group; " +
      "means and spreads stand in the table above.";
    draw("rise", [], layout(x, y), text, marks);
  },

  provenance() {
    const own = data.sweep;
    const start = own.starts[0] ?? {};
    const last = own.starts.at(-1) ?? {};
    const facts = [
      ...Object.entries(own.grid).map(([name, values]) => [
        name.replaceAll("_", " "),
        values.join(", "),
      ]),
      ["steps", `${number(own.steps)}, a checkpoint every ${number(own.checkpoint_every)}`],
      ...measuredWith(),
      [
        "started",
        own.starts.length > 1
          ? `${start.time}; last resumed ${last.time} (${own.starts.length} starts)`
          : start.time,
      ],
      ["note", own.remarks.join("; ")],
      ["tables last written", own.tables_written && own.tables_written + took(own)],
      [
        "device",
        tally((last.devices ?? []).map((name) => name.replace(/^(.+):\1$/, "$1"))) +
          (last.cpu_count ? `, ${last.cpu_count} CPU cores` : ""),
      ],
      ["platform", last.platform],
      [
        "grokjax",
        [
          last.grokjax,
          last.commit?.slice(0, 12) + (last.commit?.endsWith("+changes") ? " with changes" : ""),
        ]
          .filter(Boolean)
          .join(", "),
      ],
      [
        "versions",
        [
          `Python ${last.python}`,
          ...Object.entries(last.packages ?? {}).map(([name, version]) => `${name} ${version}`),
        ].join(", "),
      ],
    ];
    $("provenance").replaceChildren(
      ...facts
        .filter(([, value]) => value)
        .map(([name, value]) =>
          element(
            "div",
            { class: value.length > 60 ? "long" : null },
            element("dt", {}, name),
            element("dd", {}, value),
          ),
        ),
    );
    const words = own.command
      .split(" --")
      .map((word, i) => element("span", {}, i ? `--${word}` : word));
    $("command").replaceChildren(...words.flatMap((word) => [word, " "]));
  },
};

/** What each table says that it was measured with; tables that say the same together. */
function measuredWith() {
  const made = new Map();
  for (const { name, settings } of data.tables) {
    if (!settings) continue;
    const text = Object.entries(settings)
      .map(([key, value]) => `${key.replaceAll("_", " ")} ${[value].flat().join(", ")}`)
      .join("; ");
    made.set(text, [...(made.get(text) ?? []), name]);
  }
  if (!made.size) return [["measured", data.sweep.options.diagnostics.join(", ") || "nothing"]];
  return [...made].map(([text, names]) => [`measured: ${names.join(", ")}`, text]);
}

function tally(names) {
  const counts = new Map();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, n]) => (n > 1 ? `${n} × ${name}` : name)).join(", ");
}

/** How long it took, where that can be told: of a sweep that ran through. */
function took(own) {
  if (own.starts.length !== 1 || data.runs.status.includes("running")) return "";
  const minutes = (Date.parse(own.tables_written) - Date.parse(own.starts[0].time)) / 60000;
  return minutes < 0 ? "" : `, ${duration(minutes)} later`;
}

function duration(minutes) {
  if (minutes < 2) return plural(Math.round(60 * minutes), "second");
  return minutes < 120
    ? plural(Math.round(minutes), "minute")
    : plural(+(minutes / 60).toFixed(1), "hour");
}

const panels = () => [...new Set(data.settings.map((own) => own.panel))];
