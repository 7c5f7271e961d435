// The panel beside: what one flow was, and which words of policy made it end as it did.

import { ask } from "./api.js";
import { endWord, place, telling, verdict } from "./columns.js";
import { byId, el } from "./dom.js";
import { toggle } from "./filter.js";
import { bytes, clock } from "./format.js";
import { onChange, show, state } from "./state.js";

function close() {
  show({ flow: null });
}

/** A value that becomes a filter when it is clicked. */
function value(text, word) {
  if (!word) return el("span", { text });
  return el("button", { type: "button", class: "value", text, title: `Filter: ${word}`, onclick: () => toggle(word) });
}

function fact(name, ...values) {
  return [el("dt", { text: name }), el("dd", {}, ...values)];
}

function document_(policy, mark) {
  return el("div", { class: "document" },
    el("p", {}, mark && el("span", { class: "mark", text: mark }), el("span", { class: "kind", text: `${policy.kind} ` }),
      value(place(policy), `policy=${place(policy)}`), policy.rule && el("code", { text: policy.rule })),
    el("p", { class: "muted file", text: policy.file }));
}

function miss(near, at) {
  return el("div", { class: "miss" },
    el("h5", { text: at === 0 ? "Nearest rule" : "Next nearest" }),
    document_(near.rule),
    el("ul", {}, ...near.reasons.map((reason) => el("li", {}, el("span", { class: "mark", text: "✕" }), el("span", { text: reason })))));
}

function side(of) {
  const name = of.is_audited ? "audited" : of.is_allowed ? "allowed" : "denied";
  const children = [
    el("h4", {}, el("span", { class: `mark ${name}`, text: of.is_audited ? "!" : of.is_allowed ? "✓" : "✕" }),
      el("span", { text: `${of.direction} ${name}` }),
      of.subject ? value(of.subject, `pod=${of.subject}`) : null),
    el("p", { text: of.reason }),
  ];
  if (of.rule) children.push(el("h5", { text: of.is_allowed ? "The rule that allowed it" : "The rule that decided" }), document_(of.rule));
  const chosen = of.selected_by ?? [];
  if (chosen.length > 0) {
    children.push(el("h5", { text: `Selected by ${chosen.length === 1 ? "one policy" : `${chosen.length} policies`}: what none allows is denied` }));
    children.push(...chosen.map((policy) => document_(policy)));
  }
  children.push(...(of.nearest ?? []).slice(0, 5).map(miss));
  return el("section", { class: `side ${name}` }, ...children);
}

function end(name, side, of) {
  const address = of.ip ? `${of.ip}${of.port === null ? "" : `:${of.port}`}` : "";
  return [
    ...fact(name, value(of.name, endWord(side, of))),
    ...fact("", value(address, of.ip && `ip=${of.ip}`), value(` identity ${of.identity}`, `identity=${of.identity}`)),
    ...(of.names.length > 0 ? fact("", ...of.names.map((one) => value(one, `dns=${one}`))) : []),
    ...fact("", ...telling(of.labels).map((label) => value(label, `label=${label}`))),
  ];
}

function draw({ row, why }) {
  const passed = row.bytes[0] + row.bytes[1];
  return [
    el("header", { class: row.verdict.toLowerCase() },
      el("h3", { text: verdict(row) }),
      row.reason ? value(row.reason, `reason=${row.reason}`) : null,
      el("button", { type: "button", class: "close", text: "×", "aria-label": "Close", onclick: close })),
    el("p", { class: "lead", text: why.text }),
    ...why.sides.map(side),
    why.sides.length === 0 ? el("p", { class: "muted", text: "No policy was asked." }) : null,
    el("dl", {},
      ...end("From", "source", row.source),
      ...end("To", "destination", row.destination),
      ...fact("Protocol", value(row.protocol || "unreadable", row.protocol && !row.protocol.includes(" ") ? `protocol=${row.protocol}` : null)),
      ...fact("Time", value(clock(row.time)), el("span", { class: "muted", text: ` ${row.time}` })),
      ...fact("Event", value(row.ending ? `${row.event}, ${row.ending}` : row.event), el("span", { class: "muted", text: ` number ${row.number}, generation ${row.generation}` })),
      ...(row.tcp_flags.length > 0 ? fact("TCP flags", ...row.tcp_flags.map((flag) => value(flag, `tcp-flag=${flag}`))) : []),
      ...(row.length > 0 ? fact("Frame", value(bytes(row.length))) : []),
      ...(passed > 0 ? fact("Passed", value(`${bytes(row.bytes[0])} sent, ${bytes(row.bytes[1])} answered`)) : [])),
  ].filter(Boolean);
}

let shown = null;

async function open() {
  const panel = byId("why");
  const number = state.flow;
  if (!number || !/^\d+$/.test(number)) {
    panel.hidden = true;
    shown = null;
    return;
  }
  if (shown === number) return;
  shown = number;
  let content;
  try {
    content = draw(await ask(`/api/flow/${number}/why`));
  } catch (fault) {
    content = [el("header", {}, el("h3", { text: "Not known any more" }), el("button", { type: "button", class: "close", text: "×", "aria-label": "Close", onclick: close })),
      el("p", { text: fault.message })];
  }
  if (shown !== number) return;
  panel.replaceChildren(...content);
  panel.hidden = false;
  panel.scrollTop = 0;
}

/** Opens with the flow in the address, and closes with Escape. */
export function startWhy() {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.flow && !(event.target instanceof HTMLInputElement)) close();
  });
  onChange((now, before) => now.flow !== before.flow && open());
  open();
}
