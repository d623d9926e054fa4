// What is known of the recorder, kept up to date by its stream.
import { get, query } from "./api.js";

/** Time without a message after which what is shown is called stale, in milliseconds. */
const STALE_AFTER = 10_000;
/** Pause before a stream that was refused is asked for again, in milliseconds. */
const AGAIN_AFTER = 3_000;

/** The state; read it, and call `follow` to choose which tunnels are in it. */
export const state = {
    stats: null,
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

/** The key of a tunnel in `state.tunnels`. */
export const tunnelKey = (endpoint, id) => `${endpoint}/${id}`;

function apply(message, whole) {
    if (message.stats) state.stats = message.stats;
    if (whole) {
        state.endpoints = new Map();
        state.tunnels = new Map();
        state.loaded = true;
    }
    for (const endpoint of message.endpoints ?? []) state.endpoints.set(endpoint.name, endpoint);
    for (const name of message.removed_endpoints ?? []) state.endpoints.delete(name);
    for (const tunnel of message.tunnels ?? []) state.tunnels.set(tunnelKey(tunnel.endpoint, tunnel.instance_id), tunnel);
    for (const [endpoint, id] of message.removed_tunnels ?? []) state.tunnels.delete(tunnelKey(endpoint, id));
    if (message.alerts) state.alerts = message.alerts;
    state.heard = Date.now();
    state.link = "live";
    state.reason = null;
    changed();
}

let scope = null;
let source = null;
let again = null;

/** Follows these tunnels: `none`, `all`, an endpoint's name, or `ENDPOINT/ID`. */
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
    const [stats, { endpoints }, { tunnels }] = await Promise.all([
        get("stats"),
        get("endpoints"),
        wanted === "none" ? { tunnels: [] } : get(query("tunnels", { endpoint: wanted === "all" ? null : wanted.split("/")[0] })),
    ]);
    return { stats, endpoints, tunnels };
}

setInterval(() => {
    const link = state.link;
    if (link === "live" && Date.now() - state.heard > STALE_AFTER) state.link = "stale";
    // Times such as "3 min ago" and the countdown move on without a message too.
    changed();
}, 1_000);

// A page that slept has missed messages without an error.
addEventListener("online", () => scope !== null && open());
