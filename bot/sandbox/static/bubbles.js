// One message as an element. `hands` holds what can be done with it: command, edit, reply, press, stop.

import { make, makeButton, sizeOf } from "./elements.js";
import { formatted } from "./formatting.js";

const HUES = 7;

export function makeAvatar(chat, className = "") {
  const word = (chat.name || "?").split(" ").pop(); // every customer is a Customer; the letter is what tells them apart
  const letters = word === word.toUpperCase() ? word.slice(0, 3) : word[0];
  const avatar = make("span", `avatar hue${Math.abs(chat.chat_id) % HUES} ${className}`.trim(), letters);
  avatar.setAttribute("aria-hidden", "true");
  return avatar;
}

export function drawMessage(message, hands) {
  const article = make("article", message.from_bot ? "" : "mine");
  article.dataset.id = message.message_id;
  const bubble = make("div", "bubble");
  bubble.dir = "auto";
  if (message.reply) bubble.append(drawQuote(message.reply));
  if (message.file) bubble.append(drawFile(message.file));
  else if (message.kind) bubble.append(make("div", "media", message.kind));
  if (message.text) bubble.append(formatted(message.text, message.entities, hands.command));
  bubble.append(drawMeta(message));
  const holds = make("div", "holds");
  holds.append(bubble, drawActions(message, hands));
  article.append(holds);
  if (message.buttons.length) article.append(drawButtons(message, hands));
  return article;
}

function drawMeta(message) {
  const meta = make("div", "meta");
  meta.dir = "ltr";
  if (message.reactions.length) meta.append(make("span", "reactions", message.reactions.join(" ")));
  if (message.edited) meta.append(make("span", "", "edited"));
  const date = new Date(message.date * 1000);
  const time = make("time", "", date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = date.toISOString();
  meta.append(time);
  return meta;
}

function drawActions(message, hands) {
  const actions = make("div", "actions");
  actions.append(makeButton("", "reply", () => hands.reply(message)));
  if (!message.from_bot && message.text && !message.file) actions.append(makeButton("", "edit", () => hands.edit(message)));
  for (const button of actions.children) button.tabIndex = -1;
  return actions;
}

function drawQuote(reply) {
  const quote = make("div", "quote");
  const text = make("span", "", reply.text);
  text.dir = "auto";
  quote.append(make("b", "", reply.name), text);
  return quote;
}

function drawFile(file) {
  const link = make("a", "file");
  link.href = `file/${encodeURIComponent(file.id)}`;
  link.download = file.name;
  link.dir = "ltr";
  const asDocument = () => {
    const ending = file.name.includes(".") ? file.name.split(".").pop().slice(0, 4) : file.kind.slice(0, 4);
    const words = make("span", "words");
    const kind = file.kind === "document" ? "" : `${file.kind.replaceAll("_", " ")} · `;
    words.append(make("b", "", file.name), make("small", "", `${kind}${sizeOf(file.size)} · download`));
    link.className = "file";
    link.replaceChildren(make("span", "ending", ending), words);
  };
  if (file.kind === "photo" || file.kind === "sticker") {
    const picture = make("img");
    picture.src = `picture/${encodeURIComponent(file.id)}`;
    picture.alt = `${file.kind}: ${file.name}`;
    picture.addEventListener("error", asDocument);
    link.classList.add(file.kind);
    link.append(picture);
  } else {
    asDocument();
  }
  return link;
}

function drawButtons(message, hands) {
  const keys = make("div", "keys");
  for (const row of message.buttons) {
    const line = make("div");
    line.append(...row.map((button) => {
      const key = makeButton("", button.text, () => hands.press(message, button, key));
      if (button.url) key.classList.add("link");
      return key;
    }));
    keys.append(line);
  }
  return keys;
}

// The one bubble that an answer grows in.
export function makeDraft(hands) {
  const article = make("article", "draft");
  article.setAttribute("aria-live", "off"); // the finished answer is read out, not each of its beginnings
  const bubble = make("div", "bubble");
  bubble.dir = "auto";
  article.append(bubble, makeButton("stop", "Stop", hands.stop));
  return article;
}

export function fillDraft(article, draft) {
  const [bubble, stop] = article.children;
  const body = formatted(draft.text || "Thinking", draft.entities, null);
  body.classList.toggle("thinking", !draft.text);
  if (!draft.text) body.append(make("i"), make("i"), make("i"));
  bubble.replaceChildren(body);
  article.classList.toggle("stopped", draft.stopped);
  stop.hidden = !draft.can_stop;
}

export function makeDay(seconds) {
  const date = new Date(seconds * 1000);
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / 86400000);
  const year = date.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  const far = date.toLocaleDateString([], { day: "numeric", month: "long", year });
  return make("div", "day", ["Today", "Yesterday"][days] || far);
}
