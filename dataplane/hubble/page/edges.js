// The curves between cards, and where their words stand.

import { CARD } from "./layout.js";
import { bytes, count, port, rate } from "./format.js";

const STEP = 19;
/** Where the words of an edge may stand: the part of its length, and how far off. */
const TRIES = [0, -10, 10, -20, 20, -30, 30].flatMap((by) => [0.5, 0.4, 0.6, 0.3, 0.7].map((t) => [t, by]));

/** The sides at which an edge leaves and arrives. */
function sides(from, to) {
  if (to.x >= from.x + CARD.width) return ["right", "left"];
  if (to.x + CARD.width <= from.x) return ["left", "right"];
  return ["right", "right"];
}

/** For each edge its four points: edges share the side of a card without touching. */
export function route(edges, spots) {
  const slots = new Map();
  const routed = [];
  for (const edge of edges) {
    const [from, to] = [spots.get(edge.from.key), spots.get(edge.to.key)];
    if (!from || !to) continue;
    const [out, into] = sides(from, to);
    const one = { edge, from, to, out, into };
    routed.push(one);
    for (const [key, side, other, end] of [
      [edge.from.key, out, to, "start"], [edge.to.key, into, from, "end"],
    ]) {
      const slot = `${key} ${side}`;
      (slots.get(slot) ?? slots.set(slot, []).get(slot)).push({ one, end, y: other.y });
    }
  }
  for (const list of slots.values()) {
    list.sort((a, b) => a.y - b.y || (a.one.edge.key < b.one.edge.key ? -1 : 1));
    const step = Math.min(STEP, (CARD.height - 12) / Math.max(1, list.length - 1));
    list.forEach((use, at) => {
      use.one[use.end] = (at - (list.length - 1) / 2) * step;
    });
  }
  return routed.map(curve);
}

function curve(one) {
  const x = (spot, side) => (side === "right" ? spot.x + CARD.width : spot.x);
  const a = { x: x(one.from, one.out), y: one.from.y + CARD.height / 2 + one.start };
  const d = { x: x(one.to, one.into), y: one.to.y + CARD.height / 2 + one.end };
  const isLoop = one.edge.from === one.edge.to;
  const reach = isLoop || one.out === one.into
    ? 46 + Math.abs(d.y - a.y) / 5
    : Math.max(46, Math.abs(d.x - a.x) / 2);
  const pull = (side) => (side === "right" ? reach : -reach);
  const lift = isLoop ? 34 : 0;
  const b = { x: a.x + pull(one.out), y: a.y - lift };
  const c = { x: d.x + pull(one.into), y: d.y + lift };
  const path = `M${a.x} ${a.y}C${b.x} ${b.y} ${c.x} ${c.y} ${d.x} ${d.y}`;
  return { edge: one.edge, path, points: [a, b, c, d] };
}

/** The point of a curve at a part of its length, nearly. */
function at([a, b, c, d], t) {
  const u = 1 - t;
  const mix = (key) =>
    u * u * u * a[key] + 3 * u * u * t * b[key] + 3 * u * t * t * c[key] + t * t * t * d[key];
  return { x: mix("x"), y: mix("y") };
}

/** What is written at an edge. */
export function words(edge) {
  const ports = [...edge.links].sort((a, b) => b[edge.verdict] - a[edge.verdict]);
  const more = ports.length > 1 ? ` +${ports.length - 1}` : "";
  const parts = [port(ports[0]) + more];
  if (edge.verdict === "dropped") {
    parts.push(`${count(edge.count)} dropped`);
    if (edge.rates.dropped > 0) parts.push(rate(edge.rates.dropped));
    return `✕ ${parts.join(" · ")}`;
  }
  parts.push(`${count(edge.count)} conn`);
  if (edge.rates.connections > 0) parts.push(rate(edge.rates.connections));
  if (edge.rates.bytes > 0) parts.push(`${bytes(edge.rates.bytes)}/s`);
  else if (edge.bytes > 0) parts.push(bytes(edge.bytes));
  return (edge.verdict === "audited" ? "! audit " : "") + parts.join(" · ");
}

const hit = (a, b) =>
  a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height + 2 && b.y < a.y + a.height + 2;

/** Boxes for the words of each curve, on it and off each other and the cards as far as it goes. */
export function labels(curves, spots) {
  const taken = [...spots.values()].map((spot) => ({ ...spot, ...CARD }));
  const out = new Map();
  for (const { edge, points } of curves) {
    const text = words(edge);
    const width = text.length * (edge.verdict === "forwarded" ? 5.6 : 6.1) + 16;
    const height = 17;
    let chosen = null;
    for (const [t, by] of TRIES) {
      const middle = at(points, t);
      const box = { x: middle.x - width / 2, y: middle.y - height / 2 + by, width, height };
      chosen ??= box;
      if (!taken.some((other) => hit(box, other))) {
        chosen = box;
        break;
      }
    }
    taken.push(chosen);
    out.set(edge.key, { ...chosen, text });
  }
  return out;
}
