// The buffer, its flushes and the database.
import { h } from "./vendor/preact.mjs";
import { api, get } from "./api.js";
import { Facts } from "./endpoint.js";
import { Alerts } from "./alerts.js";
import { attempt } from "./dialogs.js";
import { bytes, clock, count, decimal, duration, exact, millis, period, sum } from "./format.js";
import { say, t, word } from "./i18n.js";
import { Mode } from "./mode.js";
import { Card, Heading, Loaded, Notice, Since, tags, toast, When, Wide } from "./ui.js";

const { button, div, p, path, span, svg, table, tbody, td, th, thead, tr } = tags;

const FLUSHES_EVERY = 10_000;
const SIZES_EVERY = 60_000;
const FLUSHES_SHOWN = 50;

const flushNow = () => attempt(async () => {
    const { committed } = await api("POST", "flush");
    toast(t("flushed", { count: count(committed) }));
});

/** The buffer as water that rises to the mark at which it is let out. */
function Tank({ size, most, usage }) {
    const height = Math.min(100, usage);
    return div({ class: "tank-place" },
        div({
            class: `tank ${usage > 100 ? "over" : ""}`, role: "meter", "aria-label": t("buffer"),
            "aria-valuemin": 0, "aria-valuemax": most, "aria-valuenow": Math.min(size, most), "aria-valuetext": t("buffer_level", { size: count(size), most: count(most) }),
        },
            div({ class: "mark mark-full" }, span(null, count(most))),
            div({ class: "mark mark-half" }, span(null, count(Math.round(most / 2)))),
            div({ class: "water", style: { height: `${height}%` } },
                svg({ class: "wave", viewBox: "0 0 120 8", preserveAspectRatio: "none", "aria-hidden": "true" },
                    path({ d: "M0 4 Q7.5 0 15 4 T30 4 T45 4 T60 4 T75 4 T90 4 T105 4 T120 4 V8 H0 Z" })))),
        div({ class: "tank-number" }, span({ class: "big" }, count(size)), span({ class: "muted" }, t("events_waiting_of", { most: count(most) }))));
}

/** Write transactions beside what one per event would have been. */
function Saved({ sizes }) {
    const { write_transactions: ours, per_event_transactions: each } = sizes;
    if (!each) return p({ class: "muted nothing" }, t("none_yet"));
    const share = Math.min(100, (ours / each) * 100);
    const bar = (name, label, value, width) => div({ class: "bar-row" }, span({ class: "bar-label" }, label),
        div({ class: "bar-track" }, div({ class: `bar ${name}`, style: { width: `${Math.max(0.5, width)}%` } })), span({ class: "bar-value" }, count(value)));
    return div({ class: "bars" },
        bar("ours", t("batched_writes"), ours, share),
        bar("theirs", t("one_per_event"), each, 100),
        p({ class: "muted" }, t("writes_saved", { times: decimal(each / Math.max(1, ours)) })));
}

/** Seconds that grow by themselves, since the stats were sent. */
const grown = (seconds, { statsAt }) => (seconds ?? null) === null ? null : seconds + (Date.now() - statsAt) / 1000;

function Buffer({ state }) {
    const { stats } = state;
    const storage = stats.optimized_storage;
    const boundary = storage.next_boundary && new Date(storage.next_boundary);
    const waits = storage.buffer_size > 0 ? duration(grown(storage.oldest_unflushed_s, state)) : null;
    return h(Card, { title: t("buffer"), aside: button({ class: "button primary", onclick: flushNow }, t("flush_now")) },
        div({ class: "buffer" },
            h(Tank, { size: storage.buffer_size, most: storage.max_buffer_size, usage: storage.buffer_usage_pct }),
            h(Facts, {
                facts: [
                    [t("next_boundary"), boundary && span({ title: exact(boundary) }, `${clock(boundary)} · ${t("in_time", { time: duration((boundary - Date.now()) / 1000) })}`)],
                    [t("last_flush"), storage.last_flush_time === null ? t("none_yet") : t("in_storage_zone", { time: storage.last_flush_time })],
                    [t("oldest_event"), waits && t("waits_since", { time: waits })],
                    [t("size"), bytes(storage.buffer_bytes)],
                    [t("batches_waiting"), count(storage.waiting_batches)],
                    [t("flush_time"), storage.flush_ms.mean === null ? null : span({ title: t("flush_time_hint") }, t("mean_and_p99", { mean: millis(storage.flush_ms.mean), p99: millis(storage.flush_ms.p99) }))],
                    [t("flushes_by_cause"), Object.entries(storage.flushes).filter(([, n]) => n > 0).map(([cause, n]) => `${word("cause", cause)} ${count(n)}`).join(", ")],
                    [t("updates_per_transaction"), storage.updates_per_transaction === null ? null : count(Math.round(storage.updates_per_transaction * 10) / 10)],
                    [t("rows_written"), count(storage.rows_written)],
                    [t("failures"), storage.failures > 0 ? count(storage.failures) : null],
                    [t("quarantined_rows"), storage.quarantined > 0 ? count(storage.quarantined) : null],
                ],
            })));
}

