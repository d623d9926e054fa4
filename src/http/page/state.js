// What is known of the recorder, kept up to date by its stream.
import { get, query } from "./api.js";

/** Time without a message after which is asked whether the recorder is there, in milliseconds: there may be nothing to tell. */
const ASK_AFTER = 10_000;
/** Time after which it should have answered, in milliseconds. */
const ANSWER_WITHIN = 5_000;
/** Time without a message after which the stream is begun anew, in milliseconds: a connection can die without a word. */
const ANEW_AFTER = 60_000;
/** Pause before a stream that was refused is asked for again, in milliseconds. */
const AGAIN_AFTER = 3_000;

/** The state; read it, and call `follow` to choose which tunnels are in it. */
export const state = {
    stats: null,
    /** When the stats came, in milliseconds since 1970: they are not sent again while nothing but time has passed. */
    statsAt: 0,
    endpoints: new Map(),
    tunnels: new Map(),
    alerts: [],
    /** Whether the tunnels are those of the present scope. */
    loaded: false,
    /** `connecting`, `live` or `stale`. */
    link: "connecting",
    /** When something was last heard, in milliseconds since 1970. */
    heard: 0,
    /** Why nothing is heard, in the recorder's words. */
    reason: null,
    /** Rises with every change. */
    version: 0,
};

const listeners = new Set();

/** Calls `listener` after each change; gives a function that ends it. */
export function subscribe(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
}

function changed() {
    state.version += 1;
    touch();
}

/** Has everything drawn again. */
export function touch() {
    listeners.forEach((listener) => listener());
}

/** Whether a master's stream is open: only then is known how its tunnels are. */
export const isHeard = (endpoint) => endpoint !== undefined && !endpoint.paused && endpoint.status === "ONLINE";

/** The status of a tunnel now: what its master told last, or `unknown` while the master is away. */
export const standing = (tunnel) => (isHeard(state.endpoints.get(tunnel.endpoint)) ? tunnel.status || "unknown" : "unknown");

/** What an endpoint or a tunnel tells of this second: nothing while the master is away, whatever was told last. */
export const present = (row, name) => (isHeard(row.endpoint === undefined ? row : state.endpoints.get(row.endpoint)) ? row[name] : null);

/** The key of a tunnel in `state.tunnels`. */
export const tunnelKey = (endpoint, id) => `${endpoint}/${id}`;

function apply(message, whole) {
    if (message.stats) Object.assign(state, { stats: message.stats, statsAt: Date.now() });
    if (whole) {
        state.endpoints = new Map();
        state.tunnels = new Map();
        state.loaded = true;
    }
    // What is removed and told of in one message is back.
    for (const name of message.removed_endpoints ?? []) state.endpoints.delete(name);
    for (const endpoint of message.endpoints ?? []) state.endpoints.set(endpoint.name, endpoint);
    for (const [endpoint, id] of message.removed_tunnels ?? []) state.tunnels.delete(tunnelKey(endpoint, id));
    for (const tunnel of message.tunnels ?? []) state.tunnels.set(tunnelKey(tunnel.endpoint, tunnel.instance_id), tunnel);
    if (message.alerts) state.alerts = message.alerts;
    told = Date.now();
    state.heard = told;
    state.link = "live";
    state.reason = null;
    changed();
}

let scope = null;
/** When the stream told something, in milliseconds since 1970. */
let told = 0;
let source = null;
let again = null;

/** Follows these tunnels: `none`, `all`, `ENDPOINT/` or `ENDPOINT/ID`. */
export function follow(wanted) {
    if (wanted === scope) return;
    scope = wanted;
    state.loaded = false;
    open();
}

function open() {
    clearTimeout(again);
    source?.close();
    source = new EventSource(`/api/v1/stream?tunnels=${encodeURIComponent(scope)}`);
    const opened = source;
    source.addEventListener("snapshot", (event) => apply(JSON.parse(event.data), true));
    source.addEventListener("update", (event) => apply(JSON.parse(event.data), false));
    source.addEventListener("error", () => {
        if (opened !== source) return;
        if (state.link === "live") {
            state.link = "connecting";
            changed();
        }
        // The browser tries again by itself after a cut, but not after a refusal.
        if (opened.readyState === EventSource.CLOSED) refused();
    });
}

/**
 * The stream was refused: there may be too many readers, or the recorder may be starting. An EventSource does not tell why, but
 * the routes do; and what they give is shown until the stream is there again.
 */
async function refused() {
    clearTimeout(again);
    const asked = scope;
    try {
        const message = await read(asked);
        if (asked === scope) apply(message, true);
    } catch (problem) {
        state.reason = problem.message;
        state.link = state.heard ? "stale" : "connecting";
        changed();
    }
    clearTimeout(again);
    again = setTimeout(open, AGAIN_AFTER);
}

async function read(wanted) {
    const [stats, { active }, { endpoints }, { tunnels }] = await Promise.all([
        get("stats"),
        get("alerts"),
        get("endpoints"),
        wanted === "none" ? { tunnels: [] } : get(query("tunnels", { endpoint: wanted === "all" ? null : wanted.split("/")[0] })),
    ]);
    return { stats, alerts: active, endpoints, tunnels };
}

let asking = false;

/** Without a message for a while: is nothing to be told, or is nobody there? */
async function ask() {
    asking = true;
    try {
        const answer = await fetch("/healthz", { signal: AbortSignal.timeout(ANSWER_WITHIN) });
        if (answer.ok && source.readyState === EventSource.OPEN) Object.assign(state, { heard: Date.now(), link: "live" });
        if (Date.now() - told > ANEW_AFTER) open();
    } catch {
        state.link = "stale";
        open();
    }
    asking = false;
}

setInterval(() => {
    if (document.hidden) return;
    if (!asking && state.link !== "connecting" && Date.now() - state.heard > ASK_AFTER) ask();
    // Times such as "3 min ago" and the countdown move on without a message too.
    changed();
}, 1_000);

// A page that nobody sees needs no stream: browsers allow six connections to an origin, over all its tabs.
document.addEventListener("visibilitychange", () => {
    if (scope === null) return;
    if (document.hidden) source.close();
    else open();
});
