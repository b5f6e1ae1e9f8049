// The controls of the tour: each figure shows the drawing made beforehand for where its controls stand.
"use strict";
(() => {
  function positions(figure) {
    return [...figure.querySelectorAll("[data-control]")].map((c) =>
      c.matches("fieldset") ? c.querySelector("input:checked").value : c.value);
  }

  function show(figure) {
    const key = positions(figure).join("-");
    for (const v of figure.querySelectorAll("[data-variant]")) v.hidden = v.dataset.variant !== key;
    for (const c of figure.querySelectorAll("input[type=range][data-values]")) {
      const said = JSON.parse(c.dataset.values)[Number(c.value)];
      c.setAttribute("aria-valuetext", said);
      figure.querySelector(`output[for="${c.id}"]`).textContent = said;
    }
  }

  for (const figure of document.querySelectorAll("[data-picture]")) {
    figure.addEventListener("input", () => show(figure));
    show(figure); // a browser may remember where a control stood
  }

  // The matrix: a measure that is pointed at, or focused, lights up the cells that it is read from.
  for (const figure of document.querySelectorAll("[data-matrix]")) {
    const buttons = [...figure.querySelectorAll("button[data-measure]")];
    const light = (name) => {
      for (const cell of figure.querySelectorAll("td")) {
        const uses = JSON.parse(cell.dataset.uses);
        cell.classList.toggle("plus", uses[name] > 0);
        cell.classList.toggle("minus", uses[name] < 0);
      }
      for (const said of figure.querySelectorAll("[data-says]")) said.hidden = said.dataset.says !== name;
    };
    const pinned = () => buttons.find((b) => b.getAttribute("aria-pressed") === "true")?.dataset.measure;
    for (const b of buttons) {
      b.addEventListener("pointerenter", () => light(b.dataset.measure));
      b.addEventListener("focus", () => light(b.dataset.measure));
      for (const gone of ["pointerleave", "blur"]) b.addEventListener(gone, () => light(pinned()));
      b.addEventListener("click", () => {
        const on = b.getAttribute("aria-pressed") !== "true";
        for (const other of buttons) other.setAttribute("aria-pressed", String(on && other === b));
        light(b.dataset.measure);
      });
    }
    light(pinned());
  }
})();
