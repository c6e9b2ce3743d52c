// A handle between two or three corners, moved by pointer or arrow keys; says the corners' weights.

const SVG = "http://www.w3.org/2000/svg";
const CORNERS = { 2: [[14, 55], [186, 55]], 3: [[14, 138], [100, 12], [186, 138]] };
const STEP = 0.05;

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const clamped = (weights) => {
  const positive = weights.map((w) => Math.max(0, w));
  const sum = positive.reduce((a, b) => a + b, 0);
  return positive.map((w) => w / sum);
};

/** Barycentric weights of a point, of the nearest inside where it is outside. */
export function weightsAt([x, y], corners) {
  const [[ax, ay], [bx, by], third] = corners;
  if (!third) {
    const share = Math.min(1, Math.max(0, (x - ax) / (bx - ax)));
    return [1 - share, share];
  }
  const [cx, cy] = third;
  const area = (by - cy) * (ax - cx) + (cx - bx) * (ay - cy);
  const a = ((by - cy) * (x - cx) + (cx - bx) * (y - cy)) / area;
  const b = ((cy - ay) * (x - cx) + (ax - cx) * (y - cy)) / area;
  return clamped([a, b, 1 - a - b]);
}

/** Draws into `place`; `moved(weights, done)` is told of every move, `done` where it ends. */
export function triangle(place, count, moved) {
  const corners = CORNERS[count];
  const svg = element("svg", { viewBox: count === 3 ? "0 0 200 150" : "0 0 200 110", tabindex: 0, role: "application" });
  svg.setAttribute("aria-label", "Blend: arrow keys move it between the classes");
  svg.append(element("polygon", { points: corners.map((p) => p.join()).join(" ") }));
  for (const [cx, cy] of corners) svg.append(element("circle", { cx, cy, r: 4, class: "dot" }));
  const handle = element("circle", { r: 10, class: "handle" });
  svg.append(handle);
  place.replaceChildren(svg);
  let weights = corners.map((_, i) => (i ? 0 : 1));

  const show = (next) => {
    weights = next;
    for (const [axis, name] of [[0, "cx"], [1, "cy"]])
      handle.setAttribute(name, corners.reduce((sum, corner, i) => sum + corner[axis] * weights[i], 0));
  };
  const at = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return weightsAt([point.x, point.y], corners);
  };
  let held = false;
  svg.addEventListener("pointerdown", (event) => {
    held = true;
    svg.setPointerCapture(event.pointerId);
    show(at(event));
    moved(weights, false);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!held) return;
    show(at(event));
    moved(weights, false);
  });
  for (const end of ["pointerup", "pointercancel"])
    svg.addEventListener(end, () => {
      if (held) moved(weights, true);
      held = false;
    });
  svg.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    event.stopPropagation();
    const point = [0, 1].map((axis) => Number(handle.getAttribute(axis ? "cy" : "cx")) + way[axis] * STEP * 172);
    show(weightsAt(point, corners));
    moved(weights, true);
  });
  show(weights);
  return show;
}
