// Draws the plotly figures of a page, in the colours of the theme, and fits them to their column.
(() => {
  const dark = () => document.documentElement.dataset.theme === "dark";
  const paint = (box) => {
    const [ink, soft, grid] = dark() ? ["#ced6dd", "#a8b2bc", "#3a424b"] : ["#222832", "#57606a", "#e3e6ea"];
    const layout = box._fullLayout;
    const look = { "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font.color": ink, "title.font.color": ink, "title.subtitle.font.color": soft, "legend.font.color": ink };
    for (const axis of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      Object.assign(look, { [`${axis}.gridcolor`]: grid, [`${axis}.zerolinecolor`]: grid, [`${axis}.linecolor`]: grid, [`${axis}.tickfont.color`]: soft, [`${axis}.title.font.color`]: soft });
    }
    (layout.annotations || []).forEach((_, i) => { look[`annotations[${i}].font.color`] = soft; });
    return Plotly.relayout(box, look);
  };
  const draw = async (box) => {
    const figure = JSON.parse(box.querySelector("script").textContent);
    const layout = { ...figure.layout, autosize: true };
    delete layout.width;
    await Plotly.newPlot(box, figure.data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    await paint(box);
    await Plotly.Plots.resize(box);
    box.dataset.drawn = "yes";
  };
  addEventListener("load", () => {
    const boxes = [...document.querySelectorAll(".plotly-figure")];
    boxes.forEach(draw);
    new MutationObserver(() => boxes.forEach(paint)).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  });
})();
