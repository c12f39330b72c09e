// The room page: one socket that comes back by itself, and what it says turned into elements.

import { hue } from "./visitor.js";

const FIRST_DELAY = 500; // ms; doubles with each failed attempt
const LONGEST_DELAY = 15_000; // ms
const ANSWER_DEADLINE = 10_000; // ms that the server may take to answer a heartbeat, or to open the socket
const NEVER_AGAIN = new Map([
  [4401, "cookies are needed; reload the page"],
  [4404, "this room is gone"],
]);

const slug = document.querySelector("main").dataset.room;
const el = (id) => document.getElementById(id);
const list = el("messages");

const known = new Map(); // message id -> its element
const unsent = new Map(); // nonce -> {text, element}: sent again after a reconnection until the server shows it
let me = { visitor: null, name: "" };
let socket = null;
let attempts = 0;
let heartbeatTimer = null;
let deadlineTimer = null;
let retryTimer = null;
let retryAt = 0;

// --- the socket ---

function connect() {
  clearTimeout(retryTimer);
  retryTimer = null;
  show("connecting", attempts ? "reconnecting" : "connecting");
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const mine = new WebSocket(`${scheme}://${location.host}/ws/rooms/${slug}/`);
  socket = mine;
  expectAnswer();
  mine.onmessage = (event) => mine === socket && receive(JSON.parse(event.data));
  mine.onclose = (event) => mine === socket && closed(event.code);
}

function closed(code) {
  clearTimeout(deadlineTimer);
  clearInterval(heartbeatTimer);
  socket = null;
  if (NEVER_AGAIN.has(code)) {
    show("ended", NEVER_AGAIN.get(code));
    return;
  }
  // A random share of the delay: when a server stops, its pages don't all come back in the same moment.
  const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** attempts) * (0.5 + Math.random() / 2);
  attempts += 1;
  retryAt = Date.now() + delay;
  countDown();
}

function countDown() {
  const left = retryAt - Date.now();
  if (left <= 0) {
    connect();
    return;
  }
  show("waiting", left > 1500 ? `reconnecting in ${Math.round(left / 1000)} s` : "reconnecting");
  retryTimer = setTimeout(countDown, Math.min(left, 500));
}

function expectAnswer() {
  clearTimeout(deadlineTimer);
  const mine = socket;
  // A connection can die without a word (a laptop sleeps, a network changes): don't wait for it.
  deadlineTimer = setTimeout(() => {
    if (mine !== socket) return;
    mine.close();
    closed(1006);
  }, ANSWER_DEADLINE);
}

function transmit(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function hurry() {
  if (retryTimer !== null) connect();
  else beat();
}

function beat() {
  if (socket?.readyState !== WebSocket.OPEN) return;
  transmit({ type: "heartbeat" });
  expectAnswer();
}

window.addEventListener("online", hurry);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && hurry());

const handlers = {
  welcome(event) {
    attempts = 0;
    me = event.you;
    show("connected", "connected");
    for (const node of document.querySelectorAll("[data-fact]")) node.textContent = event.server[node.dataset.fact];
    for (const message of event.messages) place(message);
    showPeople(event.people);
    for (const [nonce, { text }] of unsent) transmit({ type: "message", nonce, text });
    clearInterval(heartbeatTimer);
    heartbeatTimer = setInterval(beat, event.heartbeat * 1000);
    el("empty").hidden = list.children.length > 0;
  },
  message: (event) => place(event.message),
  picture(event) {
    for (const node of known.values()) {
      if (node.dataset.picture === event.picture.id) keepAtEnd(() => node.querySelector(".bubble").replaceWith(pictureBubble(event.picture)));
    }
  },
  people: (event) => showPeople(event.people),
  heartbeat() {},
  error(event) {
    if (event.nonce && unsent.has(event.nonce)) {
      unsent.get(event.nonce).element.remove();
      unsent.delete(event.nonce);
    }
    complain(event.text);
  },
};

function receive(event) {
  clearTimeout(deadlineTimer); // anything that comes shows that the connection lives
  handlers[event.type]?.(event);
}

// --- what is shown ---

function show(state, text) {
  document.body.dataset.state = el("state").dataset.state = state;
  if (el("state-text").textContent !== text) el("state-text").textContent = text;
}

function complain(text) {
  el("problem").textContent = text;
  el("problem").hidden = !text;
}

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function avatar(visitor, name) {
  const node = make("span", "avatar", [...name][0] ?? "?");
  node.style.setProperty("--hue", hue(visitor));
  return node;
}

function showPeople(people) {
  el("count").textContent = people.length;
  el("people").replaceChildren(
    ...people.map(({ visitor, name }) => {
      const item = make("li");
      item.title = name;
      item.append(avatar(visitor, name), make("span", "name", name));
      if (visitor === me.visitor) item.append(make("span", "you", "you"));
      return item;
    }),
  );
}

