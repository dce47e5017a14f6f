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

// A probability: "88 %"; only what is certain is "0 %" or "100 %".
export function percent(probability) {
  if (probability > 0 && probability < 0.01) return "<1 %";
  return probability > 0.99 && probability < 1 ? ">99 %" : `${Math.round(100 * probability)} %`;
}

// Probability or, of a model without calibration, score: "88 %", "0.83".
export const confidence = ({ score, probability }) => (probability === undefined ? number(score) : percent(probability));

// Report an error; `unseen` is for screen readers alone, where the image shows it.
export function complain(line, unseen = false) {
  byId("error").textContent = line;
  byId("error").classList.toggle("unseen", unseen);
}
