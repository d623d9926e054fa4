// Charts of what the recorder has kept.
import { Component, h } from "./vendor/preact.mjs";
import { get, query } from "./api.js";
import { Chart } from "./chart.js";
import { bytes, count, day, exact, millis, rate, sum } from "./format.js";
import { t } from "./i18n.js";
import { touch } from "./state.js";
import { Card, Flow, Loaded, save, tags } from "./ui.js";

const { button, dd, div, dl, dt, option, select, span } = tags;

const PERIODS = ["today", "month", "cycle"];
/** How often sums of traffic are loaded again, in milliseconds. */
export const SUMS_EVERY = 30_000;

/** The period whose traffic the tables show. Outlives the view, as the order of a table does. */
let period = "today";

/** That period: `today`, `month` or `cycle`. */
export const chosenPeriod = () => period;

/** The choice of it. */
export function PeriodChoice() {
    const choose = (event) => {
        period = event.target.value;
        touch();
    };
    // Where its columns have no room it would change nothing that is seen.
    return select({ class: "wide", "aria-label": t("period"), value: period, onchange: choose }, PERIODS.map((one) => option({ key: one, value: one }, t(`period.${one}`))));
}

/** The two columns of a table with the traffic of the chosen period. `moved(row)` gives a row of `/api/v1/traffic`. */
export function periodColumns(moved) {
    const column = (direction, arrow) => {
        const of = (row) => moved(row)?.[period][direction];
        return { id: `period_${direction}`, title: `${arrow} ${t(`period_short.${period}`)}`, class: "number wide", sort: of, descending: true, cell: (row) => bytes(of(row)) };
    };
    return [column("in", "↓"), column("out", "↑")];
}

/** What was moved today, this month and in this billing cycle. Props: `row` and `periods` of `/api/v1/traffic`; null while not known. */
export function Moved({ row, periods }) {
    const lasts = ({ from, to }) => `${exact(new Date(from))} – ${exact(new Date(to))}`;
    return div({ class: "tile moved" }, div({ class: "tile-label" }, t("traffic")),
        dl({ class: "periods" }, PERIODS.map((one) => div({ key: one },
            dt({ title: periods && lasts(periods[one]) }, t(`period.${one}`), one === "cycle" && periods && [" ", span({ class: "muted" }, t("from_day", { day: day(new Date(periods.cycle.from)) }))]),
            dd(null, h(Flow, { received: bytes(row?.[one].in), sent: bytes(row?.[one].out) }))))));
}

/** The ranges that can be chosen, and how often each is loaded again in milliseconds. */
const RANGES = { "1h": 30_000, "24h": 60_000, "7d": 300_000, "30d": 900_000, "365d": 3_600_000 };

/** Ranges on whose charts a value of this second says something. */
const LIVE = ["1h", "24h"];

const flow = ({ columns, counts }, now) => ({
    title: t("traffic"), format: rate, whole: true, note: total(columns), counts, time: columns.time,
    series: [
        { label: t("received"), colour: "in", values: columns.speed_in, now: now.rate_in, fill: true },
        { label: t("sent"), colour: "out", values: columns.speed_out, now: now.rate_out, fill: true },
    ],
});

const ping = ({ columns }, now) => ({
    title: t("ping"), format: millis, time: columns.time, bands: [[3, 2]],
    series: [
        { label: t("mean"), colour: "ping", values: columns.ping_avg, now: now.ping },
        { label: t("lowest"), colour: "ping", values: columns.ping_min, now: now.ping, thin: true },
        { label: t("highest"), colour: "ping", values: columns.ping_max, now: now.ping, thin: true },
    ],
});

const pool = ({ columns }, now) => ({
    title: t("pool"), format: count, whole: true, time: columns.time,
    series: [{ label: t("idle_connections"), colour: "pool", values: columns.pool, now: now.pool }],
});

const open = ({ columns }, now) => ({
    title: t("connections"), format: count, whole: true, time: columns.time,
    series: [
        { label: "TCP", colour: "in", values: columns.tcps, now: now.tcps },
        { label: "UDP", colour: "out", values: columns.udps, now: now.udps },
    ],
});

function total({ in: received, out: sent }) {
    return h(Flow, { received: bytes(sum(received)), sent: bytes(sum(sent)) });
}

/** The steps of a history as lines of a file; what is not known is empty, or null. */
export function exported(columns, format) {
    const names = Object.keys(columns).filter((name) => name !== "time" && Array.isArray(columns[name]));
    const steps = columns.time.map((seconds, at) => [new Date(seconds * 1000).toISOString(), ...names.map((name) => columns[name][at] ?? null)]);
    const lines = format === "csv"
        ? [["time", ...names].join(","), ...steps.map((step) => step.map((value) => value ?? "").join(","))]
        : steps.map((step) => JSON.stringify(Object.fromEntries(["time", ...names].map((name, nth) => [name, step[nth]]))));
    return `${lines.join("\n")}\n`;
}

/** Charts with a choice of range. Props: `scope` (query of the history), `title`, `charts`, `range`, `now` (the values of this second). */
export class History extends Component {
    constructor(props) {
        super(props);
        this.state = { range: props.range ?? "24h" };
    }

    /** Gives the reader what the charts show as a file. */
    export(format, { columns, endpoint, instance_id: id }) {
        const name = ["tidegate", endpoint, id, this.state.range].filter(Boolean).join("-").replace(/[^\p{L}\p{N}.-]+/gu, "_").slice(0, 100);
        save(`${name}.${format}`, format === "csv" ? "text/csv" : "application/x-ndjson", exported(columns, format));
    }

    render({ scope, title, charts, now = {} }, { range }) {
        const aside = div({ class: "segments", role: "group", "aria-label": t("range") }, Object.keys(RANGES).map((one) =>
            button({ key: one, class: "segment", "aria-pressed": String(one === range), onclick: () => this.setState({ range: one }) }, t(`range.${one}`))));
        const path = query("history", { ...scope, since: range });
        const values = LIVE.includes(range) ? now : {};
        const link = (history, format, text) => button({ class: "bare quiet", onclick: () => this.export(format, history) }, text);
        return h(Card, { title, aside },
            h(Loaded, {
                of: path, every: RANGES[range], load: (signal) => get(path, signal),
                view: (history) => [
                    div({ key: "charts", class: charts.length > 1 ? "charts" : "" },
                        charts.map((chart) => h(Chart, { key: chart.name, sync: charts.length > 1 ? title : undefined, hidden: charts.length === 1, heard: history.columns.heard_s, ...chart(history, values) }))),
                    div({ key: "export", class: "exports muted", role: "group", "aria-label": t("export") }, `${t("export")} `,
                        link(history, "csv", "CSV"), " · ", link(history, "jsonl", "JSON lines")),
                ],
            }));
    }
}

export const fleetChart = (now) => h(History, { key: "fleet", title: t("fleet_traffic"), scope: {}, charts: [flow], now });
export const endpointChart = (endpoint, now) => h(History, { key: endpoint, title: t("traffic"), scope: { endpoint }, charts: [flow], now });
export const tunnelCharts = (endpoint, id, now) =>
    h(History, { key: `${endpoint}/${id}`, title: t("history"), scope: { tunnel: `${endpoint}/${id}` }, charts: [flow, ping, pool, open], range: "1h", now });
