"use strict";

// Charts: drawn in the colours of the page, which change with the system's light and dark mode.

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const charts = new Map();

function colours() {
  const style = getComputedStyle(document.documentElement);
  const line = style.getPropertyValue("--line").trim();
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line };
  const layout = { "font.color": style.getPropertyValue("--text").trim(), "hoverlabel.bgcolor": style.getPropertyValue("--card").trim() };
  for (const name of ["xaxis", "yaxis"]) {
    for (const [key, value] of Object.entries(axis)) layout[`${name}.${key}`] = value;
  }
  return layout;
}

async function draw() {
  for (const data of document.querySelectorAll("script[data-chart]")) {
    const element = document.getElementById(data.dataset.chart);
    const figure = JSON.parse(data.textContent);
    await Plotly.newPlot(element, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });
    charts.set(element, Array.from(element.data, (trace) => Array.from(trace.y)));
    await Plotly.relayout(element, colours());
  }
}

function recolour() {
  for (const element of charts.keys()) Plotly.relayout(element, colours());
}

// An exponential moving average, corrected for its start as Adam corrects its moments.
function smooth(values, weight) {
  let sum = 0, total = 0;
  return values.map((value) => {
    if (!Number.isFinite(value)) return value;
    sum = weight * sum + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return sum / total;
  });
}

const smoothing = document.getElementById("smoothing");
if (smoothing) {
  smoothing.addEventListener("input", () => {
    const weight = Number(smoothing.value);
    document.getElementById("smoothed").textContent = smoothing.value;
    for (const [element, original] of charts) {
      if (!element.classList.contains("curve")) continue;
      Plotly.restyle(element, { y: weight ? original.map((values) => smooth(values, weight)) : original });
    }
  });
}

// Samples through training: a slider over the grids, and a button that plays them.

for (const player of document.querySelectorAll(".player")) {
  const frames = player.querySelectorAll("img");
  const slider = player.querySelector("input");
  const button = player.querySelector("button");
  const shown = player.querySelector("output");
  let timer = null;

  const show = () => {
    frames.forEach((frame, index) => { frame.hidden = index !== Number(slider.value); });
    shown.textContent = frames[slider.value].dataset.title;
  };
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "\u25B6"; };
  const play = () => {
    if (slider.value === slider.max) slider.value = 0;
    button.textContent = "\u23F8";
    show();
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      show();
      if (slider.value === slider.max) stop();
    }, 250);
  };
  slider.addEventListener("input", () => { stop(); show(); });
  button.addEventListener("click", () => (timer === null ? play() : stop()));
}

dark.addEventListener("change", recolour);
window.addEventListener("beforeprint", () => { for (const element of charts.keys()) Plotly.Plots.resize(element); });
draw().then(() => { document.body.dataset.drawn = "yes"; });
