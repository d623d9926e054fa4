// Small pieces that every view uses. Texts become text nodes; nothing here takes markup.
import { Component, createRef, h } from "./vendor/preact.mjs";
import { ago, count, duration, exact, plain, UNKNOWN } from "./format.js";
import { t, word } from "./i18n.js";
import { state, subscribe, touch } from "./state.js";

/** `const { div } = tags; div({ class: "x" }, "text")`. */
export const tags = new Proxy({}, { get: (_, name) => (props, ...children) => h(name, props, ...children) });

const { a, bdi, button, dialog, div, form, h1, h2, li, p, section, span, svg, path, time: timeTag, ul } = tags;

/** Longest text in a tooltip. */
const TITLE_MAX = 300;

/** A name that somebody else chose: set apart from the text around it, so that its writing direction stays its own. */
export function Name({ text, none = UNKNOWN }) {
    if (!text) return span({ class: "muted" }, none);
    const shown = plain(text);
    return bdi({ class: "name", title: shown.slice(0, TITLE_MAX) }, shown);
}

/** A time in the past, told from now; the exact one on hover. */
export function When({ time }) {
    if (!time) return UNKNOWN;
    const at = new Date(time);
    return timeTag({ datetime: time, title: exact(at) }, ago(at));
}

/** How long something has been so. */
export function Since({ time, units }) {
    if (!time) return UNKNOWN;
    const at = new Date(time);
    return timeTag({ datetime: time, title: exact(at) }, duration((Date.now() - at) / 1000, units));
}

const GOOD = ["ONLINE", "running"];
const BAD = ["FAIL", "DISCONNECT", "OFFLINE", "error"];

/** `good`, `bad`, `off` or `busy`. */
export function mood(status, paused = false) {
    if (paused || status === "unknown") return "off";
    return GOOD.includes(status) ? "good" : BAD.includes(status) ? "bad" : status === "stopped" ? "off" : "busy";
}

/** A status as dot and word: never by colour alone. */
export function Status({ status, paused = false }) {
    const said = paused ? t("status.paused") : word("status", status);
    return span({ class: `status ${mood(status, paused)}` }, span({ class: "dot", "aria-hidden": "true" }), said);
}

/** How many there are of each status, as `[status, number, href]`; none of a kind is not told. */
export function Statuses({ group = "status", counts }) {
    return ul({ class: "statuses" }, counts.filter(([, number]) => number > 0).map(([status, number, href]) => {
        const text = [span({ class: `dot ${mood(status, status === "paused")}`, "aria-hidden": "true" }), `${count(number)} ${word(group, status)}`];
        return li({ key: status }, href ? a({ href }, text) : span(null, text));
    }));
}

/** A number with its name. */
export function Tile({ label, note, href, children, ...rest }) {
    const content = [div({ class: "tile-label" }, label), div({ class: "tile-value" }, children), note && div({ class: "tile-note" }, note)];
    return href ? a({ class: "tile", href, ...rest }, content) : div({ class: "tile", ...rest }, content);
}

/** Received and sent, below each other or side by side. */
export function Flow({ received, sent }) {
    return span({ class: "flow" },
        span({ class: "flow-in" }, span({ "aria-hidden": "true" }, "↓ "), span({ class: "sr" }, `${t("received")} `), received),
        span({ class: "flow-out" }, span({ "aria-hidden": "true" }, "↑ "), span({ class: "sr" }, `${t("sent")} `), sent));
}

/** A part of a view with a heading. */
export function Card({ title, aside, children, ...rest }) {
    const name = { "aria-label": title, ...rest, class: `card ${rest.class ?? ""}` };
    return section(name, div({ class: "card-head" }, h2(null, title), aside && div({ class: "card-aside" }, aside)), children);
}

/** What may be wider than the screen: then it scrolls by itself, by keyboard too. */
export function Wide({ label, children }) {
    return div({ class: "scroll", role: "group", "aria-label": label, tabindex: 0 }, children);
}

/** The heading of a view. */
export function Heading({ children, above, aside }) {
    return div({ class: "heading" },
        div({ class: "heading-text" }, above && div({ class: "above" }, above), h1({ tabindex: -1 }, children)),
        aside && div({ class: "actions" }, aside));
}

/** A line that says what is wrong, with the recorder's words. */
export function Notice({ kind = "bad", children }) {
    return div({ class: `notice ${kind}` }, children);
}

const ICONS = {
    sun: "M12 4V2m0 20v-2m8-8h2M2 12h2m13.7-5.7 1.4-1.4M4.9 19.1l1.4-1.4m11.4 0 1.4 1.4M4.9 4.9l1.4 1.4M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0Z",
    moon: "M20 14.5A8.5 8.5 0 1 1 9.5 4a7 7 0 0 0 10.5 10.5Z",
    auto: "M4 5h16v11H4ZM9 20h6m-3-4v4",
    plus: "M12 5v14M5 12h14",
    close: "M6 6l12 12M18 6 6 18",
    leave: "M14 4h5v16h-5M10 8l-4 4 4 4m-4-4h10",
};

