// One widget for every dashboard: the model says which controls there are, their values are its traits, and the kernel computes a view (cards, table, figures) from them.
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

function checkbox(model, name, text, change) {
  const box = make("input", { type: "checkbox", id: `algo-${name}`, checked: model.get(name) });
  box.onchange = () => change(name, box.checked);
  return make("label", { className: "check" }, box, text);
}

function several(model, { name, text, chosen, options, besides }, change) {
  const list = make("div", { className: "list" }), summary = make("summary", { textContent: text });
  const fill = () => {
    const values = model.get(name);
    list.replaceChildren(
      ...model.get(options).filter(([id]) => id !== model.get(besides)).map(([id, shown]) => {
        const box = make("input", { type: "checkbox", value: id, checked: values.includes(id) });
        box.onchange = () => change(name, [...list.querySelectorAll("input:checked")].map((b) => b.value));
        return make("label", {}, box, shown);
      }));
    summary.textContent = values.length ? `${chosen} ${values.length}` : text;
  };
  fill();
  for (const trait of [options, besides, name]) model.on(`change:${trait}`, fill);
  return make("details", { className: "compare" }, summary, list);
}

// A title does not wrap by itself: lines are broken where the figure is too narrow for them, and the figure makes room above.
function fitted(place, { title, margin }) {
  const lines = (text, size) => (text ?? "").split(" ").reduce((made, word) => {
    const last = made.at(-1);
    return last && (last.length + word.length + 1) * 0.54 * size < place.clientWidth - 84 ? [...made.slice(0, -1), `${last} ${word}`] : [...made, word];
  }, []);
  const above = lines(title?.text, 15), below = lines(title?.subtitle?.text, 12);
  const more = 20 * Math.max(0, above.length - 1) + 16 * Math.max(0, below.length - 1);
  return { more, title: { ...title, text: above.join("<br>"), pad: { t: above.length > 1 ? 24 : 10 }, subtitle: { ...title?.subtitle, text: below.join("<br>") } }, margin: { ...margin, t: 64 + more } };
}

function render({ model, el }) {
  const root = make("div", { className: "algo live" });
  const heading = make("div", {}, make("h1", { textContent: model.get("title") }), make("div", { className: "quiet" }));
  const view = make("div", { className: "view" });
  const cards = make("div", { className: "cards" }), figures = make("div", { className: "figures" }), table = make("div", { className: "scroll" });
  view.append(cards, table, figures);

  const change = (name, value) => {
    view.classList.add("busy");
    model.set(name, value);
    model.save_changes();
  };
  const controls = make("div", { className: "controls" });
  for (const control of model.get("controls")) {
    if (control.kind === "check") controls.append(checkbox(model, control.name, control.text, change));
    else if (control.kind === "many") controls.append(several(model, control, change));
    else {
      const [select, label] = picker(model, control.name, control.text, control.options);
      select.onchange = () => change(control.name, select.value);
      controls.append(label);
    }
  }
  const outside = (event) => { for (const open of controls.querySelectorAll("details[open]")) if (!open.contains(event.target)) open.open = false; };
  document.addEventListener("click", outside);

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let latest = 0;
  const show = async () => {
    const told = JSON.parse(model.get("view")), turn = ++latest;
    heading.querySelector(".quiet").textContent = told.about;
    cards.innerHTML = told.cards;
    table.innerHTML = told.table;
    controls.hidden = !model.get(model.get("controls")[0].options).length;
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
      place.least = Math.max(figure.layout.height ?? 0, wide ? 420 : 320);
      place.told = figure.layout;
      const { more, ...head } = fitted(place, figure.layout);
      place.style.height = `${place.least + more}px`;
      const layout = { ...figure.layout, ...head, height: undefined, template: told.templates[dark.matches ? "dark" : "light"], autosize: true };
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
  const resize = new ResizeObserver(() => {
    for (const place of figures.children) {
      if (!place.data || !window.Plotly) continue;
      const { more, ...head } = fitted(place, place.told);
      place.style.height = `${place.least + more}px`;
      if (head.title.text !== place.layout.title.text || head.title.subtitle.text !== place.layout.title.subtitle.text) window.Plotly.relayout(place, head);
      window.Plotly.Plots.resize(place);
    }
  });
  resize.observe(figures);
  show();
  return () => { resize.disconnect(); document.removeEventListener("click", outside); dark.removeEventListener("change", show); };
}

export default { render };
