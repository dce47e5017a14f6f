// Elements out of plain values. Text is always text: names of files and classes are not ours.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// A part of a bar. Styles are set here and not in attributes, which the page's security policy forbids.
export function bar(color, start, width, name = "i") {
  const part = document.createElement(name);
  if (color) part.style.background = color;
  if (start !== null) part.style.left = `${100 * start}%`;
  part.style.width = `${100 * width}%`;
  return part;
}

export const number = (value) => value.toFixed(2).replace(/^-(?=.*[1-9])/, "−").replace(/^-/, "");

// Probability or, of a model without calibration, score: "88 %", "0.83".
export const confidence = ({ score, probability }) => (probability === undefined ? number(score) : `${Math.round(100 * probability)} %`);

// Report an error; `unseen` is for screen readers alone, where the image shows it.
export function complain(line, unseen = false) {
  byId("error").textContent = line;
  byId("error").classList.toggle("unseen", unseen);
}
