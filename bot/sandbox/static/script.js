// The chat page. Everything shown comes from one event stream; text is only ever written as textContent.
"use strict";

const at = (id) => document.getElementById(id);
const chats = new Map();
let current = Number(sessionStorage.getItem("chat")) || 0;
let editing = 0;
let bot = "Bot";

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

async function act(what) {
  const answer = await fetch("act", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what),
  }).catch(() => null);
  if (!answer || !answer.ok) {
    note(answer ? await answer.text() : "The sandbox does not answer.", true);
    return null;
  }
  return answer.json();
}

function note(text, off) {
  at("status").textContent = text;
  at("status").classList.toggle("off", Boolean(off));
}

// --- formatted text: entity offsets are UTF-16 units, as are JavaScript's ---
const TAGS = {
  bold: "strong", italic: "em", underline: "u", strikethrough: "s", code: "code", pre: "pre",
  blockquote: "blockquote", expandable_blockquote: "blockquote",
};

function wrap(entity) {
  if (entity.type === "text_link" && /^https?:\/\//.test(entity.url)) {
    const link = make("a");
    link.href = entity.url;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    return link;
  }
  return make(TAGS[entity.type] || "span", entity.type === "spoiler" ? "spoiler" : "");
}

function format(target, text, entities, begin, end) {
  let position = begin;
  for (let i = 0; i < entities.length; i += 1) {
    const entity = entities[i];
    const from = Math.max(entity.offset, position);
    const to = Math.min(entity.offset + entity.length, end);
    if (to <= from) continue;
    target.append(text.slice(position, from));
    const inner = wrap(entity);
    format(inner, text, entities.slice(i + 1).filter((other) => other.offset < to), from, to);
    target.append(inner);
    position = to;
  }
  target.append(text.slice(position, end));
}

function body(text, entities) {
  const element = make("div", "body");
  format(element, text, entities || [], 0, text.length);
  return element;
}

// --- drawing ---
function drawChats() {
  const list = at("chats");
  list.replaceChildren(...[...chats.values()].map((chat) => {
    const item = make("li");
    const button = make("button");
    const last = chat.messages[chat.messages.length - 1];
    button.type = "button";
    button.setAttribute("aria-current", String(chat.chat_id === current));
    button.append(make("span", chat.unread ? "unread" : "", chat.name));
    button.append(make("small", "", last ? last.text || last.kind || "" : "no messages yet"));
    button.addEventListener("click", () => select(chat.chat_id));
    item.append(button);
    return item;
  }));
}

function drawMessage(message) {
  const article = make("article", message.from_bot ? "" : "mine");
  const bubble = make("div", "bubble");
  if (message.kind) bubble.append(make("div", "media", message.kind));
  if (message.text) bubble.append(body(message.text, message.entities));
  const meta = make("div", "meta");
  if (!message.from_bot && message.text) {
    const edit = make("button", "", "edit");
    edit.type = "button";
    edit.addEventListener("click", () => startEdit(message));
    meta.append(edit);
  }
  if (message.reactions.length) meta.append(make("span", "", message.reactions.join(" ")));
  if (message.edited) meta.append(make("span", "", "edited"));
  const time = new Date(message.date * 1000);
  meta.append(make("time", "", time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })));
  bubble.append(meta);
  article.append(bubble);
  if (message.buttons.length) article.append(drawButtons(message));
  return article;
}

function drawButtons(message) {
  const keys = make("div", "keys");
  for (const row of message.buttons) {
    const line = make("div");
    for (const button of row) {
      const key = make("button", "", button.text);
      key.type = "button";
      key.addEventListener("click", () => press(message, button));
      line.append(key);
    }
    keys.append(line);
  }
  return keys;
}

function press(message, button) {
  if (button.callback_data) {
    act({ do: "press", chat_id: message.chat_id, message_id: message.message_id, data: button.callback_data });
  } else if (button.url && /^https?:\/\//.test(button.url)) {
    window.open(button.url, "_blank", "noopener,noreferrer");
  }
}

function drawDraft(chat) {
  const article = make("article", "draft");
  const bubble = make("div", "bubble");
  bubble.append(body(chat.draft.text || "Thinking…", chat.draft.entities));
  article.append(bubble);
  if (chat.draft.can_stop) {
    const stop = make("button", "stop", "■ Stop");
    stop.type = "button";
    stop.addEventListener("click", () => act({ do: "stop", chat_id: chat.chat_id }));
    article.append(stop);
  }
  return article;
}

function drawEmpty(chat) {
  const empty = make("div", "empty");
  empty.append(make("p", "", "No messages here yet."));
  const start = make("button", "primary", "Start");
  start.type = "button";
  start.addEventListener("click", () => act({ do: "write", chat_id: chat.chat_id, text: "/start" }));
  empty.append(start);
  return empty;
}

