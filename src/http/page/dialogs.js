// What changes something: endpoints are added, edited, tried, trusted and removed here.
import { Component, h } from "./vendor/preact.mjs";
import { api } from "./api.js";
import { millis } from "./format.js";
import { say, t, word } from "./i18n.js";
import { Dialog, Name, Notice, showDialog, tags, toast } from "./ui.js";

const { button, code, details, div, input, label, li, ol, option, p, select, span, summary } = tags;

const at = (name) => `endpoints/${encodeURIComponent(name)}`;

function field(title, hint, control) {
    return label({ class: "field" }, span({ class: "field-title" }, title), control, hint && span({ class: "hint" }, hint));
}

/** The form for a new endpoint, or for the one in `endpoint`. */
class EndpointForm extends Component {
    constructor(props) {
        super(props);
        const { url = "", tls = "verify", pin, ca, log_events: logs = null, name = "" } = props.endpoint ?? {};
        this.state = { name, url, key: "", tls, pin: pin ?? "", ca: ca ?? "", logs: String(logs), probe: null, probing: false };
    }

    /** What was tried was tried with other values. */
    set(name) {
        return (event) => this.setState({ [name]: event.target.value, probe: null, probing: false });
    }

    /** What an edit changes, or the whole of a new endpoint. */
    body() {
        const { name, url, key, tls, pin, ca, logs } = this.state;
        const old = this.props.endpoint;
        const body = {};
        if (!old) body.name = name.trim();
        if (url.trim() !== old?.url) body.url = url.trim();
        if (key !== "") body.api_key = key;
        if (tls !== (old?.tls ?? "verify") || (tls === "pin" && pin.trim() !== (old?.pin ?? "")) || (tls === "verify" && ca.trim() !== (old?.ca ?? ""))) {
            body.tls = tls;
            if (tls === "pin" && pin.trim() !== "") body.pin = pin.trim();
            if (tls === "verify" && ca.trim() !== "") body.ca = ca.trim();
        }
        if (logs !== String(old?.log_events ?? null)) body.log_events = JSON.parse(logs);
        return body;
    }

    async submit() {
        const { endpoint } = this.props;
        const body = this.body();
        // Nothing to do, and nothing to tell.
        if (endpoint && Object.keys(body).length === 0) return;
        if (endpoint) await api("PATCH", at(endpoint.name), body);
        else await api("POST", "endpoints", body);
        toast(t(endpoint ? "endpoint_changed" : "endpoint_added", { name: endpoint?.name ?? body.name }));
    }

    async probe() {
        const { url, key, tls, pin, ca } = this.state;
        const tried = {};
        this.setState({ probing: tried, probe: null });
        const body = { url: url.trim(), tls };
        if (key !== "") body.api_key = key;
        if (tls === "pin" && pin.trim() !== "") body.pin = pin.trim();
        if (tls === "verify" && ca.trim() !== "") body.ca = ca.trim();
        const probe = await api("POST", "probe", body).catch((problem) => problem);
        // Unless a value was changed meanwhile.
        if (this.state.probing === tried) this.setState({ probe, probing: false });
    }

    render({ endpoint, close }, { name, url, key, tls, pin, ca, logs, probe, probing }) {
        const choices = (values) => values.map(([value, text]) => option({ value }, text));
        const advanced = tls !== "verify" || ca !== "" || logs !== "null";
        return h(Dialog, { title: endpoint ? t("edit_endpoint", { name: endpoint.name }) : t("add_endpoint"), action: t(endpoint ? "save" : "add"), close, submit: () => this.submit() },
            !endpoint && field(t("name"), t("name_hint"), input({ name: "name", value: name, required: true, autofocus: true, oninput: this.set("name"), autocomplete: "off", spellcheck: false })),
            field(t("url"), t("url_hint"), input({ name: "url", value: url, required: true, placeholder: "http://10.0.0.5:9090/api", inputmode: "url", oninput: this.set("url"), autocomplete: "off", spellcheck: false })),
            field(t("api_key"), t(endpoint ? "api_key_keep" : "api_key_hint"), input({ name: "api_key", type: "password", value: key, autocomplete: "new-password", oninput: this.set("key") })),
            details({ open: advanced },
                summary(null, t("more_settings")),
                field(t("tls"), t(`tls_hint.${tls}`), select({ name: "tls", value: tls, onchange: this.set("tls") },
                    choices([["verify", t("tls.verify")], ["pin", t("tls.pin")], ["insecure", t("tls.insecure")]]))),
                tls === "pin" && field(t("fingerprint"), t("fingerprint_hint"), input({ name: "pin", value: pin, oninput: this.set("pin"), autocomplete: "off", spellcheck: false })),
                tls === "verify" && field(t("ca"), t("ca_hint"), input({ name: "ca", value: ca, oninput: this.set("ca"), autocomplete: "off", spellcheck: false })),
                field(t("store_logs"), null, select({ name: "log_events", value: logs, onchange: this.set("logs") },
                    choices([["null", t("as_configured")], ["true", t("yes")], ["false", t("no")]])))),
            !endpoint && div({ class: "probe-place" },
                button({ type: "button", class: "button", disabled: Boolean(probing) || url.trim() === "", onclick: () => this.probe() }, t(probing ? "probing" : "try_it")),
                probe && h(Probed, { probe })));
    }
}

