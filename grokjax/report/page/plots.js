// How plotly is used: one look for all figures, and a text beside each.

const SETTINGS = { displayModeBar: false, responsive: true, doubleClick: "reset" };

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
function draw(place, traces, look, text, marks = []) {
  const div = typeof place === "string" ? $(place) : place;
  div.setAttribute("role", "img");
  describe(div, text);
  div.marks = marks;
  return Plotly.react(div, traces, look, SETTINGS).then(() => {
    if (marks.length || div.canvases) ink(div);
  });
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
