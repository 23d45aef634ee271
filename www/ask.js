// Lets the start page ask its own server, and shows the answer. Without script the section stays hidden;
// the curl lines on the page show the same things.
"use strict";

const live = document.getElementById("live");
const answer = document.getElementById("answer");
const page = location.pathname;

// no-store goes past the browser's cache, so that a 304 or a 206 is shown as such.
function ask(method, headers) {
  return fetch(page, { method, headers, cache: "no-store" });
}

async function same() {
  const tag = (await ask("HEAD", {})).headers.get("ETag");
  return tag === null ? null : { method: "HEAD", headers: { "If-None-Match": tag } };
}

const questions = {
  head: async () => ({ method: "HEAD", headers: {} }),
  same,
  range: async () => ({ method: "GET", headers: { Range: "bytes=0-99" } }),
  past: async () => ({ method: "GET", headers: { Range: "bytes=99999999-" } }),
};

async function show(name) {
  const question = await questions[name]();
  if (question === null) {
    answer.textContent = "This server gave the page no ETag, so there is nothing to compare.";
    return;
  }
  const response = await ask(question.method, question.headers);
  const body = await response.arrayBuffer();
  const lines = [`${question.method} ${page}`];
  for (const [key, value] of Object.entries(question.headers)) lines.push(`${key}: ${value}`);
  lines.push("", `${response.status} ${response.statusText}`);
  for (const [key, value] of response.headers) lines.push(`${key}: ${value}`);
  lines.push("", `${body.byteLength} bytes of body`);
  answer.textContent = lines.join("\n");
}

function answerTo(name) {
  show(name).catch((error) => { answer.textContent = `No answer: ${error.message}`; });
}

live.addEventListener("click", (event) => {
  const name = event.target.dataset.ask;
  if (name) answerTo(name);
});
live.hidden = false;
answerTo("head");
