// The speed of the upload over time, since it began: what the controller has kept, then what comes.

import { el, put, svg } from "./dom.js";
import { clock, speed } from "./units.js";
import { say } from "./words.js";

/// Points that are kept; when there are more, every second one goes, so that the curve keeps its whole length.
const KEPT = 400;
const WIDE = 600;
const HIGH = 150;
const LOW = 18;

export function chart() {
  let points = [];
  const element = el("div", { class: "chart" }, el("p", { class: "dim" }, say("no_speed")));

  function add(at, perSecond) {
    points.push([Date.parse(at), Math.max(perSecond, 0)]);
    if (points.length > KEPT) points = points.filter((_, index) => index % 2 === 1);
    if (points.length > 1) draw();
  }

  /// What was there before this page, or this line, was opened.
  function begin(told) {
    const before = told.map((point) => [Date.parse(point.at), point.per_second]);
    const last = before.at(-1)?.[0] ?? 0;
    points = before.concat(points.filter((point) => point[0] > last));
    if (points.length > 1) draw();
  }

  function clear() {
    points = [];
    put(element, el("p", { class: "dim" }, say("no_speed")));
  }

  function draw() {
    const [first, now] = [points[0][0], points.at(-1)[0]];
    const most = Math.max(...points.map((point) => point[1]), 1);
    const x = (time) => (WIDE * (time - first)) / Math.max(now - first, 1);
    const y = (value) => HIGH - LOW - (HIGH - 2 * LOW) * (value / most);
    const line = points.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    const floor = HIGH - LOW;
    const label = say("speed_label", { now: speed(points.at(-1)[1]), most: speed(most) });
    put(element,
      svg("svg", { "data-points": points.length, "data-first": new Date(first).toISOString(), viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": label },
        svg("line", { x1: 0, x2: WIDE, y1: floor, y2: floor, class: "axis" }),
        svg("line", { x1: 0, x2: WIDE, y1: y(most), y2: y(most), class: "grid" }),
        svg("polygon", { points: `0,${floor} ${line} ${WIDE},${floor}`, class: "area" }),
        svg("polyline", { points: line, class: "curve" }),
        svg("text", { x: 0, y: LOW - 5 }, speed(most)),
        svg("text", { x: 0, y: HIGH - 3 }, clock(new Date(first).toISOString())),
        svg("text", { x: WIDE, y: HIGH - 3, "text-anchor": "end" }, clock(new Date(now).toISOString()))),
      el("p", { class: "dim" }, label));
  }

  return { element, add, begin, clear };
}
