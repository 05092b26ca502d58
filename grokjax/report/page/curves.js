// Every quantity against step: mean and spread by setting, single runs on demand.

// Quantities that share a figure, told apart by dashes; all others have one each.
const TOGETHER = [
  ["accuracy", ["metrics/test_accuracy", "metrics/train_accuracy", "metrics/novel_accuracy"]],
  ["loss", ["metrics/test_loss", "metrics/train_loss"]],
  ["accuracy by key frequencies or irreps", ["fourier/restricted_accuracy", "fourier/excluded_accuracy"]],
  ["loss by key frequencies or irreps", ["fourier/restricted_loss", "fourier/excluded_loss"]],
];
const SHOWN_FIRST =
  /^accuracy|^H[01] (max|total) \(embedding\)|^local dimension \((.*_both|embedding)\)|^Fourier/;

const quantity = (key) => data.curves.quantities.find((own) => own.key === key);

/** Figures that some of the settings have values for: name → the quantities in it. */
function figures(settings) {
  const made = new Map();
  const taken = new Set();
  const there = (own) =>
    own && settings.some((i) => row(own.mean, i).some((value) => value != null));
  for (const [name, keys] of TOGETHER) {
    const found = keys.map(quantity).filter(there);
    if (found.length) made.set(name, found);
    keys.forEach((key) => taken.add(key));
  }
  for (const own of data.curves.quantities) {
    if (!taken.has(own.key) && there(own)) made.set(own.label, [own]);
  }
  return made;
}

const curves = {
  chosen: null,
  hidden: new Set(),

  show(words) {
    const names = panels();
    const panel = Math.min(Math.max(0, Number(words.get("panel")) || 0), names.length - 1);
    $("panel").replaceChildren(...names.map((name, i) => element("option", { value: i }, name)));
    $("panel").value = String(panel);
    $("singles").checked = words.get("singles") === "1";
    const all = range(data.settings.length);
    this.chosen ??= new Set([...figures(all).keys()].filter((name) => SHOWN_FIRST.test(name)));
    this.members = all.filter((i) => data.settings[i].panel === names[panel]);
    this.hues = new Map(this.members.map((i, place) => [i, colours(this.members.length)[place]]));
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
    const toggle = (i) => (checked) => {
      this.hidden[checked ? "delete" : "add"](data.settings[i].name);
      this.draw();
    };
    $("lines").replaceChildren(
      ...this.members.map((i) => {
        const own = data.settings[i];
        const text = `${own.line || own.panel} (${plural(own.runs, "run")})`;
        return this.checkbox(text, !this.hidden.has(own.name), toggle(i), this.hues.get(i));
      }),
    );
  },

  quantities() {
    const toggle = (name) => (checked) => {
      this.chosen[checked ? "add" : "delete"](name);
      this.draw();
    };
    $("quantities").replaceChildren(
      ...[...figures(this.members).keys()].map((name) =>
        this.checkbox(name, this.chosen.has(name), toggle(name)),
      ),
    );
  },

  draw() {
    const visible = this.members.filter((i) => !this.hidden.has(data.settings[i].name));
    const wanted = [...figures(this.members)].filter(([name]) => this.chosen.has(name));
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
    const ended = runs().filter((run) => visible.includes(run.setting) && hasEnded(run)).length;
    $("ended").textContent = ended
      ? `${plural(ended, "run")} of this panel diverged or failed: not in the means, and among the single runs up to a cross.`
      : "";
  },

  figure(div, name, members, visible, all) {
    const traces = [];
    const steps = data.curves.steps;
    members.forEach((own, k) => {
      for (const i of visible) {
        const mean = row(own.mean, i);
        const colour = this.hues.get(i);
        const label =
          members.length > 1 ? `${data.settings[i].line} ${own.label}` : data.settings[i].line;
        if (k === 0) traces.push(...band(steps, mean, row(own.spread, i), colour, own.log));
        if ($("singles").checked) traces.push(...this.singles(own, i, colour, DASHES[k]));
        traces.push({
          ...line(steps, scaled(mean, own.log), colour, DASHES[k], 2),
          name: label || data.settings[i].panel,
        });
      }
    });
    const y = axis("", { type: members[0].log ? "log" : "linear", exponentformat: "power" });
    if (/accuracy/.test(name)) y.range = [-0.03, 1.03];
    else if (!members[0].log) y.range = level(visible.flatMap((i) => known(row(members[0].mean, i))));
    draw(div, traces, layout(stepAxis(), y), this.words(name, members, visible));
    this.together(div, all);
  },

  singles(own, setting, colour, dash) {
    const places = new Map(data.curves.runs.map((index, place) => [index, place]));
    return runs()
      .filter((run) => run.setting === setting && places.has(run.index))
      .flatMap((run) => {
        const values = scaled(row(own.runs, places.get(run.index)), own.log);
        const thin = {
          ...line(data.curves.steps, values, colour, dash, 0.8),
          opacity: 0.6,
          name: run.run_id,
        };
        const last = values.findLastIndex((value) => value != null);
        if (!hasEnded(run) || last < 0) return [thin];
        const cross = { symbol: "x", size: 8, color: colour };
        const end = { x: [data.curves.steps[last]], y: [values[last]], marker: cross };
        return [
          thin,
          { type: "scatter", mode: "markers", ...end, name: `${run.run_id} ${run.status}` },
        ];
      });
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

  words(name, members, visible) {
    const ends = visible.flatMap((i) =>
      members.slice(0, 1).map((own) => {
        const values = scaled(row(own.mean, i), own.log);
        const first = values.find((value) => value != null);
        return `${data.settings[i].line || data.settings[i].panel}: ${number(first)} at first, ${number(values.findLast((value) => value != null))} at last`;
      }),
    );
    return `${name} against step, means by setting. ${ends.join("; ")}.`;
  },
};

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

/** Mean ± spread as filled shapes, one for each stretch without a gap. */
function band(steps, mean, spread, colour, log) {
  const shapes = [];
  let stretch = [];
  const close = () => {
    if (stretch.length > 1) {
      const side = (sign) =>
        stretch.map((i) => (log ? 10 ** (mean[i] + sign * spread[i]) : mean[i] + sign * spread[i]));
      shapes.push({
        type: "scatter",
        mode: "lines",
        x: [...stretch, ...stretch.toReversed()].map((i) => steps[i]),
        y: [...side(1), ...side(-1).toReversed()],
        fill: "toself",
        fillcolor: colour,
        opacity: 0.15,
        line: { width: 0 },
        hoverinfo: "skip",
      });
    }
    stretch = [];
  };
  steps.forEach((_, i) => (mean[i] == null || spread[i] == null ? close() : stretch.push(i)));
  close();
  return shapes;
}
