// Charts over time, by uPlot. What is not known is a gap in the line, on a shaded ground; a tunnel that was silent while its master was
// heard leaves a gap on plain ground.
import { Component, createRef } from "./vendor/preact.mjs";
import { clock, date, day, month, UNKNOWN } from "./format.js";
import { lang, t } from "./i18n.js";
import { tags } from "./ui.js";

const { div, figcaption, figure, p, span } = tags;

const HEIGHT = 190;
/** Width of the axis with the values, in pixels: the same for all charts, so that their times stand below each other. */
const AXIS_WIDTH = 74;
/** Height of the axis with the times, in pixels: with and without a line for the date. */
const [DATED_HEIGHT, TIMES_HEIGHT] = [46, 30];
/** Steps of an axis whose values are shown without fraction: smaller ones would show the same number twice. */
const WHOLE_STEPS = Array.from({ length: 16 }, (_, zeros) => [1, 2, 5].map((first) => first * 10 ** zeros)).flat();
const DAY = 86_400;

/** The colour that a variable of the style sheet stands for now: a canvas does not know variables. */
function colour(element, name) {
    const probe = element.appendChild(document.createElement("span"));
    probe.style.color = `var(--${name})`;
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
}

function faded(rgb, opacity) {
    const [r, g, b] = rgb.match(/[\d.]+/g);
    return `rgba(${r}, ${g}, ${b}, ${opacity})`;
}

/** Text for the times on the axis, by the distance between two of them. */
function timeTexts(_, splits, __, ___, step) {
    let before = null;
    return splits.map((seconds) => {
        const at = new Date(seconds * 1000);
        if (step >= 27 * DAY) return month(at);
        if (step >= DAY) return day(at);
        const today = day(at);
        const text = before !== null && today !== before ? `${clock(at)}\n${today}` : clock(at);
        before = today;
        return text;
    });
}

const timesHeight = (_, texts) => (texts?.some((text) => text?.includes("\n")) ? DATED_HEIGHT : TIMES_HEIGHT);

/** The time of a value, as exact as the chart. */
function timeText(plot, seconds) {
    if ((seconds ?? null) === null) return UNKNOWN;
    const at = new Date(seconds * 1000);
    const [first, second] = plot.data[0];
    return second - first >= DAY ? date(at) : `${day(at)} ${clock(at)}`;
}

/** Without a pointer on it the legend has the last values that are known. */
function tellLast(plot) {
    if ((plot.cursor.idx ?? null) !== null) return;
    const [times, ...columns] = plot.data;
    const last = times.findLastIndex((_, at) => columns.some((column) => (column[at] ?? null) !== null));
    plot.setLegend({ idx: last < 0 ? null : last }, false);
}

/**
 * Slots of which nothing is known, as `[first, last]`: without a value in any of the series, and the master was not heard for half of
 * them either (`heard`: seconds, `step`: seconds of a slot).
 */
export function gaps(columns, heard, step) {
    const found = [];
    const slots = columns[0]?.length ?? 0;
    for (let at = 0; at < slots; at += 1) {
        if (columns.some((column) => (column[at] ?? null) !== null) || (heard?.[at] ?? 0) * 2 >= step) continue;
        if (found.at(-1)?.[1] === at - 1) found.at(-1)[1] = at;
        else found.push([at, at]);
    }
    return found;
}

/** Places of values that have none beside them: no line goes there, so that they are to be seen by a dot alone. */
export function lone(values) {
    const has = (at) => (values[at] ?? null) !== null;
    return [...values.keys()].filter((at) => has(at) && !has(at - 1) && !has(at + 1));
}

function shadeGaps(plot, ground, heard) {
    const [times, ...columns] = plot.data;
    const step = times.length > 1 ? times[1] - times[0] : 60;
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.fillStyle = ground;
    for (const [first, last] of gaps(columns, heard, step)) {
        const left = Math.max(bbox.left, plot.valToPos(times[first] - step / 2, "x", true));
        const right = Math.min(bbox.left + bbox.width, plot.valToPos(times[last] + step / 2, "x", true));
        ctx.fillRect(left, bbox.top, Math.max(0, right - left), bbox.height);
    }
    ctx.restore();
}

/** Marks the values of this second, where the chart ends. */
function markNow(plot, series, colours) {
    const { ctx } = plot;
    ctx.save();
    series.forEach(({ now, thin }, nth) => {
        if (thin || (now ?? null) === null) return;
        ctx.beginPath();
        ctx.arc(plot.valToPos(plot.data[0].at(-1), "x", true), plot.valToPos(now, "y", true), 4 * devicePixelRatio, 0, 2 * Math.PI);
        ctx.fillStyle = colours[nth];
        ctx.fill();
    });
    ctx.restore();
}

