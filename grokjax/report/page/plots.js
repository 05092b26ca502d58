// How plotly is used: one look for all figures, and a text beside each.

const SETTINGS = { displayModeBar: false, responsive: true };

function axis(title, more = {}) {
  return {
    title: { text: title, standoff: 8 },
    gridcolor: css("--grid"),
    linecolor: css("--line"),
    zeroline: false,
    automargin: true,
    ...more,
  };
}

function layout(x, y, more = {}) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: css("--text"), family: getComputedStyle(document.body).fontFamily, size: 13 },
    margin: { l: 52, r: 12, t: 8, b: 44 },
    showlegend: false,
    hovermode: "closest",
    hoverlabel: { bgcolor: css("--raised"), font: { color: css("--text") } },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    xaxis: x,
    yaxis: y,
    ...more,
  };
}

/** Draws a figure in a place, with a text that says what it shows to those who cannot see it. */
function draw(place, traces, look, text) {
  const div = typeof place === "string" ? $(place) : place;
  div.setAttribute("role", "img");
  describe(div, text);
  return Plotly.react(div, traces, look, SETTINGS);
}

function describe(place, text) {
  (typeof place === "string" ? $(place) : place).setAttribute("aria-label", text);
}

/** In place of a figure: why there is none. */
function drawNothing(place, text) {
  const div = typeof place === "string" ? $(place) : place;
  const empty = { visible: false };
  const note = { text, showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 };
  return draw(div, [], layout({ ...empty }, { ...empty }, { annotations: [note] }), text);
}

const stepAxis = (more = {}) =>
  axis("step", { tickformat: "~s", range: [0, 1.01 * data.sweep.steps], ...more });

/**
 * A click on a run's point leads to it, and the run under the pointer is lit up in all figures of the
 * view. `customdata` holds its index; `lights` gives the shapes that mark a run in this figure.
 */
function pointAtRuns(place, lights) {
  const div = typeof place === "string" ? $(place) : place;
  div.lights = lights;
  for (const name of ["plotly_click", "plotly_hover", "plotly_unhover"])
    div.removeAllListeners?.(name);
  const run = (event) => event.points[0].customdata;
  div.on("plotly_click", (event) => {
    if (run(event) != null) go("run", { id: data.runs.run_id[run(event)] });
  });
  div.on("plotly_hover", (event) => light(run(event)));
  div.on("plotly_unhover", () => light(null));
}

/** Lights a run up in every figure that is shown; null: none. */
function light(index) {
  for (const div of document.querySelectorAll("section:not([hidden]) .plot")) {
    if (!div.lights || !div.layout) continue;
    const shapes = index == null ? [] : div.lights(index);
    if (shapes.length || div.layout.shapes?.length) Plotly.relayout(div, { shapes });
  }
}

/** Rings around the points of runs at the places that `ends` give. */
function dots(own, ends) {
  const ring = { x0: -8, x1: 8, y0: -8, y1: 8, xsizemode: "pixel", ysizemode: "pixel" };
  return own.flatMap((run) =>
    ends.map((at) => ({
      type: "circle",
      ...ring,
      xanchor: at(run),
      yanchor: run.up,
      line: { color: css("--text"), width: 2.5 },
    })),
  );
}
