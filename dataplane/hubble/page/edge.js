// The panel on the map: one edge in numbers, port by port.

import { byId, el } from "./dom.js";
import { age, bytes, count, duration, plural, port, rate } from "./format.js";
import { show, state } from "./state.js";

/** Ports that are listed; the others are in the sums. */
const PORTS_MAX = 20;

/** What stands in the address for an edge: the same after a restart of the daemon. */
export function nameOf(edge) {
  return `${edge.from.word} ${edge.to.word} ${edge.verdict}`;
}

/** The microseconds within which a part of the handshakes on some links were answered; null for none. */
export function roundTrip(links, part) {
  const steps = links.flatMap((link) => link.round_trips ?? []).sort((a, b) => a[0] - b[0]);
  let left = part * steps.reduce((sum, [, many]) => sum + many, 0);
  for (const [time, many] of steps) {
    left -= many;
    if (left <= 0) return time;
  }
  return null;
}

function times(links) {
  const both = [0.5, 0.99].map((part) => roundTrip(links, part));
  return both.includes(null) ? null : both.map(duration);
}

function fact(name, text) {
  return text ? [el("dt", { text: name }), el("dd", { text })] : [];
}

function facts(edge) {
  const sum = (side) => edge.links.reduce((all, link) => all + link.bytes[side], 0);
  const answered = times(edge.links);
  const many = edge.links.flatMap((link) => link.round_trips ?? []).reduce((all, [, one]) => all + one, 0);
  const isDropped = edge.verdict === "dropped";
  return el("dl", {},
    ...fact("From", edge.from.word),
    ...fact("To", edge.to.word),
    ...(isDropped
      ? fact("Dropped", `${plural(edge.count, "packet")}, ${rate(edge.rates.dropped)}`)
      : [...fact("Opened", `${plural(edge.count, "connection")}, ${rate(edge.rates.connections)}`),
        ...fact("Sent", edge.bytes > 0 && bytes(sum(0))),
        ...fact("Answered", edge.bytes > 0 && bytes(sum(1))),
        ...fact("Now", edge.bytes > 0 && `${bytes(edge.rates.bytes)}/s, ${count(edge.rates.packets)} packets/s`),
        ...fact("Handshake", answered && `p50 ${answered[0]}, p99 ${answered[1]}, of ${count(many)}`)]));
}

function row(edge, link) {
  const isDropped = edge.verdict === "dropped";
  const cells = isDropped
    ? [count(link.dropped), link.reason ?? ""]
    : [count(link[edge.verdict]), bytes(link.bytes[0] + link.bytes[1]), ...(times([link]) ?? ["", ""])];
  return el("tr", {}, ...[port(link), ...cells, age(link.last * 1000)].map((text) => el("td", { text })));
}

function ports(edge) {
  const heads = edge.verdict === "dropped"
    ? ["Port", "Dropped", "Last reason", "Last"]
    : ["Port", "Opened", "Bytes", "p50", "p99", "Last"];
  const links = [...edge.links].sort((a, b) => b[edge.verdict] - a[edge.verdict] || a.id - b.id);
  const more = links.length - PORTS_MAX;
  return [
    el("table", {},
      el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col", text })))),
      el("tbody", {}, ...links.slice(0, PORTS_MAX).map((link) => row(edge, link)))),
    more > 0 ? el("p", { class: "muted", text: `and ${count(more)} more` }) : null,
  ].filter(Boolean);
}

/** Shows the chosen edge as it is now; undefined when it is not on the map any more. */
export function drawPanel(edge) {
  const panel = byId("edge");
  panel.hidden = !state.edge;
  byId("map").classList.toggle("has-panel", !panel.hidden);
  if (panel.hidden) return;
  const [from, to, verdict] = state.edge.split(" ");
  const name = (card, word) => card?.name ?? word?.split(/[=/]/).pop();
  byId("edge-name").textContent = `${name(edge?.from, from)} → ${name(edge?.to, to)}`;
  byId("edge-head").className = verdict === "audited" ? "audit" : verdict ?? "";
  byId("edge-verdict").textContent = verdict ?? "";
  // Only what changes is drawn anew: the focus may be on the button that closes.
  byId("edge-body").replaceChildren(...(edge
    ? [facts(edge), ...ports(edge)]
    : [el("p", { class: "muted", text: "Nothing of it is on the map now." })]));
}

/** Closes with its button and with Escape. */
export function startEdge() {
  const close = () => {
    byId("map").querySelector(".edge.chosen")?.focus();
    show({ edge: null });
  };
  byId("edge-close").addEventListener("click", close);
  document.addEventListener("keydown", (event) => {
    // The panel of a flow stands before this one, and closes first.
    const isOther = state.flow || event.target instanceof HTMLInputElement;
    if (event.key === "Escape" && state.edge && !isOther) close();
  });
}
