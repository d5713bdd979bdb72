// The chat page. Everything shown comes from one event stream; text is only ever written as textContent.
// Elements are kept and changed in place: a redrawn button would lose the focus, a redrawn log be read out again.
"use strict";

const at = (id) => document.getElementById(id);
const TROUBLE_MILLISECONDS = 6000;
const ACT_MILLISECONDS = 10000;
const RETRY_MILLISECONDS = 1000;
const NEAR_END_PIXELS = 80;

const chats = new Map();
let current = Number(sessionStorage.getItem("chat")) || 0;
let wanted = 0; // a customer just added, whose chat is still to be told of
let editing = 0;
let bot = "Bot";
let lost = false;
let trouble = "";

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function makeButton(className, text, clicked) {
  const button = make("button", className, text);
  button.type = "button";
  button.addEventListener("click", clicked);
  return button;
}

// --- acting: one after the other, so that quick messages keep their order ---
let acting = Promise.resolve();
function act(what) {
  const done = acting.then(() => post(what));
  acting = done;
  return done;
}

async function post(what) {
  const answer = await fetch("act", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what),
    signal: AbortSignal.timeout(ACT_MILLISECONDS),
  }).catch(() => null);
  if (answer && answer.ok) return answer.json().catch(() => null);
  complain(answer ? await answer.text() : "The sandbox does not answer. Is it still running?");
  return null;
}

let calming = 0;
function complain(text) {
  trouble = text;
  clearTimeout(calming);
  calming = setTimeout(() => { trouble = ""; drawStatus(); }, TROUBLE_MILLISECONDS);
  drawStatus();
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
  element.dir = "auto";
  format(element, text, entities || [], 0, text.length);
  return element;
}

// --- drawing ---
const entries = new Map(); // chat id → its element in the list of customers
function drawChats() {
  for (const [chatId, entry] of entries) {
    if (!chats.has(chatId)) {
      entry.remove();
      entries.delete(chatId);
    }
  }
  for (const chat of chats.values()) {
    if (!entries.has(chat.chat_id)) {
      const item = make("li");
      const button = makeButton("", undefined, () => select(chat.chat_id));
      button.append(make("span"), make("small"));
      item.append(button);
      entries.set(chat.chat_id, item);
      at("chats").append(item);
    }
    drawEntry(chat, entries.get(chat.chat_id).firstChild);
  }
}

