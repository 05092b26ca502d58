// One checkpoint of a run: embedding, spectrum, bars, and where it stands on the curves.

// What stands below accuracy unless something else is chosen.
const LONGEST = [
  ["persistence/embedding/h1_max", "H1 max", "y2"],
  ["persistence/embedding/h1_second", "H1 second", "y2"],
];

const checkpoint = {
  run: null, // of runs()
  details: null, // what is known of its checkpoints, or null
  limits: {},

  /** Takes up a run. Axes stay as they are from then on, so that what moves is the run. */
  of(run, details) {
    const own = details;
    const size = (packed) => Math.max(1e-9, ...extent(packed).map(Math.abs));
    const ends = (...packed) => {
      const [low, high] = extent(...packed);
      const margin = 0.06 * (high - low) || 0.5;
      return [Math.max(0, low - margin), high + margin];
    };
    this.run = run;
    this.details = details;
    this.limits = own && {
      components: own.components && 1.08 * size(own.components),
      waves: own.waves && 1.08 * size(own.waves),
      bars: ends(own.h0_deaths, own.h1_births, own.h1_deaths),
      count: Math.max(own.h1_births.shape[1] + own.h0_deaths.shape[1], 1),
      share: own.spectra && Math.max(ends(own.spectra)[1], 1.06 * Math.max(...own.even)),
    };
  },

  /** Draws the i-th checkpoint, at a step; returns what there is to see, in words. */
  draw(i, step) {
    const own = this.details;
    const said = [`Step ${number(step)}.`, this.curves(step)];
    const missing = hasEmbedding(this.run) ? "not on this page" : "this network has no embedding";
    if (own?.components)
      said.push(this.embedding(own, i), coordinate.draw(own, i), this.spectrum(own, i));
    else
      for (const id of ["components", "waves", "coordinate", "spectrum"]) this.nothing(id, missing);
    if (own) said.push(this.bars(own, i));
    else for (const id of ["diagram", "barcode"]) this.nothing(id, missing);
    return said.filter(Boolean).join(" ");
  },

  nothing(id, text) {
    const note = $(`${id}-note`);
    if (note) note.textContent = "";
    drawNothing(id, text);
  },

  embedding(own, i) {
    const shares = own.shares[i];
    const both = shares[0] == null ? null : shares[0] + shares[1];
    const inOrder = $("order").value === "wave";
    $("components-note").textContent = both == null ? "" : `${percent(both)} of the variance`;
    const k = own.waves && !inOrder ? 1 : own.frequency;
    this.plane(
      "components",
      row(own.components, i),
      k,
      coordinate.hues(own, i, k),
      this.limits.components,
      `Embedding on its two main components, which hold ${percent(both)} of the variance.`,
    );
    this.wave(own, i, inOrder);
    return both == null
      ? "The embedding is not finite."
      : `Two main components hold ${percent(both)} of the variance.`;
  },

  wave(own, i, inOrder) {
    if (!own.waves) return this.nothing("waves", "the elements of this task are no cycle");
    const k = own.frequencies[i];
    const share = percent(own.wave_shares[i]);
    $("waves-note").textContent = k ? `k = ${k}, ${share} of the power` : "";
    const text = `Embedding in the plane of its strongest wave, of frequency ${k}, which holds ${share} of the power.`;
    const by = inOrder ? k || 1 : 1;
    return this.plane(
      "waves",
      row(own.waves, i),
      by,
      coordinate.hues(own, i, by),
      this.limits.waves,
      text,
    );
  },

  /**
   * Points of elements in colours: of a cycle joined in the order in which a wave of frequency k
   * passes them; where k is 0 they are none.
   */
  plane(id, flat, k, hues, limit, text) {
    const n = flat.length / 2;
    if (flat.some((value) => value == null)) return this.nothing(id, "not finite");
    const places = range(n).map((x) => (k * x) % n);
    const order = range(n);
    if (new Set(places).size === n) places.forEach((place, x) => (order[place] = x));
    const ring = k ? [...order, order[0]] : [];
    const [x, y] = [0, 1].map((c) => range(n).map((j) => flat[2 * j + c]));
    const traces = [
      {
        type: "scatter",
        mode: "lines",
        x: ring.map((j) => x[j]),
        y: ring.map((j) => y[j]),
        line: { color: css("--soft"), width: 0.7 },
        hoverinfo: "skip",
      },
      {
        type: "scatter",
        mode: "markers",
        x,
        y,
        text: this.details.elements.map((name) => `element ${name}`),
        hovertemplate: "%{text}<extra></extra>",
        marker: {
          size: n > 120 ? 6 : 9,
          color: hues,
          line: { color: css("--edge"), width: 0.8 },
        },
      },
    ];
    const plain = {
      range: [-limit, limit],
      showticklabels: false,
      showgrid: false,
      showline: false,
    };
    const look = layout(axis("", plain), axis("", { ...plain, scaleanchor: "x" }), {
      margin: { l: 8, r: 8, t: 8, b: 8 },
    });
    return draw(id, traces, look, text);
  },

  spectrum(own, i) {
    if (!own.spectra) {
      this.nothing("spectrum", "this task gives its elements no structure");
      return "";
    }
    const shares = row(own.spectra, i);
    if (!known(shares).length) {
      this.nothing("spectrum", "not finite");
      return "";
    }
    const hue = colours(2);
    // Elements of a cycle have frequencies, those of another group irreducible representations.
    const [noun, label] = own.waves ? ["frequencies", "k = "] : ["irreps", ""];
    const best = range(shares.length).sort((a, b) => shares[b] - shares[a]);
    const words = best
      .slice(0, 3)
      .map((j) => `${label}${own.names[j]} (${percent(shares[j])})`)
      .join(", ");
    $("spectrum-note").textContent = "lines: what noise gives";
    const bars = {
      type: "bar",
      x: own.waves ? own.names.map(Number) : own.names,
      y: shares,
      marker: { color: shares.map((_, j) => hue[j === best[0] ? 1 : 0]) },
      hovertemplate: `${label}%{x}: %{y:.1%}<extra></extra>`,
    };
    const noise = {
      type: "scatter",
      mode: "markers",
      x: bars.x,
      y: own.even,
      marker: { symbol: "line-ew", size: 8, line: { color: css("--text"), width: 1.5 } },
      hovertemplate: `${label}%{x}: %{y:.1%} in noise<extra></extra>`,
    };
    const n = shares.length;
    const x = own.waves
      ? axis("frequency k", { range: [0.4, n + 0.6] })
      : axis("irrep", { type: "category", range: [-0.6, n - 0.4] });
    const y = axis("share of power", { range: [0, this.limits.share], tickformat: "~%" });
    draw(
      "spectrum",
      [bars, noise],
      layout(x, y, { bargap: 0.15 }),
      `Spectrum of the embedding. Strongest ${noun}: ${words}.`,
    );
    return `Strongest ${noun}: ${words}.`;
  },

  bars(own, i) {
    const [births, deaths, h0] = [own.h1_births, own.h1_deaths, own.h0_deaths].map((one) =>
      known(row(one, i)),
    );
    const lengths = births.map((birth, j) => deaths[j] - birth);
    const longest = lengths.indexOf(Math.max(...lengths));
    if (!h0.length) {
      for (const id of ["diagram", "barcode"]) this.nothing(id, "no bars");
      return "No bars: the cloud is not finite, or all of its points coincide.";
    }
    const words = births.length
      ? `${plural(births.length, "H1 bar")}, the longest ${number(lengths[longest])}, from ${number(births[longest])} to ${number(deaths[longest])}.`
      : "No H1 bar.";
    $("diagram-note").textContent = births.length
      ? `longest H1 bar ${number(lengths[longest])}`
      : "no H1 bar";
    $("barcode-note").textContent =
      `${plural(h0.length, "H0 bar")} below, ${plural(births.length, "H1 bar")} above`;
    this.diagram(births, deaths, h0, longest, words);
    this.barcode(births, deaths, h0, longest, words);
    return words;
  },

  diagram(births, deaths, h0, longest, words) {
    const hue = colours(2);
    const ends = this.limits.bars;
    const emphasis = (plain, strong) => births.map((_, j) => (j === longest ? strong : plain));
    const diagonal = {
      showlegend: false,
      type: "scatter",
      mode: "lines",
      x: ends,
      y: ends,
      line: { color: css("--soft"), width: 1 },
      hoverinfo: "skip",
    };
    const ticks = {
      name: "H0",
      type: "scatter",
      mode: "markers",
      x: h0.map(() => ends[0]),
      y: h0,
      marker: { symbol: "line-ew", size: 14, line: { color: hue[0], width: 1 } },
      hovertemplate: "H0, death %{y:.4f}<extra></extra>",
    };
    const points = {
      name: "H1",
      type: "scatter",
      mode: "markers",
      x: births,
      y: deaths,
      marker: {
        color: hue[1],
        size: emphasis(7, 12),
        line: { color: css("--text"), width: emphasis(0, 1.5) },
      },
      hovertemplate: "H1, %{x:.4f} to %{y:.4f}<extra></extra>",
    };
    // Nothing is ever born after its death: the corner below the diagonal is free.
    const corner = { x: 1, y: 0, xanchor: "right", yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" };
    const look = layout(axis("birth", { range: ends }), axis("death", { range: ends }), {
      showlegend: true,
      legend: { ...corner, itemclick: false, itemdoubleclick: false },
    });
    draw("diagram", [diagonal, ticks, points], look, `Persistence diagram. ${words}`);
  },

  barcode(births, deaths, h0, longest, words) {
    const hue = colours(2);
    const ends = this.limits.bars;
    const sorted = range(births.length).sort((a, b) => births[a] - births[b]);
    const bars = (from, to, up, colour, width) => ({
      type: "scatter",
      mode: "lines",
      x: from.flatMap((start, j) => [start, to[j], null]),
      y: from.flatMap((_, j) => [j + up, j + up, null]),
      line: { color: colour, width },
      hoverinfo: "skip",
    });
    const left = h0.map(() => ends[0]);
    const [starts, stops] = [births, deaths].map((values) => sorted.map((j) => values[j]));
    const traces = [bars(left, h0, 0, hue[0], 1), bars(starts, stops, h0.length, hue[1], 1.5)];
    if (births.length) {
      const at = h0.length + sorted.indexOf(longest);
      traces.push(bars([births[longest]], [deaths[longest]], at, hue[1], 5));
    }
    const y = axis("bars", {
      range: [-1, this.limits.count],
      showticklabels: false,
      showgrid: false,
    });
    draw("barcode", traces, layout(axis("scale", { range: ends }), y), `Barcode. ${words}`);
  },

  curve(key) {
    const place = data.curves.runs.indexOf(this.run.index);
    const own = quantity(key);
    if (place < 0 || !own) return null;
    return row(own.runs, place).map((value) => (own.log && value != null ? 10 ** value : value));
  },

  /** Accuracy above, longest H1 bars or what is chosen below, a line through both at the checkpoint. */
  curves(step) {
    const hue = colours(5);
    const chosen = $("below").value;
    const found = [
      ["metrics/test_accuracy", "test", "y"],
      ["metrics/train_accuracy", "train", "y"],
      ["metrics/novel_accuracy", "novel pairs", "y"],
      ...(chosen ? [[chosen, quantity(chosen).label, "y2"]] : LONGEST),
    ]
      .map(([key, name, side], k) => ({ key, values: this.curve(key), name, side, k }))
      .filter((own) => own.values && known(own.values).length);
    if (!found.length) {
      drawNothing("run-curves", "not on this page");
      return "";
    }
    const below = found.find((own) => own.side === "y2");
    const traces = found.map(({ values, name, side, k }) => ({
      type: "scatter",
      mode: known(values).length > 1 ? "lines" : "markers", // a line needs two points
      x: data.curves.steps,
      y: values,
      line: { color: hue[k], dash: DASHES[k % 3], width: 2 },
      marker: { color: hue[k] },
      hovertemplate: "%{y:.4g} at step %{x}<extra>%{fullData.name}</extra>",
      name,
      yaxis: side,
      legend: side === "y2" ? "legend2" : "legend",
    }));
    const cursors = (below ? ["y", "y2"] : ["y"]).map((side) => ({
      type: "line",
      x0: step,
      x1: step,
      y0: 0,
      y1: 1,
      yref: `${side} domain`,
      line: { color: css("--text"), width: 1.5 },
    }));
    const legend = {
      orientation: "h",
      x: 0,
      yanchor: "bottom",
      itemclick: false,
      itemdoubleclick: false,
      font: { size: 11 },
    };
    const look = layout(
      stepAxis({ anchor: below ? "y2" : "y" }),
      axis("accuracy", { range: [-0.05, 1.05], domain: below ? [0.58, 1] : [0, 1] }),
      {
        yaxis2: axis(chosen ? "" : "H1", {
          type: below && quantity(below.key).log ? "log" : "linear",
          exponentformat: "power",
          rangemode: chosen ? "normal" : "tozero",
          domain: [0, 0.42],
        }),
        shapes: cursors,
        showlegend: true,
        legend: { ...legend, y: 1.01 },
        legend2: { ...legend, y: 0.45 },
        margin: { l: 52, r: 12, t: 28, b: 44 },
      },
    );
    const place = data.curves.steps.indexOf(step);
    const now = found.map((own) => `${own.name} ${number(own.values[place])}`);
    draw("run-curves", traces, look, `Curves against step; at the checkpoint ${now.join(", ")}.`);
    const div = $("run-curves");
    div.removeAllListeners?.("plotly_click");
    div.on("plotly_click", (event) => view.move(view.nearest(event.points[0].x)));
    const above = found.filter((own) => own.side === "y").length;
    return `Accuracy: ${now.slice(0, above).join(", ")}.`;
  },
};
