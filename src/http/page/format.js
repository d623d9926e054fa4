// Numbers, sizes and times as people read them.
import { locale, t } from "./i18n.js";

const cache = new Map();

function formatter(kind, options) {
    const key = `${locale()} ${kind.name} ${JSON.stringify(options)}`;
    let found = cache.get(key);
    if (!found) cache.set(key, (found = new kind(locale(), options)));
    return found;
}

/** What is not known. */
export const UNKNOWN = "–";

/**
 * Text of somebody else without control characters, and without those that turn around the direction of what is written: what is copied
 * from here must not colour a terminal, and reads as it is.
 */
export const plain = (text) => text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");

/** A count: 12,345. */
export function count(value) {
    return value === null || value === undefined ? UNKNOWN : formatter(Intl.NumberFormat, {}).format(value);
}

/** At most three digits: 1.23, 12.3, 123. */
function three(value) {
    const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
    return formatter(Intl.NumberFormat, { maximumFractionDigits: digits }).format(value);
}

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/** A number with at most three digits. */
export const decimal = (value) => ((value ?? null) === null ? UNKNOWN : three(value));

/** Bytes in decimal units: 1.23 MB. */
export function bytes(value) {
    if (value === null || value === undefined) return UNKNOWN;
    let unit = 0;
    while (value >= 999.5 && unit < UNITS.length - 1) {
        value /= 1000;
        unit += 1;
    }
    return `${unit === 0 ? count(Math.round(value)) : three(value)}\u00a0${UNITS[unit]}`;
}

/** Bytes per second. */
export function rate(value) {
    return value === null || value === undefined ? UNKNOWN : `${bytes(value)}/s`;
}

/** Milliseconds. */
export function millis(value) {
    if (value === null || value === undefined) return UNKNOWN;
    if (value < 1_000) return `${three(value)}\u00a0ms`;
    return value < 60_000 ? unit(Number((value / 1_000).toPrecision(3)), "second") : duration(value / 1_000);
}

/** Percent, from a number of percent. */
export function percent(value) {
    return value === null || value === undefined ? UNKNOWN : `${three(value)}\u00a0%`;
}

/** A year as configurations count it, in seconds. */
const YEAR = 365.25 * 86_400;
/** Beyond a hundred days, in seconds, nobody counts the hours that are left over. */
const HOURS_COUNT_UNTIL = 100 * 86_400;
const SPANS = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

/** Seconds, in the two largest units that it has, or in the largest alone: 1 h 5 min. */
export function duration(seconds, units = 2) {
    if (seconds === null || seconds === undefined) return UNKNOWN;
    let rest = Math.max(0, Math.round(seconds));
    const first = SPANS.findIndex(([, length]) => rest >= length);
    if (first < 0) return unit(0, "second");
    const parts = [];
    for (const [name, length] of SPANS.slice(first, first + units)) {
        const whole = Math.floor(rest / length);
        rest -= whole * length;
        if (whole > 0) parts.push(unit(whole, name));
    }
    return parts.join(" ");
}

const unit = (value, name) => formatter(Intl.NumberFormat, { style: "unit", unit: name, unitDisplay: "short" }).format(value);

/** How long something is kept: in whole years where it is years. */
export function period(seconds) {
    const years = Math.round(seconds / YEAR);
    return years > 0 && Math.abs(seconds - years * YEAR) < 86_400 ? unit(years, "year") : duration(seconds, seconds < HOURS_COUNT_UNTIL ? 2 : 1);
}

/** How long ago: "3 min. ago". */
export function ago(time, now = Date.now()) {
    const seconds = Math.round((time - now) / 1000);
    if (Math.abs(seconds) < 2) return t("now");
    const [name, length] = SPANS.find(([, span]) => Math.abs(seconds) >= span);
    return formatter(Intl.RelativeTimeFormat, { numeric: "always", style: "short" }).format(Math.round(seconds / length), name);
}

/** Date and time in the reader's zone, to the second. */
export function absolute(time) {
    return formatter(Intl.DateTimeFormat, { dateStyle: "medium", timeStyle: "medium" }).format(time);
}

/** Date and time in the reader's zone, with the zone's name. */
export function exact(time) {
    return formatter(Intl.DateTimeFormat, {
        year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
    }).format(time);
}

/** The date. */
export function date(time) {
    return formatter(Intl.DateTimeFormat, { dateStyle: "medium" }).format(time);
}

/** Time of the day. */
export function clock(time, seconds = false) {
    const parts = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    return formatter(Intl.DateTimeFormat, seconds ? { ...parts, second: "2-digit" } : parts).format(time);
}

/** Day and month. */
export function day(time) {
    return formatter(Intl.DateTimeFormat, { month: "short", day: "numeric" }).format(time);
}

/** Month and year. */
export function month(time) {
    return formatter(Intl.DateTimeFormat, { month: "short", year: "numeric" }).format(time);
}

/** The sum of what is known, null if nothing is. */
export function sum(values) {
    return values.reduce((total, value) => ((value ?? null) === null ? total : (total ?? 0) + value), null);
}
