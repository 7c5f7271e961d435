// The flow table: only the lines one sees are in the document, whatever there is to scroll through.

import { ask, listen } from "./api.js";
import { COLUMNS } from "./columns.js";
import { byId, el } from "./dom.js";
import { complain, toggle } from "./filter.js";
import { count, plural } from "./format.js";
import { onChange, show, state } from "./state.js";

const LINE = 26;
const ROWS_MAX = 5000;
const PAGE = 200;
const AGAIN_AFTER = 2000;

let rows = [];
let next = null;
let fresh = 0;
let skipped = 0;
let chosen = null;
let isAsking = false;
let stop = () => {};
let question = 0;
let again = null;
/** When the daemon started that numbered these rows. */
let started = null;
const parts = {};

function columns() {
  const wanted = COLUMNS.filter((column) => state.columns?.includes(column.key));
  // An address may name none that there is.
  return wanted.length > 0 ? wanted : COLUMNS.filter((column) => column.isShown);
}

function filter() {
  const asksReason = state.words.some((word) => /^!?reason=/.test(word));
  return [...state.words, ...(state.multicast || asksReason ? [] : ["!reason=multicast"])].join(" ");
}

/** Asks anew, and listens to what comes. */
async function begin() {
  stop();
  clearTimeout(again);
  question += 1;
  const mine = question;
  rows = [];
  next = null;
  fresh = skipped = 0;
  try {
    const found = await ask("/api/flows", { filter: filter(), limit: PAGE });
    if (mine !== question) return;
    complain("");
    rows = found.rows;
    next = found.next ?? null;
    started = found.started;
    // From there on, so that nothing between the two answers is missed.
    const after = () => String((rows[0]?.number ?? found.end - 1) + 1);
    stop = listen(
      () => `/api/flows/stream?${new URLSearchParams({ filter: filter(), before: after() })}`,
      "news", hear);
  } catch (fault) {
    if (mine !== question) return;
    complain(fault.message);
    // What is wrong with the question stays wrong; a daemon that is away comes back.
    if (fault.status !== 400) again = setTimeout(begin, AGAIN_AFTER);
  }
  parts.body.scrollTop = 0;
  draw();
}

function hear(news) {
  // Another daemon has numbers of its own: these rows' could be those of other flows.
  if (news.started !== started) {
    begin();
    return;
  }
  const newest = rows[0]?.number ?? -1;
  const come = news.rows.filter((row) => row.number > newest);
  if (come.length === 0 && news.lost === 0) return;
  const isAtTop = parts.body.scrollTop < LINE;
  rows = [...come, ...rows];
  skipped += news.skipped + news.lost;
  if (!isAtTop) {
    fresh += come.length;
    parts.body.scrollTop += come.length * LINE;
  }
  if (rows.length > ROWS_MAX) {
    rows.length = ROWS_MAX;
    next = rows[ROWS_MAX - 1].number;
  }
  requestAnimationFrame(draw);
}

async function more() {
  if (isAsking || next === null || rows.length >= ROWS_MAX) return;
  isAsking = true;
  const mine = question;
  try {
    const found = await ask("/api/flows", { filter: filter(), before: next, limit: PAGE });
    if (mine === question) {
      rows = [...rows, ...found.rows];
      next = found.next ?? null;
    }
  } catch (fault) {
    complain(fault.message);
  }
  isAsking = false;
  draw();
}

function cell(column, row, at) {
  const text = String(column.text(row));
  const word = column.word?.(row);
  return el("div", {
    role: "gridcell", class: `cell ${column.key}`, title: text, text, "aria-colindex": at + 1,
    "data-word": word || undefined,
  });
}

function line(row, at, shown) {
  const verdict = row.verdict.toLowerCase();
  const node = el("div", {
    role: "row", class: `line ${verdict}${row.number === chosen ? " chosen" : ""}`, id: `row-${row.number}`,
    "aria-rowindex": at + 2, "aria-selected": row.number === chosen, "data-number": row.number,
  }, ...shown.map((column, index) => cell(column, row, index)));
  node.style.transform = `translateY(${at * LINE}px)`;
  return node;
}

