// The filter bar: words of the form `[!][from:|to:]key=value`, each a chip that can be taken away.

import { byId, el } from "./dom.js";
import { onChange, show, state } from "./state.js";

const KEYS = [
  "ns", "pod", "workload", "label", "ip", "identity", "port", "protocol", "verdict", "direction",
  "reason", "policy", "event", "dns", "tcp-flag",
];
const WORD = /^(!?)(from:|to:)?([a-z-]+)=(.+)$/;

/** A word in parts; null for what is none. */
export function parse(text) {
  const found = WORD.exec(text);
  if (!found || !KEYS.includes(found[3])) return null;
  return { isNot: found[1] === "!", side: (found[2] ?? "").slice(0, -1), key: found[3], value: found[4] };
}

/** Adds words, or takes them away when all of them are there. */
export function toggle(...words) {
  const hasAll = words.every((word) => state.words.includes(word));
  const rest = state.words.filter((word) => !words.includes(word));
  show({ words: hasAll ? rest : [...rest, ...words] });
}

/** Puts words in the place of all there are. */
export function replace(...words) {
  show({ words });
}

/** Says what is wrong with the filter; empty for nothing. */
export function complain(text) {
  byId("fault").textContent = text;
}

function add(text) {
  const words = text.split(/\s+/).filter(Boolean);
  const wrong = words.find((word) => !parse(word));
  if (wrong) {
    complain(`Expected [!][from:|to:]key=value with a key of ${KEYS.join(", ")}; found “${wrong}”`);
    return false;
  }
  complain("");
  show({ words: [...new Set([...state.words, ...words])] });
  return true;
}

function draw() {
  const chip = (word) =>
    el("li", { class: word.startsWith("!") ? "chip not" : "chip" },
      el("span", { text: word }),
      el("button", {
        type: "button", text: "×", "aria-label": `Remove filter ${word}`,
        onclick: () => show({ words: state.words.filter((other) => other !== word) }),
      }));
  const words = state.words.map(chip);
  if (words.length > 1) {
    words.push(el("li", {}, el("button", {
      type: "button", class: "plain", text: "Clear", onclick: () => show({ words: [] }),
    })));
  }
  byId("words").replaceChildren(...words);
  const verdicts = state.words.filter((word) => word.startsWith("verdict="));
  for (const button of document.querySelectorAll("[data-verdict]")) {
    const is = button.dataset.verdict
      ? verdicts.includes(`verdict=${button.dataset.verdict}`)
      : verdicts.length === 0;
    button.setAttribute("aria-pressed", is);
  }
}

/** Suggests what there is. */
export function suggest(words) {
  const known = KEYS.map((key) => `${key}=`);
  byId("keys").replaceChildren(...[...known, ...words].map((value) => el("option", { value })));
}

/** Wires the bar. */
export function startFilter() {
  const input = byId("word");
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && input.value.trim() && add(input.value)) input.value = "";
    if (event.key === "Backspace" && input.value === "" && state.words.length > 0) {
      show({ words: state.words.slice(0, -1) });
    }
    if (event.key === "Escape") {
      input.value = "";
      complain("");
      input.blur();
    }
  });
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () => {
      const rest = state.words.filter((word) => !word.startsWith("verdict="));
      const verdict = button.dataset.verdict;
      show({ words: verdict ? [...rest, `verdict=${verdict}`] : rest });
    });
  }
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target instanceof HTMLInputElement;
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      input.focus();
    }
  });
  onChange((now, before) => now.words !== before.words && draw());
  suggest([]);
  draw();
}
