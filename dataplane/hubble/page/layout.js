// Where cards stand: namespaces in columns by who calls whom, and cards in columns inside of them.
//
// The same input gives the same picture: everything is ordered by name, and nothing is left to chance.

export const CARD = { width: 184, height: 56 };
const GAP = { x: 200, y: 30 };
const PLATE = { x: 18, top: 40, bottom: 18 };
const SPACE = { x: 230, y: 44 };
/** Columns of one namespace. */
const COLUMNS_MAX = 2;
/** A column that would be higher is continued beside. */
const HEIGHT_MAX = 1500;

/** The column of each node: one more than that of whoever calls it, circles cut where they close. */
export function ranks(nodes, arcs) {
  const out = new Map(nodes.map((node) => [node, []]));
  for (const [from, to] of arcs) if (from !== to && out.has(from) && out.has(to)) out.get(from).push(to);
  const state = new Map();
  const order = [];
  const kept = new Map(nodes.map((node) => [node, []]));
  for (const root of nodes) {
    if (state.has(root)) continue;
    const stack = [[root, 0]];
    state.set(root, "open");
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      const next = out.get(top[0])[top[1]++];
      if (next === undefined) {
        state.set(top[0], "done");
        order.push(top[0]);
        stack.pop();
      } else if (state.get(next) !== "open") {
        kept.get(top[0]).push(next);
        if (!state.has(next)) {
          state.set(next, "open");
          stack.push([next, 0]);
        }
      }
    }
  }
  const rank = new Map(nodes.map((node) => [node, 0]));
  for (const node of order.reverse()) {
    for (const next of kept.get(node)) rank.set(next, Math.max(rank.get(next), rank.get(node) + 1));
  }
  return rank;
}

/** Callers first, so that circles are cut where replies would go. */
function ordered(nodes, arcs) {
  const balance = new Map(nodes.map((node) => [node, 0]));
  for (const [from, to] of arcs) {
    if (from === to) continue;
    balance.set(from, (balance.get(from) ?? 0) + 1);
    balance.set(to, (balance.get(to) ?? 0) - 1);
  }
  return [...nodes].sort((a, b) => balance.get(b) - balance.get(a) || (a < b ? -1 : 1));
}

function columns(nodes, rank) {
  const out = [];
  for (const node of nodes) (out[rank.get(node)] ??= []).push(node);
  return out.filter(Boolean);
}

/** Orders each column by the middle of its neighbours in the others. */
function untangle(list, arcs) {
  const place = new Map();
  const note = () => list.forEach((column) => column.forEach((node, at) => place.set(node, at / column.length)));
  const near = new Map();
  for (const [from, to] of arcs) {
    (near.get(from) ?? near.set(from, []).get(from)).push(to);
    (near.get(to) ?? near.set(to, []).get(to)).push(from);
  }
  note();
  for (let sweep = 0; sweep < 4; sweep += 1) {
    for (const column of sweep % 2 ? [...list].reverse() : list) {
      const middle = (node) => {
        const known = (near.get(node) ?? []).filter((other) => place.has(other) && !column.includes(other));
        if (known.length === 0) return place.get(node);
        return known.reduce((sum, other) => sum + place.get(other), 0) / known.length;
      };
      const keyed = column.map((node) => [middle(node), node]);
      keyed.sort((a, b) => a[0] - b[0] || (a[1] < b[1] ? -1 : 1));
      column.splice(0, column.length, ...keyed.map(([, node]) => node));
      note();
    }
  }
  return list;
}

/** One namespace: its size, and its cards inside of it. */
function inner(keys, arcs, isOutside) {
  const own = arcs.filter(([from, to]) => keys.includes(from) && keys.includes(to));
  const nodes = ordered(keys, own);
  const rank = ranks(nodes, own);
  // A long chain is folded: as one line it would make all the rest small.
  const deepest = 1 + Math.max(...rank.values());
  if (deepest > COLUMNS_MAX) {
    for (const [node, at] of rank) rank.set(node, Math.floor((at * COLUMNS_MAX) / deepest));
  }
  const cols = untangle(columns(nodes, rank), own);
  // Without calls among them a long column is continued beside.
  const most = isOutside ? 12 : 10;
  const split = cols.flatMap((column) => {
    const parts = [];
    for (let at = 0; at < column.length; at += most) parts.push(column.slice(at, at + most));
    return parts;
  });
  const tallest = Math.max(...split.map((column) => column.length));
  const height = tallest * CARD.height + (tallest - 1) * GAP.y;
  const spots = new Map();
  split.forEach((column, x) => {
    const used = column.length * CARD.height + (column.length - 1) * GAP.y;
    column.forEach((key, y) => spots.set(key, {
      x: PLATE.x + x * (CARD.width + GAP.x),
      y: PLATE.top + (height - used) / 2 + y * (CARD.height + GAP.y),
    }));
  });
  const width = split.length * CARD.width + (split.length - 1) * GAP.x;
  return { spots, width: width + 2 * PLATE.x, height: height + PLATE.top + PLATE.bottom };
}

