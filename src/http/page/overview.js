// The fleet at a glance.
import { h } from "./vendor/preact.mjs";
import { get } from "./api.js";
import { chosenPeriod, fleetChart, Moved, PeriodChoice, periodColumns, SUMS_EVERY } from "./traffic.js";
import { addEndpoint } from "./dialogs.js";
import { count, duration, percent, plain, rate, sum } from "./format.js";
import { say, t, word } from "./i18n.js";
import { natural, Table } from "./table.js";
import { isHeard, present } from "./state.js";
import { tunnelHref, tunnelsHref } from "./tunnels.js";
import { Card, Flow, Heading, Icon, Loaded, mood, Name, Since, Status, Statuses, tags, Tile } from "./ui.js";

const { a, button, code, div, h2, li, ol, p, span, ul } = tags;

/** Endpoints, and alerts of a kind, that are named one by one before the rest is counted. */
const NAMED_MAX = 6;

/** Where an endpoint is shown. */
export const endpointHref = (name) => `#/endpoint/${encodeURIComponent(name)}`;

/** Where alerts that are not named one by one are found: `[hint, href]`. */
const MORE = { tunnel_error: [null, tunnelsHref("error")], traffic_limit: ["more_traffic_hint", null] };

/** The alerts of one kind: each with its subject, the first ones by name. */
function alertItems(kind, alerts, add) {
    for (const alert of alerts.slice(0, NAMED_MAX)) {
        const { endpoint, instance_id: id } = alert;
        const href = endpoint === null ? "#/storage" : id === null ? endpointHref(endpoint) : tunnelHref({ endpoint, instance_id: id });
        const subject = endpoint !== null && [h(Name, { text: id === null ? endpoint : `${endpoint}/${id}` }), ": "];
        add("warn", [subject, word("alert", kind)], say(alert.text), href);
    }
    if (alerts.length > NAMED_MAX) {
        const [hint, href] = MORE[kind] ?? ["more_endpoints_hint", null];
        add("warn", t("more_alerts", { count: count(alerts.length - NAMED_MAX), what: word("alert", kind) }), hint && t(hint), href);
    }
}

/** What somebody should look at, the worst first: `{ kind, text, detail, href }`. */
export function attention({ stats, endpoints, alerts }) {
    const items = [];
    const add = (kind, text, detail, href) => items.push({ kind, text, detail, href });
    if (!stats) return items;
    const { optimized_storage: storage, database, dropped } = stats;
    if (!database.ok && database.error) add("bad", t("database_failing"), say(database.error), "#/storage");
    const ailing = [...endpoints.values()].filter((endpoint) => !endpoint.paused && mood(endpoint.status) === "bad")
        .sort((one, other) => (natural(one.name) < natural(other.name) ? -1 : 1));
    for (const { name, status, reason } of ailing.slice(0, NAMED_MAX)) {
        add("bad", h(Name, { text: name }), say(reason) || word("status", status), endpointHref(name));
    }
    if (ailing.length > NAMED_MAX) add("bad", t("more_endpoints", { count: count(ailing.length - NAMED_MAX) }), t("more_endpoints_hint"), null);
    const known = new Set(ailing.map(({ name }) => name));
    const others = alerts.filter(({ kind, endpoint }) => kind !== "endpoint_offline" || !known.has(endpoint));
    for (const kind of new Set(others.map((alert) => alert.kind))) {
        alertItems(kind, others.filter((alert) => alert.kind === kind), add);
    }
    if (storage.buffer_usage_pct > 100) {
        add("warn", t("buffer_over", { usage: percent(storage.buffer_usage_pct) }), t("buffer_over_hint"), "#/storage");
    }
    if (storage.quarantined > 0) add("warn", t("quarantined", { count: count(storage.quarantined) }), t("quarantined_hint"), "#/storage");
    for (const [reason, number] of Object.entries(dropped)) {
        if (number > 0) add("warn", t("dropped", { count: count(number) }), `${word("not_kept", reason)} (${reason})`, "#/storage");
    }
    return items;
}

function Attention({ state }) {
    const items = attention(state);
    if (items.length === 0) {
        return state.stats && div({ class: "calm" }, span({ class: "dot good", "aria-hidden": "true" }), t("all_well"));
    }
    return h(Card, { title: t("needs_attention"), class: "attention" },
        ul(null, items.map(({ kind, text, detail, href }, index) =>
            li({ key: index, class: kind }, span({ class: `dot ${kind}`, "aria-hidden": "true" }),
                div(null, href ? a({ href }, text) : span({ class: "strong" }, text), detail && div({ class: "muted clamp", dir: "auto" }, plain(detail)))))));
}

/** Endpoints by status, and all their tunnels by status: a master that is away does not tell how its tunnels are. */
export function fleet(endpoints) {
    const masters = { OFFLINE: 0, FAIL: 0, DISCONNECT: 0, ONLINE: 0, paused: 0 };
    const tunnels = { error: 0, running: 0, stopped: 0, unknown: 0 };
    for (const endpoint of endpoints) {
        const status = endpoint.paused ? "paused" : endpoint.status;
        masters[status] = (masters[status] ?? 0) + 1;
        const { running, stopped, error, other } = endpoint.tunnel_statuses;
        if (isHeard(endpoint)) {
            tunnels.running += running;
            tunnels.stopped += stopped;
            tunnels.error += error;
            tunnels.unknown += other;
        } else {
            tunnels.unknown += running + stopped + error + other;
        }
    }
    return { masters, tunnels };
}

