"use strict";
const looks = JSON.parse(document.getElementById("looks").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const slots = [...document.querySelectorAll(".plot")];
const look = () => (dark.matches ? looks.dark : looks.light);
const paper = 670; // pixels of an A4 page within its margins
let printing = false; // a browser may tell of another colour scheme while it prints

for (const slot of slots) {
  const { data, layout } = JSON.parse(slot.nextElementSibling.textContent);
  Plotly.newPlot(slot, data, { ...layout, template: look() }, { responsive: true, displayModeBar: false });
}
dark.addEventListener("change", () => printing || slots.forEach((slot) => Plotly.relayout(slot, { template: look() })));
addEventListener("beforeprint", () => {
  printing = true;
  document.querySelectorAll("details.made").forEach((d) => (d.open = true));
  slots.forEach((slot) => Plotly.relayout(slot, { template: looks.light, width: paper }));
});
addEventListener("afterprint", () => {
  printing = false;
  for (const slot of slots) {
    Plotly.relayout(slot, { template: look(), width: null, autosize: true });
    Plotly.Plots.resize(slot);
  }
});