/** A picture that says nothing which the text beside it does not. */
export function Icon({ name }) {
    return svg({ viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, path({ d: ICONS[name] }));
}

/** Gives the reader a file that is made here. */
export function save(name, type, text) {
    const href = URL.createObjectURL(new Blob([text], { type }));
    const link = Object.assign(document.createElement("a"), { href, download: name });
    link.click();
    // The browser has taken it when the click is over.
    setTimeout(() => URL.revokeObjectURL(href));
}

let opened = null;

/** Shows a dialog: a component that is given `close`. */
export function showDialog(component, props = {}) {
    opened = { component, props, nth: (opened?.nth ?? 0) + 1 };
    touch();
}

function closeDialog() {
    opened = null;
    touch();
}

/** Where the open dialog is drawn. */
export function DialogPlace() {
    return opened && h(opened.component, { ...opened.props, close: closeDialog, key: opened.nth });
}

/** The frame of a dialog. `submit` may be async; what it throws is shown, and the dialog stays. */
export class Dialog extends Component {
    frame = createRef();
    state = { busy: false, error: null };

    componentDidMount() {
        this.before = document.activeElement;
        this.frame.current.showModal();
    }

    componentWillUnmount() {
        // While it is open nothing outside it can have the focus.
        this.frame.current.close();
        this.before?.focus?.();
    }

    async submit(event) {
        event.preventDefault();
        if (this.state.busy) return;
        this.setState({ busy: true, error: null });
        try {
            if ((await this.props.submit()) !== false) this.props.close();
        } catch (problem) {
            this.setState({ error: problem.message });
        } finally {
            this.setState({ busy: false });
        }
    }

    render({ title, action, danger, disabled, wide, close, children }, { busy, error }) {
        const shut = (event) => {
            event.preventDefault();
            close();
        };
        return dialog({ ref: this.frame, class: wide ? "wide" : "", "aria-labelledby": "dialog-title", oncancel: shut },
            form({ onsubmit: (event) => this.submit(event), novalidate: false, autocomplete: "off" },
                h2({ id: "dialog-title" }, title),
                children,
                error && p({ class: "notice bad", role: "alert" }, error),
                div({ class: "dialog-actions" },
                    button({ type: "button", class: "button", onclick: close }, action ? t("cancel") : t("close")),
                    action && button({ type: "submit", class: `button ${danger ? "danger" : "primary"}`, disabled: busy || disabled },
                        busy ? t("busy") : action))));
    }
}

const toasts = [];
const TOAST_MILLIS = 8_000;

/** Tells what came of an action; goes away by itself. */
export function toast(text, kind = "good") {
    const entry = { text, kind, nth: (toasts.at(-1)?.nth ?? 0) + 1 };
    toasts.push(entry);
    setTimeout(() => dismiss(entry), TOAST_MILLIS);
    touch();
}

function dismiss(entry) {
    const at = toasts.indexOf(entry);
    if (at >= 0) toasts.splice(at, 1);
    touch();
}

/** Where toasts are drawn. */
export function Toasts() {
    return div({ class: "toasts", role: "status", "aria-live": "polite" }, toasts.map((entry) =>
        div({ class: `toast ${entry.kind}`, key: entry.nth }, span(null, entry.text),
            button({ class: "bare", onclick: () => dismiss(entry), "aria-label": t("close") }, h(Icon, { name: "close" })))));
}

/**
 * Loads something and shows it. Props: `of` (what is loaded: another value loads anew), `load(signal)`, `view(data)`, `every`
 * (milliseconds after which it is loaded again), `optional` (the view is drawn without data too: it is given null).
 */
export class Loaded extends Component {
    state = { data: null, error: null, busy: true };

    componentDidMount() {
        this.load();
        // Whoever could not be reached is asked again as soon as he is there.
        this.end = subscribe(() => this.state.away && !this.state.busy && state.link === "live" && this.load());
    }

    componentDidUpdate(before) {
        if (before.of !== this.props.of) this.load();
    }

    componentWillUnmount() {
        this.end();
        this.abort?.abort();
        clearTimeout(this.timer);
    }

    async load() {
        this.abort?.abort();
        clearTimeout(this.timer);
        const abort = (this.abort = new AbortController());
        this.setState({ busy: true });
        try {
            const data = await this.props.load(abort.signal);
            if (this.abort === abort) this.setState({ data, error: null, away: false, shown: this.props.of });
        } catch (problem) {
            if (problem.name === "AbortError" || this.abort !== abort) return;
            this.setState({ error: problem.message, away: problem.status === 0 });
        }
        this.setState({ busy: false });
        if (this.props.every) this.timer = setTimeout(() => this.load(), this.props.every);
    }

    render({ view, optional, of }, { data, error, away, busy, shown }) {
        const old = shown !== of;
        // That the recorder is away is told at the top; here where something is missing for it.
        const told = error && (!away || (data === null ? !optional : old));
        return [
            told && h(Notice, { key: "error" }, error),
            data !== null || optional
                ? div({ key: "data", class: busy && old ? "busy" : "" }, view(data))
                : !error && p({ key: "wait", class: "muted" }, t("loading")),
        ];
    }
}
