// The slider beside the tables of confusions: the same moment in all of them.
"use strict";
for (const form of document.querySelectorAll("form[data-moments]")) {
  const id = form.dataset.moments, slider = form.querySelector("input");
  const moments = JSON.parse(document.getElementById(id).textContent);
  const figures = [...document.querySelectorAll(`[data-spec^="${id.replace("confusions", "confusion")}-"]`)].map((node) => node.dataset.spec);

  function move() {
    const moment = Number(slider.value);
    form.querySelector("output").textContent = moments[moment];
    slider.setAttribute("aria-valuetext", moments[moment]);
    for (const figure of figures) {
      const { data, shares } = JSON.parse(document.getElementById(figure.replace("confusion-", "confusion-values-")).textContent);
      const rows = shares[moment].flatMap((row, label) => row.map((share, taken) => ({ label, taken, share })));
      report.rows.set(figure, { data, rows });
      report.views.get(figure)?.data(data, rows).runAsync();
    }
  }

  form.addEventListener("input", move);
  move();
}

// The boxes to tick beside the curves: means and what is shaded are made anew from the seeds that are chosen.
for (const form of document.querySelectorAll("form[data-of]")) {
  const plain = JSON.parse(document.getElementById(form.dataset.values).textContent);
  const boxes = (name) => [...form.querySelectorAll(`input[name=${name}]`)];
  const ticked = (name) => boxes(name).filter((box) => box.checked).map((box) => Number(box.value));

  // As `band` in curves.py.
  function band(values, mean, shade) {
    if (shade === "none") return [mean, mean];
    if (shade === "range") return [Math.min(...values), Math.max(...values)];
    if (values.length < 2) return [mean, mean];
    const square = values.reduce((sum, v) => sum + (v - mean) ** 2, 0);
    const half = plain.factor[values.length] * Math.sqrt(square / (values.length - 1));
    return [Math.max(mean - half, 0), Math.min(mean + half, 1)];
  }

  function rows() {
    const lines = new Set(ticked("line")), seeds = new Set(ticked("seed")), shade = form.elements.shade.value;
    // A panel is there even where nothing is chosen.
    const out = plain.panels.map((panel) => ({ x: 0, y: null, low: null, high: null, method: plain.lines[0].label, panel }));
    for (const trace of plain.traces) {
      if (!lines.has(trace.line)) continue;
      const { label, seeds: own } = plain.lines[trace.line];
      const chosen = trace.y.filter((_, i) => seeds.has(own[i]));
      trace.x.forEach((x, i) => {
        const values = chosen.map((y) => y[i]).filter((v) => v !== null).map((v) => v / 1e4);
        if (!values.length) return;
        const y = values.reduce((a, b) => a + b, 0) / values.length;
        const [low, high] = band(values, y, shade);
        out.push({ x, y, low, high, method: label, panel: plain.panels[trace.panel] });
      });
    }
    return out;
  }

  function choose() {
    report.rows.set(form.dataset.of, { data: plain.data, rows: rows() });
    const lines = ticked("line").length, seeds = ticked("seed").length;
    form.querySelector("output").textContent =
      `${lines} of ${boxes("line").length} methods, ${seeds} of ${boxes("seed").length} seeds`;
    report.views.get(form.dataset.of)?.data(plain.data, report.rows.get(form.dataset.of).rows).runAsync();
  }

  form.addEventListener("change", choose);
  for (const button of form.querySelectorAll("[data-tick]")) {
    button.addEventListener("click", () => {
      const mine = boxes(button.dataset.tick), on = !mine.every((box) => box.checked);
      for (const box of mine) box.checked = on;
      choose();
    });
  }
  choose();
}
