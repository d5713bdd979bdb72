// The list of people, who of them is open, and what they have not read yet.

import { makeAvatar } from "./bubbles.js";
import { at, make, write } from "./elements.js";

export const chats = new Map();

// Kept per sandbox: its path holds a token of its own.
const SEEN = `seen:${location.pathname}`;
const LAST = `last:${location.pathname}`;
const seen = JSON.parse(localStorage.getItem(SEEN) || "{}"); // chat id → newest message id that was in sight
const entries = new Map(); // chat id → its element in the list
const isPhone = matchMedia("(max-width: 44rem)");

export const currentId = () => Number(location.hash.slice(1)) || 0;
export const current = () => chats.get(currentId());

export function open(chatId) {
  if (chatId !== currentId()) location.hash = String(chatId);
}

// The address names nobody: the last one goes on; on a phone the list is shown.
export function settle() {
  if (current() || (isPhone.matches && !currentId())) return;
  const last = Number(localStorage.getItem(LAST));
  const first = [...chats.values()].find((chat) => !chat.isOperator);
  const chatId = chats.has(last) ? last : first && first.chat_id;
  if (chatId) location.replace(`#${chatId}`);
}

export function keepOpen() {
  if (current()) localStorage.setItem(LAST, String(currentId()));
}

export function unread(chat) {
  const last = seen[chat.chat_id] || 0;
  return chat.messages.filter((message) => message.from_bot && message.message_id > last).length;
}

function markSeen(chat) {
  const newest = chat.messages.length ? chat.messages[chat.messages.length - 1].message_id : 0;
  if (document.hidden || newest === (seen[chat.chat_id] || 0)) return;
  seen[chat.chat_id] = newest;
  localStorage.setItem(SEEN, JSON.stringify(seen));
}

export function drawPeople() {
  const chat = current();
  if (chat) markSeen(chat);
  document.body.classList.toggle("chatting", Boolean(chat));
  for (const [chatId, entry] of entries) {
    if (!chats.has(chatId)) {
      entry.remove();
      entries.delete(chatId);
    }
  }
  let waiting = 0;
  for (const one of chats.values()) {
    if (!entries.has(one.chat_id)) entries.set(one.chat_id, makeEntry(one));
    waiting += drawEntry(one, entries.get(one.chat_id).firstChild);
  }
  write(document.querySelector("title"), waiting ? `(${waiting}) Sandbox` : "Sandbox");
}

function makeEntry(chat) {
  const item = make("li");
  const link = make("a");
  link.href = `#${chat.chat_id}`;
  link.append(makeAvatar(chat, chat.isOperator ? "operator" : ""), make("span", "name"), make("time"),
    make("small"), make("span", "unread"));
  item.append(link);
  // The operator stays on top.
  if (chat.isOperator) at("people").prepend(item);
  else at("people").append(item);
  return item;
}

function drawEntry(chat, link) {
  const [, name, time, said, badge] = link.children;
  const last = chat.messages[chat.messages.length - 1];
  const count = unread(chat);
  write(name, chat.name);
  write(time, last ? new Date(last.date * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : "");
  write(said, chat.draft && !chat.draft.stopped ? "writing…" : summary(last));
  said.dir = "auto";
  write(badge, count ? String(count) : "");
  badge.hidden = !count;
  if (count) badge.setAttribute("aria-label", `${count} unread`);
  if (chat === current()) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
  return count;
}

function summary(message) {
  if (!message) return "no messages yet";
  return `${message.from_bot ? "" : "You: "}${message.text || (message.file && message.file.name) || message.kind || ""}`
    .slice(0, 80);
}

let shown = null; // the entry of the chat that is or was open

// Back in the list of a phone the focus is where it left.
export function showEntry() {
  const entry = entries.get(currentId());
  if (entry) entry.scrollIntoView({ block: "nearest" });
  else if (shown) shown.firstChild.focus();
  shown = entry || shown;
}
