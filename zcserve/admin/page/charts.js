"use strict";
/* Charts of the last minutes, by uPlot (vendored), and the miss-ratio curve.
 *
 * Colours are the style's (custom properties), read again when the scheme changes. A chart is a picture to a screen
 * reader; the newest values stand beside it as text, and all of them in a table that is made when it is opened.
 */

const SECONDS_KEPT = 300;
const SECONDS_SHOWN_MIN = 60;
const TABLE_EVERY_S = 10;
const TABLE_ROWS_MAX = 18;
const CHART_HEIGHT = 150;

/* of: the name in a sample (numbers.js); dash: as canvas has it, so that lines differ without their colours, too. */
const CHARTS = [
  {
    title: "Answers a second",
    text: countText,
    series: [
      { label: "2xx", of: "ok", color: "--series-1" },
      { label: "3xx", of: "elsewhere", color: "--series-2", dash: [6, 3] },
      { label: "4xx", of: "refused", color: "--series-3", dash: [2, 2] },
      { label: "5xx", of: "failed", color: "--series-4" },
    ],
  },
  { title: "Bytes a second", text: bytesPerSecondText, isBytes: true, series: [{ label: "sent", of: "bytes", color: "--series-1" }] },
  {
    title: "Time to answer",
    text: secondsText,
    series: [
      { label: "p50", of: "p50", color: "--series-1" },
      { label: "p90", of: "p90", color: "--series-2", dash: [6, 3] },
      { label: "p99", of: "p99", color: "--series-3", dash: [2, 2] },
    ],
  },
  { title: "Hit ratio", text: shareText, max: 1, series: [{ label: "resident", of: "hits", color: "--series-1" }] },
  { title: "Connections", text: countText, isWhole: true, series: [{ label: "open", of: "connections", color: "--series-1" }] },
  {
    title: "Loop lag",
    text: secondsText,
    series: [
      { label: "p50", of: "lag50", color: "--series-1" },
      { label: "p99", of: "lag99", color: "--series-3", dash: [2, 2] },
    ],
  },
  {
    title: "Memory",
    text: bytesText,
    isBytes: true,
    series: [
      { label: "resident", of: "resident", color: "--series-1", isFilled: true },
      { label: "budget", of: "budget", color: "--muted", dash: [6, 3] },
    ],
  },
  { title: "Evictions a second", text: countText, series: [{ label: "evicted", of: "evictions", color: "--series-3" }] },
];

function styleOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function axes(chart, timeFormat) {
  const look = { stroke: styleOf("--muted"), font: `11px ${styleOf("--font")}`, ticks: { show: false } };
  const grid = { stroke: styleOf("--line"), width: 1 };
  const y = {
    ...look,
    grid,
    size: 64,
    space: 24,
    gap: 6,
    values: (_, splits) => splits.map((value) => (value === null ? null : chart.text(value))),
  };
  if (chart.isBytes) y.incrs = Array.from({ length: 50 }, (_, power) => 2 ** power);
  if (chart.isWhole) y.incrs = [0, 1, 2, 3, 4, 5].flatMap((power) => [1, 2, 5].map((n) => n * 10 ** power));
  return [{ ...look, grid: { show: false }, size: 28, gap: 4, space: 70, values: timeFormat }, y];
}

function seriesOptions(one) {
  const stroke = styleOf(one.color);
  return {
    label: one.label,
    stroke,
    width: 1.5,
    dash: one.dash,
    fill: one.isFilled ? styleOf("--fill") : undefined,
    points: { show: false },
  };
}

/* A figure with its title, newest values, plot and table. `draw(plot, width)` gives a uPlot. */
class Figure {
  constructor(chart) {
    this.chart = chart;
    this.plot = element("div", { class: "plot", role: "img", "aria-label": `${chart.title}: chart` });
    this.values = chart.series.map(() => element("span", { class: "value" }, UNKNOWN));
    this.keys = chart.series.map((one) => element("i", { class: "key", "aria-hidden": "true" }));
    const legend = chart.series.map((one, i) => element("li", null, this.keys[i], `${one.label} `, this.values[i]));
    this.table = element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `${chart.title}: values` });
    this.details = element("details", null, element("summary", null, "Table"), this.table);
    this.element = element(
      "figure",
      null,
      element("figcaption", null, element("h3", null, chart.title), element("ul", { class: "legend" }, ...legend)),
      this.plot,
      this.details,
    );
    this.uplot = null;
    this.details.addEventListener("toggle", () => this.fillTable());
    new ResizeObserver(() => this.resize()).observe(this.plot);
  }

  /* The data anew: [[x], [y], ...]. */
  show(data) {
    this.data = data;
    if (this.uplot) this.uplot.setData(data);
    else this.draw();
    if (!this.uplot?.cursor.idx) this.tell(data[0].length - 1);
    if (this.details.open) this.fillTable();
  }

  /* Beside the title: the values at one place. */
  tell(index) {
    this.chart.series.forEach((_, i) => setText(this.values[i], this.chart.text(this.data[i + 1][index] ?? null)));
  }

  draw() {
    const width = this.plot.clientWidth;
    if (!this.data || !width) return;
    this.uplot?.destroy();
    const { chart } = this;
    chart.series.forEach((one, i) => {
      this.keys[i].style.borderTop = `2px ${one.dash ? "dashed" : "solid"} ${styleOf(one.color)}`;
    });
    this.uplot = new uPlot(
      {
        width,
        height: CHART_HEIGHT,
        padding: [8, 28, 0, 0],
        legend: { show: false },
        cursor: { y: false, drag: { setScale: false, x: false, y: false }, points: { size: 6 } },
        scales: { x: this.xScale(), y: { range: (_, low, high) => [0, chart.max ?? (high > 0 ? high * 1.1 : 1)] } },
        axes: axes(chart, this.xFormat()),
        series: [{}, ...chart.series.map(seriesOptions)],
        hooks: { setCursor: [(plot) => this.tell(plot.cursor.idx ?? this.data[0].length - 1)], ...this.hooks() },
      },
      this.data,
      this.plot,
    );
  }

  resize() {
    const width = this.plot.clientWidth;
    if (!this.uplot) this.draw();
    else if (width && width !== this.uplot.width) this.uplot.setSize({ width, height: CHART_HEIGHT });
  }

  xScale() {
    return { time: true, range: (_, low, high) => [high - Math.min(Math.max(high - low, SECONDS_SHOWN_MIN), SECONDS_KEPT), high] };
  }

  xFormat() {
    return (_, splits) => splits.map((time) => clockText(time).slice(0, time % 60 ? 8 : 5));
  }

  hooks() {
    return {};
  }

  fillTable() {
    if (!this.details.open || !this.data) return;
    const [times, ...lines] = this.data;
    const rows = [];
    for (let i = times.length - 1; i >= 0 && rows.length < TABLE_ROWS_MAX; i -= TABLE_EVERY_S) {
      rows.push([clockText(times[i]), ...lines.map((line) => this.chart.text(line[i] ?? null))]);
    }
    const columns = [{ label: "Time" }, ...this.chart.series.map(({ label }) => ({ label, isNumber: true }))];
    this.table.replaceChildren(tableOf(this.chart.title, columns, rows, { isCaptionSeen: false }));
  }
}

