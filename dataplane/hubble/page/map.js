// The service map: draws what the model gathers, and lets people take hold of it.

import { listen } from "./api.js";
import { byId, fitted, svg } from "./dom.js";
import { drawPanel, nameOf, startEdge } from "./edge.js";
import { labels, route, words } from "./edges.js";
import { suggest, toggle } from "./filter.js";
import { count, plural } from "./format.js";
import { CARD, layout } from "./layout.js";
import { Model } from "./model.js";
import { onChange, show, state } from "./state.js";
import { Viewport, follow } from "./viewport.js";

/** More cards than these are folded into namespaces, until somebody unfolds one. */
const CARDS_MAX = 80;
/** More edges than these tell their words only when somebody points at them, but for what is wrong. */
const WORDS_MAX = 30;
/** Words grow up to so much while the rest shrinks, so that they can be read. */
const WORDS_SIZE_MAX = 1.5;
const NAME = { x: 18, y: 25, font: "650 12.5px" };
const VERDICT_WORD = { forwarded: "FORWARDED", dropped: "DROPPED", audited: "AUDIT" };

const model = new Model();
const unfolded = new Set();
const moved = new Map();
let viewport = null;
let stage = null;
let plan = { shape: "", cards: new Map(), plates: new Map(), width: 0, height: 0 };
let isWaiting = false;
let size = 1;

function sizeOf(scale) {
  return Math.min(WORDS_SIZE_MAX, Math.max(1, Math.round(10 / scale) / 10));
}

/** Where the names of plates and their buttons stand. */
function titles() {
  return [...plan.plates.values()].flatMap(({ x, y, width }) => [
    { x: x + NAME.x, y: y + NAME.y - 14, width: 110, height: 20 },
    { x: x + width - 30, y: y + 11, width: 18, height: 18 },
  ]);
}

function isFolded(namespace) {
  const isMany = model.places.size > CARDS_MAX;
  return (state.folded || isMany) !== unfolded.has(namespace);
}

function spotsNow() {
  const spots = new Map(plan.cards);
  for (const [key, by] of moved) {
    const spot = spots.get(key);
    if (spot) spots.set(key, { x: spot.x + by.x, y: spot.y + by.y });
  }
  return spots;
}

function shapeOf({ cards, edges }) {
  const keys = cards.map((card) => card.key).sort();
  const pairs = edges.map((edge) => `${edge.from.key}>${edge.to.key}`).sort();
  return `${keys.join()}|${[...new Set(pairs)].join()}`;
}

function draw() {
  isWaiting = false;
  const seen = model.gather(state.words, isFolded, state.multicast);
  const shape = shapeOf(seen);
  if (shape !== plan.shape) {
    plan = { shape, ...layout(seen.cards, seen.edges, viewport.room()) };
    viewport.fit(plan.width, plan.height);
  }
  const spots = spotsNow();
  const curves = route(seen.edges, spots);
  const isFew = seen.edges.filter((edge) => !edge.isDim).length <= WORDS_MAX;
  const telling = curves.filter(({ edge }) => (isFew ? !edge.isDim : edge.verdict !== "forwarded"));
  size = sizeOf(viewport.scale);
  const texts = labels(telling.slice(0, 4 * WORDS_MAX), spots, titles(), size, !isFew);
  // Who had the focus keeps it: the picture is drawn anew, the person has not moved.
  const focused = document.activeElement?.closest?.("#map [data-key]")?.dataset.key;
  stage.replaceChildren(
    ...drawPlates(seen.cards),
    ...curves.map((curve) => drawEdge(curve, texts.get(curve.edge.key))),
    ...[...texts].map(([key, text]) => drawWords(seen.edges.find((edge) => edge.key === key), text)),
    ...seen.cards.map((card) => drawCard(card, spots.get(card.key))),
  );
  if (focused) stage.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  drawPanel(seen.edges.find((edge) => nameOf(edge) === state.edge));
  note(seen);
}

function note({ cards, edges, hidden }) {
  byId("map-empty").hidden = cards.length > 0;
  const { told } = model;
  const parts = [`${plural(cards.length, "card")}, ${plural(edges.length, "edge")}`];
  if (told) parts.push(`rates over ${told.window_seconds} s`);
  if (hidden > 0) parts.push(`${count(hidden)} multicast packets are not shown`);
  if (told?.other.events > 0) parts.push(`${count(told.other.events)} events of others do not fit here (${count(told.other.dropped)} dropped)`);
  if (told?.lost > 0) parts.push(`${count(told.lost)} events were missed`);
  byId("map-note").textContent = parts.join(" · ");
}

