// One widget: controls whose values are traits of the model, and a view (cards, table, figures) that the kernel computes from them.
// plotly.js comes from the page where the page has it (Voila), and from the kernel otherwise (JupyterLab).

async function plotly(model) {
  if (window.Plotly) return window.Plotly;
  if (document.querySelector('script[src*="plotly.min.js"]')) {
    while (!window.Plotly) await new Promise((r) => setTimeout(r, 20));
    return window.Plotly;
  }
  window.algoPlotly ??= new Promise((resolve) => {
    const take = (message) => {
      if (message.kind !== "plotly.js") return;
      model.off("msg:custom", take);
      const script = document.createElement("script");
      script.textContent = message.source;
      document.head.append(script);
      resolve(window.Plotly);
    };
    model.on("msg:custom", take);
    model.send({ want: "plotly.js" });
  });
  return window.algoPlotly;
}

const make = (tag, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
};

function picker(model, name, text, options) {
  const select = make("select", { id: `algo-${name}`, name });
  const fill = () => {
    select.replaceChildren(...model.get(options).map(([value, shown]) => make("option", { value, textContent: shown })));
    select.value = model.get(name);
  };
  fill();
  model.on(`change:${options}`, fill);
  model.on(`change:${name}`, () => (select.value = model.get(name)));
  return [select, make("label", {}, text, select)];
}

function render({ model, el }) {
  const root = make("div", { className: "algo live" });
  const heading = make("div", { innerHTML: '<h1>Performance</h1><div class="quiet"></div>' });
  const view = make("div", { className: "view" });
  const cards = make("div", { className: "cards" }), figures = make("div", { className: "figures" }), table = make("div", { className: "scroll" });
  view.append(cards, table, figures);

  const change = (name, value) => {
    view.classList.add("busy");
    model.set(name, value);
    model.save_changes();
  };
  const controls = make("div", { className: "controls" });
  for (const [name, text, options] of [["run", "Run", "runs"], ["period", "Period", "periods"], ["strategy", "Fills and costs of", "strategies"]]) {
    const [select, label] = picker(model, name, text, options);
    select.onchange = () => change(name, select.value);
    controls.append(label);
  }
  const log = make("input", { type: "checkbox", id: "algo-log", checked: model.get("log") });
  log.onchange = () => change("log", log.checked);
  controls.append(make("label", { className: "check" }, log, "logarithmic equity"));

  const list = make("div", { className: "list" }), summary = make("summary", { textContent: "Compare with …" });
  const fill = () => {
    const chosen = model.get("compare");
    list.replaceChildren(
      ...model.get("runs").filter(([id]) => id !== model.get("run")).map(([id, shown]) => {
        const box = make("input", { type: "checkbox", value: id, checked: chosen.includes(id) });
        box.onchange = () => change("compare", [...list.querySelectorAll("input:checked")].map((b) => b.value));
        return make("label", {}, box, shown);
      }));
    summary.textContent = chosen.length ? `Compared with ${chosen.length}` : "Compare with …";
  };
  fill();
  for (const name of ["runs", "run", "compare"]) model.on(`change:${name}`, fill);
  const compare = make("details", { className: "compare" }, summary, list);
  const outside = (event) => { if (!compare.contains(event.target)) compare.open = false; };
  document.addEventListener("click", outside);
  controls.append(compare);

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let latest = 0;
  const show = async () => {
    const told = JSON.parse(model.get("view")), turn = ++latest;
    heading.querySelector(".quiet").textContent = told.about;
    cards.innerHTML = told.cards;
    table.innerHTML = told.table;
    controls.hidden = !model.get("runs").length;
    const library = told.figures.length ? await plotly(model) : null;
    if (turn !== latest) return;
    for (const old of [...figures.children]) if (!told.figures.some((f) => f.id === old.dataset.id)) { library?.purge(old); old.remove(); }
    for (const { id, wide, figure } of told.figures) {
      let place = [...figures.children].find((f) => f.dataset.id === id);
      if (!place) {
        place = make("div", { className: `figure${wide ? " wide" : ""}` });
        place.dataset.id = id;
        figures.append(place);
      }
      place.style.height = `${Math.max(figure.layout.height ?? 0, wide ? 420 : 320)}px`;
      const layout = { ...figure.layout, height: undefined, template: told.templates[dark.matches ? "dark" : "light"], autosize: true };
      await library.react(place, figure.data, layout, { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] });
      if (turn !== latest) return;
    }
    view.classList.remove("busy");
    root.dataset.turn = String(turn);
  };
  model.on("change:view", show);
  dark.addEventListener("change", show);
  root.append(heading, controls, view);
  el.append(root);
  const resize = new ResizeObserver(() => { for (const place of figures.children) if (place.data && window.Plotly) window.Plotly.Plots.resize(place); });
  resize.observe(figures);
  show();
  return () => { resize.disconnect(); document.removeEventListener("click", outside); dark.removeEventListener("change", show); };
}

export default { render };
