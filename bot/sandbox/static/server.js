// The way to the sandbox and back: acts go one after the other, everything seen comes by one event stream.

import { at, write } from "./elements.js";

const TOAST_MILLISECONDS = 4000;
const ACT_MILLISECONDS = 10000;
const ATTACH_MILLISECONDS = 60000;
const RETRY_MILLISECONDS = 1000;

let calming = 0;
export function toast(text) {
  clearTimeout(calming);
  at("toast").hidden = false;
  write(at("toast"), text);
  calming = setTimeout(() => { at("toast").hidden = true; }, TOAST_MILLISECONDS);
}

export function alarm(text) {
  write(at("alert-text"), text);
  if (!at("alert").open) at("alert").showModal();
}

// Quick messages keep their order, because each waits for the one before.
let acting = Promise.resolve();
function inOrder(step) {
  const done = acting.then(step);
  acting = done;
  return done;
}

async function post(path, type, body, milliseconds) {
  const request = { method: "POST", headers: { "Content-Type": type }, body, signal: AbortSignal.timeout(milliseconds) };
  const answer = await fetch(path, request).catch(() => null);
  if (answer && answer.ok) return answer.json().catch(() => null);
  toast(answer ? await answer.text() : "The sandbox does not answer. Is it still running?");
  return null;
}

// The answer, or null where it was refused; then a toast has told so.
export const act = (what) =>
  inOrder(() => post("act", "application/json", JSON.stringify(what), ACT_MILLISECONDS));

export const attach = (what, file) =>
  inOrder(() => post(`attach?${new URLSearchParams(what)}`, "application/octet-stream", file, ATTACH_MILLISECONDS));

export function connect(handlers, lost) {
  const source = new EventSource("events");
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  }
  source.addEventListener("error", () => {
    lost();
    // A browser gives up on a stream that was refused; a fresh one is the cure for that.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => connect(handlers, lost), RETRY_MILLISECONDS);
  });
}
