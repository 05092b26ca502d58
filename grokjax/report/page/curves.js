// Every quantity against step: groups of runs, or all of them.

// Quantities that share a figure, told apart by dashes; all others have one each.
const TOGETHER = [
  ["accuracy", ["metrics/test_accuracy", "metrics/train_accuracy", "metrics/novel_accuracy"]],
  ["loss", ["metrics/test_loss", "metrics/train_loss"]],
  [
    "accuracy by key frequencies or irreps",
    ["fourier/restricted_accuracy", "fourier/excluded_accuracy"],
  ],
  ["loss by key frequencies or irreps", ["fourier/restricted_loss", "fourier/excluded_loss"]],
];
const SHOWN_FIRST =
  /^accuracy|^H[01] (max|total) \(embedding\)|^local dimension \((.*_both|embedding)\)|^Fourier/;

const quantity = (key) => data.curves.quantities.find((own) => own.key === key);

/** Figures that some runs have values for: name → the quantities in it. */
function figures(own) {
  const made = new Map();
  const taken = new Set();
  const there = (one) => one && own.some((run) => ends(one, "last")(run.index) != null);
  for (const [name, keys] of TOGETHER) {
    const found = keys.map(quantity).filter(there);
    if (found.length) made.set(name, found);
    keys.forEach((key) => taken.add(key));
  }
  for (const one of data.curves.quantities) {
    if (!taken.has(one.key) && there(one)) made.set(one.label, [one]);
  }
  return made;
}