function draw() {
  const chat = chats.get(current);
  drawChats();
  if (!chat) return;
  const log = at("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  const parts = chat.messages.map(drawMessage);
  if (chat.draft) parts.push(drawDraft(chat));
  log.replaceChildren(...(parts.length ? parts : [drawEmpty(chat)]));
  if (atEnd) log.scrollTop = log.scrollHeight;
  at("bot").textContent = bot;
  at("block").textContent = chat.blocked ? "Unblock bot" : "Block bot";
  const doing = chat.action ? `${chat.action.action.replaceAll("_", " ")}…` : `as ${chat.name}`;
  note(chat.notice ? chat.notice.text : chat.blocked ? "blocked" : doing);
}

let drawing = 0;
function soon() {
  // Many events of a stream become one drawing.
  if (!drawing) drawing = requestAnimationFrame(() => { drawing = 0; draw(); });
}

function select(chatId) {
  current = chatId;
  sessionStorage.setItem("chat", String(chatId));
  chats.get(chatId).unread = false;
  stopEdit();
  draw();
  at("log").scrollTop = at("log").scrollHeight;
  at("text").focus();
}

// --- what happens ---
function expire(chat, name) {
  clearTimeout(chat[`${name}Timer`]);
  const shown = chat[name];
  if (shown) {
    chat[`${name}Timer`] = setTimeout(() => { if (chat[name] === shown) { chat[name] = null; soon(); } },
      Math.max(shown.seconds_left, 0) * 1000);
  }
}

function onState(state) {
  bot = state.bot.name;
  chats.clear();
  for (const chat of state.chats) {
    chats.set(chat.chat_id, chat);
    expire(chat, "draft");
    expire(chat, "action");
  }
  if (!chats.size) act({ do: "add" });
  else if (!chats.has(current)) select([...chats.keys()][0]);
  draw();
  at("log").scrollTop = at("log").scrollHeight;
}

function onChat(fresh) {
  const chat = chats.get(fresh.chat_id);
  if (chat) Object.assign(chat, fresh);
  else chats.set(fresh.chat_id, { ...fresh, messages: [], draft: null, action: null });
  if (!chats.has(current)) select(fresh.chat_id);
  soon();
}

function onMessage(message) {
  const chat = chats.get(message.chat_id);
  if (!chat) return;
  const place = chat.messages.findIndex((other) => other.message_id === message.message_id);
  if (message.deleted) {
    if (place >= 0) chat.messages.splice(place, 1);
  } else if (place >= 0) {
    chat.messages[place] = message;
  } else {
    chat.messages.push(message);
    if (message.from_bot) chat.draft = chat.action = null;
    if (message.chat_id !== current) chat.unread = true;
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

const HANDLERS = {
  state: onState, chat: onChat, message: onMessage, draft: onShown("draft"), action: onShown("action"),
  notice: onShown("notice"),
};

let source = null;
function connect() {
  source = new EventSource("events");
  for (const [name, handle] of Object.entries(HANDLERS)) {
    source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  }
  source.addEventListener("error", () => {
    note("The connection is lost; trying again…", true);
    // A browser gives up on a stream that was refused; a fresh one is the cure for that.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 1500);
  });
}

// --- writing ---
function startEdit(message) {
  editing = message.message_id;
  at("text").value = message.text;
  at("editing").hidden = false;
  at("text").focus();
}

function stopEdit() {
  if (editing) at("text").value = "";
  editing = 0;
  at("editing").hidden = true;
}

async function submit(event) {
  event.preventDefault();
  const text = at("text").value;
  if (!text.trim() || !current) return;
  const what = editing ? { do: "edit", message_id: editing } : { do: "write" };
  const done = await act({ ...what, chat_id: current, text });
  if (done) {
    stopEdit();
    at("text").value = "";
    at("log").scrollTop = at("log").scrollHeight;
  }
}

at("composer").addEventListener("submit", submit);
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  if (event.key === "Escape") stopEdit();
});
at("cancel").addEventListener("click", stopEdit);
for (const button of at("more").querySelectorAll("button")) {
  button.addEventListener("click", () => {
    act({ do: "send", chat_id: current, kind: button.dataset.kind });
    at("more").open = false;
  });
}
at("add").addEventListener("click", async () => {
  const done = await act({ do: "add" });
  if (done && chats.has(done.chat_id)) select(done.chat_id);
});
at("block").addEventListener("click", () => {
  act({ do: "block", chat_id: current, blocked: !chats.get(current).blocked });
});
connect();
