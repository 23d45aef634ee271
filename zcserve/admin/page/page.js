"use strict";
/* The page as a whole: what comes from the stream is shown, what the forms say is told to the node.
 *
 * A token, where one is asked for, is kept in the tab (sessionStorage), or in memory alone where the browser keeps
 * nothing. The live region says changes of state and results, never numbers.
 */

const TOKEN_KEY = "zcserve-token";

/* What stands above the charts. `sub` is the smaller line. */
const TILES = [
  { label: "Requests", of: (now, sample) => `${countText(sample.requests)}/s`, sub: (now) => `${countText(at(now, "requests.total"))} since the start` },
  { label: "Sent", of: (now, sample) => bytesPerSecondText(sample.bytes), sub: (now) => `${bytesText(at(now, "requests.response_bytes_total"))} since the start` },
  { label: "Hit ratio", of: (now, sample) => shareText(sample.hits ?? totalHitRatio(now)), sub: (now) => `${shareText(totalHitRatio(now))} since the start` },
  { label: "Time to answer, p50", of: (now, sample) => secondsText(sample.p50), sub: (now, sample) => `p99 ${secondsText(sample.p99)}` },
  { label: "Connections", of: (now) => countText(at(now, "connections.open")), sub: (now) => `of at most ${countText(at(now, "connections.max"))}` },
  { label: "Loop lag, p99", of: (now, sample) => secondsText(sample.lag99), sub: (now, sample) => `p50 ${secondsText(sample.lag50)}` },
  {
    label: "Memory",
    of: (now) => bytesText(at(now, "cache.resident_bytes")),
    sub: (now) => `${shareText(share(at(now, "cache.resident_bytes"), at(now, "cache.budget_bytes")))} of ${bytesText(at(now, "cache.budget_bytes"))}`,
  },
  { label: "Evictions", of: (now, sample) => `${countText(sample.evictions)}/s`, sub: (now) => `${countText(at(now, "cache.evictions_total"))} since the start` },
  { label: "Generation", of: (now) => wholeText(at(now, "generation.number")), sub: (now) => `${ageText(at(now, "generation.age_s"))} old, ${countText(at(now, "generation.files"))} ${at(now, "generation.files") === 1 ? "file" : "files"}` },
  { label: "Up", of: (now) => ageText(at(now, "uptime_s")), sub: (now) => `process ${at(now, "pid") ?? UNKNOWN}` },
];

const PHASE_TONES = { ready: "good", warming: "busy", incomplete: "bad", starting: "busy", draining: "busy" };
const LINK_STATES = {
  live: ["live", "good"],
  connecting: ["connecting", "busy"],
  paused: ["paused", "unknown"],
  locked: ["needs the token", "bad"],
  lost: ["no connection, trying again", "bad"],
};

function totalHitRatio(now) {
  const [hits, misses] = [at(now, "cache.hits_total"), at(now, "cache.misses_total")];
  return isNumber(hits) && isNumber(misses) ? share(hits, hits + misses) : null;
}

/* Tell a screen reader, politely. */
function announce(text) {
  setText(byId("said"), text);
}

/* --- the token ---------------------------------------------------------------------------------------------- */

const token = {
  value: "",
  load() {
    try {
      this.value = sessionStorage.getItem(TOKEN_KEY) ?? "";
    } catch {
      /* nothing is kept here */
    }
  },
  save(value) {
    this.value = value;
    try {
      if (value) sessionStorage.setItem(TOKEN_KEY, value);
      else sessionStorage.removeItem(TOKEN_KEY);
    } catch {
      /* in memory alone */
    }
  },
  headers() {
    return this.value ? { Authorization: `Bearer ${this.value}` } : {};
  },
};

async function post(verb, words) {
  try {
    const response = await fetch(verb, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...token.headers() },
      body: JSON.stringify(words),
    });
    return { ok: response.ok, status: response.status, told: await response.json().catch(() => null) };
  } catch {
    return { ok: false, status: 0, told: null };
  }
}

/* --- the numbers -------------------------------------------------------------------------------------------- */