const curves = {
  wanted: null,
  hidden: new Set(),

  show(words) {
    const names = panels();
    const panel = Math.min(Math.max(-1, Number(words.get("panel")) || 0), names.length - 1);
    $("panel").replaceChildren(
      ...names.map((name, i) => element("option", { value: i }, name)),
      ...(names.length > 1 ? [element("option", { value: -1 }, "all together")] : []),
    );
    $("panel").value = String(panel);
    this.wanted ??= new Set([...figures(runs()).keys()].filter((name) => SHOWN_FIRST.test(name)));
    this.own = chosen().filter(
      (run) => panel < 0 || data.settings[run.setting].panel === names[panel],
    );
    this.groups = groups(this.own);
    const hues = colours(this.groups.length);
    this.groups.forEach((group, i) => (group.hue = hues[i]));
    this.places = new Map(data.curves.runs.map((index, place) => [index, place]));
    this.lines();
    this.quantities();
    this.draw();
  },

  checkbox(label, checked, change, swatch) {
    const box = element("input", {
      type: "checkbox",
      checked,
      change: (event) => change(event.target.checked),
    });
    const colour =
      swatch &&
      element("span", { class: "swatch", style: `background:${swatch}`, "aria-hidden": "true" });
    return element("label", {}, box, " ", colour, label);
  },

  lines() {
    const toggle = (name) => (checked) => {
      this.hidden[checked ? "delete" : "add"](name);
      this.draw();
    };
    $("lines").replaceChildren(
      ...this.groups.map((group) => {
        const text = `${group.line || group.name} (${plural(group.runs.length, "run")})`;
        return this.checkbox(text, !this.hidden.has(group.name), toggle(group.name), group.hue);
      }),
    );
  },

  quantities() {
    const toggle = (name) => (checked) => {
      this.wanted[checked ? "add" : "delete"](name);
      this.draw();
    };
    $("quantities").replaceChildren(
      ...[...figures(this.own).keys()].map((name) =>
        this.checkbox(name, this.wanted.has(name), toggle(name)),
      ),
    );
  },

  draw() {
    const visible = this.groups.filter((group) => !this.hidden.has(group.name));
    const wanted = [...figures(this.own)].filter(([name]) => this.wanted.has(name));
    const places = wanted.map(([name, members]) => {
      const caption =
        members.length > 1
          ? members
              .map((own, i) => `${own.label} (${["solid", "dashed", "dotted", "dash-dotted"][i]})`)
              .join(", ")
          : name;
      const div = element("div", { class: "plot" });
      return [div, element("figure", {}, element("figcaption", {}, caption), div)];
    });
    for (const old of document.querySelectorAll("#curve-plots .plot")) Plotly.purge(old);
    $("curve-plots").replaceChildren(...places.map(([, figure]) => figure));
    const all = places.map(([div]) => div);
    wanted.forEach(([name, members], k) => this.figure(all[k], name, members, visible, all));
    this.says(visible);
  },

  says(visible) {
    const own = visible.flatMap((group) => group.runs);
    const ended = own.filter(hasEnded).length;
    const without = own.filter((run) => !this.places.has(run.index)).length;
    $("ended").textContent = [
      ended &&
        `${plural(ended, "run")} of this panel diverged or failed: not in the lines of groups, and among all runs up to a cross.`,
      without && `Curves of ${number(without)} of ${number(own.length)} runs are not on this page.`,
    ]
      .filter(Boolean)
      .join(" ");
  },

  /** Curves of runs as they are stored. */
  rows(own, members) {
    const there = members.filter((run) => this.places.has(run.index));
    return there.map((run) => [run, row(own.runs, this.places.get(run.index))]);
  },

  figure(div, name, members, visible, all) {
    const traces = [];
    const steps = data.curves.steps;
    const ends = [];
    members.forEach((own, k) => {
      for (const group of visible) {
        const found = this.rows(own, group.runs);
        const rows = found.filter(([run]) => !hasEnded(run)).map(([, values]) => values);
        const [middle, low, high] = summarised(rows, steps.length);
        if (showsRuns()) traces.push(...this.singles(own, found, group.hue, DASHES[k]));
        else if (k === 0)
          traces.push(...band(steps, scaled(low, own.log), scaled(high, own.log), group.hue));
        const text = members.length > 1 ? `${group.line} ${own.label}` : group.line;
        traces.push({
          ...line(steps, scaled(middle, own.log), group.hue, DASHES[k], showsRuns() ? 3 : 2),
          name: text || group.name,
        });
        if (k === 0) ends.push([group, middle]);
      }
    });
    const y = axis("", { type: members[0].log ? "log" : "linear", exponentformat: "power" });
    if (/accuracy/.test(name)) y.range = [-0.03, 1.03];
    else if (!members[0].log) y.range = level(ends.flatMap(([, middle]) => known(middle)));
    draw(div, traces, layout(stepAxis(), y), this.words(name, members[0], ends));
    this.together(div, all);
    pointAtRuns(div, (index) => this.lights(members, index, visible));
  },

  /** Runs of one colour as one line with gaps, which is drawn a hundred times as fast as many. */
  singles(own, found, colour, dash) {
    const steps = data.curves.steps;
    const thin = {
      ...line(
        found.flatMap(() => [...steps, null]),
        [],
        colour,
        dash,
        found.length > 30 ? 0.5 : 0.8,
      ),
      mode: steps.length > 1 ? "lines" : "markers",
      y: found.flatMap(([, values]) => [...scaled(values, own.log), null]),
      customdata: found.flatMap(([run]) => [...steps.map(() => run.index), null]),
      text: found.flatMap(([run]) => [...steps.map(() => run.run_id), null]),
      hovertemplate: "%{y:.4g} at step %{x}<extra>%{text}</extra>",
      opacity: found.length > 30 ? 0.35 : 0.6,
    };
    const last = found
      .map(([run, values]) => [run, values, values.findLastIndex((value) => value != null)])
      .filter(([run, , at]) => hasEnded(run) && at >= 0);
    if (!last.length) return [thin];
    const crosses = {
      type: "scatter",
      mode: "markers",
      x: last.map(([, , at]) => steps[at]),
      y: last.map(([, values, at]) => scaled(values, own.log)[at]),
      customdata: last.map(([run]) => run.index),
      text: last.map(([run]) => `${run.run_id} ${run.status}`),
      hovertemplate: "%{text}<extra></extra>",
      marker: { symbol: "x", size: 8, color: colour },
    };
    return [thin, crosses];
  },

  /** A run's own curves, thick. */
  lights(members, index, visible) {
    const own = visible.flatMap((group) => group.runs).filter((run) => run.index === index);
    return members.flatMap((one, k) =>
      this.rows(one, own).map(([, values]) => ({
        type: "path",
        path: path(data.curves.steps, scaled(values, one.log)),
        line: { color: css("--text"), width: 2.5, dash: DASHES[k] },
      })),
    );
  },

  /** Zooming along the steps moves all figures. */
  together(div, all) {
    div.on("plotly_relayout", (change) => {
      const ends = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      const back = change["xaxis.autorange"];
      if (ends[0] == null && !back) return;
      const wanted = back ? stepAxis().range : ends;
      for (const other of all) {
        const now = other.layout?.xaxis?.range;
        if (now && (now[0] !== wanted[0] || now[1] !== wanted[1])) {
          Plotly.relayout(other, { "xaxis.range": wanted });
        }
      }
    });
  },

  words(name, own, ends) {
    const told = ends.slice(0, MOST_ROWS).map(([group, middle]) => {
      const values = scaled(middle, own.log);
      const [first, last] = [
        values.find((one) => one != null),
        values.findLast((one) => one != null),
      ];
      return `${group.line || group.name}: ${number(first)} at first, ${number(last)} at last`;
    });
    return `${name} against step, ${usesMedian() ? "medians" : "means"} by group. ${told.join("; ")}.`;
  },
};

