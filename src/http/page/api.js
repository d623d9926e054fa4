// Requests to the recorder. What it refuses comes as a problem whose text says what to do.
import { say, t } from "./i18n.js";

/** An answer that is not a success, with the recorder's own words. */
export class Problem extends Error {
    constructor(status, detail, body) {
        super(say(detail));
        this.status = status;
        this.body = body;
    }
}

/** Sends a request below /api/v1; gives the JSON of the answer, or null where it has none. */
export async function api(method, path, body, signal) {
    let response;
    try {
        response = await fetch(`/api/v1/${path}`, {
            method,
            signal,
            headers: body === undefined ? {} : { "content-type": "application/json" },
            body: body === undefined ? undefined : JSON.stringify(body),
        });
    } catch (error) {
        if (error.name === "AbortError") throw error;
        // What a browser says of it ("Failed to fetch") helps nobody.
        throw new Problem(0, t("no_answer"), null);
    }
    if (response.status === 401) toLogin();
    if (response.status === 204) return null;
    const document = await response.json().catch(() => null);
    if (response.ok) return document;
    throw new Problem(response.status, document?.detail ?? document?.error ?? response.statusText, document);
}

/** Reads below /api/v1. */
export const get = (path, signal) => api("GET", path, undefined, signal);

/** Builds `path?a=b`, leaving out what is undefined, null or empty. */
export function query(path, parameters) {
    const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
    return given.length === 0 ? path : `${path}?${new URLSearchParams(given)}`;
}

/** The session has ended or there is none. */
export function toLogin() {
    location.assign(`/login${location.hash}`);
}
