// Which view is shown, the theme, downloads, and what a served page does when there is news.

const VIEWS = { overview, phase, curves, run: view, runs: table, data: { show: showData } };

/** The view that the address names, and the words behind it. */
function address() {
  const [name, rest = ""] = location.hash.slice(1).split(/\?(.*)/s);
  return [name in VIEWS ? name : many() ? "phase" : "overview", new URLSearchParams(rest)];
}

/** The address of a view: its own words, and of what holds for all views what is not as usual. */
function hash(name, words = {}) {
  const every = { ...state, ...words };
  const given = Object.entries(every).filter(([key, value]) =>
    key in USUAL ? value !== state[key] || value !== USUAL[key] : value != null,
  );
  return `#${name}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

/** Changes what holds for all views, and shows the view again. */
function change(what) {
  Object.assign(state, what);
  const [name, words] = address();
  for (const key of Object.keys(USUAL)) words.delete(key);
  keep(name, Object.fromEntries(words));
  route();
}

/** Shows a view. */
function go(name, words = {}) {
  location.hash = hash(name, words);
}

/** Notes in the address what is shown, without a step in the history. */
function keep(name, words) {
  history.replaceState(null, "", hash(name, words));
}

let shown = null;

function route() {
  // An address or a theme that changes while plotly.js starts is drawn once it is there.
  if (!window.Plotly) return;
  const [name, words] = address();
  if (location.hash === "#main") return $("main").focus();
  takeUp(words);
  reveal(name);
  count();
  return VIEWS[name].show(words);
}

/** What became of the runs in the filter, in words. */
function count() {
  const own = chosen();
  const parts = ["done", "running", "diverged", "failed"]
    .map((status) => [own.filter((run) => run.status === status).length, status])
    .filter(([n]) => n)
    .map(([n, status]) => `${number(n)} ${status}`);
  const grown = own.filter((run) => run.generalisation_step != null).length;
  const n = new Set(own.map((run) => run.setting)).size;
  const all = own.length === runs().length ? "" : `${number(own.length)} of `;
  $("outcome").textContent =
    `${all}${plural(runs().length, "run")} in ${plural(n, "setting")}` +
    (own.length ? `: ${parts.join(", ")}. ${number(grown)} generalised.` : ".");
  $("clear").hidden = !state.filter;
}

/** Makes a view the visible one. */
function reveal(name) {
  for (const id of Object.keys(VIEWS)) $(`view-${id}`).hidden = id !== name;
  for (const link of document.querySelectorAll("nav a")) {
    link.href = hash(link.dataset.view);
    link.hidden = link.dataset.view === "phase" && !data.axes.length;
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (name !== "run") view.pause();
  if (name !== shown) scrollTo(0, 0);
  shown = name;
  $("title").textContent = `· ${data.title}`;
  $("written").textContent = data.written;
}

// ---------------------------------------------------------------- data

function showData() {
  const size = (n) => (n < 1e6 ? `${number(Math.ceil(n / 1e3))} kB` : `${number(n / 1e6)} MB`);
  const rows = data.tables.map((own) => {
    const file = `../results/${own.name}.parquet`;
    const text =
      own.csv == null
        ? "too large for this page"
        : element(
            "button",
            { type: "button", click: () => download(`${own.name}.csv`, own.csv) },
            `${own.name}.csv`,
          );
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, own.name),
      element("td", { class: "number" }, number(own.rows)),
      element("td", { class: "number" }, size(own.bytes)),
      element(
        "td",
        {},
        element("a", { href: file, download: `${own.name}.parquet` }, `${own.name}.parquet`),
      ),
      element("td", {}, text),
    );
  });
  const head = ["table", "rows", "size", "file", "as text"].map((name, i) =>
    element("th", { scope: "col", class: i === 1 || i === 2 ? "number" : null }, name),
  );
  $("tables").replaceChildren(
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows),
  );
  $("figures").replaceChildren(
    ...data.figures.map((name) =>
      element("li", {}, element("a", { href: `../figures/${name}` }, name)),
    ),
  );
  $("folder").textContent = JSON.stringify(data.sweep.folder);
}

function downloadGroups() {
  const cells = [...document.querySelectorAll("#settings tr")].map((own) => [...own.cells]);
  const [head, ...rows] = cells.map((own) => own.map((one) => one.textContent));
  download("groups.csv", csv(head, rows));
}

function downloadRuns() {
  const names = Object.keys(data.runs);
  download(
    "runs-in-filter.csv",
    csv(
      names,
      table.sorted().map((run) => names.map((name) => run[name])),
    ),
  );
}

// ---------------------------------------------------------------- theme

const THEMES = ["automatic", "light", "dark"];
let wish = "automatic";

function setTheme(next) {
  wish = next;
  const dark =
    wish === "dark" || (wish === "automatic" && matchMedia("(prefers-color-scheme: dark)").matches);
  theme = dark ? "dark" : "light";
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${wish}`;
}

