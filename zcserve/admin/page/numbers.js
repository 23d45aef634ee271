"use strict";
/* Numbers: what the page makes of two snapshots of the node, and how it writes them.
 *
 * Nothing here touches the page, so that it can be tried without one. A snapshot is the object of /stats. What it does
 * not have is null on the way and "-" where it is shown. Times are in seconds, sizes in bytes, shares from 0 to 1.
 */

const UNKNOWN = "-";
/* Percentiles are of the requests of so many seconds: of one second there are too few on a quiet node. */
const WINDOW_S = 10;

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/* The value at "cache.hits_total", or null. */
function at(snapshot, path) {
  const value = path.split(".").reduce((part, key) => part?.[key], snapshot);
  return value ?? null;
}

/* By how much a total has grown; null where one of both is unknown, or the count began anew. */
function growth(now, before, path) {
  const [new_, old] = [at(now, path), before && at(before, path)];
  return isNumber(new_) && isNumber(old) && new_ >= old ? new_ - old : null;
}

function perSecond(now, before, path) {
  const grown = growth(now, before, path);
  const seconds = before ? now.time - before.time : 0;
  return grown === null || seconds <= 0 ? null : grown / seconds;
}

/* A share of what came between two snapshots; null where nothing did. */
function share(part, whole) {
  return part === null || !whole ? null : part / whole;
}

function hitRatio(now, before) {
  const hits = growth(now, before, "cache.hits_total");
  const misses = growth(now, before, "cache.misses_total");
  return hits === null || misses === null ? null : share(hits, hits + misses);
}

/* Answers a second of one class: 2 for 200 to 299. */
function classPerSecond(now, before, kind) {
  const total = (snapshot) => {
    const by = at(snapshot, "requests.by");
    return by && by.reduce((sum, one) => sum + (Math.floor(one.code / 100) === kind ? one.total : 0), 0);
  };
  const [new_, old] = [total(now), before && total(before)];
  const seconds = before ? now.time - before.time : 0;
  return isNumber(new_) && isNumber(old) && new_ >= old && seconds > 0 ? (new_ - old) / seconds : null;
}

/* What a histogram counted between two snapshots. `counts` are those of each bucket alone, the last one is of what is
 * above all `bounds`. Null where nothing was counted. */
function histogramBetween(now, before, path) {
  const [new_, old] = [at(now, path), before && at(before, path)];
  if (!new_?.bounds || !old?.counts || new_.counts.length !== old.counts.length) return null;
  const counts = new_.counts.map((count, bucket) => count - old.counts[bucket]);
  if (counts.some((count) => count < 0) || !counts.some((count) => count > 0)) return null;
  return { bounds: new_.bounds, counts };
}

/* The value below which a share of all lies, as if each bucket were filled evenly. What is above all bounds is said to
 * be the last of them. */
function quantile(histogram, wanted) {
  if (histogram === null) return null;
  const { bounds, counts } = histogram;
  let left = wanted * counts.reduce((sum, count) => sum + count, 0);
  for (let bucket = 0; bucket < bounds.length; bucket++) {
    if (counts[bucket] > 0 && left <= counts[bucket]) {
      const low = bucket ? bounds[bucket - 1] : 0;
      return low + ((bounds[bucket] - low) * left) / counts[bucket];
    }
    left -= counts[bucket];
  }
  return bounds[bounds.length - 1];
}

/* The numbers of one second. `before` is the snapshot of a second ago, `earlier` that of WINDOW_S ago. */
function sampleOf(now, before, earlier) {
  const duration = histogramBetween(now, earlier, "requests.duration_s");
  const lag = histogramBetween(now, earlier, "loop.lag_s");
  return {
    time: now.time,
    requests: perSecond(now, before, "requests.total"),
    ok: classPerSecond(now, before, 2),
    elsewhere: classPerSecond(now, before, 3),
    refused: classPerSecond(now, before, 4),
    failed: classPerSecond(now, before, 5),
    bytes: perSecond(now, before, "requests.response_bytes_total"),
    hits: hitRatio(now, earlier),
    p50: quantile(duration, 0.5),
    p90: quantile(duration, 0.9),
    p99: quantile(duration, 0.99),
    connections: at(now, "connections.open"),
    lag50: quantile(lag, 0.5),
    lag99: quantile(lag, 0.99),
    resident: at(now, "cache.resident_bytes"),
    budget: at(now, "cache.budget_bytes"),
    evictions: perSecond(now, before, "cache.evictions_total"),
  };
}

/* --- as text ------------------------------------------------------------------------------------------------ */

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const THREE = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

function countText(value) {
  if (!isNumber(value)) return UNKNOWN;
  if (value >= 100000) return SHORT.format(value);
  return value >= 100 || Number.isInteger(value) ? WHOLE.format(value) : THREE.format(value);
}

function wholeText(value) {
  return isNumber(value) ? WHOLE.format(value) : UNKNOWN;
}

function bytesText(value) {
  if (!isNumber(value)) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 1000 ? WHOLE.format(value) : THREE.format(value)} ${units[unit]}`;
}

function bytesPerSecondText(value) {
  return isNumber(value) ? `${bytesText(value)}/s` : UNKNOWN;
}

function secondsText(value) {
  if (!isNumber(value)) return UNKNOWN;
  if (value === 0) return "0 s";
  if (value < 0.001) return `${THREE.format(value * 1e6)} µs`;
  return value < 1 ? `${THREE.format(value * 1e3)} ms` : `${THREE.format(value)} s`;
}

/* Never 100 % of what is not all, nor 0 % of what is not nothing. */
function shareText(value) {
  if (!isNumber(value)) return UNKNOWN;
  if (value >= 1 || value <= 0) return value >= 1 ? "100%" : "0%";
  const percent = Math.min(Math.max(value * 100, 0.1), 99.9);
  return `${percent >= 99 || percent < 10 ? percent.toFixed(1) : percent.toFixed(0)}%`;
}

function ageText(seconds) {
  if (!isNumber(seconds)) return UNKNOWN;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let left = Math.max(0, Math.floor(seconds));
  const first = units.findIndex(([, size]) => left >= size);
  if (first < 0) return "0 s";
  const words = units.slice(first, first + 2).map(([name, size]) => {
    const count = Math.floor(left / size);
    left -= count * size;
    return count ? `${count} ${name}` : "";
  });
  return words.filter(Boolean).join(" ");
}

function clockText(time) {
  return isNumber(time) ? new Date(time * 1000).toLocaleTimeString("en-GB") : UNKNOWN;
}
