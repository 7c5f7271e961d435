// Begins: views, the state of the node, light and dark.

import { ask, watchPulse } from "./api.js";
import { byId, el } from "./dom.js";
import { startFilter } from "./filter.js";
import { age, count, rate } from "./format.js";
import { startMap } from "./map.js";
import { startPolicies } from "./policies.js";
import { onChange, show, state } from "./state.js";
import { startTable } from "./table.js";
import { startWhy } from "./why.js";

const THEMES = ["system", "light", "dark"];
let isHeard = true;

function drawView() {
  const { view } = state;
  document.body.dataset.view = view;
  byId("map").hidden = view !== "map";
  byId("flows").hidden = view === "policies";
  byId("policies").hidden = view !== "policies";
  for (const button of document.querySelectorAll("[data-view][type=button]")) {
    if (button.dataset.view === view) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
}

function drawPulse(status) {
  const parts = [];
  const part = (text, name) => parts.push(el("span", { class: name, text }));
  part(isHeard ? "● live" : "○ reconnecting", isHeard ? "good" : "bad");
  if (status) {
    const { daemon } = status;
    byId("node").textContent = ` ${status.node}`;
    part(rate(status.flows_per_second).replace("/s", " flows/s"));
    part(`${count(status.kept)} kept${status.oldest ? `, oldest ${age(status.oldest)}` : ""}`, "muted");
    if (status.unwritten > 0) part(`${count(status.unwritten)} lost`, "bad");
    if (daemon.generation !== undefined) part(`generation ${daemon.generation}`, "muted");
    if (daemon.is_ready === false) part("not ready", "bad");
    if (daemon.errors?.length > 0) part(`${daemon.errors.length} errors`, "bad");
  }
  const pulse = byId("pulse");
  pulse.replaceChildren(...parts);
  pulse.title = [...(status?.daemon.errors ?? []), ...(status?.daemon.warnings ?? [])].join("\n");
}

let last = null;

async function askStatus() {
  if (document.hidden) return;
  try {
    last = await ask("/api/status");
    isHeard = true;
  } catch {
    isHeard = false;
  }
  drawPulse(last);
}

function startTheme() {
  const button = byId("theme");
  const set = (theme) => {
    if (theme === "system") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.dataset.theme = theme;
    button.textContent = { system: "◐ Auto", light: "○ Light", dark: "● Dark" }[theme];
    button.setAttribute("aria-label", `Theme: ${theme}`);
    localStorage.setItem("theme", theme);
  };
  let theme = THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "system";
  set(theme);
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    set(theme);
  });
}

for (const button of document.querySelectorAll("[data-view][type=button]")) {
  button.addEventListener("click", () => show({ view: button.dataset.view }));
}
watchPulse((isAll) => {
  isHeard = isAll;
  drawPulse(last);
});
onChange(drawView);
drawView();
startTheme();
startFilter();
startMap();
startTable();
startWhy();
startPolicies();
askStatus();
setInterval(askStatus, 3000);