function drawEntry(chat, button) {
  const [name, said] = button.children;
  const last = chat.messages[chat.messages.length - 1];
  write(name, chat.name);
  write(said, last ? (last.text || last.kind || "").slice(0, 80) : "no messages yet");
  name.className = chat.unread ? "unread" : "";
  if (chat.unread) button.setAttribute("aria-description", "new messages");
  else button.removeAttribute("aria-description");
  button.setAttribute("aria-current", String(chat.chat_id === current));
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function drawMessage(message) {
  const article = make("article", message.from_bot ? "" : "mine");
  const bubble = make("div", "bubble");
  if (message.kind) bubble.append(make("div", "media", message.kind));
  if (message.text) bubble.append(body(message.text, message.entities));
  const meta = make("div", "meta");
  if (!message.from_bot && message.text) meta.append(makeButton("", "edit", () => startEdit(message)));
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
    line.append(...row.map((button) => makeButton("", button.text, () => press(message, button))));
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

function makeDraft() {
  const article = make("article", "draft");
  article.setAttribute("aria-live", "off"); // the finished answer is read out, not each of its beginnings
  const bubble = make("div", "bubble");
  bubble.append(make("div", "body"));
  article.append(bubble, makeButton("stop", "■ Stop", () => act({ do: "stop", chat_id: current })));
  return article;
}

function drawEmpty(chat) {
  const empty = make("div", "empty");
  empty.append(make("p", "", `You are ${chat.name}. Write as a customer would: the bot answers here.`));
  empty.append(makeButton("primary", "Start", () => act({ do: "write", chat_id: chat.chat_id, text: "/start" })));
  return empty;
}

const draft = makeDraft();
const drawn = new Map(); // message id → what its element shows, and the element; of the current chat
let drawnChat = 0;
let empty = null;

function drawLog(chat) {
  if (drawnChat !== chat.chat_id) {
    drawnChat = chat.chat_id;
    drawn.clear();
    at("log").replaceChildren();
    empty = null;
  }
  const standing = chat.messages.map(elementOf);
  if (chat.draft) {
    draft.querySelector(".body").replaceWith(body(chat.draft.text || "Thinking…", chat.draft.entities));
    draft.querySelector(".stop").hidden = !chat.draft.can_stop;
    standing.push(draft);
  }
  if (!standing.length) standing.push(empty = empty || drawEmpty(chat));
  place(standing);
}

function elementOf(message) {
  const mark = JSON.stringify(message);
  const known = drawn.get(message.message_id);
  if (known && known.mark === mark) return known.element;
  const element = drawMessage(message);
  drawn.set(message.message_id, { mark, element });
  return element;
}

function place(standing) {
  const kept = new Set(standing);
  for (const element of [...at("log").children]) {
    if (!kept.has(element)) element.remove();
  }
  standing.forEach((element, index) => {
    const there = at("log").children[index];
    if (there !== element) at("log").insertBefore(element, there || null);
  });
}

function drawStatus() {
  const chat = chats.get(current);
  const off = lost || Boolean(trouble);
  at("status").classList.toggle("off", off);
  if (lost) write(at("status"), "The connection is lost; trying again…");
  else if (trouble) write(at("status"), trouble);
  else if (chat) write(at("status"), doing(chat));
}

function doing(chat) {
  if (chat.notice) return chat.notice.text;
  if (chat.blocked) return `blocked by ${chat.name}`;
  if (chat.draft) return "writing…";
  if (chat.action) return `${chat.action.action.replaceAll("_", " ")}…`;
  return `You write as ${chat.name}`;
}

let following = true; // the newest message is in sight, and is to stay so
function toEnd() {
  following = true;
  at("log").scrollTop = at("log").scrollHeight;
}

function draw() {
  drawChats();
  drawStatus();
  const chat = chats.get(current);
  if (!chat) return;
  drawLog(chat);
  if (following) toEnd();
  write(at("bot"), bot);
  write(at("block"), chat.blocked ? "Unblock bot" : "Block bot");
}

let drawing = 0;
function soon() {
  // Many events of a stream become one drawing.
  if (!drawing) drawing = requestAnimationFrame(() => { drawing = 0; draw(); });
}

function select(chatId) {
  current = chatId;
  wanted = 0;
  sessionStorage.setItem("chat", String(chatId));
  chats.get(chatId).unread = false;
  stopEdit();
  following = true;
  draw();
  showEntry();
  at("text").focus();
}

function showEntry() {
  const entry = entries.get(current);
  if (entry) entry.scrollIntoView({ block: "nearest", inline: "nearest" });
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
  lost = false;
  chats.clear();
  for (const chat of state.chats) {
    chats.set(chat.chat_id, chat);
    expire(chat, "draft");
    expire(chat, "action");
  }
  if (!chats.size) act({ do: "add" });
  else if (!chats.has(current)) select([...chats.keys()][0]);
  following = true;
  draw();
  showEntry();
}

function onChat(fresh) {
  const chat = chats.get(fresh.chat_id);
  if (chat) Object.assign(chat, fresh);
  else chats.set(fresh.chat_id, { ...fresh, messages: [], draft: null, action: null });
  if (!chats.has(current) || fresh.chat_id === wanted) select(fresh.chat_id);
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

function connect() {
  const source = new EventSource("events");
  for (const [name, handle] of Object.entries(HANDLERS)) {
    source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  }
  source.addEventListener("error", () => {
    lost = true;
    drawStatus();
    // A browser gives up on a stream that was refused; a fresh one is the cure for that.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY_MILLISECONDS);
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
  const what = { ...(editing ? { do: "edit", message_id: editing } : { do: "write" }), chat_id: current, text };
  stopEdit();
  at("text").value = ""; // at once: a second Enter must not send it again
  toEnd();
  if (!await act(what) && !at("text").value && what.chat_id === current) {
    at("text").value = text;
    if (what.do === "edit") {
      editing = what.message_id;
      at("editing").hidden = false;
    }
  }
}

function editLast() {
  const chat = chats.get(current);
  const mine = chat && chat.messages.filter((message) => !message.from_bot && message.text);
  if (mine && mine.length) startEdit(mine[mine.length - 1]);
}

at("composer").addEventListener("submit", submit);
at("text").addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) submit(event);
  if (event.key === "Escape") stopEdit();
  if (event.key === "ArrowUp" && !at("text").value) {
    event.preventDefault();
    editLast();
  }
});
at("cancel").addEventListener("click", () => { stopEdit(); at("text").focus(); });
at("more").addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  at("more").open = false;
  at("more").firstElementChild.focus();
});
document.addEventListener("click", (event) => {
  if (!at("more").contains(event.target)) at("more").open = false;
});
for (const button of at("more").querySelectorAll("button")) {
  button.addEventListener("click", () => {
    act({ do: "send", chat_id: current, kind: button.dataset.kind });
    at("more").open = false;
    at("text").focus();
  });
}
at("add").addEventListener("click", async () => {
  const done = await act({ do: "add" });
  if (!done) return;
  // Its chat is told of on the stream, which may be later than this answer.
  if (chats.has(done.chat_id)) select(done.chat_id);
  else wanted = done.chat_id;
});
at("block").addEventListener("click", () => {
  const chat = chats.get(current);
  if (chat) act({ do: "block", chat_id: current, blocked: !chat.blocked });
});
at("log").addEventListener("scroll", () => {
  const log = at("log");
  following = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PIXELS;
});
// A phone's keyboard and a growing text field make the log smaller.
new ResizeObserver(() => { if (following) toEnd(); }).observe(at("log"));
connect();
