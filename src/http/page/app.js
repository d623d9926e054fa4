// The frame around the views: where we are, whether what is shown is live, language and colours.
import { Component, h, render } from "./vendor/preact.mjs";
import { Endpoint } from "./endpoint.js";
import { ago } from "./format.js";
import { lang, setLang, t } from "./i18n.js";
import { Overview } from "./overview.js";
import { follow, state, subscribe, touch } from "./state.js";
import { Storage } from "./storage.js";
import { Tunnel } from "./tunnel.js";
import { Tunnels } from "./tunnels.js";
import { DialogPlace, Icon, Notice, tags, Toasts } from "./ui.js";

const { a, button, div, form, header, main, nav, p, span } = tags;

/** The view that an address names: its component and properties, which tunnels it needs, and its title. */
export function route(hash) {
    const [view, ...parts] = hash.replace(/^#?\/?/, "").split("/").map(decoded);
    if (view === "endpoint" && parts[0]) return { view: Endpoint, props: { name: parts[0] }, scope: `${parts[0]}/`, title: parts[0], under: "" };
    if (view === "tunnel" && parts[0] && parts[1]) {
        const [endpoint, id] = parts;
        return { view: Tunnel, props: { endpoint, id }, scope: `${endpoint}/${id}`, title: `${endpoint}/${id}`, under: "tunnels" };
    }
    if (view === "tunnels") return { view: Tunnels, props: { status: parts[0] }, scope: "all", title: t("tunnels"), under: "tunnels" };
    if (view === "storage") return { view: Storage, props: {}, scope: "none", title: t("storage"), under: "storage" };
    return { view: Overview, props: {}, scope: "none", title: t("overview"), under: "" };
}

function decoded(part) {
    try {
        return decodeURIComponent(part);
    } catch {
        return part;
    }
}

const THEMES = ["auto", "light", "dark"];

const theme = () => document.documentElement.dataset.theme ?? "auto";

function setTheme(chosen) {
    if (chosen === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    try {
        if (chosen === "auto") localStorage.removeItem("theme");
        else localStorage.setItem("theme", chosen);
    } catch {
        // Then it holds until the page is closed.
    }
    dispatchEvent(new Event("theme"));
    touch();
}

function Link() {
    const texts = { live: t("live"), connecting: t("connecting"), stale: t("stale") };
    return span({ class: `link ${state.link}`, role: "status", title: state.heard ? t("heard", { time: ago(state.heard) }) : "" },
        span({ class: "dot", "aria-hidden": "true" }), span({ class: "link-text" }, texts[state.link]));
}

function Bar({ under }) {
    const place = (target, text) => a({ href: `#/${target}`, "aria-current": under === target ? "page" : undefined }, text);
    const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
    const icon = { auto: "auto", light: "sun", dark: "moon" }[theme()];
    const other = lang() === "en" ? "zh" : "en";
    return header({ class: "bar" },
        div({ class: "bar-inside" },
            a({ class: "brand", href: "#/" }, h(Brand), "tidegate"),
            nav({ "aria-label": t("views") }, place("", t("overview")), place("tunnels", t("tunnels")), place("storage", t("storage"))),
            div({ class: "tools" },
                h(Link),
                button({ class: "bare tool", id: "language", lang: other === "zh" ? "zh-Hans" : "en", onclick: () => (setLang(other), touch()) }, other === "zh" ? "中文" : "English"),
                button({ class: "bare tool", id: "theme", "aria-label": t("theme_is", { theme: t(`theme.${theme()}`) }), title: t("theme_is", { theme: t(`theme.${theme()}`) }), onclick: () => setTheme(next) },
                    h(Icon, { name: icon })),
                "session" in document.body.dataset && form({ method: "post", action: "/logout" },
                    button({ class: "bare tool", id: "logout", "aria-label": t("log_out"), title: t("log_out") }, h(Icon, { name: "leave" }))))));
}

function Brand() {
    const { svg, path, rect } = tags;
    return svg({ viewBox: "0 0 32 32", class: "brand-mark", "aria-hidden": "true" },
        rect({ width: 32, height: 32, rx: 8, class: "brand-ground" }),
        path({ d: "M7 7v18M25 7v18", class: "brand-posts" }),
        path({ d: "M10.5 14c1.8-1.7 3.7-1.7 5.5 0s3.7 1.7 5.5 0M10.5 20c1.8-1.7 3.7-1.7 5.5 0s3.7 1.7 5.5 0", class: "brand-waves" }));
}

function Trouble() {
    if (state.link === "live") return null;
    if (!state.reason && !state.heard) return null;
    const told = state.heard ? t("not_live_since", { time: ago(state.heard) }) : t("not_reachable");
    return h(Notice, { kind: "warn" }, told, state.reason && div(null, state.reason));
}

class App extends Component {
    state = { failed: null };

    componentDidMount() {
        this.end = subscribe(() => this.forceUpdate());
        addEventListener("hashchange", () => this.go());
    }

    componentDidCatch(error) {
        this.setState({ failed: error });
        console.error(error);
    }

    /** Another view: begin at its top, and let a screen reader begin with its heading. */
    go() {
        this.setState({ failed: null });
        follow(route(location.hash).scope);
        scrollTo(0, 0);
        requestAnimationFrame(() => document.querySelector("h1")?.focus({ preventScroll: true }));
    }

    render(_, { failed }) {
        const { view, props, title, under } = route(location.hash);
        document.title = `${title.slice(0, 80)} · tidegate`;
        return div({ class: `app ${state.link}` },
            a({ class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); document.querySelector("h1")?.focus(); } }, t("skip")),
            h(Bar, { under }),
            main({ id: "main" },
                h(Trouble),
                failed ? h(Notice, null, p(null, t("broken")), String(failed)) : h(view, { state, ...props, key: location.hash })),
            h(DialogPlace), h(Toasts));
    }
}

follow(route(location.hash).scope);
render(h(App), document.getElementById("app"));