// ---------------------------------------------------------------- news

/** Asks the server whether there is something new, and shows it without leaving the view. */
async function ask() {
  let text = "";
  try {
    const state = await (await fetch("state.json", { cache: "no-store" })).json();
    if (state.version !== data.version) {
      data = await (await fetch("data.json", { cache: "no-store" })).json();
      await route();
    }
    text = state.message || `Live: as of ${data.written}.`;
  } catch {
    text = `The server has stopped; this is as of ${data.written}.`;
  }
  $("live").hidden = false;
  if ($("live").textContent !== text) $("live").textContent = text;
  setTimeout(ask, 2000);
}

// ---------------------------------------------------------------- controls

$("theme").addEventListener("click", () => {
  setTheme(THEMES[(THEMES.indexOf(wish) + 1) % THEMES.length]);
  route();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  setTheme(wish);
  route();
});
addEventListener("hashchange", route);
for (const [name, event] of [
  ["filter", "input"],
  ["group", "change"],
  ["summary", "change"],
]) {
  $(name).addEventListener(event, () => change({ [name]: $(name).value }));
}
$("clear").addEventListener("click", () => {
  change({ filter: "" });
  $("filter").focus();
});
$("panel").addEventListener("change", (event) => go("curves", { panel: event.target.value }));
for (const name of ["x", "y", "over", "value", "when"]) {
  $(`phase-${name}`).addEventListener("change", () => phase.change());
}
$("which").addEventListener("change", (event) =>
  go("run", { id: event.target.value, ...view.looks() }),
);
for (const [id, by] of [
  ["previous", -1],
  ["next", 1],
]) {
  $(id).addEventListener("click", () => {
    const all = view.choices();
    const at = all.findIndex((run) => run.index === view.run.index);
    go("run", { id: all[(at + by + all.length) % all.length].run_id, ...view.looks() });
  });
}
$("step").addEventListener("input", () => view.move(view.at()));
for (const id of ["order", "colour"]) {
  $(id).addEventListener("change", () => view.move(view.at()));
}
$("below").addEventListener("change", () => view.draw());
$("play").addEventListener("click", () => view.play());
$("status-filter").addEventListener("change", (event) => {
  const others = split(state.filter).filter((word) => !word.startsWith("status="));
  if (event.target.value) others.push(`status=${event.target.value}`);
  change({ filter: others.join(" ") });
});
$("more").addEventListener("click", () => {
  table.all = true;
  table.draw();
});
$("download-groups").addEventListener("click", downloadGroups);
$("download-runs").addEventListener("click", downloadRuns);

setTheme("automatic");
// plotly.js, the last script of the page, takes a second to start: until then there are words.
const [first, words] = address();
takeUp(words);
reveal(first);
count();
if (first === "overview") overview.words();
if (first === "phase") phase.show(words);
addEventListener("DOMContentLoaded", () => {
  route();
  if (data.live) ask();
});
