// The circular coordinate of a cloud, by its own longest bar, and the colours of its elements.

const coordinate = {
  /** The angle of each element by the cloud's own longest bar; null where there is none. */
  angles(own, i) {
    return own.coordinates?.[i] ? row(own.angles, i) : null;
  },

  /** Draws it against the wave that it follows best, or the elements; returns it in words. */
  draw(own, i) {
    const found = own.coordinates?.[i];
    if (!found) {
      checkpoint.nothing("coordinate", this.why(own, i));
      return "";
    }
    const angles = this.angles(own, i);
    const n = angles.length;
    const k = found.frequency || 1;
    const turns = angles.map((angle) => angle / (2 * Math.PI));
    const bar = `H1 bar from ${number(found.birth)} to ${number(found.death)}`;
    const no = found.residual >= 0.5 ? ", too coarse for a map to the circle" : "";
    const wave = found.frequency
      ? `k = ${k}, correlation ${number(found.correlation)} (p = ${number(found.p_value)})`
      : "the elements are no cycle";
    $("coordinate-note").textContent =
      `${wave.replace("correlation", "r =")}; ${bar.replace("from ", "")}${no}`;
    const points = {
      type: "scatter",
      mode: "markers",
      x: found.frequency ? range(n).map((r) => ((k * r) % n) / n) : range(n),
      y: turns,
      text: own.elements.map((name) => `element ${name}`),
      hovertemplate: "%{text}: %{y:.3f} turns<extra></extra>",
      marker: {
        size: n > 120 ? 6 : 9,
        color: this.hues(own, i, k),
        line: { color: css("--edge"), width: 0.8 },
      },
    };
    const x = found.frequency
      ? axis(k > 1 ? `${k} × element, in turns` : "element, in turns", { range: [-0.03, 1.03] })
      : axis("element", { range: [-0.5, n - 0.5] });
    const text = `Circular coordinate of the embedding's longest H1 bar, against its elements. ${wave}; ${bar}${no}.`;
    draw(
      "coordinate",
      [points],
      layout(x, axis("own coordinate, in turns", { range: [-0.03, 1.03] })),
      text,
    );
    return found.frequency ? `Own coordinate: ${wave}.` : "";
  },

  /** Why there is none. */
  why(own, i) {
    if (known(row(own.components, i)).length === 0) return "not finite";
    if (!own.coordinates?.some(Boolean)) return "no coordinate: no H1 bar, or too many elements";
    const steps = range(own.steps.length).filter((j) => own.coordinates[j]);
    return `none at this checkpoint; there is at ${steps
      .slice(0, 4)
      .map((j) => number(own.steps[j]))
      .join(", ")}${steps.length > 4 ? " …" : ""}`;
  },

  /** Colours of elements: by their own coordinate if that is chosen and there, else by element. */
  hues(own, i, k) {
    const angles = $("colour").value === "own" ? this.angles(own, i) : null;
    const n = own.elements.length;
    if (angles) return angles.map((angle) => between(CYCLE, angle / (2 * Math.PI)));
    return k
      ? range(n).map((x) => between(CYCLE, ((k * x) % n) / n))
      : range(n).map((j) => between(ORDERED, j / Math.max(1, n - 1)));
  },
};
