// The lecture's toy, live: retain/lecture/toy.py in JavaScript, to the same numbers, and its drawing.
"use strict";
const toy = (() => {
  const loss = (t, task, at) =>
    at.reduce((sum, x, i) => sum + (t.curvature[task][i] * (x - t.best[task][i]) ** 2) / 2, 0);

  function path(t, lam, guard = t.curvature[0]) {
    const points = [t.start];
    let anchor = t.start;
    for (let step = 0; step < 2 * t.steps; step++) {
      const task = step >= t.steps ? 1 : 0;
      const at = points[step];
      if (step === t.steps) anchor = at;
      const pull = t.lr * lam * task;
      points.push(at.map((x, i) =>
        (x - t.lr * t.curvature[task][i] * (x - t.best[task][i]) + pull * guard[i] * anchor[i]) / (1 + pull * guard[i])));
    }
    return points;
  }

  return { loss, path };
})();

(() => {
  const figure = document.getElementById("toy");
  const plain = JSON.parse(document.getElementById("toy-data").textContent);
  const words = JSON.parse(document.getElementById("toy-words").textContent);
  const find = (id) => document.getElementById(id);
  const svg = find("toy-drawing");
  const [width, height, reach] = [400, 330, 3.1]; // pixels; the plane shows |theta_1| <= reach
  const scale = width / (2 * reach);
  const pixel = ([x, y]) => [width / 2 + scale * x, height / 2 - scale * y];
  const strength = (position) => (position === 0 ? 0 : 10 ** (position / 10 - 2)); // 0, then 0.0126 to 100
  const short = (v) => Number(v.toPrecision(3)).toString();

  function draw(tag, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    if (text) node.textContent = text;
    svg.append(node);
  }

  function bowl(t, task, colour) {
    const [cx, cy] = pixel(t.best[task]);
    for (const level of [0.05, 0.2, 0.5, 1, 2, 4]) {
      const [rx, ry] = t.curvature[task].map((c) => scale * Math.sqrt((2 * level) / c));
      draw("ellipse", { cx, cy, rx, ry, fill: `var(--${colour})`, "fill-opacity": 0.06, stroke: `var(--${colour})`, "stroke-opacity": 0.45 });
    }
    draw("circle", { cx, cy, r: 3, fill: `var(--${colour})` });
    draw("text", { x: cx, y: cy - 10, fill: `var(--${colour})`, "font-size": 14, "text-anchor": "middle" }, words.best[task]);
  }

  function walk(points, colour, dashes) {
    const line = points.map((p) => pixel(p).map((v) => v.toFixed(1)).join(",")).join(" ");
    draw("polyline", { points: line, fill: "none", stroke: `var(--${colour})`, "stroke-width": 2.5, "stroke-dasharray": dashes });
    const [cx, cy] = pixel(points.at(-1));
    draw("circle", { cx, cy, r: 4.5, fill: `var(--${colour})`, stroke: "var(--paper)", "stroke-width": 1.5 });
  }

  function update() {
    const lam = strength(Number(find("toy-lam").value));
    const b1 = Number(find("toy-b1").value) / 20;
    const kind = figure.querySelector("input[name=toy-guard]:checked").value;
    const until = Number(find("toy-step").value);
    const t = { ...plain, curvature: [[b1, plain.curvature[0][1]], plain.curvature[1]] };
    const paths = { sgd: toy.path(t, 0), guarded: toy.path(t, lam, kind === "ewc" ? t.curvature[0] : [1, 1]) };
    const ends = { sgd: paths.sgd[until], guarded: paths.guarded[until] };

    svg.replaceChildren();
    bowl(t, 0, "soft");
    bowl(t, 1, "purple");
    walk(paths.sgd.slice(0, until + 1), "orange", "2 4");
    if (until > t.steps) walk(paths.guarded.slice(t.steps, until + 1), kind === "ewc" ? "blue" : "green", "none");
    for (const [name, at] of [["θ⁰", t.start], ["θᵇ", paths.sgd[t.steps]]]) {
      const [cx, cy] = pixel(at);
      draw("circle", { cx, cy, r: 4, fill: "var(--ink)" });
      draw("text", { x: cx - 10, y: cy + 20, fill: "var(--ink)", "font-size": 14 }, name);
    }

    for (const [id, value] of [["toy-lam", short(lam)], ["toy-b1", short(b1)], ["toy-step", String(until)]]) {
      find(id).setAttribute("aria-valuetext", value);
      figure.querySelector(`output[for="${id}"]`).textContent = value;
    }
    const name = kind === "ewc" ? "EWC" : "L2";
    const said = Object.entries(ends).map(([who, at]) => words.ends
      .replace("{who}", who === "sgd" ? "SGD" : name)
      .replace("{at}", at.map(short).join(", "))
      .replace("{one}", short(toy.loss(t, 0, at)))
      .replace("{two}", short(toy.loss(t, 1, at)))).join(" ");
    find("toy-said").textContent = said.replaceAll("-", "−");
    svg.setAttribute("aria-label", words.drawing + " " + said);
    figure.dataset.guarded = JSON.stringify(ends.guarded);
  }

  figure.addEventListener("input", update);
  update();
})();
