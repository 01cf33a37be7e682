// Elements. Data gets into the page as text only: there is no way here to make markup of it.

const SVG = "http://www.w3.org/2000/svg";

/// An element: attributes by name, `on` for what it answers to, children as elements or texts.
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/// The same for a drawing.
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "on") {
      for (const [event, answer] of Object.entries(value)) made.addEventListener(event, answer);
    } else if (value === true) {
      made.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, String(value));
    }
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/// Puts other children into an element.
export function put(into, ...children) {
  into.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return into;
}

/// Changes a text only when it is another one, so that what is selected or read aloud stays.
export function text(into, value) {
  if (into.textContent !== value) into.textContent = value;
  return into;
}

/// A list of names and what they are; what is empty is left out.
export function pairs(...rows) {
  const shown = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "pairs" }, shown.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/// A table whose cells know the heads of their columns: narrow screens show each row as a card.
export function table(heads, rows, attributes) {
  return el("table", attributes,
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, at) => el("td", { "data-head": heads[at] }, cell))))));
}