/** Namespaces in so many columns at most: higher than `HEIGHT_MAX` only where they would be too many. */
function inColumns(names, between, boxes, most) {
  const rank = ranks(names, between);
  const deepest = 1 + Math.max(0, ...rank.values());
  if (deepest > most) {
    for (const [name, at] of rank) rank.set(name, Math.floor((at * most) / deepest));
  }
  const cols = untangle(columns(names, rank), between);
  return cols.flatMap((column) => {
    const parts = [[]];
    let used = 0;
    for (const name of column) {
      const height = boxes.get(name).height + SPACE.y;
      if (used > 0 && used + height > HEIGHT_MAX && deepest <= most) {
        parts.push([]);
        used = 0;
      }
      parts[parts.length - 1].push(name);
      used += height;
    }
    return parts;
  });
}

/** How high a column is, and how wide they all are. */
function sizeOf(cols, boxes) {
  const high = (column) =>
    column.reduce((sum, name) => sum + boxes.get(name).height + SPACE.y, -SPACE.y);
  const wide = (column) => Math.max(...column.map((name) => boxes.get(name).width));
  const width = cols.reduce((sum, column) => sum + wide(column) + SPACE.x, -SPACE.x);
  return { high, wide, width, height: Math.max(0, ...cols.map(high)) };
}

/**
 * The columns that can be drawn largest. Who calls whom from left to right is given up only for what
 * is much larger: where all call one another, they would stand in one thin line.
 */
function bestColumns(names, between, boxes, room) {
  const scale = (cols) => {
    const { width, height } = sizeOf(cols, boxes);
    return Math.min(1, room.width / width, room.height / height);
  };
  let best = inColumns(names, between, boxes, names.length);
  for (let most = best.length - 1; most > 0; most -= 1) {
    const folded = inColumns(names, between, boxes, most);
    if (scale(folded) > 1.3 * scale(best)) best = folded;
  }
  return best;
}

/**
 * Places of cards and plates.
 * `cards`: {key, group}; `edges`: {from: {key, group}, to: …}; `room`: the width and height to fill.
 */
export function layout(cards, edges, room) {
  const groups = new Map();
  for (const card of [...cards].sort((a, b) => (a.key < b.key ? -1 : 1))) {
    (groups.get(card.group) ?? groups.set(card.group, []).get(card.group)).push(card.key);
  }
  const arcs = edges.map((edge) => [edge.from.key, edge.to.key]);
  const between = edges
    .map((edge) => [edge.from.group, edge.to.group])
    .filter(([from, to]) => from !== to);
  const names = ordered([...groups.keys()].sort(), between);
  const boxes = new Map(names.map((name) => [name, inner(groups.get(name), arcs, name === "outside")]));
  const split = bestColumns(names, between, boxes, room);
  const { high: heightOf, height: tallest } = sizeOf(split, boxes);
  const result = { cards: new Map(), plates: new Map(), width: 0, height: tallest };
  let x = 0;
  for (const column of split) {
    let y = (tallest - heightOf(column)) / 2;
    const width = Math.max(...column.map((name) => boxes.get(name).width));
    for (const name of column) {
      const box = boxes.get(name);
      const left = x + (width - box.width) / 2;
      result.plates.set(name, { x: left, y, width: box.width, height: box.height });
      for (const [key, spot] of box.spots) result.cards.set(key, { x: left + spot.x, y: y + spot.y });
      y += box.height + SPACE.y;
    }
    x += width + SPACE.x;
  }
  result.width = Math.max(0, x - SPACE.x);
  return result;
}