/* All charts over time, and the samples that they are drawn from. */
class LiveCharts {
  constructor(where) {
    this.samples = [];
    this.figures = CHARTS.map((chart) => new Figure(chart));
    where.append(...this.figures.map((figure) => figure.element));
  }

  add(sample) {
    this.samples.push(sample);
    const oldest = sample.time - SECONDS_KEPT;
    while (this.samples[0].time < oldest) this.samples.shift();
    const times = this.samples.map((one) => one.time);
    for (const figure of this.figures) {
      figure.show([times, ...figure.chart.series.map(({ of }) => this.samples.map((one) => one[of]))]);
    }
  }

  /* A gap in the lines: nothing was heard for a while. */
  pause() {
    const last = this.samples.at(-1);
    if (last && Object.keys(last).length > 1) this.samples.push({ time: last.time + 0.001 });
  }

  redraw() {
    for (const figure of this.figures) figure.draw();
  }
}

/* The hit ratio of every size of memory, with a line at the budget. */
class CurveFigure extends Figure {
  constructor(where) {
    super({
      title: "Hit ratio by size of memory",
      text: shareText,
      max: 1,
      series: [{ label: "at this size", of: "hit_ratio", color: "--series-1" }],
    });
    this.budget = null;
    where.append(this.element);
  }

  showCurve(curve, budget) {
    this.budget = budget;
    this.element.hidden = !curve?.length;
    if (!curve?.length) return;
    const data = [curve.map((point) => point.bytes), curve.map((point) => point.hit_ratio)];
    if (JSON.stringify(data) !== JSON.stringify(this.data)) this.show(data);
  }

  tell(index) {
    const [sizes, ratios] = this.data;
    const at = this.uplot?.cursor.idx ?? nearestIndex(sizes, this.budget ?? sizes[index]);
    setText(this.values[0], `${bytesText(sizes[at])}: ${shareText(ratios[at])}`);
  }

  xScale() {
    return { time: false, distr: 3, log: 2, range: (_, low, high) => [low, high] };
  }

  xFormat() {
    return (_, splits) => splits.map((size) => (size === null ? null : bytesText(size)));
  }

  hooks() {
    const mark = (plot) => {
      if (!this.budget) return;
      const x = Math.round(plot.valToPos(this.budget, "x", true));
      const { left, top, width, height } = plot.bbox;
      if (x < left || x > left + width) return;
      const { ctx } = plot;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = styleOf("--muted");
      ctx.setLineDash([4, 4]);
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
      ctx.font = `${11 * devicePixelRatio}px ${styleOf("--font")}`;
      const isRight = x > left + width / 2;
      ctx.textAlign = isRight ? "right" : "left";
      ctx.fillText("budget", x + (isRight ? -6 : 6) * devicePixelRatio, top + height - 8 * devicePixelRatio);
      ctx.restore();
    };
    return { draw: [mark] };
  }

  fillTable() {
    if (!this.details.open || !this.data) return;
    const rows = this.data[0].map((size, i) => [bytesText(size), shareText(this.data[1][i])]);
    const columns = [{ label: "Memory" }, { label: "Hit ratio", isNumber: true }];
    this.table.replaceChildren(tableOf(this.chart.title, columns, rows, { isCaptionSeen: false }));
  }
}

function nearestIndex(sizes, wanted) {
  let best = 0;
  sizes.forEach((size, i) => {
    if (Math.abs(size - wanted) < Math.abs(sizes[best] - wanted)) best = i;
  });
  return best;
}

/* The curve in words. */
function curveText(curve, budget) {
  if (!curve?.length) return "There is no curve yet: it is drawn once content does not fit, or was evicted.";
  const ratioAt = (bytes) => curve[nearestIndex(curve.map((point) => point.bytes), bytes)].hit_ratio;
  const largest = curve.at(-1).bytes;
  if (!isNumber(budget)) return `With ${bytesText(largest)}, ${shareText(ratioAt(largest))} of requests would find content resident.`;
  const more = Math.min(2 * budget, largest);
  const now = `With the budget of ${bytesText(budget)} about ${shareText(ratioAt(budget))} of requests find content resident`;
  return more > budget ? `${now}; with ${bytesText(more)} it would be ${shareText(ratioAt(more))}.` : `${now}.`;
}
