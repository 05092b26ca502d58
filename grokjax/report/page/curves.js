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
  places: new Map(), // name of a figure → its caption and where it is drawn

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
    this.figures = figures(this.own);
    this.stored = new Map(data.curves.runs.map((index, place) => [index, place]));
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
      ...[...this.figures.keys()].map((name) =>
        this.checkbox(name, this.wanted.has(name), toggle(name)),
      ),
    );
  },

  draw() {
    const visible = this.groups.filter((group) => !this.hidden.has(group.name));
    const wanted = [...this.figures].filter(([name]) => this.wanted.has(name));
    for (const [name, own] of this.places) {
      if (wanted.some(([other]) => other === name)) continue;
      Plotly.purge(own.div);
      this.places.delete(name);
    }
    const places = wanted.map(([name, members]) => this.place(name, members));
    $("curve-plots").replaceChildren(...places.map((own) => own.figure));
    wanted.forEach(([name, members], k) => this.figure(places[k], name, members, visible));
    this.says(visible);
  },

  /** Where a figure is drawn: the same as before, since new axes take long. */
  place(name, members) {
    const own = this.places.get(name) ?? {
      caption: element("figcaption"),
      div: element("div", { class: "plot" }),
    };
    own.figure ??= element("figure", {}, own.caption, own.div);
    const dashes = ["solid", "dashed", "dotted", "dash-dotted"];
    own.caption.textContent =
      members.length > 1 ? members.map((one, i) => `${one.label} (${dashes[i]})`).join(", ") : name;
    this.places.set(name, own);
    return own;
  },

  says(visible) {
    const own = visible.flatMap((group) => group.runs);
    const ended = own.filter(hasEnded).length;
    const without = own.filter((run) => !this.stored.has(run.index)).length;
    $("ended").textContent = [
      ended &&
        `${plural(ended, "run")} of this panel diverged or failed: not in the lines of groups, and among all runs up to a cross.`,
      without && `Curves of ${number(without)} of ${number(own.length)} runs are not on this page.`,
    ]
      .filter(Boolean)
      .join(" ");
  },

  /** Curves of runs, as they are stored. */
  rows(own, runs) {
    return runs
      .filter((run) => this.stored.has(run.index))
      .map((run) => ({
        ...this.row(own, packedRow(own.runs, this.stored.get(run.index)), run.run_id),
        run: run.index,
        ended: hasEnded(run) && run.status,
      }));
  },

  row(own, y, name) {
    const x = data.curves.steps;
    const value = (i) => number(own.log ? 10 ** y[i] : y[i]);
    return { x, y, text: (i) => `${name}\n${own.label} ${value(i)} at step ${number(x[i])}` };
  },

  figure({ div }, name, members, visible) {
    const [under, above, ends] = [[], [], []];
    members.forEach((own, k) => {
      for (const group of visible) {
        const style = { colour: group.hue, dash: DASHES[k] };
        const rows = this.rows(own, group.runs);
        const whole = rows.filter((row) => !row.ended).map((row) => row.y);
        const [middle, low, high] = summarised(whole, data.curves.steps.length);
        if (showsRuns()) {
          const thin = rows.length > 30 ? { width: 0.5, alpha: 0.35 } : { width: 0.8, alpha: 0.6 };
          under.push({ rows, ...style, ...thin });
          above.push({ rows: rows.flatMap(crosses), symbol: "cross", size: 3, colour: group.hue });
        } else if (k === 0) {
          const rows = band(data.curves.steps, low, high);
          under.push({ rows, fill: true, alpha: 0.15, colour: group.hue });
        }
        const line = this.row(own, middle, group.line || group.name);
        above.push({ rows: [line], ...style, width: showsRuns() ? 3 : 2 });
        if (k === 0) ends.push([group, middle]);
      }
    });
    const marks = [...under, ...above];
    const accuracy = /accuracy/.test(name);
    const y = axis("", {
      type: members[0].log ? "log" : "linear",
      exponentformat: "power",
      range: accuracy ? [-0.03, 1.03] : reach(marks.flatMap((mark) => mark.rows)),
    });
    const isNew = !div.on;
    draw(div, [], layout(stepAxis(), y), this.words(name, members[0], ends), marks);
    if (isNew) this.together(div);
  },

  /** Zooming along the steps moves all figures. */
  together(div) {
    div.on("plotly_relayout", () => {
      const wanted = div.layout.xaxis.range;
      for (const { div: other } of this.places.values()) {
        if (String(other.layout.xaxis.range) !== String(wanted))
          Plotly.relayout(other, { "xaxis.range": [...wanted] });
      }
    });
  },

  words(name, own, ends) {
    const told = ends.slice(0, MOST_ROWS).map(([group, middle]) => {
      const values = known(middle).map((value) => (own.log ? 10 ** value : value));
      return `${group.line || group.name}: ${number(values.at(0))} at first, ${number(values.at(-1))} at last`;
    });
    return `${name} against step, ${usesMedian() ? "medians" : "means"} by group. ${told.join("; ")}.`;
  },
};

/** At each step what is in the middle of rows of values, and the ends of what is around it. */
function summarised(rows, n) {
  const found = [0, 1, 2].map(() => new Float64Array(n));
  for (let i = 0; i < n; i++) {
    const own = new Float64Array(rows.length);
    rows.forEach((values, k) => (own[k] = values[i]));
    around(own).forEach((value, k) => (found[k][i] = value ?? NaN));
  }
  return found;
}

/** A range for all that is drawn; of values that rounding alone tells apart, without each digit. */
function reach(rows) {
  let [low, high] = [Infinity, -Infinity];
  for (const { y } of rows) {
    for (const value of y) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low > high) return [0, 1];
  const alike = high - low < 1e-6 * Math.abs(high);
  const margin = alike ? 0.1 * Math.abs(high) || 1 : 0.05 * (high - low);
  return [low - margin, high + margin];
}

/** Where a run that ended did so: as rows, one or none. */
function crosses({ x, y, run, text, ended }) {
  const at = y.findLastIndex(isThere);
  if (!ended || at < 0) return [];
  return [{ x: [x[at]], y: [y[at]], run, text: () => `${text(at)}\n${ended}` }];
}

/** What lies around a line as filled shapes, one for each stretch without a gap. */
function band(steps, low, high) {
  const rows = [];
  let stretch = [];
  const close = () => {
    if (stretch.length > 1) {
      const back = stretch.toReversed();
      const y = [...stretch.map((i) => high[i]), ...back.map((i) => low[i])];
      rows.push({ x: [...stretch, ...back].map((i) => steps[i]), y });
    }
    stretch = [];
  };
  steps.forEach((_, i) => (Number.isNaN(low[i]) ? close() : stretch.push(i)));
  close();
  return rows;
}
