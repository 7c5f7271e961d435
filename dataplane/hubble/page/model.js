// What the map knows: places and links, kept up to date, and gathered into cards and edges.

import { parse } from "./filter.js";

/** Verdicts of an edge, and what they are called. */
export const VERDICTS = ["forwarded", "dropped", "audited"];

export class Model {
  places = new Map();
  links = new Map();
  told = null;

  /** Takes what changed. */
  apply(delta) {
    if (delta.is_whole) {
      this.places.clear();
      this.links.clear();
    }
    for (const place of delta.places) this.places.set(place.id, place);
    for (const link of delta.links) this.links.set(link.id, link);
    for (const id of delta.gone_places) this.places.delete(id);
    for (const id of delta.gone_links) this.links.delete(id);
    this.told = delta;
  }

  /** Words that suggest themselves. */
  suggestions() {
    const words = new Set();
    for (const place of this.places.values()) {
      if (place.namespace) words.add(`ns=${place.namespace}`);
      words.add(wordOf(place));
      if (words.size > 200) break;
    }
    return [...words];
  }

  /** Cards and edges under these words, with the namespaces in `folded` as one card each. */
  gather(words, isFolded, hasMulticast) {
    let hidden = 0;
    const parsed = words.map(parse).filter(Boolean);
    const spaces = parsed.filter((word) => word.key === "ns");
    const cards = new Map();
    const cardOf = (place) => {
      const folded = place.namespace && isFolded(place.namespace);
      const key = folded ? `ns/${place.namespace}` : `place/${place.id}`;
      let card = cards.get(key);
      if (!card) {
        card = newCard(key, place, folded);
        cards.set(key, card);
      }
      card.places.add(place.id);
      return card;
    };
    const edges = new Map();
    for (const link of this.links.values()) {
      const [from, to] = [this.places.get(link.from), this.places.get(link.to)];
      if (!from || !to || !isMet(link, from, to, spaces)) continue;
      // Each kernel announces itself all day, and no policy is about it.
      if (!hasMulticast && link.reason === "multicast" && link.forwarded + link.audited === 0) {
        hidden += link.dropped;
        continue;
      }
      const ends = [cardOf(from), cardOf(to)];
      for (const verdict of VERDICTS) {
        if (link[verdict] > 0) {
          addTo(edges, ends, verdict, link, isMet(link, from, to, parsed, verdict));
        }
      }
    }
    for (const place of this.places.values()) {
      const word = { from: place, to: place };
      if (place.namespace && isMet({}, word.from, word.to, spaces)) cardOf(place);
    }
    const list = [...edges.values()];
    const isFiltered = parsed.length > 0;
    for (const edge of list) {
      edge.isDim = isFiltered && !edge.isMet;
      if (edge.verdict === "dropped") edge.to.dropped += edge.count;
    }
    for (const card of cards.values()) {
      const near = list.filter((edge) => edge.from === card || edge.to === card);
      card.isDim = isFiltered && !near.some((edge) => !edge.isDim);
      card.isQuiet = near.length === 0;
    }
    return { cards: [...cards.values()], edges: list, hidden };
  }
}

/** The word that means a place. */
export function wordOf(place) {
  return place.kind === "workload"
    ? `workload=${place.namespace}/${place.name}`
    : `identity=${place.name}`;
}

function newCard(key, place, isFolded) {
  const group = place.namespace ? `ns/${place.namespace}` : "outside";
  return {
    key, group, isFolded, place, dropped: 0, places: new Set(),
    name: isFolded ? place.namespace : place.name,
    namespace: place.namespace,
    word: isFolded ? `ns=${place.namespace}` : wordOf(place),
  };
}

function addTo(edges, [from, to], verdict, link, isMet) {
  const key = `${from.key} ${to.key} ${verdict}`;
  let edge = edges.get(key);
  if (!edge) {
    edge = { key, from, to, verdict, links: [], count: 0, bytes: 0, packets: 0, isMet: false,
      rates: { connections: 0, dropped: 0, bytes: 0, packets: 0 } };
    edges.set(key, edge);
  }
  edge.links.push(link);
  edge.isMet ||= isMet;
  edge.count += link[verdict];
  edge.rates.connections += verdict === "audited" ? link.rates.audited : link.rates.connections;
  edge.rates.dropped += link.rates.dropped;
  // What passed is of the connections that passed, and told once: which of them it was is not known.
  if (verdict === "forwarded" || (verdict === "audited" && link.forwarded === 0)) {
    edge.bytes += link.bytes[0] + link.bytes[1];
    edge.packets += link.packets[0] + link.packets[1];
    edge.rates.bytes += link.rates.bytes;
    edge.rates.packets += link.rates.packets;
  }
}

const CLASS = { FORWARDED: "forwarded", DROPPED: "dropped", AUDIT: "audited" };

function named(value, namespace, name) {
  const slash = value.indexOf("/");
  if (slash < 0) return name === value;
  return namespace === value.slice(0, slash) && (slash === value.length - 1 || name === value.slice(slash + 1));
}

/** Whether a place fits a word; undefined where the map cannot know. */
function fits(place, word) {
  switch (word.key) {
    case "ns": return place.namespace === word.value;
    case "workload": return place.kind === "workload" && named(word.value, place.namespace, place.name);
    case "pod": return place.pods.some((pod) => named(word.value, place.namespace, pod));
    case "label": return place.labels.some((label) => {
      const bare = label.slice(label.indexOf(":") + 1);
      return [label, bare].includes(word.value) || bare.split("=")[0] === word.value;
    });
    case "identity": return /^\d+$/.test(word.value) ? undefined : place.name === word.value && !place.namespace;
    default: return undefined;
  }
}

function isWordMet(word, link, from, to, verdict) {
  switch (word.key) {
    case "verdict": return verdict === undefined || CLASS[word.value.toUpperCase()] === verdict;
    case "protocol": return (link.protocol ?? "").toLowerCase().startsWith(word.value.toLowerCase());
    case "port": return word.side === "from" ? undefined : link.port === Number(word.value);
    case "reason": return verdict === undefined ? undefined : verdict === "dropped" && link.reason === word.value;
    default: {
      const sides = [word.side !== "to" && fits(from, word), word.side !== "from" && fits(to, word)];
      return sides.includes(undefined) ? undefined : sides.includes(true);
    }
  }
}

/** Of words with one side and key one must hold, of those with others each, of those with `!` none. */
function isMet(link, from, to, words, verdict) {
  const kin = new Map();
  for (const word of words) {
    const met = isWordMet(word, link, from, to, verdict);
    if (met === undefined) continue;
    if (word.isNot) {
      if (met) return false;
      continue;
    }
    const key = `${word.side} ${word.key}`;
    kin.set(key, (kin.get(key) ?? false) || met);
  }
  return [...kin.values()].every(Boolean);
}
