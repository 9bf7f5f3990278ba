"use strict";
const looks = JSON.parse(document.querySelector("script#looks").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const slots = [...document.querySelectorAll(".plot")];
const look = () => (dark.matches ? looks.dark : looks.light);
const paper = 670; // pixels of an A4 page within its margins
let printing = false; // a browser may tell of another colour scheme while it prints

function fromBase85(text) {
  const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~";
  const value = Object.fromEntries([...digits].map((digit, i) => [digit, i]));
  const bytes = new DataView(new ArrayBuffer(4 * Math.ceil(text.length / 5)));
  for (let i = 0; i < text.length; i += 5) {
    let word = 0;
    for (let k = i; k < i + 5; k++) word = 85 * word + (k < text.length ? value[text[k]] : 84);
    bytes.setUint32((4 * i) / 5, word);
  }
  return new Uint8Array(bytes.buffer, 0, Math.floor((4 * text.length) / 5));
}

async function unpack(id) {
  const packed = fromBase85(document.querySelector(`script#${id}`).textContent);
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

function draw() {
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
}

unpack("plotly").then(
  (source) => {
    document.head.append(Object.assign(document.createElement("script"), { textContent: source }));
    draw();
  },
  (error) => slots.forEach((slot) => (slot.textContent = `This browser cannot unpack the figures (${error.name}): a newer one draws them.`)),
);
