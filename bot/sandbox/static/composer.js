// Writing: a new message, an edit, a reply, a file with a caption, a command of the bot's menu.

import { at, make, makeButton, menu, sizeOf } from "./elements.js";
import { act, attach, toast } from "./server.js";
import { toEnd } from "./log.js";
import { current } from "./people.js";

const NOTHING = { editing: 0, replying: 0, file: null, kind: "" };
let about = { ...NOTHING };
let shown = []; // the commands offered now
let marked = -1; // which of them Enter takes
let keyboardMark = "";

const text = () => at("text");

// --- edits, replies, files: what the next message is about ---
function strip(id, title, detail) {
  const [words] = at(id).children;
  words.children[0].textContent = title;
  words.children[1].textContent = detail;
  at(id).hidden = !title;
}

function setAbout(changes) {
  about = { ...about, ...changes };
  strip("context", about.editing ? "Editing your message" : about.replying ? "Replying" : "", about.detail || "");
  strip("attached", about.file ? about.file.name : "", about.file ? `${about.kind} · ${sizeOf(about.file.size)}` : "");
  text().placeholder = about.file ? "Caption" : "Message";
}

export function startEdit(message) {
  setAbout({ ...NOTHING, editing: message.message_id, detail: message.text });
  text().value = message.text;
  text().focus();
}

export function startReply(message) {
  if (about.editing) text().value = "";
  setAbout({ editing: 0, replying: message.message_id, detail: message.text || message.kind || "" });
  text().focus();
}

export function giveUp() {
  if (about.editing) text().value = "";
  setAbout({ ...NOTHING, detail: "" });
  offer([]);
}

function pick(file, kind) {
  if (!file) return;
  if (!file.size) { toast("This file is empty."); return; }
  if (about.editing) text().value = "";
  setAbout({ editing: 0, replying: 0, detail: "", file, kind });
  text().focus();
}

const kindOf = (file) => (/^image\/(png|jpeg|gif|webp)$/.test(file.type) ? "photo" : "document");

// --- sending ---
async function send(event) {
  event.preventDefault();
  const chat = current();
  const written = text().value;
  const what = about;
  if (!chat || (!written.trim() && !what.file)) return;
  giveUp();
  text().value = ""; // at once: a second Enter must not send it again
  toEnd();
  if (!await deliver(chat.chat_id, written, what) && !text().value && current() === chat) {
    text().value = written; // nothing is lost where the sandbox did not take it
    setAbout(what);
  }
}

function deliver(chatId, written, what) {
  if (what.file) {
    const asked = { chat_id: chatId, kind: what.kind, name: what.file.name, type: what.file.type, caption: written };
    return attach(asked, what.file);
  }
  if (what.editing) return act({ do: "edit", chat_id: chatId, message_id: what.editing, text: written });
  return act({ do: "write", chat_id: chatId, text: written, reply_to: what.replying });
}

export function say(words) {
  const chat = current();
  if (!chat) return;
  act({ do: "write", chat_id: chat.chat_id, text: words });
  toEnd();
}

// --- the bot's commands ---
function offer(commands) {
  shown = commands;
  const list = at("commands");
  list.hidden = !commands.length;
  at("menu").setAttribute("aria-expanded", String(commands.length > 0));
  list.replaceChildren(...commands.map(drawCommand));
  mark(commands.length ? 0 : -1);
}

function drawCommand(command, index) {
  const item = make("li");
  item.id = `command-${index}`;
  item.setAttribute("role", "option");
  item.append(make("b", "", `/${command.command}`), make("span", "", command.description));
  item.lastChild.dir = "auto";
  item.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
  item.addEventListener("click", () => take(index));
  return item;
}

function mark(index) {
  marked = index;
  [...at("commands").children].forEach((item, i) => item.setAttribute("aria-selected", String(i === index)));
  if (index < 0) return text().removeAttribute("aria-activedescendant");
  text().setAttribute("aria-activedescendant", `command-${index}`);
  return at("commands").children[index].scrollIntoView({ block: "nearest" });
}

function take(index) {
  const { command } = shown[index];
  text().value = "";
  offer([]);
  say(`/${command}`);
  text().focus();
}

function onInput() {
  const chat = current();
  const begun = /^\/(\w*)$/.exec(text().value);
  const fits = (command) => command.command.startsWith(begun[1].toLowerCase());
  offer(begun && chat && !about.editing && !about.file ? chat.commands.filter(fits) : []);
}

function onMenu() {
  const chat = current();
  offer(chat && at("commands").hidden ? chat.commands : []);
  text().focus();
}

// --- keys ---
function inMenu(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) mark((marked + step + shown.length) % shown.length);
  else if (event.key === "Enter" && !event.shiftKey) take(marked);
  else if (event.key === "Tab" && !event.shiftKey) {
    text().value = `/${shown[marked].command} `;
    offer([]);
  } else if (event.key === "Escape") offer([]);
  else return false;
  event.preventDefault();
  return true;
}

function onKey(event) {
  if (event.isComposing || (shown.length && inMenu(event))) return;
  if (event.key === "Enter" && !event.shiftKey) send(event);
  if (event.key === "Escape") giveUp();
  if (event.key === "ArrowUp" && !text().value && !about.file) {
    const own = current() ? current().messages.filter((one) => !one.from_bot && one.text && !one.file) : [];
    if (own.length) {
      event.preventDefault();
      startEdit(own[own.length - 1]);
    }
  }
}

// --- what differs from chat to chat ---
export function drawComposer(chat) {
  at("menu").hidden = !chat.commands.length;
  at("composer").classList.toggle("blocked", chat.blocked);
  at("unblock").hidden = !chat.blocked;
  const last = chat.messages.findLast((message) => message.keyboard);
  const rows = last ? last.keyboard : [];
  const sign = JSON.stringify(rows);
  if (sign === keyboardMark) return;
  keyboardMark = sign;
  at("keyboard").hidden = !rows.length;
  at("keyboard").replaceChildren(...rows.map((row) => {
    const line = make("div");
    line.append(...row.map((button) => makeButton("", button.text, () => say(button.text))));
    return line;
  }));
}

export function watchComposer() {
  at("composer").addEventListener("submit", send);
  text().addEventListener("keydown", onKey);
  text().addEventListener("input", onInput);
  text().addEventListener("blur", () => offer([]));
  at("menu").addEventListener("mousedown", (event) => event.preventDefault());
  at("menu").addEventListener("click", onMenu);
  at("context").querySelector("button").addEventListener("click", () => { giveUp(); text().focus(); });
  at("attached").querySelector("button").addEventListener("click", () => { giveUp(); text().focus(); });
  for (const kind of ["photo", "document"]) {
    at(kind).addEventListener("change", () => { pick(at(kind).files[0], kind); at(kind).value = ""; });
  }
  menu(at("attach"), at("kinds"), (chosen) => {
    if (chosen.pick) at(chosen.pick).click();
    else if (current()) act({ do: "send", chat_id: current().chat_id, kind: chosen.sample });
    text().focus();
  });
  text().addEventListener("paste", (event) => {
    const file = event.clipboardData.files[0];
    if (file) { event.preventDefault(); pick(file, kindOf(file)); }
  });
  const main = document.querySelector("main");
  main.addEventListener("dragover", (event) => event.preventDefault());
  main.addEventListener("drop", (event) => {
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    if (file) pick(file, kindOf(file));
  });
}
