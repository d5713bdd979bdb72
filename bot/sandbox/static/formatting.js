// Formatted text. Entity offsets are UTF-16 units, as are JavaScript's.

import { make, makeButton } from "./elements.js";

const TAGS = {
  bold: "strong", italic: "em", underline: "u", strikethrough: "s", code: "code", pre: "pre",
  blockquote: "blockquote", expandable_blockquote: "blockquote",
};
const BLOCKS = new Set(["pre", "blockquote", "expandable_blockquote"]);
const VERBATIM = new Set(["code", "pre", "text_link", "text_mention"]);
// What Telegram's apps find by themselves: links, and commands that can be clicked.
const FOUND = /(https?:\/\/[^\s<>"]*[^\s<>"'.,;:!?)\]}])|(?<![\w/@])(\/[A-Za-z0-9_]{1,64})(?![\w/])/g;

const isWeb = (url) => /^https?:\/\//i.test(url || "");

function makeLink(url) {
  const link = make("a");
  link.href = url;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  return link;
}

// Hidden or shortened until it is pressed.
function makeFold(tag, className, label) {
  const fold = make(tag, className);
  fold.tabIndex = 0;
  fold.setAttribute("role", "button");
  fold.setAttribute("aria-label", label);
  fold.setAttribute("aria-expanded", "false");
  const open = (event) => {
    if (fold.classList.contains("open") || (event.key && event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    fold.classList.add("open");
    for (const name of ["role", "aria-label", "aria-expanded", "tabindex"]) fold.removeAttribute(name);
  };
  fold.addEventListener("click", open);
  fold.addEventListener("keydown", open);
  return fold;
}

function wrap(entity) {
  if (entity.type === "text_link" && isWeb(entity.url)) return makeLink(entity.url);
  if (entity.type === "spoiler") return makeFold("span", "spoiler", "Hidden text: press to show it");
  if (entity.type === "expandable_blockquote") return makeFold("blockquote", "long", "Long quote: press to show all");
  const element = make(TAGS[entity.type] || "span");
  if (entity.type === "text_mention" || entity.type === "mention") element.className = "mention";
  if (entity.type === "pre" && entity.language) element.dataset.language = entity.language;
  return element;
}

function plain(target, text, asks) {
  let position = 0;
  for (const found of text.matchAll(FOUND)) {
    target.append(text.slice(position, found.index));
    const [whole, url, command] = found;
    const element = url ? makeLink(url) : makeButton("command", command, () => asks(command));
    if (url) element.textContent = url;
    target.append(element);
    position = found.index + whole.length;
  }
  target.append(text.slice(position));
}

function format(target, text, entities, begin, end, asks) {
  const write = (piece) => (asks ? plain(target, piece, asks) : target.append(piece));
  let position = begin;
  for (let i = 0; i < entities.length; i += 1) {
    const entity = entities[i];
    const from = Math.max(entity.offset, position);
    const to = Math.min(entity.offset + entity.length, end);
    if (to <= from || entity.type === "bot_command") continue;
    write(text.slice(position, from));
    const inner = wrap(entity);
    const within = entities.slice(i + 1).filter((other) => other.offset < to);
    format(inner, text, within, from, to, VERBATIM.has(entity.type) ? null : asks);
    target.append(inner);
    // A block ends its line by itself: the line break after it would show as an empty line.
    position = to + (BLOCKS.has(entity.type) && to < end && text[to] === "\n");
  }
  write(text.slice(position, end));
}

// `asks` is called with a command that was clicked.
export function formatted(text, entities, asks) {
  const body = make("div", "body");
  format(body, text, entities || [], 0, text.length, asks);
  return body;
}
