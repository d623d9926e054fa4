// One tunnel.
import { Component, h } from "./vendor/preact.mjs";
import { ansi } from "./ansi.js";
import { get, query } from "./api.js";
import { Facts, Gaps } from "./endpoint.js";
import { bytes, clock, count, day, exact, millis, plain, rate } from "./format.js";
import { t, word } from "./i18n.js";
import { endpointHref } from "./overview.js";
import { isHeard, standing } from "./state.js";
import { Moved, SUMS_EVERY, tunnelCharts } from "./traffic.js";
import { connections, received, sent } from "./tunnels.js";
import { Card, Flow, Heading, Loaded, Name, Notice, Status, tags, Tile, When } from "./ui.js";

const { a, button, code, div, li, ol, option, p, select, span, time: timeTag } = tags;

const EVENTS_PAGE = 100;
/** Empty pages that are passed over before the reader is asked to go on. */
const EMPTY_PAGES_MAX = 10;
const EVENTS_EVERY = 15_000;
/** Kinds whose counters say something. */
const COUNTING = ["initial", "create", "update"];
const KINDS = ["update", "log", "create", "delete", "initial"];

/** What an event says besides its kind. */
function told(event) {
    if (event.logs) return span({ class: "log", dir: "auto" }, ansi(event.logs).map(([text, kind, style], index) => span({ key: index, class: kind, style }, text)));
    const said = [];
    if (event.status) said.push(h(Status, { key: "status", status: event.status }));
    if (COUNTING.includes(event.kind)) {
        said.push(span({ key: "bytes", class: "muted" }, `↓ ${bytes(event.tcp_rx + event.udp_rx)} ↑ ${bytes(event.tcp_tx + event.udp_tx)}`));
    }
    if ((event.ping ?? null) !== null) said.push(span({ key: "ping", class: "muted" }, millis(event.ping)));
    if (event.detail) said.push(code({ key: "detail", class: "detail", dir: "auto" }, plain(typeof event.detail === "string" ? event.detail : JSON.stringify(event.detail))));
    return said;
}

function Event({ event }) {
    const at = new Date(event.received);
    return li({ class: "event" },
        timeTag({ datetime: event.received, title: exact(at) }, `${day(at)} ${clock(at, true)}`),
        span({ class: "kind" }, word("kind", event.kind)),
        span({ class: "told" }, told(event)),
        !event.stored && span({ class: "tag", title: t("in_memory_hint") }, t("in_memory")));
}

/** Events newest first: the first page is kept up to date, older ones are asked for. */
class Events extends Component {
    state = { kind: "log", events: null, next: null, unseen: 0, error: null };

    componentDidMount() {
        this.refresh();
    }

    componentWillUnmount() {
        clearTimeout(this.timer);
        this.gone = true;
    }

    path(cursor) {
        return query("events", { tunnel: this.props.tunnel, kind: this.state.kind, limit: EVENTS_PAGE, cursor });
    }

    async read(cursor) {
        const { kind } = this.state;
        try {
            const page = await this.page(cursor);
            if (this.gone || kind !== this.state.kind) return;
            this.setState(({ events, next }) => ({ ...merged(events ?? [], next, page, cursor), unseen: page.in_journal_only }));
        } catch (problem) {
            if (!this.gone) this.setState({ error: problem.message });
        }
    }

    /** A page with a filter may be empty though there is more: the recorder looks at a bounded number of rows for it. */
    async page(cursor) {
        let page = await get(this.path(cursor));
        for (let more = 0; more < EMPTY_PAGES_MAX && page.events.length === 0 && page.next !== null; more += 1) {
            page = await get(this.path(page.next));
        }
        return page;
    }

    async refresh() {
        clearTimeout(this.timer);
        await this.read(null);
        if (!this.gone) this.timer = setTimeout(() => this.refresh(), EVENTS_EVERY);
    }

    choose(kind) {
        this.setState({ kind, events: null, next: null, error: null }, () => this.refresh());
    }

    render(_, { kind, events, next, unseen, error }) {
        const aside = select({ "aria-label": t("kind_of_event"), value: kind, onchange: (event) => this.choose(event.target.value) },
            option({ value: "" }, t("all_events")), KINDS.map((one) => option({ key: one, value: one }, word("kind", one))));
        return h(Card, { title: t("events"), aside },
            error && h(Notice, null, error),
            events === null ? !error && p({ class: "muted" }, t("loading"))
                : events.length === 0 ? p({ class: "muted nothing" }, t(next ? "no_events_so_far" : "no_events"))
                    : ol({ class: "events", tabindex: 0, "aria-label": t("events") }, events.map((event) => h(Event, { key: event.id, event }))),
            unseen > 0 && p({ class: "muted" }, t("in_journal_only", { count: count(unseen) })),
            next && button({ class: "button", onclick: () => this.read(next) }, t("older")));
    }
}