/** What came of a probe. */
function Probed({ probe }) {
    if (!probe.steps) return h(Notice, null, probe.message);
    return div({ "aria-live": "polite" },
        ol({ class: "steps" }, probe.steps.map((step) =>
            li({ class: step.ok ? "good" : "bad" },
                div({ class: "step-head" }, span({ "aria-hidden": "true" }, step.ok ? "✓" : "✗"), span(null, word("step", step.step)),
                    span({ class: "sr" }, t(step.ok ? "step_ok" : "step_failed")), span({ class: "muted" }, millis(step.ms))),
                step.detail && div({ class: "step-detail" }, say(step.detail)),
                step.advice && div({ class: "step-advice" }, say(step.advice))))),
        p({ class: `notice ${probe.ok ? "good" : "bad"}` }, t(probe.ok ? "probe_ok" : "probe_failed")));
}

class ProbeDialog extends Component {
    state = { probe: null };

    async componentDidMount() {
        try {
            this.setState({ probe: await api("POST", `${at(this.props.name)}/probe`) });
        } catch (problem) {
            this.setState({ probe: problem });
        }
    }

    render({ name, close }, { probe }) {
        return h(Dialog, { title: t("probe_of", { name }), close, submit: () => undefined },
            probe ? h(Probed, { probe }) : p({ class: "muted", role: "status" }, t("probing")));
    }
}

class RemoveDialog extends Component {
    state = { typed: "", purge: false };

    async submit() {
        const { name } = this.props;
        await api("DELETE", `${at(name)}${this.state.purge ? "?purge=true" : ""}`);
        toast(t(this.state.purge ? "endpoint_purged" : "endpoint_removed", { name }));
        location.hash = "#/";
    }

    render({ name, tunnels, close }, { typed, purge }) {
        return h(Dialog, {
            title: t("remove_endpoint", { name }), action: t(purge ? "remove_and_purge" : "remove"), danger: true,
            disabled: typed !== name, close, submit: () => this.submit(),
        },
            p(null, t("remove_explained", { tunnels })),
            label({ class: "check" }, input({ type: "checkbox", name: "purge", checked: purge, onchange: (event) => this.setState({ purge: event.target.checked }) }),
                span(null, t("purge_explained"))),
            field([t("type_name"), " ", code(null, h(Name, { text: name }))], null,
                input({ name: "typed", value: typed, autofocus: true, oninput: (event) => this.setState({ typed: event.target.value }), autocomplete: "off", spellcheck: false })));
    }
}

class TrustDialog extends Component {
    async submit() {
        await api("POST", `${at(this.props.name)}/trust`);
        toast(t("trusted", { name: this.props.name }));
    }

    render({ name, close }) {
        return h(Dialog, { title: t("trust_certificate", { name }), action: t("trust"), danger: true, close, submit: () => this.submit() },
            p(null, t("trust_explained")));
    }
}

export const addEndpoint = () => showDialog(EndpointForm);
export const editEndpoint = (endpoint) => showDialog(EndpointForm, { endpoint });
export const removeEndpoint = ({ name, tunnels }) => showDialog(RemoveDialog, { name, tunnels });
export const trustEndpoint = ({ name }) => showDialog(TrustDialog, { name });
export const probeEndpoint = ({ name }) => showDialog(ProbeDialog, { name });

/** Runs an action whose failure is told in a toast. */
export async function attempt(action) {
    try {
        await action();
    } catch (problem) {
        toast(problem.message, "bad");
    }
}

/** Pauses an endpoint or goes on with it. */
export const pauseEndpoint = ({ name, paused }) => attempt(async () => {
    await api("PATCH", at(name), { paused: !paused });
    toast(t(paused ? "resumed" : "paused", { name }));
});
