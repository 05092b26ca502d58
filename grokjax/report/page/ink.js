// Lines and points of many runs, on canvases above the axes that plotly draws, whose own lines and
// points take ten times as long.

/*
 * A mark is { rows, colour, width, dash, alpha, fill, symbol, size }; its rows are one path, whose
 * parts do not darken each other. A row is { x, y, run, text }: x and y in units of the axes
 * (decimal logarithms on a logarithmic one), NaN is a gap; text(i) is what the pointer reads at the
 * i-th point; it does not find rows without. Rows of a mark with a symbol, or of one point, are
 * points.
 */
const ring = (r) => `m${-r},0a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0z`;
const SYMBOLS = {
  circle: ring,
  open: ring,
  diamond: (r) => `m0,${-r}l${r},${r}l${-r},${r}l${-r},${-r}z`,
  cross: (r) => `m${-r},${-r}l${2 * r},${2 * r}m0,${-2 * r}l${-2 * r},${2 * r}`,
};
const GAPS = { solid: [], dash: [9, 9], dot: [3, 3], dashdot: [9, 3, 3, 3] };
const NEAR = 20; // pixels from the pointer

/** From units of a figure's axes to pixels of its canvases. */
function scales(div) {
  const { xaxis, yaxis } = div._fullLayout;
  const [left, right] = xaxis.range;
  const [bottom, top] = yaxis.range;
  const [width, height] = [xaxis._length / (right - left), yaxis._length / (top - bottom)];
  return [(x) => (x - left) * width, (y) => (top - y) * height];
}

/** Draws marks on a canvas of a figure, in place of what is there. */
function paint(div, canvas, marks) {
  const { xaxis, yaxis } = div._fullLayout;
  const [width, height] = [xaxis._length, yaxis._length];
  const [left, top] = [xaxis._offset, yaxis._offset];
  canvas.style = `left:${left}px;top:${top}px;width:${width}px;height:${height}px`;
  [canvas.width, canvas.height] = [width * devicePixelRatio, height * devicePixelRatio];
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  const [toX, toY] = scales(div);
  for (const mark of marks) {
    const [strokes, fills] = [new Path2D(), new Path2D()];
    for (const { x, y } of mark.rows) {
      const alone = y.findIndex(isThere) === y.findLastIndex(isThere);
      const symbol = mark.symbol ?? (alone ? "circle" : null);
      const shape = symbol && SYMBOLS[symbol](mark.size ?? 3);
      const path = mark.fill || /circle|diamond/.test(symbol) ? fills : strokes;
      let pen = "moveTo";
      for (let i = 0; i < y.length; i++) {
        if (!isThere(y[i])) pen = "moveTo";
        else if (symbol) path.addPath(new Path2D(`M${toX(x[i])},${toY(y[i])}${shape}`));
        else {
          path[pen](toX(x[i]), toY(y[i]));
          pen = "lineTo";
        }
      }
    }
    context.globalAlpha = mark.alpha ?? 1;
    context.strokeStyle = context.fillStyle = mark.colour;
    context.lineWidth = mark.width ?? 1.5;
    context.setLineDash(GAPS[mark.dash ?? "solid"]);
    context.stroke(strokes);
    context.fill(fills);
  }
}

/** Puts a figure's marks above its axes, now and when they move, and lets the pointer find them. */
function ink(div) {
  if (!div.canvases) {
    div.canvases = [0, 1].map(() => element("canvas", { "aria-hidden": "true" }));
    div.label = element("p", { class: "label", hidden: true });
    div.append(...div.canvases, div.label);
    for (const name of ["plotly_relayout", "plotly_relayouting"]) div.on(name, () => ink(div));
    div.addEventListener("pointermove", (event) => point(div, event));
    div.addEventListener("pointerleave", () => point(div, null));
    div.addEventListener("pointerdown", (from) => press(div, from));
  }
  paint(div, div.canvases[0], div.marks);
  point(div, null);
}

/** A click leads to the run that is next to it; a double click zooms back out, a drag in. */
function press(div, from) {
  const double = from.timeStamp - div.pressed < 300;
  div.pressed = from.timeStamp;
  clearTimeout(div.leaving);
  const run = nearest(div, from)?.row.run;
  if (double || run == null) return;
  const end = (to) => {
    if (Math.hypot(to.clientX - from.clientX, to.clientY - from.clientY) < 4)
      div.leaving = setTimeout(() => go("run", { id: data.runs.run_id[run] }), 300);
  };
  // Plotly covers the page while a button is down: its end is seen by the window alone.
  addEventListener("pointerup", end, { once: true });
}

/** The row with a text that has a point next to the pointer, and which point. */
function nearest(div, event) {
  const box = div.canvases[0].getBoundingClientRect();
  const [toX, toY] = scales(div);
  let [found, least] = [null, NEAR ** 2];
  for (const row of div.marks.flatMap((mark) => mark.rows).filter((own) => own.text)) {
    for (let i = 0; i < row.y.length; i++) {
      const [x, y] = [toX(row.x[i]), toY(row.y[i])];
      const gap = (x + box.left - event.clientX) ** 2 + (y + box.top - event.clientY) ** 2;
      if (gap <= least) [found, least] = [{ row, i, x, y }, gap];
    }
  }
  return found;
}

/** Says what is next to the pointer, and lights its run up in every figure that is shown. */
function point(div, event) {
  const found = event && nearest(div, event);
  if (found?.row.run !== div.found?.row.run) light(found?.row.run ?? null);
  div.found = found;
  div.label.hidden = !found;
  if (!found) return;
  const [canvas] = div.canvases;
  div.label.textContent = found.row.text(found.i);
  const left = found.x > canvas.clientWidth / 2;
  div.label.style = `left:${canvas.offsetLeft + found.x}px;top:${canvas.offsetTop + found.y}px;
    transform:translate(${left ? "calc(-100% - .6rem)" : ".6rem"},-50%)`;
}

/** Lights a run up in every figure that is shown; null: none. */
function light(run) {
  const lit = { colour: css("--text"), width: 2.5, alpha: 1, size: 8 };
  for (const div of document.querySelectorAll("section:not([hidden]) .plot")) {
    if (!div.canvases) continue;
    const own = div.marks
      .map((mark) => ({ ...mark, ...lit, rows: mark.rows.filter((row) => row.run === run) }))
      .filter((mark) => mark.rows.length);
    paint(div, div.canvases[1], own.map((mark) => ({ ...mark, symbol: mark.symbol && "open" })));
  }
}

/** Runs as points at x(run) across and their places up: a mark each, as many are darker than one. */
const points = (own, x, symbol, colour, size, text) =>
  own.map((run) => ({
    rows: [{ x: [x(run)], y: [run.up], run: run.index, text: () => text(run) }],
    symbol,
    colour,
    size,
    alpha: 0.8,
  }));
