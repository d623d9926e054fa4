// What the recorder has found wrong, and whether it can tell people.
import { h } from "./vendor/preact.mjs";
import { api, get } from "./api.js";
import { attempt } from "./dialogs.js";
import { count } from "./format.js";
import { say, t, word } from "./i18n.js";
import { Card, Loaded, Name, tags, toast, When } from "./ui.js";

const { button, div, li, p, span, ul } = tags;

const EVERY = 30_000;

const test = () => attempt(async () => {
    const { channels } = await api("POST", "alerts/test");
    for (const { channel, ok, error } of channels) {
        const name = word("channel", channel);
        if (!ok) toast(t("test_failed", { channel: name, error: say(error) }), "bad");
        else toast(t("test_sent", { channel: name }));
    }
});

function Channel({ channel }) {
    const name = word("channel", channel.channel);
    return li(null, span({ class: `dot ${channel.last_error ? "bad" : "good"}`, "aria-hidden": "true" }),
        div(null, name,
            channel.last_error ? div({ class: "bad" }, say(channel.last_error)) : channel.last_sent && div({ class: "muted" }, t("last_sent"), " ", h(When, { time: channel.last_sent })),
            channel.given_up > 0 && div({ class: "given-up" }, t("given_up", { n: count(channel.given_up) }),
                ul(null, channel.last_given_up.map(({ time, title, reason }) => li({ key: time + title },
                    h(When, { time }), ": ", h(Name, { text: title }), " – ", say(reason)))))));
}

/** The card. */
export function Alerts() {
    const view = ({ channels }) => h(Card, { title: t("alerts"), aside: channels.length > 0 && button({ class: "button", onclick: test }, t("send_test")) },
        channels.length === 0
            ? p({ class: "muted" }, t("no_channels"))
            : ul({ class: "channels" }, channels.map((channel) => h(Channel, { key: channel.channel, channel }))));
    return h(Loaded, { of: "alerts", every: EVERY, load: (signal) => get("alerts", signal), view });
}
