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
    const all = runs();
    const count = (test) => all.filter(test).length;
    const parts = ["done", "running", "diverged", "failed"]
      .map((status) => [count((run) => run.status === status), status])
      .filter(([n]) => n)
      .map(([n, status]) => `${number(n)} ${status}`);
    const grown = count((run) => run.generalisation_step != null);
    $("outcome").textContent =
      `${plural(all.length, "run")} in ${plural(data.settings.length, "setting")}: ` +
      `${parts.join(", ")}. ${number(grown)} generalised.`;
    this.table();
    this.provenance();
    $("notes").replaceChildren(...data.notes.map((note) => element("li", {}, note)));
  },

  table() {
    const statuses = ["running", "diverged", "failed"].filter((name) =>
      data.settings.some((own) => own[name]),
    );
    const measured = data.settings.some((own) => own.before_mean != null);
    const header = ["#", "setting", "runs", "generalised", "median step", "earliest to latest"];
    if (measured) header.push("H1 max before", "H1 max after", "ratio");
    header.push(...statuses);
    const body = data.settings.map((own, i) => {
      const spread = (name) => plusMinus(own[`${name}_mean`], own[`${name}_spread`]);
      const panel = panels().indexOf(own.panel);
      const numbers = [
        element("a", { href: `#runs?setting=${i + 1}` }, number(own.runs)),
        `${number(own.generalised)} of ${number(own.runs)}`,
        number(own.median_step),
        own.generalised > 1 ? `${number(own.first_step)} to ${number(own.last_step)}` : "–",
      ];
      if (measured) {
        const ratio = own.before_mean ? own.after_mean / own.before_mean : null;
        numbers.push(
          spread("before"),
          spread("after"),
          own.after_mean == null || ratio == null ? "–" : ratio.toFixed(2),
        );
      }
      numbers.push(...statuses.map((name) => number(own[name])));
      return element(
        "tr",
        {},
        element("td", { class: "number" }, String(i + 1)),
        element("th", { scope: "row" }, element("a", { href: `#curves?panel=${panel}` }, own.name)),
        ...numbers.map((value) => element("td", { class: "number" }, value)),
      );
    });
    const head = header.map((name, i) =>
      element("th", { scope: "col", class: i === 1 ? null : "number" }, name),
    );
    $("settings").replaceChildren(
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...body),
    );
  },

  /** A row a setting: its name where there is room, else its number in the table. */
  rows(place) {
    const shown = data.settings.slice(0, MOST_ROWS);
    const wide = $(place).clientWidth > 620;
    const names = shown.map((own, i) => (wide ? own.name : `# ${i + 1}`));
    $(place).style.height = `${110 + 26 * shown.length}px`;
    const more = { tickmode: "array", tickvals: range(shown.length), ticktext: names };
    const y = axis("", { ...more, range: [shown.length - 0.5, -0.5] });
    return [y, data.settings.length > MOST_ROWS ? ` (the first ${MOST_ROWS} settings)` : ""];
  },

  /** How far from the middle of its row each run is drawn, so that none hides another. */
  apart(shown) {
    const sizes = data.settings.map((own) => own.runs);
    const before = sizes.map(() => 0);
    return shown.map(({ setting }) => 0.6 * ((before[setting]++ + 0.5) / sizes[setting] - 0.5));
  },

  when() {
    const never = data.sweep.steps * 1.12;
    const [y, only] = this.rows("when");
    const shown = runs().filter((run) => run.setting < MOST_ROWS);
    const up = this.apart(shown);
    const at = (run) => run.generalisation_step ?? never;
    const mark = (run) =>
      hasEnded(run) ? "x" : run.generalisation_step == null ? "circle-open" : "circle";
    const hue = colours(2);
    const trace = {
      type: "scatter",
      mode: "markers",
      x: shown.map(at),
      y: shown.map((run, i) => run.setting + up[i]),
      customdata: shown.map((run) => run.index),
      text: shown.map((run) => `${run.run_id}<br>${run.status}`),
      hovertemplate: "%{text}<extra></extra>",
      marker: {
        size: 9,
        symbol: shown.map(mark),
        color: shown.map((run) => hue[hasEnded(run) ? 1 : 0]),
        opacity: 0.75,
      },
    };
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
      `Step at which each run generalised, a row a setting. ${grown.length} of ${shown.length} ` +
      (grown.length
        ? `did, from step ${number(Math.min(...grown))} to ${number(Math.max(...grown))}.`
        : "did.");
    draw("when", [trace], layout(x, y), `${text}${crosses && " Crosses diverged or failed."}`);
    leadToRun("when");
  },

  rise() {
    const [y, only] = this.rows("rise");
    const shown = runs().filter((run) => run.setting < MOST_ROWS && run.before != null);
    if (!shown.length) {
      drawNothing("rise", "Persistence of the embedding was not measured.");
      return;
    }
    const hue = colours(2);
    const up = this.apart(shown);
    const dots = (name, symbol, colour) => ({
      type: "scatter",
      mode: "markers",
      x: shown.map((run) => run[name]),
      y: shown.map((run, i) => run.setting + up[i]),
      customdata: shown.map((run) => run.index),
      text: shown.map((run) => run.run_id),
      hovertemplate: `%{text}<br>${name}: %{x:.3g}<extra></extra>`,
      marker: { size: 8, symbol, color: colour, opacity: 0.8 },
    });
    const top = Math.max(...known(shown.flatMap((run) => [run.before, run.after])));
    const traces = [dots("before", "circle-open", hue[0]), dots("after", "diamond", hue[1])];
    const x = axis(`H1 max: ○ before, ◆ after${only}`, { range: [0, 1.08 * top] });
    const text =
      "H1 max of the embedding of each run before and after generalisation, a row a setting; " +
      "means and spreads stand in the table above.";
    draw("rise", traces, layout(x, y), text);
    leadToRun("rise");
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
      [
        "measured",
        `${own.options.diagnostics.join(", ") || "nothing"}; clouds ${own.options.clouds.join(", ")}, normalised: ${own.options.cloud_normalisation}; engine ${own.options.ph_engine}`,
      ],
      [
        "started",
        own.starts.length > 1
          ? `${start.time}; last resumed ${last.time} (${own.starts.length} starts)`
          : start.time,
      ],
      ["tables last written", own.tables_written && own.tables_written + took(own)],
      [
        "device",
        tally((last.devices ?? []).map((name) => name.replace(/^(.+):\1$/, "$1"))) + (last.cpu_count ? `, ${last.cpu_count} CPU cores` : ""),
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
