// The curves between cards, and where their words stand.

import { CARD } from "./layout.js";
import { bytes, count, port, rate } from "./format.js";

const STEP = 19;
/** Where the words of an edge may stand: the part of its length, and how far off. */
const TRIES = [0, -10, 10, -20, 20, -30, 30, -42, 42, -54, 54].flatMap((by) =>
  [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8].map((t) => [t, by]));

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

/** How much of two boxes is the same place, with a little air between them. */
function overlap(a, b) {
  const wide = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const high = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y) + 2;
  return wide > 0 && high > 0 ? wide * high : 0;
}

/** The most important of it, for where there is little room. */
function shortWords(edge) {
  const [where, ...rest] = words(edge).split(" · ");
  return [where, edge.verdict === "dropped" ? rest[0] : rest.at(-1)].join(" · ");
}

/** The place where a text covers least of what is taken. */
function bestPlace(text, { edge, points }, taken, size) {
  const width = (text.length * (edge.verdict === "forwarded" ? 5.6 : 6.1) + 16) * size;
  const height = 17 * size;
  let best = { covered: Infinity };
  for (const [t, by] of TRIES) {
    const middle = at(points, t);
    const box = { x: middle.x - width / 2, y: middle.y - height / 2 + by * size, width, height };
    const covered = taken.reduce((sum, other) => sum + overlap(box, other), 0);
    if (covered < best.covered) best = { ...box, text, covered };
    if (covered === 0) break;
  }
  return best;
}

/**
 * Boxes for the words of each curve, on it and off each other, the cards and `titles` as far as it
 * goes; `size` times as large as the map draws the rest. What cannot be written without covering
 * something is left out where there are many (`isMany`): it is told to who points there.
 */
export function labels(curves, spots, titles, size, isMany) {
  const taken = [...[...spots.values()].map((spot) => ({ ...spot, ...CARD })), ...titles];
  const out = new Map();
  // Long ones have more places to choose from.
  const reach = ({ points: [a, , , d] }) => Math.abs(a.x - d.x) + Math.abs(a.y - d.y);
  for (const curve of [...curves].sort((a, b) => reach(a) - reach(b))) {
    let box = bestPlace(words(curve.edge), curve, taken, size);
    if (box.covered > 0) box = bestPlace(shortWords(curve.edge), curve, taken, size);
    if (isMany && box.covered > 0) continue;
    taken.push(box);
    out.set(curve.edge.key, box);
  }
  return out;
}