/**
 * Props: `title` (`hidden`: for screen readers alone), `note` (beside it; `counts` says in a tooltip what it counts), `time`
 * (epoch seconds), `heard` (seconds of each slot in which the master was heard), `series` of `{ label, colour, values, fill, thin, now }`
 * (`now`: the value of this second; the chart then goes on to this second and moves with it), `bands` (pairs of series between which to fill),
 * `format(value)`, `sync` (charts with the same one share the cursor), `whole` (values are shown without fraction).
 */
export class Chart extends Component {
    place = createRef();

    componentDidMount() {
        this.draw();
        this.resized = new ResizeObserver(() => this.plot && this.plot.setSize({ width: this.width(), height: HEIGHT }));
        this.resized.observe(this.place.current);
        this.scheme = matchMedia("(prefers-color-scheme: dark)");
        this.redraw = () => this.draw();
        this.scheme.addEventListener("change", this.redraw);
        addEventListener("theme", this.redraw);
    }

    componentDidUpdate(before) {
        if (before.time === this.props.time && this.language === lang() && !this.isLive()) return;
        if (this.language === lang() && before.series.length === this.props.series.length) this.plot.setData(this.data());
        else this.draw();
    }

    componentWillUnmount() {
        this.resized.disconnect();
        this.scheme.removeEventListener("change", this.redraw);
        removeEventListener("theme", this.redraw);
        this.plot?.destroy();
    }

    width() {
        return Math.max(200, this.place.current.clientWidth);
    }

    isLive() {
        return this.props.series.some(({ now }) => now !== undefined);
    }

    data() {
        const { time, series } = this.props;
        const now = Date.now() / 1000;
        // A step may begin later than now where the clocks differ.
        if (!this.isLive() || !(now > time.at(-1))) return [time, ...series.map((one) => one.values)];
        return [[...time, now], ...series.map((one) => [...one.values, one.now ?? null])];
    }

    draw() {
        this.plot?.destroy();
        this.language = lang();
        this.plot = new globalThis.uPlot(this.options(), this.data(), this.place.current);
    }

    options() {
        const { series, bands = [], format, sync, whole } = this.props;
        const of = (name) => colour(this.place.current, name);
        const [text, line, ground] = [of("muted"), of("line"), of("gap")];
        const colours = series.map((one) => of(one.colour));
        const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
        const shown = (value) => ((value ?? null) === null ? UNKNOWN : format(value));
        return {
            width: this.width(),
            height: HEIGHT,
            padding: [8, 22, 0, 0],
            cursor: { y: false, sync: sync && { key: sync }, drag: { x: false, y: false } },
            legend: { live: true },
            scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? high * 1.08 : 1] } },
            axes: [
                { ...axis, values: timeTexts, size: timesHeight, space: 64 },
                { ...axis, values: (_, splits) => splits.map(format), size: AXIS_WIDTH, space: 28, incrs: whole && WHOLE_STEPS },
            ].map((one) => Object.fromEntries(Object.entries(one).filter(([, value]) => value !== undefined))),
            series: [
                { label: t("time"), value: timeText },
                ...series.map((one) => ({
                    label: one.label,
                    stroke: of(one.colour),
                    width: one.thin ? 0 : 1.5,
                    fill: one.fill && faded(of(one.colour), 0.12),
                    points: one.thin ? { show: false } : { size: 5, filter: (plot, nth, all) => (all ? null : lone(plot.data[nth])) },
                    value: (_, value) => shown(value),
                })),
            ],
            bands: bands.map((pair) => ({ series: pair, fill: faded(of(series[pair[0] - 1].colour), 0.18) })),
            hooks: { setCursor: [tellLast], setData: [tellLast], ready: [tellLast], drawClear: [(plot) => shadeGaps(plot, ground, this.props.heard)], draw: [(plot) => markNow(plot, this.props.series, colours)] },
        };
    }

    /** The chart in words. */
    summary() {
        const { series, format } = this.props;
        return series.filter((one) => !one.thin).map(({ label, values }) => {
            const known = values.filter((value) => value !== null);
            if (known.length === 0) return `${label}: ${t("no_data")}`;
            const [low, high] = known.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
            return t("chart_summary", { label, low: format(low), high: format(high), last: format(known.at(-1)) });
        }).join(" ");
    }

    render({ title, note, counts, series, hidden }) {
        const empty = series.every(({ values }) => values.every((value) => (value ?? null) === null));
        return figure({ class: "chart" },
            figcaption(null, span({ class: hidden ? "sr" : "chart-title" }, title), note && span({ class: "muted", title: counts }, note)),
            p({ class: "sr" }, this.summary()),
            div({ class: "plot", ref: this.place, "aria-hidden": "true" }),
            empty && p({ class: "chart-empty muted" }, t("no_data_yet")));
    }
}
