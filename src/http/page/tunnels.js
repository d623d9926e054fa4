// All tunnels, and the table of tunnels that an endpoint's view has too.
import { Component, h } from "./vendor/preact.mjs";
import { bytes, count, millis, rate, sum } from "./format.js";
import { t, word } from "./i18n.js";
import { present, standing } from "./state.js";
import { natural, Table } from "./table.js";
import { chosenPeriod, PeriodChoice, periodColumns } from "./traffic.js";
import { Flow, Heading, mood, Name, Status, tags } from "./ui.js";

const { a, div, option, p, select, span } = tags;

/** Where a tunnel is shown. */
export const tunnelHref = ({ endpoint, instance_id: id }) => `#/tunnel/${encodeURIComponent(endpoint)}/${encodeURIComponent(id)}`;

/** Bytes received, over both protocols. */
export const received = (tunnel) => tunnel.tcp_rx + tunnel.udp_rx;
/** Bytes sent, likewise. */
export const sent = (tunnel) => tunnel.tcp_tx + tunnel.udp_tx;
/** Open connections and sessions; null where the master tells of neither. */
export const connections = ({ tcps, udps }) => (tcps === null && udps === null ? null : (tcps ?? 0) + (udps ?? 0));

const SEVERITY = { bad: 0, busy: 1, good: 2, off: 3 };

/** Where all tunnels of a status are shown. */
export const tunnelsHref = (status) => `#/tunnels/${encodeURIComponent(status)}`;

function columns(withEndpoint, moved) {
    const number = (id, title, value, format, hidden = "") => ({
        id, title, class: `number ${hidden}`, descending: true, sort: value, cell: (row) => format(value(row)),
    });
    const now = (name) => (row) => present(row, name);
    return [
        {
            id: "name", title: t("tunnel"), class: "main", sort: (row) => natural(row.alias || row.instance_id),
            cell: (row) => a({ href: tunnelHref(row), class: "row-link" }, h(Name, { text: row.alias || row.instance_id }),
                span({ class: "below" }, span({ class: "phone" }, h(Status, { status: standing(row) }), " · "), withEndpoint && [h(Name, { text: row.endpoint }), " · "], word("type", row.type))),
        },
        { id: "status", title: t("status"), class: "status-cell narrow", sort: (row) => SEVERITY[mood(standing(row))], cell: (row) => h(Status, { status: standing(row) }) },
        {
            id: "now", title: t("now_head"), class: "number phone", descending: true, sort: (row) => sum([now("rate_in")(row), now("rate_out")(row)]),
            cell: (row) => h(Flow, { received: rate(now("rate_in")(row)), sent: rate(now("rate_out")(row)) }),
        },
        number("in", `↓ ${t("now_short")}`, now("rate_in"), rate, "narrow"),
        number("out", `↑ ${t("now_short")}`, now("rate_out"), rate, "narrow"),
        number("ping", t("ping"), now("ping"), millis, "narrow"),
        // Beside the traffic of a period they need more room than beside none.
        number("pool", t("pool"), now("pool"), count, moved ? "wider" : "wide"),
        number("connections", t("connections"), (row) => connections({ tcps: now("tcps")(row), udps: now("udps")(row) }), count, moved ? "wider" : "wide"),
        // One or the other: with both there is no room for names.
        ...(moved ? periodColumns((row) => moved.get(row.instance_id)) : [
            number("received", `↓ ${t("total")}`, received, bytes, "wider"),
            number("sent", `↑ ${t("total")}`, sent, bytes, "wider"),
        ]),
    ];
}

const ROW = { status: standing, type: (row) => row.type };

/**
 * Tunnels with filters by status and role. Props: `id`, `rows`, `withEndpoint`, `empty`, `status` (the filter to begin with), `moved`
 * (traffic by instance, where it is known).
 */
export class TunnelTable extends Component {
    constructor(props) {
        super(props);
        this.state = { status: props.status ?? "", type: "" };
    }

    choice(name, label, values) {
        return select({ "aria-label": label, value: this.state[name], onchange: (event) => this.setState({ [name]: event.target.value }) },
            option({ value: "" }, label),
            values.map((value) => option({ value, key: value }, word(name, value))));
    }

    render({ id, rows, withEndpoint, empty, moved }, { status, type }) {
        // What is chosen stays a choice when the last one of it is gone.
        const known = (name) => [...new Set([...rows.map(ROW[name]), ...[this.state[name]].filter(Boolean)])].sort();
        const wanted = rows.filter((row) => (status === "" || standing(row) === status) && (type === "" || row.type === type));
        return h(Table, {
            id, label: t("tunnels"), rows: wanted, filtered: `${status} ${type} ${chosenPeriod()}`, rowKey: (row) => `${row.endpoint}/${row.instance_id}`,
            columns: columns(withEndpoint, moved), order: "name", empty: rows.length === 0 ? empty : p({ class: "muted nothing" }, t("nothing_found")),
            text: (row) => `${row.alias} ${row.instance_id} ${row.endpoint} ${row.type} ${row.status} ${row.url}`,
            filters: div({ class: "filters" }, this.choice("status", t("any_status"), known("status")), this.choice("type", t("any_type"), known("type")), moved && h(PeriodChoice)),
        });
    }
}

/** The view. */
export function Tunnels({ state, status }) {
    const empty = p({ class: "muted nothing" }, t(state.loaded ? "no_tunnels" : "loading"));
    return [
        h(Heading, { key: "head" }, t("tunnels")),
        div({ key: "table", class: "card" }, h(TunnelTable, { id: "all-tunnels", status, rows: [...state.tunnels.values()], withEndpoint: true, empty })),
    ];
}
