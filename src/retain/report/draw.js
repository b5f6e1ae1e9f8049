// Draws each figure from the specification beside it, as wide as the page has room for.
"use strict";
(() => {
  const figures = [...document.querySelectorAll("[data-figure]")];
  const views = new Map();
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

  async function draw(node) {
    const source = document.getElementById(node.dataset.spec);
    views.get(node)?.finalize();
    try {
      const spec = fitted(JSON.parse(source.textContent), node);
      views.set(node, await vegaEmbed(node, spec, { actions: false, renderer: "svg", tooltip: { theme: "dark" } }));
      node.querySelector("svg")?.setAttribute("aria-hidden", "true"); // the caption and the table say it in words
    } catch (error) {
      node.textContent = "This figure could not be drawn: " + error.message;
      console.error(error);
    }
  }

  async function drawAll() {
    if (document.documentElement.clientWidth === width) return;
    width = document.documentElement.clientWidth;
    for (const node of figures) await draw(node);
    document.documentElement.dataset.drawn = String(figures.length);
  }

  let later;
  addEventListener("resize", () => {
    clearTimeout(later);
    later = setTimeout(drawAll, 150);
  });
  drawAll();
})();
