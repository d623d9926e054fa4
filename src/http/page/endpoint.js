// One endpoint.
import { h } from "./vendor/preact.mjs";
import { get, query } from "./api.js";
import { editEndpoint, pauseEndpoint, probeEndpoint, removeEndpoint, trustEndpoint } from "./dialogs.js";
import { count, duration, plain, rate } from "./format.js";
import { say, t, word } from "./i18n.js";
import { fleet } from "./overview.js";
import { present } from "./state.js";
import { endpointChart, Moved, SUMS_EVERY } from "./traffic.js";
import { TunnelTable } from "./tunnels.js";
import { Card, Flow, Heading, Loaded, mood, Name, Notice, Since, Status, Statuses, tags, Tile, When, Wide } from "./ui.js";

const { a, button, code, dd, div, dl, dt, p, table, tbody, td, th, thead, tr } = tags;

const GAPS_EVERY = 60_000;
const GAPS_SHOWN = 20;

/** Names and values; what has no value is left out. */
export function Facts({ facts }) {
    const given = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
    return dl({ class: "facts" }, given.map(([name, value]) => div({ key: name }, dt(null, name), dd(null, value))));
}

/** Times in which nothing was heard of an endpoint or of one tunnel. */
export function Gaps({ scope }) {
    const path = query("gaps", { ...scope, limit: GAPS_SHOWN });
    const view = ({ gaps }) => gaps.length === 0
        ? p({ class: "muted nothing" }, t("no_gaps"))
        : h(Wide, { label: t("gaps") }, table({ class: "plain" },
            thead(null, tr(null, th(null, t("from")), th(null, t("lasted")), th(null, t("why")))),
            tbody(null, gaps.map((gap) => tr({ key: gap.id },
                td(null, h(When, { time: gap.from })),
                td(null, gap.to ? duration((new Date(gap.to) - new Date(gap.from)) / 1000) : t("still_going")),
                td({ dir: "auto" }, word("gap", gap.reason)))))));
    return h(Card, { title: t("gaps") }, h(Loaded, { of: path, every: GAPS_EVERY, load: (signal) => get(path, signal), view }));
}

/** Sums of an endpoint's traffic: `{ periods, endpoint, moved }`, the last by instance. */
const sums = (name) => async (signal) => {
    const [whole, each] = await Promise.all(["endpoint", "tunnel"].map((by) => get(query("traffic", { by, endpoint: name }), signal)));
    return { periods: whole.periods, endpoint: whole.rows[0], moved: new Map(each.rows.map((row) => [row.instance_id, row])) };
};
const NONE = { periods: null, endpoint: null, moved: new Map() };

function tlsText({ tls, pin }) {
    return tls === "pin" ? `${t("tls.pin")}: ${pin ?? t("pin_next")}` : t(`tls.${tls}`);
}

/** The view. */
export function Endpoint({ state, name }) {
    const endpoint = state.endpoints.get(name);
    const above = a({ href: "#/" }, t("overview"));
    if (!endpoint) return [h(Heading, { key: "head", above }, h(Name, { text: name })), p({ key: "none", class: "muted" }, t(state.loaded ? "no_such_endpoint" : "loading"))];
    const counters = state.stats?.endpoints.find((one) => one.name === name);
    const rows = [...state.tunnels.values()].filter((tunnel) => tunnel.endpoint === name);
    const act = (text, action, kind = "") => button({ class: `button ${kind}`, onclick: () => action(endpoint) }, text);
    const aside = [
        act(t("probe"), probeEndpoint),
        act(t("edit"), editEndpoint),
        act(t(endpoint.paused ? "resume" : "pause"), pauseEndpoint),
        endpoint.tls === "pin" && act(t("trust"), trustEndpoint),
        act(t("remove"), removeEndpoint, "danger"),
    ];
    const live = { rate_in: present(endpoint, "rate_in"), rate_out: present(endpoint, "rate_out") };
    const view = (traffic) => [
        endpoint.reason && h(Notice, { key: "reason", kind: mood(endpoint.status, endpoint.paused) === "bad" ? "bad" : "info" }, plain(say(endpoint.reason))),
        div({ key: "tiles", class: "tiles" },
            h(Tile, { label: t("status"), note: [t("for"), " ", h(Since, { time: endpoint.since })] }, h(Status, endpoint)),
            h(Tile, { label: t("traffic_now") }, h(Flow, { received: rate(live.rate_in), sent: rate(live.rate_out) })),
            h(Tile, { label: t("tunnels"), note: h(Statuses, { counts: Object.entries(fleet([endpoint]).tunnels) }) }, count(endpoint.tunnels)),
            h(Tile, { label: t("version") }, h(Name, { text: endpoint.version })),
            h(Moved, { row: traffic.endpoint, periods: traffic.periods })),
        div({ key: "chart" }, endpointChart(name, live)),
        h(Card, { key: "tunnels", title: t("tunnels") },
            h(TunnelTable, { id: "endpoint-tunnels", rows, moved: traffic.moved, empty: p({ class: "muted nothing" }, t(state.loaded ? "no_tunnels" : "loading")) })),
        div({ key: "more", class: "columns" },
            h(Card, { title: t("details") }, h(Facts, {
                facts: [
                    [t("url"), code(null, endpoint.url)],
                    [t("tls"), endpoint.url.startsWith("https") ? tlsText(endpoint) : null],
                    [t("master_id"), endpoint.master_id && code(null, endpoint.master_id)],
                    [t("last_heard"), h(When, { time: endpoint.last_heard })],
                    [t("store_logs"), endpoint.log_events === null ? t("as_configured") : t(endpoint.log_events ? "yes" : "no")],
                    [t("events_received"), count(counters?.events_received)],
                    [t("reconnects"), count(counters?.reconnects)],
                    [t("reports_missed"), count(counters?.reports_missed)],
                ],
            })),
            h(Gaps, { scope: { endpoint: name } })),
    ];
    return [
        h(Heading, { key: "head", above, aside }, h(Name, { text: name })),
        h(Loaded, { key: `traffic ${name}`, of: name, every: SUMS_EVERY, optional: true, load: sums(name), view: (traffic) => view(traffic ?? NONE) }),
    ];
}