function draw() {
  const shown = columns();
  const template = shown.map((column) => column.width).join(" ");
  parts.grid.style.setProperty("--columns", template);
  // Of `7rem` and of `minmax(7rem, 1fr)` the 7.
  const least = shown.reduce((sum, column) => sum + Number(/[\d.]+(?=rem)/.exec(column.width)[0]), 0);
  parts.grid.style.setProperty("--least", `${least + 2}rem`);
  parts.head.replaceChildren(...shown.map((column, at) =>
    el("div", { role: "columnheader", class: "cell", text: column.name, "aria-colindex": at + 1 })));
  const first = Math.max(0, Math.floor(parts.body.scrollTop / LINE) - 8);
  const last = Math.min(rows.length, first + Math.ceil(parts.body.clientHeight / LINE) + 16);
  const lines = [];
  for (let at = first; at < last; at += 1) lines.push(line(rows[at], at, shown));
  parts.lines.style.height = `${rows.length * LINE}px`;
  parts.lines.replaceChildren(...lines);
  parts.grid.setAttribute("aria-rowcount", rows.length + 1);
  const active = rows.some((row) => row.number === chosen) ? `row-${chosen}` : null;
  if (active && document.getElementById(active)) parts.body.setAttribute("aria-activedescendant", active);
  else parts.body.removeAttribute("aria-activedescendant");
  parts.empty.hidden = rows.length > 0;
  parts.fresh.hidden = fresh === 0;
  parts.fresh.textContent = `↑ ${count(fresh)} new`;
  const words = [plural(rows.length, "flow") + (next === null ? "" : ", older ones below")];
  if (skipped > 0) words.push(`${count(skipped)} too fast to list`);
  parts.note.textContent = words.join(" · ");
  if (last >= rows.length - 20) more();
}

function choose(at) {
  const row = rows[Math.min(rows.length - 1, Math.max(0, at))];
  if (!row) return;
  chosen = row.number;
  const top = rows.indexOf(row) * LINE;
  const { body } = parts;
  if (top < body.scrollTop) body.scrollTop = top;
  if (top + LINE > body.scrollTop + body.clientHeight) body.scrollTop = top + LINE - body.clientHeight;
  draw();
}

function key(event) {
  const at = rows.findIndex((row) => row.number === chosen);
  const page = Math.max(1, Math.floor(parts.body.clientHeight / LINE) - 1);
  const moves = { ArrowDown: at + 1, ArrowUp: at < 0 ? 0 : at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: rows.length - 1 };
  if (event.key in moves) choose(moves[event.key]);
  else if (event.key === "Enter" && at >= 0) show({ flow: String(chosen) });
  else return;
  event.preventDefault();
}

function chooser() {
  const list = el("div", { class: "menu", hidden: true });
  const opener = el("button", { type: "button", text: "Columns", "aria-expanded": "false" });
  const fillList = () => list.replaceChildren(...COLUMNS.map((column) => el("label", {},
    el("input", {
      type: "checkbox", checked: columns().includes(column),
      onchange: (event) => {
        const keys = columns().map((one) => one.key).filter((one) => one !== column.key);
        show({ columns: event.target.checked ? [...keys, column.key] : keys }, false);
      },
    }), document.createTextNode(` ${column.name}`))));
  const set = (isOpen) => {
    fillList();
    list.hidden = !isOpen;
    opener.setAttribute("aria-expanded", isOpen);
  };
  opener.addEventListener("click", () => set(list.hidden));
  list.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    set(false);
    opener.focus();
  });
  document.addEventListener("pointerdown", (event) => !list.parentElement.contains(event.target) && set(false));
  return el("div", { class: "chooser" }, opener, list);
}

/** Makes the table, and fills it. */
export function startTable() {
  parts.head = el("div", { role: "row", class: "line head", "aria-rowindex": 1 });
  parts.lines = el("div", { class: "lines", role: "presentation" });
  parts.empty = el("p", { class: "muted empty", text: "No flow fits. Newer ones show here as they come." });
  parts.body = el("div", { class: "body", tabindex: "0", role: "rowgroup", "aria-label": "Flows, newest first. Arrow keys choose, Enter tells why." }, parts.lines, parts.empty);
  parts.grid = el("div", { class: "grid", role: "grid", "aria-label": "Flows" }, el("div", { role: "rowgroup", class: "heads" }, parts.head), parts.body);
  parts.note = el("span", { class: "muted" });
  parts.fresh = el("button", { type: "button", class: "fresh", hidden: true, onclick: () => {
    parts.body.scrollTop = 0;
    fresh = 0;
    draw();
  } });
  byId("flows").replaceChildren(
    el("div", { class: "tools" }, el("h2", { text: "Flows" }), parts.note, parts.fresh, chooser()), parts.grid);
  parts.body.addEventListener("scroll", () => {
    if (parts.body.scrollTop < LINE) fresh = 0;
    requestAnimationFrame(draw);
  });
  parts.body.addEventListener("keydown", key);
  parts.body.addEventListener("click", (event) => {
    const number = event.target.closest("[data-number]")?.dataset.number;
    if (!number) return;
    const { word } = event.target.dataset;
    // With Alt a value becomes a filter; otherwise the line is opened.
    if (event.altKey && word) return toggle(word);
    chosen = Number(number);
    show({ flow: number });
  });
  new ResizeObserver(draw).observe(parts.body);
  onChange((now, before) => {
    if (now.words.join(" ") !== before.words.join(" ") || now.multicast !== before.multicast) begin();
    else if (now.columns !== before.columns || now.view !== before.view) draw();
    if (before.flow && !now.flow) parts.body.focus();
  });
  begin();
}
