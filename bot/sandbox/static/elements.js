// Making and changing elements. Text is only ever written as textContent.

export const at = (id) => document.getElementById(id);

export function make(tag, className = "", text = undefined) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export function makeButton(className, text, clicked) {
  const button = make("button", className, text);
  button.type = "button";
  button.addEventListener("click", clicked);
  return button;
}

// What already says so is left alone: a changed live region is read out again.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function sizeOf(bytes) {
  const units = ["B", "KB", "MB"];
  let step = 0;
  let size = bytes;
  while (size >= 1000 && step < units.length - 1) { size /= 1024; step += 1; }
  return `${step && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[step]}`;
}

// A small menu: opens under its button, arrow keys go through it, Escape and whatever is elsewhere close it.
export function menu(opener, panel, chosen) {
  const offered = () => [...panel.querySelectorAll("button:not([hidden])")];
  const show = (open) => {
    panel.hidden = !open;
    opener.setAttribute("aria-expanded", String(open));
    if (open && offered().length) offered()[0].focus();
  };
  opener.addEventListener("click", () => show(panel.hidden));
  for (const item of panel.querySelectorAll("button")) {
    item.addEventListener("click", () => { show(false); chosen(item.dataset); });
  }
  panel.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      const items = offered();
      items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
    }
  });
  panel.parentElement.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || panel.hidden) return;
    show(false);
    opener.focus();
  });
  panel.parentElement.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !panel.parentElement.contains(event.relatedTarget)) show(false);
  });
  document.addEventListener("click", (event) => { if (!panel.parentElement.contains(event.target)) show(false); });
}
