// Shows the examples at work, where the server has them. Without script, or without servlets, these parts stay hidden;
// the links on the page lead to the same things.
"use strict";

// no-store goes past the browser's cache, so that it is the server who answers.
function ask(method, target, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  return fetch(target, { method, headers, body, cache: "no-store" });
}

async function hello() {
  return (await ask("GET", "/csp?hello")).text();
}

async function now() {
  const lines = [];
  for (let times = 0; times < 5; times++) lines.push(await (await ask("GET", "/csp?now")).text());
  return lines.join("");
}

async function call(question) {
  const [method, target, ...body] = question.split(" ");
  const response = await ask(method, target, body.join(" ") || undefined);
  const type = response.headers.get("Content-Type") ?? "";
  const content = type.startsWith("application/json") ? await response.text() : "";
  return `${question}\n\n${response.status} ${response.statusText}\n${content}`;
}

function listen(button) {
  const answer = button.closest("section").querySelector(".answer");
  const source = new EventSource("/csp?stream&n=5");
  answer.textContent = "";
  button.disabled = true;
  const end = () => { source.close(); button.disabled = false; };
  source.addEventListener("message", (event) => { answer.textContent += `${event.lastEventId}: ${event.data}\n`; });
  source.addEventListener("end", end);
  source.addEventListener("error", end);
}

function show(button, text) {
  const answer = button.closest("section").querySelector(".answer");
  text.then((said) => { answer.textContent = said; }, (error) => { answer.textContent = `No answer: ${error.message}`; });
}

document.addEventListener("click", ({ target }) => {
  if (target.dataset.ask === "hello") show(target, hello());
  if (target.dataset.ask === "now") show(target, now());
  if (target.dataset.ask === "listen") listen(target);
  if (target.dataset.call) show(target, call(target.dataset.call));
});

async function begin() {
  const answered = (await ask("GET", "/csp?hello")).ok;
  document.getElementById(answered ? "with" : "without").hidden = false;
  if (!answered) return;
  for (const image of document.querySelectorAll("img[data-src]")) image.src = image.dataset.src;
  for (const part of document.querySelectorAll(".live")) part.hidden = false;
}

begin();
