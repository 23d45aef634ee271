"use strict";
/* The stream of /events, by fetch: EventSource sends no Authorization, and does not say why it was refused.
 *
 * It connects again by itself, after the time that the server names ("retry"), and later and later while it fails.
 * While the page is hidden there is no connection, so that a page in the background costs the node nothing.
 */

const RETRY_S_MAX = 30;

/* A splitter of an event stream (HTML standard, "Server-sent events"): text in any pieces -> {event, id, data, retry}. */
function eventReader(onEvent) {
  let rest = "";
  return (text) => {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { data: [] };
      for (const line of block.split("\n")) {
        const colon = line.indexOf(":");
        if (colon <= 0) continue; /* a comment */
        const [name, value] = [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
        if (name === "data") event.data.push(value);
        else event[name] = value;
      }
      onEvent({ ...event, data: event.data.join("\n") });
    }
  };
}

/* listener: whole(snapshot), change(part of a snapshot), state("live" | "connecting" | "paused" | "locked" | "lost") */
class EventStream {
  constructor(listener, headers) {
    this.listener = listener;
    this.headers = headers; /* a function, since the token may come later */
    this.retryS = 2;
    this.failures = 0;
    this.timer = 0;
    this.abort = null;
    this.isLocked = false;
    document.addEventListener("visibilitychange", () => this.start());
  }

  /* Begin, or begin anew. */
  start() {
    this.stop();
    this.isLocked = false;
    if (document.hidden) this.listener.state("paused");
    else this.connect();
  }

  stop() {
    clearTimeout(this.timer);
    this.abort?.abort();
    this.abort = null;
  }

  async connect() {
    const abort = (this.abort = new AbortController());
    if (!this.failures) this.listener.state("connecting");
    try {
      const response = await fetch("events", { headers: this.headers(), signal: abort.signal, cache: "no-store" });
      if (abort.signal.aborted) return;
      if (response.status === 401) {
        this.isLocked = true;
        this.listener.state("locked");
        return;
      }
      if (!response.ok) throw new Error(`/events is answered with ${response.status}`);
      await this.read(response.body, abort.signal);
    } catch (error) {
      if (abort.signal.aborted) return;
    }
    if (abort.signal.aborted) return;
    this.listener.state("lost");
    const wait = Math.min(this.retryS * 2 ** this.failures, RETRY_S_MAX);
    this.failures += 1;
    this.timer = setTimeout(() => this.connect(), wait * 1000);
  }

  async read(body, signal) {
    const take = eventReader((event) => this.take(event));
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || signal.aborted) return;
      take(value);
    }
  }

  take({ event, data, retry }) {
    if (/^\d+$/.test(retry)) this.retryS = Number(retry) / 1000;
    if (event !== "whole" && event !== "change") return;
    if (event === "whole") this.listener.state("live");
    this.failures = 0;
    this.listener[event](JSON.parse(data));
  }
}