function drawPlates(cards) {
  return [...plan.plates].map(([group, box]) => {
    const isOutside = group === "outside";
    const name = isOutside ? "node and outside" : group.slice(3);
    const isDim = cards.every((card) => card.group !== group || card.isDim);
    const title = svg("text", { x: box.x + NAME.x, y: box.y + NAME.y, class: "plate-name", text: fitted(name, box.width - 56, NAME.font) },
      svg("title", { text: name }));
    const plate = svg("g", { class: isDim ? "plate dim" : "plate" },
      svg("rect", { ...box, rx: 10, class: isOutside ? "outside" : "" }), title);
    if (!isOutside) {
      const act = () => toggle(`ns=${name}`);
      plate.append(button(box.x + box.width - 30, box.y + 11, name), title);
      press(title, `Filter by namespace ${name}`, `plate/${name}`, act);
    }
    return plate;
  });
}

/** Folds a namespace into one card, or unfolds it. */
function button(x, y, namespace) {
  const folded = isFolded(namespace);
  const node = svg("g", { class: "fold", transform: `translate(${x} ${y})` },
    svg("rect", { width: 18, height: 18, rx: 4 }),
    svg("path", { d: folded ? "M5 9h8M9 5v8" : "M5 9h8" }));
  press(node, `${folded ? "Unfold" : "Fold"} namespace ${namespace}`, `fold/${namespace}`, () => {
    if (!unfolded.delete(namespace)) unfolded.add(namespace);
    draw();
  });
  return node;
}

function press(node, label, key, act) {
  node.setAttribute("tabindex", "0");
  node.setAttribute("role", "button");
  node.setAttribute("aria-label", label);
  node.setAttribute("data-key", key);
  node.setAttribute("data-grip", "");
  node.addEventListener("click", act);
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    act();
  });
}

function drawEdge({ edge, path }, text) {
  const strength = edge.rates.bytes > 0 ? Math.log10(1 + edge.rates.bytes) / 2.4 : Math.log10(1 + edge.count) / 2;
  const line = svg("path", {
    d: path, class: "curve", "stroke-width": (1.4 + Math.min(3, strength)).toFixed(2),
    "marker-end": `url(#end-${edge.verdict})`,
  });
  const node = svg("g", {
    class: `edge ${edge.verdict}${edge.isDim ? " dim" : ""}${nameOf(edge) === state.edge ? " chosen" : ""}`,
    "data-from": edge.from.name, "data-to": edge.to.name, "data-verdict": edge.verdict,
  }, svg("path", { d: path, class: "reach" }), line);
  act(node, edge, text);
  return node;
}

function act(node, edge) {
  const text = `${edge.from.name} to ${edge.to.name}, ${edge.verdict}: ${words(edge)}`;
  node.append(svg("title", { text }));
  press(node, text, `edge/${edge.key}`, () => choose(edge));
}

/** Its flows in the table, and the panel about it. */
function choose(edge) {
  const words = [`from:${edge.from.word}`, `to:${edge.to.word}`, `verdict=${VERDICT_WORD[edge.verdict]}`];
  show({ words, edge: nameOf(edge) });
}

function drawWords(edge, { x, y, width, height, text }) {
  const node = svg("g", { class: `words ${edge.verdict}${edge.isDim ? " dim" : ""}`, "data-grip": "" },
    svg("g", { transform: `translate(${x} ${y}) scale(${size})` },
      svg("rect", { width: width / size, height: height / size, rx: 8 }),
      svg("text", { x: width / size / 2, y: 12.2, text })));
  node.addEventListener("click", () => choose(edge));
  return node;
}

const ICONS = {
  workload: "M8 1.5 14 5v6l-6 3.5L2 11V5z",
  world: "M8 1.5a6.5 6.5 0 1 0 .01 0M1.5 8h13M8 1.5c-5 4-5 9 0 13M8 1.5c5 4 5 9 0 13",
  host: "M2 3h12v10H2zM2 8h12M4.5 5.5h1M4.5 10.5h1",
  block: "M2 2h12v12H2zM10.5 5l-5 6",
  namespace: "M2 5h9v9H2zM5 5V2h9v9h-3",
};

const SUBTITLES = {
  block: "addresses in policy", host: "this node", world: "any other address",
  "world-ipv4": "any other IPv4 address", "world-ipv6": "any other IPv6 address",
  "remote-node": "another node", "kube-apiserver": "Kubernetes' API", unknown: "nobody knows who",
};

function subtitle(card) {
  if (card.isFolded) return plural(card.places.size, "workload");
  const { place } = card;
  if (place.kind !== "workload") return SUBTITLES[place.kind] ?? "";
  if (place.pods.length > 1) return place.has_more_pods ? `over ${place.pods.length} pods` : plural(place.pods.length, "pod");
  const label = place.labels.find((one) => one.startsWith("k8s:") && !one.includes("io.cilium") && !one.includes("kubernetes.io"));
  return label ? label.slice(4) : place.pods[0] ?? "";
}

