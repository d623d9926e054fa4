// How events reach the database: what each mode cost, whether they agree, and the switch.
import { Component, h } from "./vendor/preact.mjs";
import { api, get } from "./api.js";
import { Facts } from "./endpoint.js";
import { bytes, count, decimal, duration, millis } from "./format.js";
import { say, t, word } from "./i18n.js";
import { Card, Dialog, Loaded, Notice, showDialog, tags, toast, When, Wide } from "./ui.js";

const { button, code, div, input, label, li, p, span, table, tbody, td, th, thead, tr, ul } = tags;

const EVERY = 10_000;
const MODES = ["realtime", "dual", "batched"];

/** Asks before the way to the database is changed, and says what speaks against it. */
class SwitchDialog extends Component {
    async submit() {
        const { mode, done } = this.props;
        await api("POST", "mode", { mode });
        toast(t("mode_switched", { mode: word("mode", mode) }));
        done();
    }

    render({ mode, verdict, close }) {
        const doubtful = mode === "batched" && !verdict.safe;
        return h(Dialog, { title: t("switch_to", { mode: word("mode", mode) }), action: t("switch"), danger: doubtful, close, submit: () => this.submit() },
            p(null, t(`mode_explained.${mode}`)),
            doubtful && h(Notice, { kind: "warn" }, t("not_safe_yet"), ul({ class: "reasons" }, verdict.reasons.map((reason) => li({ key: reason }, say(reason))))));
    }
}

/** Changes a key while the recorder runs. What is wrong with a value the recorder says. */
class SettingDialog extends Component {
    constructor(props) {
        super(props);
        this.state = { value: props.setting.value };
    }

    async submit() {
        const { name, done } = this.props;
        await api("POST", "mode", { set: { [name]: this.state.value.trim() } });
        toast(t("setting_changed", { name }));
        done();
    }

    render({ name, setting, close }, { value }) {
        const hint = t(setting.kept ? "setting_kept_hint" : "setting_hint");
        return h(Dialog, { title: name, action: t("save"), close, submit: () => this.submit() },
            p(null, t(`setting.${name}`)),
            label({ class: "field" }, span({ class: "field-title" }, t("value")),
                input({ name: "value", value, required: !setting.kept, autofocus: true, autocomplete: "off", spellcheck: false, oninput: (event) => this.setState({ value: event.target.value }) }),
                span({ class: "hint" }, hint)));
    }
}

/** The keys that may change while the recorder runs. */
function Settings({ settings, reload }) {
    return h(Wide, { label: t("setting") }, table({ class: "plain", id: "settings" },
        thead(null, tr(null, th(null, t("setting")), th(null, t("value")), th(null, span({ class: "sr" }, t("edit"))))),
        tbody(null, Object.entries(settings).map(([name, setting]) => tr({ key: name },
            td({ class: "explained" }, code(null, name), div({ class: "hint" }, t(`setting.${name}`))),
            td(null, setting.value, setting.kept && [" ", span({ class: "tag" }, t("set_here"))]),
            td({ class: "number" }, button({ class: "bare quiet", "aria-label": `${t("edit")} ${name}`, onclick: () => showDialog(SettingDialog, { name, setting, done: reload }) }, t("edit"))))))));
}

/** What a mode cost, by the name of the text. */
const COSTS = {
    in_force: ({ seconds }) => duration(seconds),
    events: ({ events }) => count(events),
    transactions_per_1000: (cost) => decimal(cost.transactions_per_1000_events),
    database_time_per_1000: (cost) => millis(cost.database_ms_per_1000_events),
    bytes_written: (cost) => bytes(cost.bytes_written),
    latency: (cost) => millis(cost.latency_mean_ms),
};

/** What the modes that were in force cost, side by side. */
function Costs({ modes }) {
    if (modes.length === 0) return null;
    return h(Wide, { label: t("mode") }, table({ class: "plain", id: "costs" },
        thead(null, tr(null, th(null, t("mode")), modes.map(({ mode }) => th({ key: mode, class: "number" }, word("mode", mode))))),
        tbody(null, Object.entries(COSTS).map(([name, of]) => tr({ key: name },
            th({ scope: "row" }, t(`cost.${name}`)), modes.map((cost) => td({ key: cost.mode, class: "number" }, of(cost))))))));
}

function Report({ report, reload }) {
    const { mode, since, not_kept: notKept, modes, settings, comparison, safe_to_switch: verdict } = report;
    const change = (one) => () => showDialog(SwitchDialog, { mode: one, verdict, done: reload });
    const aside = div({ class: "segments", role: "group", "aria-label": t("mode") }, MODES.map((one) =>
        button({ key: one, class: "segment", "aria-pressed": String(one === mode), disabled: one === mode, onclick: change(one) }, word("mode", one))));
    const differ = comparison && comparison.different + comparison.missing_in_realtime + comparison.missing_in_batch;
    return h(Card, { title: t("mode"), aside },
        notKept && h(Notice, { kind: "warn" }, say(notKept)),
        h(Facts, {
            facts: [
                [t("in_force_since"), since && h(When, { time: since })],
                [t("compared"), comparison && t("compared_rows", { identical: count(comparison.identical), differ: count(differ) })],
                [t("safe_to_switch"), mode === "batched" ? null : verdict.safe ? t("yes") : verdict.reasons.map(say).join("; ")],
            ],
        }),
        h(Costs, { modes }),
        h(Settings, { settings, reload }));
}

/** The card. */
export class Mode extends Component {
    state = { nth: 0 };

    render(_, { nth }) {
        const reload = () => this.setState({ nth: nth + 1 });
        return h(Loaded, { of: nth, every: EVERY, load: (signal) => get("mode", signal), view: (report) => h(Report, { report, reload }) });
    }
}