function keepAtEnd(change) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 120;
  change();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function messageElement(message) {
  const item = make("li", "message");
  const created = new Date(message.created);
  item.classList.toggle("mine", message.visitor === me.visitor);
  item.dataset.visitor = message.visitor;
  item.dataset.author = message.author;
  item.dataset.time = created.getTime();
  const by = make("div", "by");
  by.append(make("b", "", message.author), " ", make("time", "", created.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })));
  by.querySelector("time").dateTime = message.created;
  by.title = created.toLocaleString();
  item.append(avatar(message.visitor, message.author), by);
  if (message.picture) {
    item.dataset.picture = message.picture.id;
    item.append(pictureBubble(message.picture));
  } else {
    item.append(make("div", "bubble", message.text));
  }
  return item;
}

function pictureBubble(picture) {
  const bubble = make("div", "bubble picture");
  const link = make("a");
  link.href = picture.original;
  link.target = "_blank";
  link.rel = "noopener";
  bubble.append(link);
  if (picture.thumbnail) {
    const image = make("img");
    const scale = Math.min(1, 480 / picture.width, 360 / picture.height);
    image.width = Math.max(1, Math.round(picture.width * scale));
    image.height = Math.max(1, Math.round(picture.height * scale));
    image.alt = "picture";
    image.src = picture.thumbnail;
    link.append(image);
    if (picture.made_by) {
      bubble.append(make("div", "caption", `thumbnail by ${picture.made_by.role} ${picture.made_by.process_id} on ${picture.made_by.host}`));
    }
    return bubble;
  }
  const waiting = make("div", "waiting");
  waiting.append(make("span", "spinner"), make("span", "", "a worker makes the thumbnail"));
  const again = make("button", "", "Ask again");
  again.hidden = true;
  again.onclick = async () => {
    again.disabled = true;
    await post(picture.again, new FormData(el("picture-form")));
    again.disabled = false;
  };
  bubble.append(waiting, again);
  // The job may have been lost with its worker (delivery is at most once).
  setTimeout(() => (again.hidden = false), 20_000);
  return bubble;
}

function place(message) {
  const pending = unsent.get(message.nonce);
  if (known.has(message.id)) {
    const shown = known.get(message.id);
    // What a reconnection brings may know more than the page: a thumbnail that came meanwhile.
    if (message.picture?.thumbnail && shown.querySelector(".waiting")) shown.querySelector(".bubble").replaceWith(pictureBubble(message.picture));
    return;
  }
  const node = messageElement(message);
  keepAtEnd(() => {
    if (pending) {
      pending.element.remove();
      unsent.delete(message.nonce);
    }
    let after = null;
    for (const other of [...list.children].reverse()) {
      if (other.dataset.id && Number(other.dataset.id) < message.id) {
        after = other;
        break;
      }
    }
    node.dataset.id = message.id;
    known.set(message.id, node);
    if (after) after.after(node);
    else list.prepend(node);
    group(node);
    if (node.nextElementSibling) group(node.nextElementSibling);
  });
  el("empty").hidden = true;
}

// Messages of one person within five minutes stand together under one name.
function group(node) {
  const before = node.previousElementSibling;
  node.classList.toggle(
    "same",
    before?.dataset.visitor === node.dataset.visitor && before.dataset.author === node.dataset.author && node.dataset.time - before.dataset.time < 300_000,
  );
}

// --- what the visitor does ---

const text = el("text");

function grow() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
}

function say() {
  const content = text.value.trim();
  if (!content) return;
  complain("");
  const nonce = newNonce();
  const element = messageElement({ visitor: me.visitor ?? "me", author: me.name, text: content, created: new Date().toISOString() });
  element.classList.add("sending", "mine");
  unsent.set(nonce, { text: content, element });
  list.append(element);
  group(element);
  el("empty").hidden = true;
  list.scrollTop = list.scrollHeight;
  text.value = "";
  grow();
  transmit({ type: "message", nonce, text: content });
}

function newNonce() {
  // crypto.randomUUID exists on secure origins only; this chat may run on http://some-host too.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

text.addEventListener("input", grow);
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    say();
  }
});
el("message-form").addEventListener("submit", (event) => {
  event.preventDefault();
  say();
  text.focus();
});

async function post(url, form) {
  complain("");
  try {
    const answer = await fetch(url, { method: "POST", body: form, headers: { Accept: "application/json" } });
    if (answer.ok) return;
    const type = answer.headers.get("Content-Type") ?? "";
    complain(type.startsWith("application/json") ? (await answer.json()).error : `The server answered ${answer.status}.`);
  } catch {
    complain("The server can't be reached; try again in a moment.");
  }
}

async function sendPicture(file) {
  const form = new FormData(el("picture-form"));
  form.set("picture", file);
  const attach = document.querySelector(".attach");
  attach.classList.add("busy");
  await post(el("picture-form").action, form);
  attach.classList.remove("busy");
  el("picture").value = "";
}

el("picture").addEventListener("change", () => el("picture").files[0] && sendPicture(el("picture").files[0]));
text.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) {
    event.preventDefault();
    sendPicture(file);
  }
});
connect();
