// Policies in force, whom they select, and how often each rule decided.

import { ask } from "./api.js";
import { place } from "./columns.js";
import { byId, el } from "./dom.js";
import { replace } from "./filter.js";
import { age, count, plural } from "./format.js";
import { onChange, show, state } from "./state.js";

const PODS_SHOWN = 12;
let timer = null;

function pods(direction, of) {
  if (of.count === 0) return null;
  const shown = of.names.slice(0, PODS_SHOWN);
  const more = of.count - shown.length;
  return el("p", { class: "selects" },
    el("span", { class: "muted", text: `${direction} of ` }),
    ...shown.map((name) => el("button", {
      type: "button", class: "value", text: name,
      onclick: () => {
        replace(`${direction === "ingress" ? "to" : "from"}:pod=${name}`);
        show({ view: "map" });
      },
    })),
    more > 0 ? el("span", { class: "muted", text: ` and ${more} more` }) : null);
}

function rule(of) {
  const hits = of.connections === null ? "" : of.connections === 0 ? "never decided" : plural(of.connections, "hit");
  return el("li", { class: of.connections === 0 ? "idle" : "" },
    el("code", { text: of.place }),
    el("span", { text: hits }),
    of.last_hit ? el("span", { class: "muted", text: `last ${age(of.last_hit)}` }) : null);
}

function policy(of) {
  const isIdle = of.ingress.count + of.egress.count === 0;
  return el("tr", {},
    el("td", {}, el("button", {
      type: "button", class: "value strong", text: place(of), title: "Flows that it decided",
      onclick: () => {
        replace(`policy=${place(of)}`);
        show({ view: "flows" });
      },
    }), el("p", { class: "muted", text: of.kind })),
    el("td", {}, isIdle
      ? el("span", { class: "muted", text: "isolates no pod of this node" })
      : null, pods("ingress", of.ingress), pods("egress", of.egress)),
    el("td", {}, of.rules.length === 0
      ? el("span", { class: "muted", text: "no rule: allows nothing" })
      : el("ul", { class: "rules" }, ...of.rules.map(rule))),
    el("td", { class: "muted file", text: of.file }));
}

async function draw() {
  if (state.view !== "policies") return;
  let found;
  try {
    found = await ask("/api/policies");
  } catch (fault) {
    byId("policies").replaceChildren(el("p", { class: "muted empty", text: fault.message }));
    return;
  }
  const heads = ["Policy", "Selects", "Rules and how often they decided", "File"];
  const words = [`${plural(found.policies.length, "policy").replace("policys", "policies")}, generation ${found.generation}`];
  if (found.left_off > 0) words.push(`${count(found.left_off)} more are not listed`);
  byId("policies").replaceChildren(
    el("div", { class: "tools" }, el("h2", { text: "Policies" }), el("span", { class: "muted", text: words.join(" · ") })),
    el("div", { class: "scroll" },
      found.policies.length === 0
        ? el("p", { class: "muted empty", text: "No policy is in force: all pods may talk." })
        : el("table", {},
          el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col", text })))),
          el("tbody", {}, ...found.policies.map(policy)))));
}

/** Draws them while they are looked at. */
export function startPolicies() {
  onChange((now, before) => now.view !== before.view && draw());
  timer ??= setInterval(() => document.hidden || byId("policies").contains(document.activeElement) || draw(), 5000);
  draw();
}
