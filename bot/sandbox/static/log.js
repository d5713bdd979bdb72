// The messages of the open chat. Elements are kept and changed in place: a redrawn button would lose the focus, a
// redrawn log be read out again.

import { drawMessage, fillDraft, makeDay, makeDraft } from "./bubbles.js";
import { at, make, makeButton } from "./elements.js";

const NEAR_END_PIXELS = 80;

const drawn = new Map(); // message id → what its element shows, and the element
const days = new Map(); // the day as text → its separator
let drawnChat = 0;
let draft = null;
let empty = null;
let following = true; // the newest message is in sight, and is to stay so

export function toEnd() {
  following = true;
  at("log").scrollTop = at("log").scrollHeight;
  at("down").hidden = true;
}

export function drawLog(chat, hands, isOperator) {
  if (drawnChat !== chat.chat_id) {
    drawnChat = chat.chat_id;
    drawn.clear();
    days.clear();
    at("log").replaceChildren();
    empty = null;
    following = true;
  }
  const standing = withDays(chat.messages, hands);
  if (chat.draft) {
    draft = draft || makeDraft(hands);
    fillDraft(draft, chat.draft);
    standing.push(draft);
  }
  if (!standing.length) standing.push(empty = empty || drawEmpty(chat, hands, isOperator));
  place(standing);
  if (following) toEnd();
}

function withDays(messages, hands) {
  const standing = [];
  let last = "";
  for (const message of messages) {
    const day = new Date(message.date * 1000).toDateString();
    if (day !== last) {
      if (!days.has(day)) days.set(day, makeDay(message.date));
      standing.push(days.get(day));
      last = day;
    }
    standing.push(elementOf(message, hands));
  }
  return standing;
}

function elementOf(message, hands) {
  const mark = JSON.stringify(message);
  const known = drawn.get(message.message_id);
  if (known && known.mark === mark) return known.element;
  const element = drawMessage(message, hands);
  drawn.set(message.message_id, { mark, element });
  return element;
}

function place(standing) {
  const log = at("log");
  const kept = new Set(standing);
  for (const element of [...log.children]) {
    if (!kept.has(element)) element.remove();
  }
  standing.forEach((element, index) => {
    const there = log.children[index];
    if (there !== element) log.insertBefore(element, there || null);
  });
  if (!document.activeElement.matches(".actions button")) reach([...log.querySelectorAll("article:not(.draft)")].pop());
}

function drawEmpty(chat, hands, isOperator) {
  const note = make("div", "empty");
  note.append(make("p", "", "Write something to begin"));
  note.append(make("small", "", isOperator
    ? `You are the operator. Your id is ${chat.chat_id}: OPERATOR_IDS names the operators.`
    : `You are ${chat.name}: write as a customer would, the bot answers here.`));
  note.append(makeButton("primary", "Start", () => hands.command("/start")));
  return note;
}

// Of all the small buttons beside messages only one message's are on the way of Tab; arrow keys go to the others.
function reach(article, name = "") {
  for (const button of at("log").querySelectorAll(".actions [tabindex='0']")) button.tabIndex = -1;
  if (!article) return;
  const buttons = [...article.querySelectorAll(".actions button")];
  for (const button of buttons) button.tabIndex = 0;
  if (name) (buttons.find((button) => button.textContent === name) || buttons[0]).focus();
}

function onKey(event) {
  const step = { ArrowUp: "previousElementSibling", ArrowDown: "nextElementSibling" }[event.key];
  if (!step || !event.target.matches(".actions button")) return;
  event.preventDefault();
  let article = event.target.closest("article")[step];
  while (article && !article.querySelector(".actions")) article = article[step];
  if (article) reach(article, event.target.textContent);
}

export function watchLog() {
  const log = at("log");
  log.addEventListener("keydown", onKey);
  log.addEventListener("touchstart", () => {}, { passive: true }); // Safari shows :hover after a touch only so
  log.addEventListener("scroll", () => {
    following = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PIXELS;
    at("down").hidden = following;
  });
  at("down").addEventListener("click", () => { toEnd(); at("text").focus(); });
  // A phone's keyboard and a growing text field make the log smaller, a picture that arrives makes it longer.
  new ResizeObserver(() => { if (following) toEnd(); }).observe(log);
  log.addEventListener("load", () => { if (following) toEnd(); }, true);
}
