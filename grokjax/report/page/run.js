// One run: which one, and the slider over its checkpoints.

const view = {
  run: null, // of runs()
  details: null, // what is known of its checkpoints, or null
  steps: [],
  timer: null,

  async show(words) {
    const all = chosen().length ? chosen() : runs();
    const typical = all.find((run) => data.details[run.run_id] && run.generalisation_step != null);
    const run = runs().find((own) => own.run_id === words.get("id")) ?? typical ?? all[0];
    const sameRun = this.run?.run_id === run.run_id;
    const step = words.has("step") ? Number(words.get("step")) : sameRun ? this.step() : null;
    if (!sameRun) this.pause();
    this.run = run;
    $("order").value = words.get("order") === "plain" ? "plain" : "wave";
    $("colour").value = words.get("colour") === "own" ? "own" : "element";
    this.fillChoices();
    this.fillCurves();
    this.facts();
    this.details = await this.find(run.run_id);
    if (this.run !== run) return; // another one was chosen meanwhile
    this.steps = this.details?.steps ?? data.curves.steps;
    $("order").parentElement.hidden = !this.details?.waves;
    $("step").max = String(this.steps.length - 1);
    const start = run.generalisation_step ?? this.steps.at(-1);
    this.place(this.nearest(step ?? start));
    this.jumps();
    checkpoint.of(run, this.details);
    this.draw();
  },

  /** Details of a run: on the page, or asked of the server if there is one. */
  async find(id) {
    const here = data.details[id];
    $("run-notice").hidden = true;
    if (here || !hasEmbedding(this.run)) return here ?? null;
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

  /** The runs in the filter, and the one that is shown. */
  choices() {
    const found = new Set(chosen().map((run) => run.index)).add(this.run.index);
    return runs().filter((run) => found.has(run.index));
  },

  fillChoices() {
    const bySetting = Map.groupBy(this.choices(), (run) => run.setting);
    const groups = [...bySetting].map(([i, members]) => {
      const options = members.map((run) => {
        const state =
          run.generalisation_step != null
            ? `generalised at ${number(run.generalisation_step)}`
            : hasEnded(run)
              ? run.status
              : "did not generalise";
        const some = data.details[run.run_id] || data.live ? "" : ", curves only";
        return element("option", { value: run.run_id }, `seed ${run.seed}: ${state}${some}`);
      });
      return element("optgroup", { label: data.settings[i].name }, ...options);
    });
    $("which").replaceChildren(...groups);
    $("which").value = this.run.run_id;
  },

  /** What can stand below accuracy: every quantity, the longest bars at first. */
  fillCurves() {
    const kept = $("below").value;
    const found = data.curves.quantities.filter((own) => !/^metrics.*accuracy$/.test(own.key));
    $("below").replaceChildren(
      element("option", { value: "" }, "H1 max and second longest"),
      ...found.map((own) => element("option", { value: own.key }, own.label)),
    );
    $("below").value = quantity(kept) ? kept : "";
  },

  facts() {
    const run = this.run;
    const rows = [
      ["setting", data.settings[run.setting].name],
      ["seed", run.seed],
      ["training examples", number(run.n_train)],
      ["status", run.status],
      [
        "memorised",
        run.memorisation_step == null ? "never" : `step ${number(run.memorisation_step)}`,
      ],
      [
        "generalised",
        run.generalisation_step == null ? "never" : `step ${number(run.generalisation_step)}`,
      ],
      [
        "last accuracy",
        `train ${number(run.last_train_accuracy)}, test ${number(run.last_test_accuracy)}`,
      ],
      [
        "H1 max",
        run.before == null && run.after == null
          ? null
          : `${number(run.before)} before, ${number(run.after)} after`,
      ],
    ];
    $("run-title").textContent = run.run_id;
    $("run-facts").replaceChildren(
      ...rows
        .filter(([, value]) => value != null)
        .map(([name, value]) =>
          element(
            "div",
            { class: String(value).length > 40 ? "long" : null },
            element("dt", {}, name),
            element("dd", {}, String(value)),
          ),
        ),
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

  draw() {
    $("says").textContent = checkpoint.draw(this.at(), this.step());
  },

  /** Notes in the address which run and checkpoint are shown. */
  keep() {
    keep("run", { id: this.run.run_id, step: this.step(), ...this.looks() });
  },

  /** How elements are joined and coloured, where it is not as usual. */
  looks() {
    const [order, colour] = ["order", "colour"].map((id) => $(id).value);
    return { order: order === "plain" ? order : null, colour: colour === "own" ? colour : null };
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
      ...places.flatMap(([name, i]) => [
        element("button", { type: "button", click: () => this.move(i) }, name),
        " ",
      ]),
    );
  },

  move(i) {
    this.place(i);
    this.draw();
    this.keep();
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
      this.draw();
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
    this.keep();
  },
};
