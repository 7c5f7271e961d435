// Makes elements. Text is only ever set as text: labels and names come from strangers.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children) if (child) node.append(child);
  return node;
}

/** An element: `el("p", {class: "muted", text: "…", onclick: act}, child, …)`. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** The element that the document has under this id. */
export function byId(id) {
  return document.getElementById(id);
}

const ruler = document.createElement("canvas").getContext("2d");

/** A text cut to a width in a font of CSS: how wide letters are, each system has its own mind about. */
export function fitted(text, width, font) {
  const { fontFamily } = getComputedStyle(document.body);
  ruler.font = `${font} ${fontFamily}`;
  if (ruler.measureText(text).width <= width) return text;
  let [fits, most] = [0, text.length];
  while (fits + 1 < most) {
    const middle = (fits + most) >> 1;
    if (ruler.measureText(`${text.slice(0, middle)}…`).width <= width) fits = middle;
    else most = middle;
  }
  return `${text.slice(0, fits)}…`;
}
