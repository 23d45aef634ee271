"use strict";
/* Tables of what the node tells. A table is made anew only when what it shows has changed. */

const TEXT = (label) => ({ label });
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const NUMBER = (label) => ({ label, isNumber: true });

/* Each fills the element with `data-table="NAME"`.
 *   rows  from a snapshot; null: the node does not tell
 *   none  what is said where there are no rows */
const TABLES = {
  missing: {
    title: "Missing",
    columns: [TEXT("Path"), NUMBER("Size"), TEXT("Why")],
    rows: (now) => at(now, "ready.missing")?.map((one) => [one.path, bytesText(one.bytes), one.why]) ?? null,
    none: "Nothing is named.",
  },
  unfit: {
    title: "What does not fit",
    columns: [TEXT("Path"), NUMBER("Size")],
    rows: (now) => at(now, "does_not_fit")?.map((one) => [one.path, bytesText(one.bytes)]) ?? null,
    none: "Everything fits into memory.",
  },
  hottest: {
    title: "Hottest entries",
    columns: [TEXT("Path"), NUMBER("Uses"), NUMBER("Size")],
    rows: (now) => at(now, "hottest")?.map((one) => [one.path, countText(one.uses), bytesText(one.bytes)]) ?? null,
    none: "Nothing was asked for yet.",
  },
  generation: {
    title: "Generation",
    columns: [TEXT("What"), NUMBER("Value")],
    rows: (now) => [
      ["Number", wholeText(at(now, "generation.number"))],
      ["Files", wholeText(at(now, "generation.files"))],
      ["Problems", wholeText(at(now, "generation.problems"))],
      ["Kept for old links", wholeText(at(now, "generation.kept"))],
      ["Reloads", wholeText(at(now, "generation.reloads_total"))],
      ["Patches", wholeText(at(now, "generation.patches_total"))],
      ["Events of the watcher", wholeText(at(now, "watcher.events_total"))],
    ],
  },
  states: {
    title: "Connections by state",
    columns: [TEXT("State"), NUMBER("Connections")],
    rows: (now) => pairs(at(now, "connections.by_state")),
    none: "The node does not tell.",
  },
  lanes: {
    title: "Lanes",
    columns: [TEXT("Lane"), NUMBER("Connections"), NUMBER("Requests"), NUMBER("Share")],
    rows: laneRows,
    none: "The Python engine has none.",
  },
  sites: {
    title: "Sites",
    columns: [TEXT("Site"), NUMBER("Requests"), NUMBER("Sent"), NUMBER("Hits")],
    rows: siteRows,
    none: "There is one site.",
  },
  codes: {
    title: "Answers by status",
    columns: [TEXT("Status"), NUMBER("Answers")],
    rows: (now) => {
      const by = at(now, "requests.by");
      if (!by) return null;
      const codes = {};
      for (const { code, total } of by) codes[code] = (codes[code] ?? 0) + total;
      return pairs(codes);
    },
    none: "Nothing was answered yet.",
  },
  warnings: {
    title: "Recent warnings",
    columns: [TEXT("When"), TEXT("What")],
    rows: (now) => at(now, "warnings")?.map((one) => [dayAndClock(one.time), `${one.level}: ${one.text}`]).reverse() ?? null,
    none: "The log has none.",
    isCaptionSeen: false,
  },
};

function pairs(object) {
  return object && Object.entries(object).map(([name, count]) => [name, wholeText(count)]);
}

function laneRows(now) {
  const lanes = at(now, "lanes_detail");
  if (!lanes) return null;
  const all = lanes.reduce((sum, lane) => sum + (lane.requests_total ?? 0), 0);
  return lanes.map((lane) => [
    String(lane.lane),
    wholeText(lane.connections),
    countText(lane.requests_total),
    shareText(share(lane.requests_total ?? null, all)),
  ]);
}

function siteRows(now) {
  if (!at(now, "requests")) return null;
  const sites = (at(now, "requests.by_site") ?? []).filter((one) => one.requests_total);
  return sites.sort((a, b) => b.requests_total - a.requests_total).map((one) => [
    one.site,
    countText(one.requests_total),
    bytesText(one.response_bytes_total),
    shareText(share(one.hits_total, one.hits_total + one.misses_total)),
  ]);
}

function dayAndClock(time) {
  if (!isNumber(time)) return UNKNOWN;
  const day = new Date(time * 1000);
  const isToday = day.toDateString() === new Date().toDateString();
  return isToday ? clockText(time) : `${day.getDate()} ${MONTHS[day.getMonth()]} ${clockText(time).slice(0, 5)}`;
}

class Tables {
  constructor() {
    this.shown = new Map();
  }

  show(now) {
    for (const where of document.querySelectorAll("[data-table]")) {
      const table = TABLES[where.dataset.table];
      const rows = table.rows(now);
      const key = JSON.stringify(rows);
      if (this.shown.get(where) === key) continue;
      this.shown.set(where, key);
      where.replaceChildren(...contentOf(table, rows));
    }
  }
}

function contentOf(table, rows) {
  if (rows?.length) {
    const made = tableOf(table.title, table.columns, rows, table);
    return [element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": table.title }, made)];
  }
  const said = element("p", { class: "quiet" }, rows ? table.none : "The node does not tell.");
  return table.isCaptionSeen === false ? [said] : [element("h3", null, table.title), said];
}