function Tiles({ state, traffic }) {
    const endpoints = [...state.endpoints.values()];
    const { optimized_storage: storage } = state.stats;
    const { masters, tunnels } = fleet(endpoints);
    const left = storage.next_boundary && (new Date(storage.next_boundary) - Date.now()) / 1000;
    return div({ class: "tiles" },
        h(Tile, { label: t("endpoints"), note: h(Statuses, { counts: Object.entries(masters) }) }, count(endpoints.length)),
        h(Tile, { label: t("tunnels"), note: h(Statuses, { counts: Object.entries(tunnels).map(([status, number]) => [status, number, tunnelsHref(status)]) }) },
            a({ href: "#/tunnels" }, count(sum(Object.values(tunnels))))),
        h(Tile, { label: t("traffic_now") }, h(Flow, {
            received: rate(sum(endpoints.map(rateIn))), sent: rate(sum(endpoints.map(rateOut))),
        })),
        h(Tile, { label: t("buffer"), href: "#/storage", note: left !== null && t("flush_in", { time: duration(left, 1) }) },
            count(storage.buffer_size), span({ class: "of" }, ` / ${count(storage.max_buffer_size)}`)),
        h(Moved, { row: traffic?.fleet, periods: traffic?.periods }));
}

const rateIn = (row) => present(row, "rate_in");
const rateOut = (row) => present(row, "rate_out");

const SEVERITY = { bad: 0, busy: 1, good: 2, off: 3 };

function columns(moved) {
    return [
        {
            id: "name", title: t("endpoint"), class: "main", sort: (row) => natural(row.name),
            cell: (row) => a({ href: endpointHref(row.name), class: "row-link" }, h(Name, { text: row.name }),
                span({ class: "below phone" }, h(Status, row))),
        },
        {
            id: "status", title: t("status"), class: "status-cell narrow", sort: (row) => SEVERITY[mood(row.status, row.paused)],
            cell: (row) => h(Status, row),
        },
        { id: "since", title: t("since"), class: "wider", sort: (row) => row.since, descending: true, cell: (row) => h(Since, { time: row.since, units: 1 }) },
        { id: "tunnels", title: t("tunnels"), class: "number narrow", sort: (row) => row.tunnels, descending: true, cell: (row) => count(row.tunnels) },
        { id: "now", title: t("now_head"), class: "number phone", sort: (row) => sum([rateIn(row), rateOut(row)]), descending: true, cell: (row) => h(Flow, { received: rate(rateIn(row)), sent: rate(rateOut(row)) }) },
        { id: "in", title: `↓ ${t("now_short")}`, class: "number narrow", sort: rateIn, descending: true, cell: (row) => rate(rateIn(row)) },
        { id: "out", title: `↑ ${t("now_short")}`, class: "number narrow", sort: rateOut, descending: true, cell: (row) => rate(rateOut(row)) },
        ...periodColumns((row) => moved.get(row.name)),
        { id: "version", title: t("version"), class: "wider", sort: (row) => row.version && natural(row.version), cell: (row) => h(Name, { text: row.version }) },
    ];
}

function Welcome() {
    return div({ class: "welcome" },
        h2(null, t("welcome")),
        p(null, t("welcome_text")),
        ol(null,
            li(null, t("welcome_key")),
            li(null, t("welcome_add")),
            li(null, t("welcome_wait"))),
        button({ class: "button primary", onclick: addEndpoint }, h(Icon, { name: "plus" }), t("add_endpoint")),
        p({ class: "muted" }, t("welcome_cli"), " ", code(null, "tidegate endpoint add tokyo http://10.0.0.5:9090/api")));
}

const load = async (signal) => {
    const [all, endpoints] = await Promise.all([get("traffic?by=fleet", signal), get("traffic?by=endpoint", signal)]);
    return { fleet: all.rows[0], periods: all.periods, moved: new Map(endpoints.rows.map((row) => [row.endpoint, row])) };
};

/** The view. */
export function Overview({ state }) {
    if (!state.stats) return p({ class: "muted" }, t("loading"));
    const aside = button({ class: "button primary", onclick: addEndpoint }, h(Icon, { name: "plus" }), t("add_endpoint"));
    if (state.loaded && state.endpoints.size === 0) return [h(Heading, { key: "head" }, t("overview")), h(Welcome, { key: "welcome" })];
    const rows = [...state.endpoints.values()];
    return [
        h(Heading, { key: "head", aside }, t("overview")),
        h(Loaded, {
            key: "all", of: "traffic", every: SUMS_EVERY, optional: true, load,
            view: (traffic) => [
                h(Tiles, { state, traffic }),
                h(Attention, { state }),
                fleetChart({ rate_in: sum(rows.map(rateIn)), rate_out: sum(rows.map(rateOut)) }),
                h(Card, { title: t("endpoints") },
                    h(Table, {
                        id: "endpoints", label: t("endpoints"), rows, rowKey: (row) => row.name, columns: columns(traffic?.moved ?? new Map()), order: "status",
                        filters: div({ class: "filters" }, h(PeriodChoice)), filtered: chosenPeriod(),
                        text: (row) => `${row.name} ${row.url} ${row.version ?? ""} ${row.status} ${say(row.reason)} ${word("status", row.status)}`,
                    })),
            ],
        }),
    ];
}
