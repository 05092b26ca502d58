// Phase diagrams: what became of the runs, by two or three axes of the grid. Cells are as they are.

// Blue below, orange above; cividis for what has no middle.
const DIVERGING = ["#0072B2", "#7fb8d8", "#f2f2f2", "#eaae7f", "#D55E00"];
const WHEN = [
  ["last", "at the end"],
  ["before", "before generalisation"],
  ["after", "after generalisation"],
  ["ratio", "after ÷ before"],
];
const STEPS = {
  generalisation_step: ["step by which half generalised", "fewer than half generalised"],
  memorisation_step: ["step by which half memorised", "fewer than half memorised"],
};

/** A quantity of every run at the end, before, after; decoded once. */
function ends(own, when) {
  const n = data.runs.run_id.length;
  own.values ??= new Float32Array(bytes(own.ends.floats));
  const at = (k) => (i) => (Number.isNaN(own.values[k * n + i]) ? null : own.values[k * n + i]);
  const [last, before, after] = [at(0), at(1), at(2)];
  if (when !== "ratio") return { last, before, after }[when];
  return (i) => (before(i) > 0 && after(i) > 0 ? after(i) / before(i) : null);
}

const phase = {
  /** x, y, over: columns, or "" for none; value and when. */
  now: {},
  focused: null,

  show(words) {
    const sizes = byValues().map((own) => own.column);
    const usual = {
      x: sizes[0] ?? "",
      y: sizes[1] ?? "",
      over: sizes[2] ?? "",
      value: "share",
      when: "last",
    };
    for (const name of Object.keys(usual)) {
      const axis = "x y over".includes(name);
      const given = words.get(name) ?? this.now[name];
      this.now[name] =
        given != null && (!axis || given === "" || axisOf(given)) ? given : usual[name];
    }
    this.fill();
    this.draw();
  },

  fill() {
    const axes = data.axes.map((own) => [own.column, own.title]);
    const options = {
      "phase-x": axes,
      "phase-y": [["", "–"], ...axes],
      "phase-over": [["", "–"], ...axes],
      "phase-when": WHEN,
    };
    for (const [id, own] of Object.entries(options)) {
      $(id).replaceChildren(...own.map(([value, name]) => element("option", { value }, name)));
    }
    const option = ([value, name]) => element("option", { value }, name);
    $("phase-value").replaceChildren(
      option(["share", "share that generalised"]),
      ...Object.entries(STEPS).map(([value, [name]]) => option([value, name])),
      element(
        "optgroup",
        { label: "Measured" },
        ...data.curves.quantities.map((own) => option([own.key, own.label])),
      ),
    );
    if (this.now.value !== "share" && !STEPS[this.now.value] && !quantity(this.now.value)) {
      this.now.value = "share";
    }
    for (const [name, value] of Object.entries(this.now)) $(`phase-${name}`).value = value;
  },

  change() {
    for (const name of Object.keys(this.now)) this.now[name] = $(`phase-${name}`).value;
    keep("phase", this.now);
    this.draw();
  },

  /** What a cell says of its runs: a number, null where there is none, or undefined for never. */
  cell(own) {
    const { value, when } = this.now;
    if (value === "share") {
      return own.filter((run) => run.generalisation_step != null).length / own.length;
    }
    if (value in STEPS) return halfway(own, value) ?? undefined;
    const at = ends(quantity(value), when);
    const values = own.filter((run) => !hasEnded(run)).map((run) => at(run.index));
    if (!this.logarithmic()) return centre(values);
    const middle = centre(values.map((one) => (one > 0 ? Math.log10(one) : null)));
    return middle == null ? null : 10 ** middle;
  },

  /** Whether the mean is the geometric one, and colours go by logarithms. */
  logarithmic() {
    const { value, when } = this.now;
    return value !== "share" && !(value in STEPS) && (when === "ratio" || quantity(value).log);
  },

  title() {
    const { value, when } = this.now;
    if (value === "share") return "share that generalised";
    if (value in STEPS) return STEPS[value][0];
    const middle = `${usesMedian() ? "median" : this.logarithmic() ? "geometric mean" : "mean"} of `;
    return `${middle}${quantity(value).label} ${WHEN.find(([name]) => name === when)[1]}`;
  },

  /** Place from 0 to 1 of a value among the cells' values, and the ends in words. */
  scale(values) {
    const { value, when } = this.now;
    const there = known(values);
    if (value === "share" || (/accuracy/.test(value) && when !== "ratio")) {
      return { place: (one) => one, ticks: [0, 0.5, 1], hues: ORDERED };
    }
    let [low, high] = there.length ? [Math.min(...there), Math.max(...there)] : [0, 1];
    const diverging = value !== "share" && !(value in STEPS) && when === "ratio";
    if (diverging) {
      high = Math.max(high, 1 / low, 1.001);
      low = 1 / high;
    }
    const log = this.logarithmic() || (value in STEPS && high > 10 * low && low > 0);
    const way = log ? Math.log : (one) => one;
    const back = log ? Math.exp : (one) => one;
    const span = way(high) - way(low) || 1;
    return {
      place: (one) => Math.min(1, Math.max(0, (way(one) - way(low)) / span)),
      ticks: low === high ? [low] : [low, back((way(low) + way(high)) / 2), high],
      hues: diverging ? DIVERGING : ORDERED,
    };
  },

  draw() {
    const columns = ["x", "y", "over"].map((name) => this.now[name]).filter(Boolean);
    const axes = Object.fromEntries(
      ["x", "y", "over"].map((name) => [name, axisOf(this.now[name])]),
    );
    $("phase-when").parentElement.hidden = !quantity(this.now.value);
    $("phase-plots").replaceChildren();
    $("phase-key").replaceChildren();
    if (!axes.x) {
      $("phase-says").textContent = "All runs have the same settings: there is no axis.";
      return;
    }
    // Cells that a click has left out of the filter stay, paler.
    const others = split(state.filter).filter(
      (word) => !columns.some((c) => word.startsWith(`${c}=`)),
    );
    const base = chosen(others.join(" "));
    const inside = new Set(chosen().map((run) => run.index));
    const cells = new Map();
    for (const run of base) {
      const key = columns.map((column) => axisOf(column).values.indexOf(run[column])).join();
      if (!cells.has(key)) cells.set(key, { runs: [], values: {} });
      cells.get(key).runs.push(run);
      for (const column of columns) cells.get(key).values[column] = run[column];
    }
    for (const own of cells.values()) own.value = this.cell(own.runs);
    const scale = this.scale([...cells.values()].map((own) => own.value));
    const counts = [...cells.values()].map((own) => own.runs.length);
    const panels = (axes.over?.values ?? [null])
      .map((_, k) =>
        [...cells].filter(([key]) => !axes.over || key.split(",").at(-1) === String(k)),
      )
      .map((own, k) => this.panel(own, k, axes, scale, inside))
      .filter(Boolean);
    $("phase-plots").replaceChildren(...panels);
    $("phase-plots").style.setProperty("--least", `${least(axes.x)}rem`);
    this.key(
      scale,
      [...cells.values()].some((own) => own.value === undefined),
    );
    this.says(base, columns, counts);
    this.restore();
  },

  /** One diagram: a grid of buttons, with the values of its axes at two sides. */
  panel(own, k, axes, scale, inside) {
    if (!own.length) return null;
    const [x, y] = [tracks(axes.x), tracks(axes.y)];
    const name = axes.over ? axes.over.names[k] : "";
    const buttons = own.map(([key, cell]) => {
      const [i, j] = key.split(",").map(Number);
      return this.button(
        key,
        cell,
        x.place[i] + 1,
        axes.y ? y.last - y.place[j] : 1,
        scale,
        inside,
      );
    });
    const labels = (axis, at) =>
      (axis?.values ?? []).map((value, i) =>
        element(
          "span",
          { class: "tick", style: at(i), title: axis.names[i] },
          short(value, axis.column),
        ),
      );
    const bottom = labels(axes.x, (i) => `grid-area:${y.last}/${x.place[i] + 1}`);
    const left = labels(axes.y, (j) => `grid-area:${y.last - y.place[j]}/1`);
    const longest = Math.max(...bottom.map((one) => one.textContent.length));
    const room = (Math.min(16 * least(axes.x), innerWidth - 60) - 90) * x.narrowest;
    const size = `grid-template:${y.rows} auto/auto ${x.columns};height:${Math.max(9, 2.3 * (axes.y?.values.length ?? 1) + 4)}rem`;
    const grid = element(
      "div",
      {
        class: `cells${7.5 * longest + 6 > room ? " turned" : ""}`,
        style: size,
        role: "group",
        "aria-label": `Phase diagram ${name}: ${own.length} cells; arrow keys go from one to the next`,
        keydown: (event) => this.walk(event),
      },
      ...left,
      ...buttons,
      ...bottom,
    );
    const even = (axis) =>
      axis.scale === "even" && typeof known(axis.values)[0] === "number" ? " (not to scale)" : "";
    const titles = [
      element("span", { class: "along" }, axes.x.title + even(axes.x)),
      axes.y && element("span", { class: "up" }, axes.y.title + even(axes.y)),
    ];
    return element(
      "figure",
      {},
      name && element("figcaption", {}, name),
      element("div", { class: "phase" }, grid, ...titles),
    );
  },

  button(key, cell, column, row, scale, inside) {
    const { runs: own, values, value } = cell;
    const never = value === undefined;
    const text = never ? "never" : brief(value);
    const hue = value == null ? null : between(scale.hues, scale.place(value));
    const where = Object.entries(values)
      .map(([name, one]) => axisOf(name).names[axisOf(name).values.indexOf(one)])
      .join(", ");
    const what = never ? STEPS[this.now.value][1] : `${this.title()} ${number(value)}`;
    const said = `${where}: ${what}; ${plural(own.length, "run")}`;
    const outside = !own.some((run) => inside.has(run.index));
    const pressed = Object.entries(values)
      .map(wordOf)
      .every((word) => split(state.filter).includes(word));
    return element(
      "button",
      {
        type: "button",
        class: `cell${outside ? " outside" : ""}${never ? " never" : ""}`,
        style: `grid-area:${row}/${column};${hue ? `background:${hue};color:${over(hue)}` : ""}`,
        title: said,
        "aria-label": said,
        "aria-pressed": String(pressed),
        "data-key": key,
        tabindex: "-1",
        click: () => {
          this.focused = key;
          change({ filter: narrowed(values) });
        },
      },
      element("b", {}, text),
      element("small", {}, String(own.length)),
    );
  },

  /** Arrow keys go to the next cell that is there. */
  walk(event) {
    const [dx, dy] =
      { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ??
      [];
    const from = event.target.dataset.key?.split(",").map(Number);
    if (dx == null || !from) return;
    event.preventDefault();
    const grid = event.currentTarget;
    const size = Math.max(...data.axes.map((own) => own.values.length));
    for (let by = 1; by < size; by++) {
      const to = this.now.y
        ? [from[0] + dx * by, from[1] + dy * by, ...from.slice(2)]
        : [from[0] + (dx + dy) * by, ...from.slice(1)];
      const next = grid.querySelector(`[data-key="${to.join()}"]`);
      if (next) return this.enter(grid, next);
    }
  },

  /** One cell of each diagram is reached by tabbing. */
  enter(grid, cell) {
    for (const own of grid.querySelectorAll('[tabindex="0"]')) own.tabIndex = -1;
    cell.tabIndex = 0;
    cell.focus();
    this.focused = cell.dataset.key;
  },

  restore() {
    for (const grid of document.querySelectorAll("#phase-plots .cells")) {
      const last = this.focused && grid.querySelector(`[data-key="${this.focused}"]`);
      (last || grid.querySelector("button")).tabIndex = 0;
      if (last && document.activeElement === document.body) last.focus();
    }
  },

  key(scale, never) {
    const stops = scale.hues.join(",");
    $("phase-key").replaceChildren(
      element("span", {}, `${this.title()} `),
      element(
        "span",
        { class: "bar" },
        element("i", { style: `background:linear-gradient(to right,${stops})` }),
        ...scale.ticks.map((tick) => element("span", {}, brief(tick))),
      ),
      ...(never
        ? [
            element("span", { class: "cell never" }, "never"),
            element("span", {}, ` ${STEPS[this.now.value][1]}`),
          ]
        : []),
    );
  },

  says(base, columns, counts) {
    const pooled = data.axes
      .filter((own) => !columns.includes(own.column))
      .map((own) => [own.title, new Set(base.map((run) => run[own.column])).size])
      .filter(([, n]) => n > 1)
      .map(([title, n]) => `${n} values of ${title}`);
    const [few, many] = [Math.min(...counts), Math.max(...counts)];
    const n = few === many ? `${number(few)} each` : `${number(few)} to ${number(many)} each`;
    const ended = base.filter(hasEnded).length;
    const left =
      ended && quantity(this.now.value)
        ? `${plural(ended, "run")} diverged or failed and are not averaged.`
        : "";
    $("phase-says").textContent = counts.length
      ? `${plural(counts.length, "cell")} of ${plural(base.length, "run")}, ${n}${pooled.length ? `, over ${pooled.join(", ")}` : ""}. ${left}`
      : "No run passes the filter.";
  },
};

/** Least width in rem of a diagram with this axis across. */
const least = (axis) => Math.min(36, 6 + 2.6 * axis.values.length);

/** Widths of an axis' cells and of gaps between them, and in which of these each value is. */
function tracks(axis) {
  const parts = [];
  const place = [];
  let end = axis?.cells[0][0];
  for (const [low, high] of axis?.cells ?? [[0, 1]]) {
    if (low - end > 1e-9) parts.push(low - end);
    place.push(parts.push(high - low));
    end = high;
  }
  const total = parts.reduce((sum, part) => sum + part, 0);
  const sizes = parts.map((part) => `minmax(0,${((100 * part) / total).toFixed(3)}fr)`);
  const narrowest = Math.min(...place.map((at) => parts[at - 1])) / total;
  return {
    place,
    narrowest,
    last: parts.length + 1,
    columns: sizes.join(" "),
    rows: sizes.toReversed().join(" "),
  };
}

/** A setting's value as short as it can be. */
function short(value, column) {
  const [word] = Object.entries(data.words[column] ?? {}).find(([, own]) => own === value) ?? [];
  return value == null ? "none" : (word ?? String(value));
}

/** A number in at most four letters or so. */
function brief(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(2)}M`;
  if (size >= 1000) return `${+(value / 1e3).toPrecision(size >= 99500 ? 3 : 2)}k`;
  if (size && size < 0.001) return value.toExponential(0);
  return String(+value.toPrecision(size >= 100 ? 3 : 2));
}

/** Black or white, whichever can be read on a colour given as rgb(…). */
function over(hue) {
  const [r, g, b] = hue.match(/\d+/g).map((one) => (one / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}
