// The chat page: what arrives changes the chats, and what changed is drawn once a frame.

import { at, menu, write } from "./elements.js";
import { drawComposer, giveUp, say, startEdit, startReply, watchComposer } from "./composer.js";
import { drawLog, watchLog } from "./log.js";
import { chats, current, drawPeople, keepOpen, open, settle, showEntry } from "./people.js";
import { act, alarm, connect, toast } from "./server.js";

const BUSY_MILLISECONDS = 10000;
const ACTIONS = {
  typing: "typing…", upload_document: "sending a file…", upload_photo: "sending a photo…", upload_video: "sending a video…",
  upload_voice: "sending a voice message…", record_voice: "recording a voice message…", record_video: "recording a video…",
  choose_sticker: "choosing a sticker…", find_location: "looking for a place…",
};

let bot = "Bot";
let operatorId = 0;
let lost = false;
let wanted = 0; // a customer just added, whose chat is still to be told of

// --- what can be done with a message ---
const waiting = new Map(); // callback query id → the button that was pressed
const answered = new Set(); // an answer can be faster than the id of its query

function calm(queryId) {
  const key = waiting.get(queryId);
  if (key) key.removeAttribute("aria-busy");
  waiting.delete(queryId);
}

async function ask(message, button, key) {
  key.setAttribute("aria-busy", "true");
  const what = { do: "press", chat_id: message.chat_id, message_id: message.message_id, data: button.callback_data };
  const done = await act(what);
  if (!done || answered.delete(done.callback_query_id)) {
    key.removeAttribute("aria-busy");
    return;
  }
  waiting.set(done.callback_query_id, key);
  setTimeout(() => calm(done.callback_query_id), BUSY_MILLISECONDS);
}

function press(message, button, key) {
  if (button.callback_data) {
    if (key.getAttribute("aria-busy") !== "true") ask(message, button, key);
  } else if (button.url && /^https?:\/\//i.test(button.url)) {
    window.open(button.url, "_blank", "noopener,noreferrer");
  } else if (button.copy_text) {
    navigator.clipboard.writeText(button.copy_text.text).then(() => toast("Copied"), () => toast("It was not copied."));
  } else {
    toast("The sandbox does not open this kind of button.");
  }
}

const hands = {
  press, command: say, edit: startEdit, reply: startReply,
  stop: () => { if (current()) act({ do: "stop", chat_id: current().chat_id }); },
};

// --- drawing ---
function doing(chat) {
  if (lost) return "The connection is lost; trying again…";
  if (chat.blocked) return `blocked by ${chat.name}`;
  if (chat.draft && !chat.draft.stopped) return "writing…";
  if (chat.action) return ACTIONS[chat.action.action] || `${chat.action.action.replaceAll("_", " ")}…`;
  return `You write as ${chat.name}`;
}

function draw() {
  drawPeople();
  write(document.querySelector("h1"), lost ? "Connecting…" : "Sandbox");
  const chat = current();
  if (!chat) return;
  write(at("bot"), bot);
  at("status").className = lost ? "off" : chat.draft || chat.action ? "busy" : "";
  write(at("status"), doing(chat));
  for (const who of document.querySelectorAll(".who")) {
    write(who, [`id ${chat.chat_id}`, chat.language].filter(Boolean).join(" · "));
  }
  for (const choice of at("acts").querySelectorAll("button")) {
    choice.hidden = chat.type !== "private" || (choice.dataset.block === "yes") === chat.blocked;
  }
  drawComposer(chat);
  drawLog(chat, hands, chat.isOperator);
}

let drawing = 0;
function soon() {
  // Many events of a stream become one drawing.
  if (!drawing) drawing = requestAnimationFrame(() => { drawing = 0; draw(); });
}

function onOpened() {
  settle();
  keepOpen();
  giveUp();
  at("text").value = "";
  draw();
  showEntry();
  // On a touch screen the focus would bring up the keyboard.
  if (current() && matchMedia("(hover: hover)").matches) at("text").focus();
}

// --- what arrives ---
function expire(chat, name) {
  clearTimeout(chat[`${name}Timer`]);
  const shown = chat[name];
  if (!shown) return;
  const end = () => { if (chat[name] === shown) { chat[name] = null; soon(); } };
  chat[`${name}Timer`] = setTimeout(end, Math.max(shown.seconds_left, 0) * 1000);
}

const isOperator = (chat) => chat.chat_id === operatorId;

function onState(state) {
  bot = state.bot.name;
  operatorId = state.operator_id;
  lost = false;
  const before = current();
  chats.clear();
  for (const chat of state.chats) {
    chats.set(chat.chat_id, { ...chat, isOperator: isOperator(chat) });
    expire(chats.get(chat.chat_id), "draft");
    expire(chats.get(chat.chat_id), "action");
  }
  if (before && current()) draw();
  else onOpened();
}

function onChat(fresh) {
  const chat = chats.get(fresh.chat_id);
  if (chat) Object.assign(chat, fresh);
  else chats.set(fresh.chat_id, { ...fresh, isOperator: isOperator(fresh), messages: [], draft: null, action: null });
  if (fresh.chat_id === wanted) open(wanted);
  soon();
}

function onMessage(message) {
  const chat = chats.get(message.chat_id);
  if (!chat) return;
  const found = chat.messages.findIndex((other) => other.message_id === message.message_id);
  if (message.deleted) {
    if (found >= 0) chat.messages.splice(found, 1);
  } else if (found >= 0) {
    chat.messages[found] = message;
  } else {
    chat.messages.push(message);
    if (message.from_bot) chat.draft = chat.action = null;
  }
  soon();
}

function onShown(name) {
  return (event) => {
    const chat = chats.get(event.chat_id);
    if (!chat) return;
    chat[name] = event[name];
    expire(chat, name);
    soon();
  };
}

function onNotice({ chat_id: chatId, notice }) {
  if (waiting.has(notice.callback_query_id)) calm(notice.callback_query_id);
  else answered.add(notice.callback_query_id);
  if (!notice.text || !current() || chatId !== current().chat_id) return;
  if (notice.alert) alarm(notice.text);
  else toast(notice.text);
}

// --- the rest of the page ---
function block(blocked) {
  const chat = current();
  if (chat) act({ do: "block", chat_id: chat.chat_id, blocked });
  at("text").focus();
}

menu(at("add"), at("languages"), async ({ language }) => {
  const done = await act({ do: "add", language });
  if (!done) return;
  // Its chat is told of on the stream, which may be later than this answer.
  if (chats.has(done.chat_id)) open(done.chat_id);
  else wanted = done.chat_id;
});
menu(at("more"), at("acts"), (chosen) => block(chosen.block === "yes"));
at("unblock").addEventListener("click", () => block(false));
at("alert").querySelector("button").addEventListener("click", () => at("alert").close());
window.addEventListener("hashchange", onOpened);
document.addEventListener("visibilitychange", soon);
watchLog();
watchComposer();
const handlers = {
  state: onState, chat: onChat, message: onMessage, draft: onShown("draft"), action: onShown("action"), notice: onNotice,
};
connect(handlers, () => { lost = true; soon(); });