class Page {
  constructor() {
    this.snapshots = []; /* of the last WINDOW_S, oldest first */
    this.tiles = TILES.map(({ label }) => {
      const [value, sub] = [element("span", { class: "value" }, UNKNOWN), element("span", { class: "sub" }, UNKNOWN)];
      byId("tiles").append(element("div", null, element("dt", null, label), element("dd", null, value, sub)));
      return { value, sub };
    });
    this.charts = new LiveCharts(byId("live-charts"));
    this.curve = new CurveFigure(byId("curve-chart"));
    this.tables = new Tables();
    this.actions = new Actions(post);
    this.phase = "";
    setText(byId("node"), location.host);
  }

  /* As the stream's listener. */
  whole(snapshot) {
    const last = this.snapshots.at(-1);
    if (last && (last.pid !== snapshot.pid || snapshot.uptime_s < last.uptime_s)) announce("The node was started anew.");
    this.charts.pause();
    this.snapshots = [];
    this.take(snapshot);
  }

  change(part) {
    this.take({ ...this.snapshots.at(-1), ...part });
  }

  state(name) {
    const [text, tone] = LINK_STATES[name];
    const link = byId("link");
    if (link.textContent !== text && name !== "connecting") announce(`Connection: ${text}`);
    setText(link, text);
    link.dataset.tone = tone;
    byId("locked").hidden = name !== "locked";
    if (name === "locked") {
      setText(byId("token-said"), token.value ? "The node does not know this token." : "It is kept in this tab alone, until the tab is closed.");
      byId("token").focus();
    }
    byId("forget-token").hidden = !token.value || name === "locked";
  }

  take(now) {
    const before = this.snapshots.at(-1);
    this.snapshots.push(now);
    while (now.time - this.snapshots[0].time > WINDOW_S + 0.5) this.snapshots.shift();
    const sample = sampleOf(now, before, this.snapshots[0]);
    this.showTop(now);
    this.showMissing(now);
    TILES.forEach((tile, i) => {
      setText(this.tiles[i].value, tile.of(now, sample));
      setText(this.tiles[i].sub, tile.sub(now, sample));
    });
    if (before) this.charts.add(sample);
    const [curve, budget] = [at(now, "cache.curve"), at(now, "cache.budget_bytes")];
    this.curve.showCurve(curve, budget);
    setText(byId("curve-said"), curveText(curve, budget));
    this.tables.show(now);
    this.actions.show(now);
  }

  showTop(now) {
    const phase = at(now, "ready.phase") ?? "unknown";
    const wanted = at(now, "ready.share");
    const isPartly = phase === "warming" && wanted !== null;
    setText(byId("phase"), isPartly ? `warming, ${shareText(wanted)}` : phase);
    byId("phase").dataset.tone = PHASE_TONES[phase] ?? "unknown";
    if (this.phase && this.phase !== phase) announce(`The node is ${phase}.`);
    this.phase = phase;
    const lanes = at(now, "lanes");
    const engine = `${at(now, "engine") ?? UNKNOWN} engine${lanes ? `, ${lanes} lane${lanes > 1 ? "s" : ""}` : ""}`;
    setText(byId("about"), `${at(now, "zcserve") ?? ""} · ${engine} · Python ${at(now, "python.version") ?? UNKNOWN}`);
    document.title = `${location.host} ${phase} - zcserve`;
  }

  showMissing(now) {
    const ready = at(now, "ready");
    const isMissing = ready !== null && ready.is_ready === false && ready.phase !== "draining" && isNumber(ready.share);
    byId("missing").hidden = !isMissing;
    if (!isMissing) return;
    const told = `${shareText(ready.share)} of what is wanted is resident: ${bytesText(ready.resident_bytes)} of ${bytesText(ready.wanted_bytes)}`;
    setText(byId("missing-said"), `${told}; ${wholeText(ready.missing_total)} missing. ${ready.why ?? ""}`);
    byId("missing-share").value = ready.share;
  }
}

function begin() {
  token.load();
  const page = new Page();
  const stream = new EventStream(page, () => token.headers());
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token.save(byId("token").value.trim());
    byId("token").value = "";
    stream.start();
  });
  byId("forget-token").addEventListener("click", () => {
    token.save("");
    stream.start();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    page.charts.redraw();
    page.curve.draw();
  });
  stream.start();
}

begin();