/** At each step what is in the middle of rows of values, and the ends of what is around it. */
function summarised(rows, n) {
  const found = range(n).map((i) => around(rows.map((values) => values[i])));
  return [0, 1, 2].map((k) => found.map((own) => own[k]));
}

/** A line through points as the path of a shape, without what is missing. */
function path(x, y) {
  let pen = "M";
  const parts = x.map((at, i) => {
    const part = y[i] == null ? "" : `${pen}${at},${y[i]}`;
    pen = y[i] == null ? "M" : "L";
    return part;
  });
  return parts.join("");
}

/** A range for values that rounding alone tells apart, of which ticks would show every digit. */
function level(values) {
  const most = Math.max(...values);
  const alike = most - Math.min(...values) < 1e-6 * Math.abs(most);
  return alike ? [most - 0.1 * Math.abs(most), most + 0.1 * Math.abs(most)] : undefined;
}

/** Values as drawn: logarithms are stored as such. */
const scaled = (values, log) =>
  log ? values.map((value) => (value == null ? null : 10 ** value)) : values;

function line(x, y, colour, dash, width) {
  // A line needs two points: fewer are drawn as such.
  const mode = known(y).length > 1 ? "lines" : "markers";
  return {
    type: "scatter",
    mode,
    x,
    y,
    line: { color: colour, dash, width },
    marker: { color: colour },
    hovertemplate: "%{y:.4g} at step %{x}<extra>%{fullData.name}</extra>",
  };
}

/** What lies around a line as filled shapes, one for each stretch without a gap. */
function band(steps, low, high, colour) {
  const shapes = [];
  let stretch = [];
  const close = () => {
    if (stretch.length > 1) {
      shapes.push({
        type: "scatter",
        mode: "lines",
        x: [...stretch, ...stretch.toReversed()].map((i) => steps[i]),
        y: [...stretch.map((i) => high[i]), ...stretch.toReversed().map((i) => low[i])],
        fill: "toself",
        fillcolor: colour,
        opacity: 0.15,
        line: { width: 0 },
        hoverinfo: "skip",
      });
    }
    stretch = [];
  };
  steps.forEach((_, i) => (low[i] == null || high[i] == null ? close() : stretch.push(i)));
  close();
  return shapes;
}