function FlushTable({ flushes }) {
    if (flushes.length === 0) return p({ class: "muted nothing" }, t("none_yet"));
    const longest = Math.max(...flushes.map((flush) => flush.duration_us));
    return div({ class: "scroll tall", tabindex: 0, role: "group", "aria-label": t("flushes") }, table({ class: "plain" },
        thead(null, tr(null, th(null, t("when")), th(null, t("cause")), th({ class: "number" }, t("rows")), th({ class: "number", title: t("in_transaction_hint") }, t("in_transaction")), th({ class: "wide", "aria-hidden": "true" }))),
        tbody(null, flushes.map((flush) => tr({ key: flush.id },
            td(null, h(When, { time: flush.cut_at })),
            td(null, span({ class: `tag ${flush.cause}` }, word("cause", flush.cause))),
            td({ class: "number" }, count(flush.rows), flush.quarantined > 0 && span({ class: "bad" }, ` +${t("quarantined_short", { count: count(flush.quarantined) })}`)),
            td({ class: "number" }, millis(flush.duration_us / 1000)),
            td({ class: "wide spark", "aria-hidden": "true" }, div({ style: { width: `${(flush.duration_us / longest) * 100}%` } })))))));
}

function Sizes({ sizes, stats }) {
    const largest = Math.max(1, ...sizes.tables.map((one) => one.bytes ?? 0));
    const byUse = [...sizes.tables].sort((one, other) => (other.bytes ?? 0) - (one.bytes ?? 0));
    const retention = (seconds) => (seconds === null || seconds === undefined ? t("kept") : seconds === 0 ? t("for_ever") : period(seconds));
    return [
        h(Facts, {
            key: "facts",
            facts: [
                [t("database_size"), bytes(sizes.database_bytes)],
                [t("free_inside"), bytes(sizes.free_bytes)],
                [t("journal"), t("of_most", { size: bytes(sizes.journal_bytes), most: bytes(sizes.journal_max_bytes) })],
                [t("database"), stats.database.ok ? t("works") : say(stats.database.error) ?? t("not_tried_yet")],
            ],
        }),
        h(Wide, { key: "tables", label: t("database") }, table({ class: "plain" },
            thead(null, tr(null, th(null, t("table")), th({ class: "number" }, t("size")), th({ class: "number narrow" }, t("rows")), th({ class: "narrow" }, t("oldest")), th(null, t("retention")), th({ class: "wide", "aria-hidden": "true" }))),
            tbody(null, byUse.map((one) => tr({ key: one.name },
                td(null, one.name),
                td({ class: "number" }, bytes(one.bytes)),
                td({ class: "number narrow" }, count(one.rows)),
                td({ class: "narrow" }, h(Since, { time: one.oldest, units: 1 })),
                td(null, retention(one.retention_s)),
                td({ class: "wide spark", "aria-hidden": "true" }, div({ style: { width: `${((one.bytes ?? 0) / largest) * 100}%` } }))))))),
    ];
}

function Process({ state }) {
    const { process, mode } = state.stats;
    return h(Card, { title: t("process") }, h(Facts, {
        facts: [
            [t("version"), process?.version],
            [t("uptime"), duration(grown(process?.uptime_s, state))],
            [t("memory"), bytes(process?.rss_bytes)],
            [t("mode"), word("mode", mode)],
        ],
    }));
}

/** The view. */
export function Storage({ state }) {
    const { stats } = state;
    if (!stats) return p({ class: "muted" }, t("loading"));
    const { database } = stats;
    return [
        h(Heading, { key: "head" }, t("storage")),
        !database.ok && database.error && h(Notice, { key: "database" }, `${t("database_failing")}: ${say(database.error)}`),
        h(Buffer, { key: "buffer", state }),
        h(Mode, { key: "mode" }),
        h(Card, { key: "flushes", title: t("last_flushes") }, h(Loaded, {
            // As soon as another one is told of.
            of: sum(Object.values(stats.optimized_storage.flushes)), every: FLUSHES_EVERY, load: (signal) => get(`flushes?limit=${FLUSHES_SHOWN}`, signal), view: FlushTable,
        })),
        h(Loaded, {
            key: "sizes", optional: true, of: "storage", every: SIZES_EVERY, load: (signal) => get("storage", signal),
            view: (sizes) => div({ class: "columns" },
                sizes && h(Card, { title: t("database") }, h(Sizes, { sizes, stats })),
                div({ class: "stack" },
                    sizes && h(Card, { title: t("write_transactions") }, h(Saved, { sizes })),
                    h(Alerts),
                    h(Process, { state }))),
        }),
    ];
}