function drawCard(card, spot) {
  const kind = card.isFolded ? "namespace" : card.place.kind;
  const badge = card.dropped > 0 ? `✕ ${count(card.dropped)}` : "";
  const badgeWidth = badge.length * 6.4 + 8;
  const room = CARD.width - 38 - 10;
  const isChosen = state.words.some((word) => word.endsWith(card.word));
  const node = svg("g", {
    class: `card ${kind}${card.isDim ? " dim" : ""}${isChosen ? " chosen" : ""}${card.isQuiet ? " quiet" : ""}`,
    transform: `translate(${spot.x} ${spot.y})`, "data-name": card.name,
  },
  svg("rect", { ...CARD, rx: 7 }),
  svg("path", { d: ICONS[kind.startsWith("world") ? "world" : kind] ?? ICONS.host, class: "icon", transform: "translate(12 20)" }),
  svg("text", { x: 38, y: 25, class: "name", text: fitted(card.name, room - (badge ? badgeWidth + 4 : 0), "650 13.5px") }),
  svg("text", { x: 38, y: 42, class: "more", text: fitted(subtitle(card), room, "11.5px") }),
  svg("title", { text: card.isFolded ? card.name : [card.name, ...card.place.pods.slice(0, 8), ...card.place.labels].join("\n") }));
  if (badge) {
    node.append(svg("g", { class: "badge", transform: `translate(${CARD.width - badgeWidth - 7} 7)` },
      svg("rect", { width: badgeWidth, height: 16, rx: 8 }),
      svg("text", { x: badgeWidth / 2, y: 12, text: badge })));
  }
  const drops = card.dropped > 0 ? `, ${count(card.dropped)} dropped on the way to it` : "";
  press(node, `${card.namespace} ${card.name}, ${subtitle(card)}${drops}`, `card/${card.key}`, () => {
    if (!node.hasMoved) toggle(card.word);
  });
  node.addEventListener("pointerdown", (event) => grab(event, node, card, spot));
  return node;
}

function grab(down, node, card, spot) {
  if (down.button !== 0) return;
  down.stopPropagation();
  const before = moved.get(card.key) ?? { x: 0, y: 0 };
  const move = (event) => {
    const by = [event.clientX - down.clientX, event.clientY - down.clientY].map((d) => d / viewport.scale);
    moved.set(card.key, { x: before.x + by[0], y: before.y + by[1] });
    node.setAttribute("transform", `translate(${spot.x + by[0]} ${spot.y + by[1]})`);
  };
  follow(node, down, move, (hasMoved) => {
    node.hasMoved = hasMoved;
    // The click comes first: it is still of this card.
    if (hasMoved) setTimeout(draw);
  });
}

function wait() {
  if (isWaiting || state.view !== "map") return;
  isWaiting = true;
  requestAnimationFrame(draw);
}

function marker(verdict, d) {
  return svg("marker", {
    id: `end-${verdict}`, class: `end ${verdict}`, viewBox: "0 0 10 10", refX: verdict === "dropped" ? 7 : 9, refY: 5,
    markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto",
  }, svg("path", { d }));
}

function drawTools() {
  byId("fold").setAttribute("aria-pressed", state.folded);
  byId("multicast").setAttribute("aria-pressed", state.multicast);
}

/** Draws the map, and draws it again whenever something changes. */
export function startMap() {
  stage = svg("g");
  const picture = svg("svg", { class: "picture", tabindex: "0", role: "group", "aria-label": "Service map: who talks with whom. Arrow keys move it, plus and minus zoom." },
    svg("defs", {}, marker("forwarded", "M0 1 10 5 0 9z"), marker("audited", "M0 1 10 5 0 9z"), marker("dropped", "M1 1 9 9M9 1 1 9")),
    stage);
  byId("map").prepend(picture);
  viewport = new Viewport(picture, stage, () => sizeOf(viewport.scale) !== size && wait());
  byId("zoom-in").addEventListener("click", () => viewport.zoom(1.25));
  byId("zoom-out").addEventListener("click", () => viewport.zoom(0.8));
  const fit = () => {
    moved.clear();
    wait();
    viewport.fit(plan.width, plan.height, true);
  };
  byId("zoom-fit").addEventListener("click", fit);
  picture.addEventListener("keydown", (event) => event.key === "0" && fit());
  byId("fold").addEventListener("click", () => {
    unfolded.clear();
    show({ folded: !state.folded });
  });
  new ResizeObserver(() => viewport.fit(plan.width, plan.height)).observe(picture);
  onChange(() => {
    drawTools();
    wait();
  });
  byId("multicast").addEventListener("click", () => show({ multicast: !state.multicast }));
  drawTools();
  startEdge();
  listen(() => "/api/map/stream", "delta", (delta) => {
    model.apply(delta);
    suggest(model.suggestions());
    wait();
  });
}
