// Making elements, and one tab stop for a whole list.

const SVG = "http://www.w3.org/2000/svg";

export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Arrow keys, Home and End move among the items; Tab enters and leaves the list.
export function oneTabStop(list, selector) {
  const items = () => [...list.querySelectorAll(selector)].filter((item) => !item.closest("[hidden]"));
  const mark = (current) => items().forEach((item) => { item.tabIndex = item === current ? 0 : -1; });
  list.addEventListener("focusin", (event) => { if (event.target.matches(selector)) mark(event.target); });
  list.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(document.activeElement);
    const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -at, End: all.length - 1 - at };
    if (at < 0 || !(event.key in steps)) return;
    event.preventDefault();
    all[Math.min(Math.max(at + steps[event.key], 0), all.length - 1)].focus();
  });
  return () => mark(items().find((item) => item.tabIndex === 0) ?? items()[0]); // after the items have changed
}
