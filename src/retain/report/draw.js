// Draws each figure from the specification beside it, as wide as the page has room for, and saves it on request.
"use strict";
const report = { views: new Map(), rows: new Map() }; // by figure; the rows of those whose data a form chooses

(() => {
  const figures = [...document.querySelectorAll("[data-figure]")];
  let width = 0;

  function fitted(spec, node) {
    const room = node.clientWidth;
    const axis = 64; // the y axis, its labels and its title
    if (spec.facet) {
      const most = room < 560 ? 1 : room < 820 && node.dataset.panels > 3 ? 2 : Math.min(node.dataset.panels, spec.columns);
      const gap = spec.spacing ?? 20;
      spec.columns = most;
      spec.spec.width = Math.max(120, Math.floor((room - axis - gap * (most - 1)) / most) - 4);
      spec.spec.height = most === 1 ? 200 : 250;
    } else if (node.dataset.figure === "wide") {
      spec.width = Math.max(160, room - axis - 8);
    }
    const legend = { ...spec.config.legend, columns: room < 480 ? 2 : room < 720 ? 4 : 8 };
    spec.config = { ...spec.config, legend };
    return spec;
  }

  function specOf(node) {
    const spec = JSON.parse(document.getElementById(node.dataset.spec).textContent);
    const chosen = report.rows.get(node.dataset.spec);
    if (chosen) spec.datasets = { ...spec.datasets, [chosen.data]: chosen.rows };
    return spec;
  }

  async function draw(node) {
    report.views.get(node.dataset.spec)?.finalize();
    try {
      const made = await vegaEmbed(node, fitted(specOf(node), node), { actions: false, renderer: "svg", tooltip: { theme: "dark" } });
      report.views.set(node.dataset.spec, made.view);
      node.querySelector("svg")?.setAttribute("aria-hidden", "true"); // the caption and the table say it in words
    } catch (error) {
      node.textContent = "This figure could not be drawn: " + error.message;
      console.error(error);
    }
  }

  // What is seen first is drawn first; then the page is there, and the rest follows while nothing else is to do.
  async function drawAll() {
    const root = document.documentElement;
    if (root.clientWidth === width) return;
    const mine = (width = root.clientWidth);
    delete root.dataset.complete;
    const seen = figures.filter((node) => node.getBoundingClientRect().top < innerHeight && node.getBoundingClientRect().bottom > 0);
    for (const node of seen) await draw(node);
    root.dataset.drawn = String(seen.length);
    for (const node of figures.filter((node) => !seen.includes(node))) {
      await new Promise((go) => (window.requestIdleCallback ?? setTimeout)(go, { timeout: 200 }));
      if (mine !== width) return; // drawn anew at another width
      await draw(node);
    }
    root.dataset.complete = String(figures.length);
  }

  // The longest table of the specification is what its marks stand for; the others are rules and captions.
  function csv(node) {
    const tables = Object.values(specOf(node).datasets ?? {});
    const rows = tables.reduce((a, b) => (b.length > a.length ? b : a), []).filter((row) => row.y !== null);
    const names = Object.keys(rows[0] ?? {});
    const cell = (v) => (/[",\n\r]/.test(String(v ?? "")) ? `"${String(v).replaceAll('"', '""')}"` : String(v ?? ""));
    const lines = [names, ...rows.map((row) => names.map((name) => row[name]))];
    return lines.map((line) => line.map(cell).join(",")).join("\n") + "\n";
  }

  async function save(node, kind) {
    const view = report.views.get(node.dataset.spec);
    const shown = view.background();
    let url;
    view.background("#ffffff");
    try {
      if (kind === "png") url = await view.toImageURL("png", 2);
      else {
        const text = kind === "svg" ? await view.toSVG() : csv(node);
        url = URL.createObjectURL(new Blob([text], { type: kind === "svg" ? "image/svg+xml" : "text/csv" }));
      }
    } finally {
      view.background(shown);
    }
    Object.assign(document.createElement("a"), { href: url, download: `${node.dataset.name}.${kind}` }).click();
    if (kind !== "png") setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  for (const button of document.querySelectorAll("[data-save]")) {
    const node = button.closest(".drawn").querySelector("[data-figure]");
    button.addEventListener("click", () => save(node, button.dataset.save));
  }

  let later;
  addEventListener("resize", () => {
    clearTimeout(later);
    later = setTimeout(drawAll, 150);
  });
  addEventListener("DOMContentLoaded", drawAll);
})();
