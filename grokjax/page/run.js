// One run: a slider over its checkpoints moves embedding, diagram, barcode, spectrum and cursors.

const view = {
  run: null, // of runs()
  details: null, // what is known of its checkpoints, or null
  steps: [],
  timer: null,

  async show(words) {
    const all = runs();
    const typical = all.find((run) => data.details[run.run_id] && run.generalisation_step != null);
    const run = all.find((own) => own.run_id === words.get("id")) ?? typical ?? all[0];
    const sameRun = this.run?.run_id === run.run_id;
    const step = words.has("step") ? Number(words.get("step")) : sameRun ? this.step() : null;
    if (!sameRun) this.pause();
    this.run = run;
    $("order").value = words.get("order") === "plain" ? "plain" : "wave";
    this.fillChoices();
    this.facts();
    this.details = await this.find(run.run_id);
    if (this.run !== run) return; // another one was chosen meanwhile
    this.steps = this.details?.steps ?? data.curves.steps;
    $("step").max = String(this.steps.length - 1);
    const start = run.generalisation_step ?? this.steps.at(-1);
    this.place(this.nearest(step ?? start));
    this.jumps();
    this.drawAll();
  },

  /** Details of a run: on the page, or asked of the server if there is one. */
  async find(id) {
    const here = data.details[id];
    $("run-notice").hidden = true;
    if (here) return here;
    let text = data.checkpoints
      ? "Its embedding, diagrams and spectra are not on this page; " +
        `python -m grokjax.report --workdir=${data.sweep.folder} --runs=${id} puts them there.`
      : "There is no checkpoint in the work directory, so only curves can be shown.";
    if (data.live) {
      try {
        const answer = await fetch(`runs/${encodeURIComponent(id)}.json`);
        if (answer.ok) return (data.details[id] = await answer.json());
        text = "There is no checkpoint of this run to show.";
      } catch {
        text = "The server does not answer.";
      }
    }
    $("run-notice").textContent = text;
    $("run-notice").hidden = false;
    return null;
  },

  fillChoices() {
    const groups = data.settings.map((own, i) => {
      const members = runs().filter((run) => run.setting === i);
      const options = members.map((run) => {
        const state = run.generalisation_step != null ? `generalised at ${number(run.generalisation_step)}` : hasEnded(run) ? run.status : "did not generalise";
        const some = data.details[run.run_id] || data.live ? "" : ", curves only";
        return element("option", { value: run.run_id }, `seed ${run.seed}: ${state}${some}`);
      });
      return element("optgroup", { label: own.name }, ...options);
    });
    $("which").replaceChildren(...groups);
    $("which").value = this.run.run_id;
  },

  facts() {
    const run = this.run;
    const rows = [
      ["setting", data.settings[run.setting].name],
      ["seed", run.seed],
      ["training pairs", number(run.n_train)],
      ["status", run.status],
      ["memorised", run.memorisation_step == null ? "never" : `step ${number(run.memorisation_step)}`],
      ["generalised", run.generalisation_step == null ? "never" : `step ${number(run.generalisation_step)}`],
      ["last accuracy", `train ${number(run.last_train_accuracy)}, test ${number(run.last_test_accuracy)}`],
      ["H1 max", run.before == null && run.after == null ? null : `${number(run.before)} before, ${number(run.after)} after`],
    ];
    $("run-title").textContent = run.run_id;
    $("run-facts").replaceChildren(
      ...rows
        .filter(([, value]) => value != null)
        .map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(value)))),
    );
  },

  // -------------------------------------------------------------- the slider

  at: () => Number($("step").value),

  step() {
    return this.steps[this.at()];
  },

  nearest(step) {
    const gaps = this.steps.map((own) => Math.abs(own - step));
    return gaps.indexOf(Math.min(...gaps));
  },

  place(i) {
    $("step").value = String(i);
    const text = `step ${number(this.step())} of ${number(data.sweep.steps)}`;
    $("step").setAttribute("aria-valuetext", text);
    $("step-text").textContent = text;
  },

  /** Buttons that lead to the checkpoints that matter. */
  jumps() {
    const when = this.run.generalisation_step;
    const places = [["Start", 0]];
    if (when != null) {
      const before = this.steps.findLastIndex((step) => step < when);
      if (before > 0) places.push(["Before generalisation", before]);
      places.push(["Generalisation", this.nearest(when)]);
    }
    places.push(["End", this.steps.length - 1]);
    $("jumps").replaceChildren(
      ...places.flatMap(([name, i]) => [element("button", { type: "button", click: () => this.move(i) }, name), " "]),
    );
  },

  move(i) {
    this.place(i);
    this.update();
    keep("run", { id: this.run.run_id, step: this.step(), order: $("order").value === "plain" ? "plain" : null });
  },

  play() {
    if (this.timer) return this.pause();
    if (this.at() === this.steps.length - 1) this.place(0);
    $("play").textContent = "Pause";
    $("play").setAttribute("aria-pressed", "true");
    $("says").setAttribute("aria-live", "off"); // not a flood of words while it plays
    const tick = () => {
      if (this.at() >= this.steps.length - 1) return this.pause();
      this.place(this.at() + 1);
      this.update();
      this.timer = setTimeout(tick, 1000 / Number($("speed").value));
    };
    this.timer = setTimeout(tick, 0);
  },

  pause() {
    if (!this.timer) return;
    clearTimeout(this.timer);
    this.timer = null;
    $("play").textContent = "Play";
    $("play").setAttribute("aria-pressed", "false");
    $("says").setAttribute("aria-live", "polite");
    keep("run", { id: this.run.run_id, step: this.step(), order: $("order").value === "plain" ? "plain" : null });
  },

  // -------------------------------------------------------------- the panels

  drawAll() {
    const own = this.details;
    const size = (packed) => Math.max(1e-9, ...extent(packed).map(Math.abs));
    const ends = (...packed) => {
      const [low, high] = extent(...packed);
      const margin = 0.06 * (high - low) || 0.5;
      return [Math.max(0, low - margin), high + margin];
    };
    // Axes stay as they are through the run, so that what moves is the run.
    this.limits = own && {
      components: own.components && 1.08 * size(own.components),
      waves: own.waves && 1.08 * size(own.waves),
      bars: ends(own.h0_deaths, own.h1_births, own.h1_deaths),
      count: Math.max(own.h1_births.shape[1] + own.h0_deaths.shape[1], 1),
      share: own.spectra && ends(own.spectra)[1],
    };
    this.update();
  },

  update() {
    const own = this.details;
    const i = this.at();
    const said = [`Step ${number(this.step())}.`, this.cursor()];
    if (own?.components) said.push(this.embedding(own, i), this.spectrum(own, i));
    else for (const id of ["components", "waves", "spectrum"]) drawNothing(id, "not on this page");
    if (own) said.push(this.bars(own, i));
    else for (const id of ["diagram", "barcode"]) drawNothing(id, "not on this page");
    $("says").textContent = said.filter(Boolean).join(" ");
  },

  embedding(own, i) {
    const shares = own.shares[i];
    const both = shares[0] == null ? null : shares[0] + shares[1];
    const inOrder = $("order").value === "wave";
    $("components-note").textContent = both == null ? "" : `(${percent(both)} of the variance)`;
    this.plane("components", row(own.components, i), inOrder ? own.frequency : 1, this.limits.components,
      `Embedding on its two main components, which hold ${percent(both)} of the variance.`);
    const k = own.frequencies[i];
    $("waves-note").textContent = k ? `(k = ${k}, ${percent(own.wave_shares[i])} of the power)` : "";
    this.plane("waves", row(own.waves, i), inOrder ? k || 1 : 1, this.limits.waves,
      `Embedding in the plane of its strongest wave, of frequency ${k}, which holds ${percent(own.wave_shares[i])} of the power.`);
    return both == null ? "The embedding is not finite." : `Two main components hold ${percent(both)} of the variance.`;
  },

  /** Points of residues, joined in the order in which a wave of frequency k passes them. */
  plane(id, flat, k, limit, text) {
    const n = flat.length / 2;
    if (flat.some((value) => value == null)) return drawNothing(id, "not finite");
    const places = range(n).map((x) => (k * x) % n);
    const order = range(n);
    if (new Set(places).size === n) places.forEach((place, x) => (order[place] = x));
    const ring = [...order, order[0]];
    const [x, y] = [0, 1].map((c) => range(n).map((j) => flat[2 * j + c]));
    const traces = [
      { type: "scatter", mode: "lines", x: ring.map((j) => x[j]), y: ring.map((j) => y[j]), line: { color: css("--soft"), width: 0.7 }, hoverinfo: "skip" },
      {
        type: "scatter",
        mode: "markers",
        x,
        y,
        text: this.details.residues.map((residue) => `residue ${residue}`),
        hovertemplate: "%{text}<extra></extra>",
        marker: { size: n > 120 ? 6 : 9, color: places.map((place) => between(CYCLE, place / n)), line: { color: css("--edge"), width: 0.8 } },
      },
    ];
    const plain = { range: [-limit, limit], showticklabels: false, showgrid: false, showline: false };
    const look = layout(axis("", plain), axis("", { ...plain, scaleanchor: "x" }), { margin: { l: 8, r: 8, t: 8, b: 8 } });
    return draw(id, traces, look, text);
  },

  spectrum(own, i) {
    const shares = row(own.spectra, i);
    if (!known(shares).length) {
      $("spectrum-note").textContent = "";
      drawNothing("spectrum", "not finite");
      return "";
    }
    const hue = colours(2);
    const k = own.frequencies[i];
    const best = shares.map((share, j) => [share, j + 1]).sort((a, b) => b[0] - a[0]).slice(0, 3);
    const words = best.map(([share, at]) => `k = ${at} (${percent(share)})`).join(", ");
    $("spectrum-note").textContent = `(an even share is ${percent(1 / shares.length)})`;
    const bars = {
      type: "bar",
      x: range(shares.length).map((j) => j + 1),
      y: shares,
      marker: { color: shares.map((_, j) => hue[j + 1 === k ? 1 : 0]) },
      hovertemplate: "k = %{x}: %{y:.1%}<extra></extra>",
    };
    const y = axis("share of power", { range: [0, this.limits.share], tickformat: ".0%" });
    draw("spectrum", [bars], layout(axis("frequency k"), y, { bargap: 0.15 }), `Spectrum of the embedding. Strongest: ${words}.`);
    return `Strongest frequencies: ${words}.`;
  },

  bars(own, i) {
    const [births, deaths, h0] = [own.h1_births, own.h1_deaths, own.h0_deaths].map((one) => known(row(one, i)));
    const lengths = births.map((birth, j) => deaths[j] - birth);
    const longest = lengths.indexOf(Math.max(...lengths));
    if (!h0.length) {
      $("diagram-note").textContent = "";
      for (const id of ["diagram", "barcode"]) drawNothing(id, "no bars");
      return "No bars: the cloud is not finite, or all of its points coincide.";
    }
    const words = births.length
      ? `${plural(births.length, "H1 bar")}, the longest ${number(lengths[longest])}, from ${number(births[longest])} to ${number(deaths[longest])}.`
      : "No H1 bar.";
    $("diagram-note").textContent = births.length ? `(longest H1 bar ${number(lengths[longest])})` : "";
    const hue = colours(2);
    const ends = this.limits.bars;
    const emphasis = (plain, strong) => births.map((_, j) => (j === longest ? strong : plain));
    const diagonal = { type: "scatter", mode: "lines", x: ends, y: ends, line: { color: css("--soft"), width: 1 }, hoverinfo: "skip" };
    const ticks = { type: "scatter", mode: "markers", x: h0.map(() => ends[0]), y: h0, marker: { symbol: "line-ew", size: 14, line: { color: hue[0], width: 1 } }, hovertemplate: "H0, death %{y:.4f}<extra></extra>" };
    const points = { type: "scatter", mode: "markers", x: births, y: deaths, marker: { color: hue[1], size: emphasis(7, 12), line: { color: css("--text"), width: emphasis(0, 1.5) } }, hovertemplate: "H1, %{x:.4f} to %{y:.4f}<extra></extra>" };
    const look = layout(axis("birth", { range: ends }), axis("death", { range: ends }));
    draw("diagram", [diagonal, ticks, points], look, `Persistence diagram. ${words}`);

    const sorted = range(births.length).sort((a, b) => births[a] - births[b]);
    const sticks = (from, to, up) => ({
      x: from.flatMap((start, j) => [start, to[j], null]),
      y: from.flatMap((_, j) => [j + up, j + up, null]),
    });
    const bar = (lengthsOf, colour, width) => ({ type: "scatter", mode: "lines", ...lengthsOf, line: { color: colour, width }, hoverinfo: "skip" });
    const at = h0.length + sorted.indexOf(longest);
    const traces = [
      bar(sticks(h0.map(() => ends[0]), h0, 0), hue[0], 1),
      bar(sticks(sorted.map((j) => births[j]), sorted.map((j) => deaths[j]), h0.length), hue[1], 1.5),
    ];
    if (births.length) traces.push(bar({ x: [births[longest], deaths[longest]], y: [at, at] }, hue[1], 5));
    const y = axis("H0 below, H1 above", { range: [-1, this.limits.count], showticklabels: false, showgrid: false });
    draw("barcode", traces, layout(axis("scale", { range: ends }), y), `Barcode. ${words}`);
    return words;
  },

  // -------------------------------------------------------------- the run's curves

  curve(key) {
    const place = data.curves.runs.indexOf(this.run.index);
    const own = quantity(key);
    return place < 0 || !own ? null : scaled(row(own.runs, place), own.log);
  },

  /** Accuracy above, longest H1 bars below, a line through both at the checkpoint. */
  cursor() {
    const hue = colours(5);
    const found = [
      ["metrics/test_accuracy", "test", "y"],
      ["metrics/train_accuracy", "train", "y"],
      ["metrics/novel_accuracy", "novel pairs", "y"],
      ["persistence/embedding/h1_max", "H1 max", "y2"],
      ["persistence/embedding/h1_second", "H1 second", "y2"],
    ]
      .map(([key, name, side], k) => ({ values: this.curve(key), name, side, k }))
      .filter((own) => own.values);
    if (!found.length) {
      drawNothing("run-curves", "not on this page");
      return "";
    }
    const traces = found.map(({ values, name, side, k }) => ({
      ...line(data.curves.steps, values, hue[k], DASHES[k % 3], 2),
      name,
      yaxis: side,
      legend: side === "y2" ? "legend2" : "legend",
    }));
    const both = found.some((own) => own.side === "y2");
    const cursor = { type: "line", x0: this.step(), x1: this.step(), y0: 0, y1: 1, yref: "paper", line: { color: css("--text"), width: 1.5 } };
    const legend = { orientation: "h", x: 0, yanchor: "bottom", itemclick: false, itemdoubleclick: false, font: { size: 11 } };
    const look = layout(stepAxis({ anchor: both ? "y2" : "y" }), axis("accuracy", { range: [-0.05, 1.05], domain: both ? [0.58, 1] : [0, 1] }), {
      yaxis2: axis("H1", { rangemode: "tozero", domain: [0, 0.42] }),
      shapes: [cursor],
      showlegend: true,
      legend: { ...legend, y: 1.01 },
      legend2: { ...legend, y: 0.45 },
      margin: { l: 52, r: 12, t: 28, b: 44 },
    });
    const place = data.curves.steps.indexOf(this.step());
    const now = found.map((own) => `${own.name} ${number(own.values[place])}`);
    draw("run-curves", traces, look, `Curves against step; at the checkpoint ${now.join(", ")}.`);
    const div = $("run-curves");
    div.removeAllListeners?.("plotly_click");
    div.on("plotly_click", (event) => this.move(this.nearest(event.points[0].x)));
    const above = found.filter((own) => own.side === "y").length;
    return `Accuracy: ${now.slice(0, above).join(", ")}.`;
  },
};
