// A table of many rows: searched, sorted, and only drawn where it is seen. It scrolls with the page.
import { Component, createRef } from "./vendor/preact.mjs";
import { t } from "./i18n.js";
import { count } from "./format.js";
import { tags } from "./ui.js";

const { button, div, input, p, span, table, tbody, td, th, thead, tr } = tags;

/** Rows drawn above and below what is seen, so that a jump with the keyboard lands on a row that is there. */
const BEYOND = 12;
/** Fewer rows than this are all drawn. */
const ALL_BELOW = 60;

/** Search and order outlive the view: whoever comes back finds the table as it was left. */
const kept = new Map();

const texts = new WeakMap();

/** A text by which "load-2" comes before "load-10". */
export function natural(text) {
    return text.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));
}

function searched(row, text) {
    let found = texts.get(row);
    if (found === undefined) texts.set(row, (found = text(row).toLowerCase()));
    return found;
}

/** The rows that match all words, in order. What has no value comes last, either way. */
export function arrange(rows, { words, text, by, descending, key }) {
    const matching = words.length === 0 ? rows : rows.filter((row) => words.every((word) => searched(row, text).includes(word)));
    const decorated = matching.map((row) => [by(row), key(row), row]);
    const sign = descending ? -1 : 1;
    decorated.sort(([one, oneKey], [other, otherKey]) => {
        const none = (one ?? null) === null ? 1 : 0;
        const otherNone = (other ?? null) === null ? 1 : 0;
        if (none !== otherNone) return none - otherNone;
        if (one < other) return -sign;
        if (one > other) return sign;
        return oneKey < otherKey ? -1 : 1;
    });
    return decorated.map(([, , row]) => row);
}

/**
 * Props: `id`, `label`, `rows`, `rowKey(row)`, `text(row)` for the search, `columns` of `{ id, title, cell(row), sort(row), class, descending }`,
 * `order` (the column's id to begin with), `empty` (shown without rows), `filters` (drawn beside the search).
 */
export class Table extends Component {
    body = createRef();
    held = null;

    constructor(props) {
        super(props);
        this.state = { search: "", order: props.order, descending: false, first: 0, last: ALL_BELOW, ...kept.get(props.id) };
        this.look = () => this.measure();
    }

    componentDidMount() {
        addEventListener("scroll", this.look, { passive: true });
        addEventListener("resize", this.look);
        this.measure();
    }

    componentDidUpdate() {
        this.measure();
    }

    componentWillUnmount() {
        removeEventListener("scroll", this.look);
        removeEventListener("resize", this.look);
        const { search, order, descending } = this.state;
        kept.set(this.props.id, { search, order, descending });
    }

    rowHeight() {
        return parseFloat(getComputedStyle(this.body.current).getPropertyValue("--row")) || 44;
    }

    measure() {
        if (!this.body.current) return;
        const height = this.rowHeight();
        const top = -this.body.current.getBoundingClientRect().top;
        const first = Math.max(0, Math.floor(top / height) - BEYOND);
        const last = Math.ceil((top + innerHeight) / height) + BEYOND;
        if (first !== this.state.first || last !== this.state.last) this.setState({ first, last });
    }

    /** While a pointer or the focus is on the rows they keep their places, or one would open another than the one aimed at. */
    arranged() {
        const { rows, text, rowKey, columns } = this.props;
        const { search, order, descending } = this.state;
        const column = columns.find((one) => one.id === order) ?? columns[0];
        const words = search.toLowerCase().split(/\s+/).filter(Boolean);
        const options = { words, text, by: column.sort, descending, key: rowKey };
        const asked = `${search}\n${order}\n${descending}\n${this.props.filtered ?? ""}`;
        if (this.holding && this.held?.asked === asked) {
            const present = new Map(rows.map((row) => [rowKey(row), row]));
            const same = this.held.keys.filter((key) => present.has(key)).map((key) => present.get(key));
            const known = new Set(this.held.keys);
            return [...same, ...arrange(rows.filter((row) => !known.has(rowKey(row))), options)];
        }
        const arranged = arrange(rows, options);
        this.held = { asked, keys: arranged.map(rowKey) };
        return arranged;
    }

    sortBy(column) {
        this.setState(({ order, descending }) =>
            order === column.id ? { descending: !descending } : { order: column.id, descending: column.descending ?? false });
    }

    head(column) {
        const { order, descending } = this.state;
        const sorted = order === column.id ? (descending ? "descending" : "ascending") : "none";
        const arrow = sorted === "none" ? "" : descending ? "\u00a0↓" : "\u00a0↑";
        return th({ key: column.id, scope: "col", class: column.class, "aria-sort": sorted },
            button({ class: "bare sorter", onclick: () => this.sortBy(column) }, column.title, span({ "aria-hidden": "true" }, arrow)));
    }

    render({ id, label, rows, columns, rowKey, empty, filters }, { search, first, last }) {
        const arranged = this.arranged();
        const all = arranged.length <= ALL_BELOW;
        const from = all ? 0 : Math.min(first, Math.max(0, arranged.length - 1));
        const to = all ? arranged.length : Math.min(last, arranged.length);
        const gap = (name, many) => many > 0 && tr({ key: name, class: "gap", "aria-hidden": "true" },
            // Of one column: one that spans columns of which some are not shown would make more of them, and take their width from the others.
            td({ style: { height: `calc(var(--row) * ${many})` } }));
        const hold = (on) => () => (this.holding = on);
        const row = (one, index) => tr({ key: rowKey(one), "aria-rowindex": from + index + 2 },
            columns.map((column) => td({ key: column.id, class: column.class }, column.cell(one))));
        return div({ class: "table" },
            div({ class: "table-tools" },
                input({
                    type: "search", class: "search", value: search, placeholder: t("search"), "aria-label": `${t("search")}: ${label}`,
                    oninput: (event) => this.setState({ search: event.target.value }),
                }),
                filters,
                span({ class: `muted counted ${arranged.length === rows.length ? "whole" : ""}`, role: "status" },
                    arranged.length === rows.length ? t("in_all", { all: count(rows.length) }) : t("shown_of", { shown: count(arranged.length), all: count(rows.length) }))),
            rows.length === 0 ? empty : table({ id, "aria-label": label, "aria-rowcount": arranged.length + 1 },
                thead(null, tr({ "aria-rowindex": 1 }, columns.map((column) => this.head(column)))),
                tbody({ ref: this.body, onpointerenter: hold(true), onpointerleave: hold(false), onfocusin: hold(true), onfocusout: hold(false) },
                    gap("above", from),
                    arranged.slice(from, to).map(row),
                    gap("below", arranged.length - to))),
            rows.length > 0 && arranged.length === 0 && p({ class: "muted nothing" }, t("nothing_found")));
    }
}