/** Puts a page beside what is there. A first page that does not meet what is there replaces it: nothing between may be missing. */
function merged(events, next, page, cursor) {
    if (cursor) return { events: [...events, ...page.events], next: page.next, error: null };
    const known = new Map(events.map((event) => [event.id, event]));
    const meets = page.events.some((event) => known.has(event.id));
    if (!meets) return { events: page.events, next: page.next, error: null };
    const fresh = new Set(page.events.map((event) => event.id));
    return { events: [...page.events, ...events.filter((event) => !fresh.has(event.id))], next: next ?? page.next, error: null };
}

/** Sums of a tunnel's traffic. Its row is among those of its endpoint. */
const sums = (endpoint, id) => async (signal) => {
    const { periods, rows } = await get(query("traffic", { by: "tunnel", endpoint }), signal);
    return { periods, row: rows.find((row) => row.instance_id === id) };
};

/** The view. */
export function Tunnel({ state, endpoint, id }) {
    const tunnel = state.tunnels.get(`${endpoint}/${id}`);
    const above = [a({ href: "#/" }, t("overview")), " / ", a({ href: endpointHref(endpoint) }, h(Name, { text: endpoint }))];
    const title = h(Name, { text: tunnel?.alias || id });
    // Of an endpoint that is not there nothing can be asked.
    if (!state.endpoints.has(endpoint)) return [h(Heading, { key: "head", above }, title), p({ key: "none", class: "muted" }, t(state.loaded ? "no_such_endpoint" : "loading"))];
    const scope = { tunnel: `${endpoint}/${id}` };
    const now = tunnel && standing(tunnel);
    const { rate_in, rate_out, ping, pool, tcps, udps } = tunnel ?? {};
    const heard = isHeard(state.endpoints.get(endpoint));
    const live = heard && tunnel ? { rate_in, rate_out, ping, pool, tcps, udps } : {};
    const last = !heard && t("told_last_short");
    return [
        h(Heading, { key: "head", above }, title),
        tunnel ? h(Loaded, {
            key: "tiles", of: scope.tunnel, every: SUMS_EVERY, optional: true, load: sums(endpoint, id),
            view: (traffic) => div({ class: "tiles" },
                h(Tile, { label: t("status"), note: [word("type", tunnel.type), now !== tunnel.status && ` · ${t("told_last", { status: word("status", tunnel.status) })}`] }, h(Status, { status: now })),
                h(Tile, { label: t("traffic_now") }, h(Flow, { received: rate(live.rate_in), sent: rate(live.rate_out) })),
                h(Tile, { label: t("ping"), note: last }, millis(tunnel.ping)),
                h(Tile, { label: t("pool"), note: last }, count(tunnel.pool)),
                h(Tile, { label: t("connections"), note: [`TCP ${count(tunnel.tcps)} · UDP ${count(tunnel.udps)}`, last && ` · ${last}`] }, count(connections(tunnel))),
                h(Tile, { label: t("traffic_total") }, h(Flow, { received: bytes(received(tunnel)), sent: bytes(sent(tunnel)) })),
                h(Moved, { row: traffic?.row, periods: traffic?.periods })),
        }) : p({ key: "none", class: "muted" }, t(state.loaded ? "no_such_tunnel" : "loading")),
        tunnelCharts(endpoint, id, live),
        h(Events, { key: `events ${endpoint}/${id}`, tunnel: scope.tunnel }),
        div({ key: "more", class: "columns" },
            tunnel && h(Card, { title: t("details") }, h(Facts, {
                facts: [
                    [t("instance_id"), code(null, h(Name, { text: tunnel.instance_id }))],
                    [t("alias"), tunnel.alias && div({ class: "break", tabindex: 0 }, h(Name, { text: tunnel.alias }))],
                    [t("command"), code({ class: "break", dir: "auto", tabindex: 0 }, plain(tunnel.url))],
                    [t("tcp"), h(Flow, { received: bytes(tunnel.tcp_rx), sent: bytes(tunnel.tcp_tx) })],
                    [t("udp"), h(Flow, { received: bytes(tunnel.udp_rx), sent: bytes(tunnel.udp_tx) })],
                    [t("last_event"), h(When, { time: tunnel.last_event_time })],
                ],
            })),
            h(Gaps, { scope })),
    ];
}
