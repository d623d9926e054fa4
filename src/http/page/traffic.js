// Charts of what the recorder has kept.
import { Component, h } from "./vendor/preact.mjs";
import { get, query } from "./api.js";
import { Chart } from "./chart.js";
import { bytes, count, millis, rate } from "./format.js";
import { t } from "./i18n.js";
import { Card, Loaded, tags } from "./ui.js";

const { button, div } = tags;

/** The ranges that can be chosen, and how often each is loaded again in milliseconds. */
const RANGES = { "1h": 30_000, "24h": 60_000, "7d": 300_000, "30d": 900_000, "365d": 3_600_000 };

const flow = ({ columns }) => ({
    title: t("traffic"), format: rate, note: total(columns), time: columns.time,
    series: [
        { label: t("received"), colour: "in", values: columns.speed_in, fill: true },
        { label: t("sent"), colour: "out", values: columns.speed_out, fill: true },
    ],
});

const ping = ({ columns }) => ({
    title: t("ping"), format: millis, time: columns.time, bands: [[3, 2]],
    series: [
        { label: t("mean"), colour: "ping", values: columns.ping_avg },
        { label: t("lowest"), colour: "ping", values: columns.ping_min, thin: true },
        { label: t("highest"), colour: "ping", values: columns.ping_max, thin: true },
    ],
});

const pool = ({ columns }) => ({
    title: t("pool"), format: count, whole: true, time: columns.time,
    series: [{ label: t("idle_connections"), colour: "pool", values: columns.pool }],
});

const open = ({ columns }) => ({
    title: t("connections"), format: count, whole: true, time: columns.time,
    series: [
        { label: "TCP", colour: "in", values: columns.tcps },
        { label: "UDP", colour: "out", values: columns.udps },
    ],
});

function total({ in: received, out: sent }) {
    const sum = (values) => values.reduce((all, value) => all + (value ?? 0), 0);
    return `↓ ${bytes(sum(received))}  ↑ ${bytes(sum(sent))}`;
}

/** Charts with a choice of range. Props: `scope` (query of the history), `title`, `charts`, `range`. */
export class History extends Component {
    constructor(props) {
        super(props);
        this.state = { range: props.range ?? "24h" };
    }

    render({ scope, title, charts }, { range }) {
        const aside = div({ class: "segments", role: "group", "aria-label": t("range") }, Object.keys(RANGES).map((one) =>
            button({ key: one, class: "segment", "aria-pressed": String(one === range), onclick: () => this.setState({ range: one }) }, t(`range.${one}`))));
        const path = query("history", { ...scope, since: range });
        return h(Card, { title, aside },
            h(Loaded, {
                of: path, every: RANGES[range], load: (signal) => get(path, signal),
                view: (history) => div({ class: charts.length > 1 ? "charts" : "" },
                    charts.map((chart) => h(Chart, { key: chart.name, sync: charts.length > 1 ? title : undefined, hidden: charts.length === 1, ...chart(history) }))),
            }));
    }
}

export const fleetChart = () => h(History, { key: "fleet", title: t("fleet_traffic"), scope: {}, charts: [flow] });
export const endpointChart = (endpoint) => h(History, { key: endpoint, title: t("traffic"), scope: { endpoint }, charts: [flow] });
export const tunnelCharts = (endpoint, id) =>
    h(History, { key: `${endpoint}/${id}`, title: t("history"), scope: { tunnel: `${endpoint}/${id}` }, charts: [flow, ping, pool, open], range: "1h" });
