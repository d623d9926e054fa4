// The fleet at a glance.
import { h } from "./vendor/preact.mjs";
import { get } from "./api.js";
import { fleetChart } from "./traffic.js";
import { addEndpoint } from "./dialogs.js";
import { bytes, count, duration, percent, rate, sum } from "./format.js";
import { t, word } from "./i18n.js";
import { natural, Table } from "./table.js";
import { tunnelHref } from "./tunnels.js";
import { Card, Flow, Heading, Icon, Loaded, mood, Name, Since, Status, tags, Tile } from "./ui.js";

const { a, button, code, div, h2, li, ol, p, span, ul } = tags;

/** Endpoints that are named one by one before the rest is counted. */
const NAMED_MAX = 6;
const TRAFFIC_EVERY = 60_000;

/** Where an endpoint is shown. */
export const endpointHref = (name) => `#/endpoint/${encodeURIComponent(name)}`;

/** What somebody should look at, the worst first: `{ kind, text, detail, href }`. */
export function attention({ stats, endpoints, alerts }) {
    const items = [];
    const add = (kind, text, detail, href) => items.push({ kind, text, detail, href });
    if (!stats) return items;
    const { optimized_storage: storage, database, dropped } = stats;
    if (!database.ok && database.error) add("bad", t("database_failing"), database.error, "#/storage");
    const ailing = [...endpoints.values()].filter((endpoint) => !endpoint.paused && mood(endpoint.status) === "bad");
    for (const { name, status, reason } of ailing.slice(0, NAMED_MAX)) {
        add("bad", h(Name, { text: name }), reason || word("status", status), endpointHref(name));
    }
    if (ailing.length > NAMED_MAX) add("bad", t("more_endpoints", { count: count(ailing.length - NAMED_MAX) }), t("more_endpoints_hint"), null);
    for (const { kind, endpoint, instance_id: id, text } of alerts) {
        if (kind === "endpoint_offline" && ailing.some(({ name }) => name === endpoint)) continue;
        const href = endpoint === null ? "#/storage" : id === null ? endpointHref(endpoint) : tunnelHref({ endpoint, instance_id: id });
        add("warn", word("alert", kind), text, href);
    }
    if (storage.buffer_usage_pct > 100) {
        add("warn", t("buffer_over", { usage: percent(storage.buffer_usage_pct) }), t("buffer_over_hint"), "#/storage");
    }
    if (storage.quarantined > 0) add("warn", t("quarantined", { count: count(storage.quarantined) }), t("quarantined_hint"), "#/storage");
    for (const [reason, number] of Object.entries(dropped)) {
        if (number > 0) add("warn", t("dropped", { count: count(number) }), reason, "#/storage");
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
                div(null, href ? a({ href }, text) : span({ class: "strong" }, text), detail && div({ class: "muted clamp", dir: "auto" }, detail))))));
}

function Tiles({ state, fleet }) {
    const endpoints = [...state.endpoints.values()];
    const { optimized_storage: storage } = state.stats;
    const active = endpoints.filter((endpoint) => !endpoint.paused);
    const online = active.filter((endpoint) => mood(endpoint.status) === "good").length;
    const paused = endpoints.length - active.length;
    const flow = (received, sent) => h(Flow, { received, sent });
    const left = storage.next_boundary && (new Date(storage.next_boundary) - Date.now()) / 1000;
    return div({ class: "tiles" },
        h(Tile, { label: t("endpoints_online"), note: paused > 0 && t("and_paused", { count: count(paused) }) },
            count(online), span({ class: "of" }, ` / ${count(active.length)}`)),
        h(Tile, { label: t("tunnels"), href: "#/tunnels" }, count(sum(endpoints.map((endpoint) => endpoint.tunnels)) ?? 0)),
        h(Tile, { label: t("traffic_now") },
            flow(rate(sum(endpoints.map((endpoint) => endpoint.rate_in))), rate(sum(endpoints.map((endpoint) => endpoint.rate_out))))),
        h(Tile, { label: t("traffic_today") }, flow(bytes(fleet?.today.in), bytes(fleet?.today.out))),
        h(Tile, { label: t("buffer"), href: "#/storage", note: left !== null && t("flush_in", { time: duration(left, 1) }) },
            count(storage.buffer_size), span({ class: "of" }, ` / ${count(storage.max_buffer_size)}`)));
}

const SEVERITY = { bad: 0, busy: 1, good: 2, off: 3 };

function columns(today) {
    const of = (name, direction) => today.get(name)?.today[direction];
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
        { id: "since", title: t("since"), class: "wide", sort: (row) => row.since, descending: true, cell: (row) => h(Since, { time: row.since, units: 1 }) },
        { id: "tunnels", title: t("tunnels"), class: "number narrow", sort: (row) => row.tunnels, descending: true, cell: (row) => count(row.tunnels) },
        { id: "now", title: t("now_head"), class: "number phone", sort: (row) => sum([row.rate_in, row.rate_out]), descending: true, cell: (row) => h(Flow, { received: rate(row.rate_in), sent: rate(row.rate_out) }) },
        { id: "in", title: `↓ ${t("now_short")}`, class: "number narrow", sort: (row) => row.rate_in, descending: true, cell: (row) => rate(row.rate_in) },
        { id: "out", title: `↑ ${t("now_short")}`, class: "number narrow", sort: (row) => row.rate_out, descending: true, cell: (row) => rate(row.rate_out) },
        { id: "today_in", title: `↓ ${t("today")}`, class: "number wide", sort: (row) => of(row.name, "in"), descending: true, cell: (row) => bytes(of(row.name, "in")) },
        { id: "today_out", title: `↑ ${t("today")}`, class: "number wide", sort: (row) => of(row.name, "out"), descending: true, cell: (row) => bytes(of(row.name, "out")) },
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
    const [fleet, endpoints] = await Promise.all([get("traffic?by=fleet", signal), get("traffic?by=endpoint", signal)]);
    return { fleet: fleet.rows[0], today: new Map(endpoints.rows.map((row) => [row.endpoint, row])) };
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
            key: "all", of: "traffic", every: TRAFFIC_EVERY, optional: true, load,
            view: (traffic) => [
                h(Tiles, { state, fleet: traffic?.fleet }),
                h(Attention, { state }),
                fleetChart(),
                h(Card, { title: t("endpoints") },
                    h(Table, {
                        id: "endpoints", label: t("endpoints"), rows, rowKey: (row) => row.name, columns: columns(traffic?.today ?? new Map()), order: "status",
                        text: (row) => `${row.name} ${row.url} ${row.version ?? ""} ${row.status} ${row.reason} ${word("status", row.status)}`,
                    })),
            ],
        }),
    ];
}
