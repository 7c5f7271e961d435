// What is shown, kept in the address: whoever gets the link sees the same.

const listeners = new Set();

function read() {
  const query = new URLSearchParams(location.search);
  const columns = query.get("columns");
  return {
    view: ["map", "flows", "policies"].includes(query.get("view")) ? query.get("view") : "map",
    words: (query.get("filter") ?? "").split(/\s+/).filter(Boolean),
    columns: columns === null ? null : columns.split(",").filter(Boolean),
    folded: query.get("folded") === "1",
    multicast: query.get("multicast") === "1",
    flow: query.get("flow"),
    edge: query.get("edge"),
  };
}

/** What is shown now. */
export let state = read();

function write(isStep) {
  const query = new URLSearchParams();
  if (state.view !== "map") query.set("view", state.view);
  if (state.words.length > 0) query.set("filter", state.words.join(" "));
  if (state.columns !== null) query.set("columns", state.columns.join(","));
  if (state.folded) query.set("folded", "1");
  if (state.multicast) query.set("multicast", "1");
  if (state.flow) query.set("flow", state.flow);
  if (state.edge) query.set("edge", state.edge);
  const text = query.toString();
  const address = text ? `?${text}` : location.pathname;
  if (isStep) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

function tell(before) {
  for (const listener of listeners) listener(state, before);
}

/** Shows something else, and tells everybody who draws. */
export function show(change, isStep = true) {
  const before = state;
  state = { ...state, ...change };
  write(isStep);
  tell(before);
}

/** Calls with the new and the old state at each change. */
export function onChange(listener) {
  listeners.add(listener);
}

window.addEventListener("popstate", () => {
  const before = state;
  state = read();
  tell(before);
});
