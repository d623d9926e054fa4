// Terminal colours in log lines. Only colours, weight, underline and inverse are understood; every other control is left out, so
// that a line can neither move nor hide anything: what would be concealed, or written in the colour of its ground, can be read.
// What comes out is a list of plain texts with classes and colours, which the page sets by CSSOM.

/** Pieces of a line that are styled each for itself; what comes behind them is one plain piece. */
const PIECES_MAX = 1_000;
/** Contrast of a text and its ground that is read without effort (WCAG AA). */
const CONTRAST_MIN = 4.5;

const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
/** The sixteen named colours, as grounds. */
const NAMED = [
    [0, 0, 0], [178, 34, 46], [23, 116, 74], [150, 100, 0], [29, 95, 191], [142, 63, 174], [11, 110, 130], [210, 214, 218],
    [85, 95, 105], [255, 110, 104], [79, 208, 141], [240, 200, 80], [125, 178, 255], [220, 155, 242], [92, 200, 220], [255, 255, 255],
];
const BLACK = NAMED[0];
const WHITE = NAMED[15];
const PLAIN = { fore: null, back: null, bold: false, dim: false, underline: false, inverse: false };

// CSI; a string (OSC, DCS, SOS, PM, APC) that ends before another begins, so that a line is looked through once; any other ESC and its byte; single control characters but tab, and those that turn around the direction of writing.
const CONTROL = /(?:\u001b\[|\u009b)([0-?]*)[ -/]*([@-~])|(?:\u001b[\]PX^_]|[\u009d\u0090\u0098\u009e\u009f])[^\u0007\u001b\u0090\u0098\u009c-\u009f]*(?:\u0007|\u001b\\|\u009c)|\u001b.?|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/gu;

/** Splits a line into `[text, class, colours]`; the colours are an object for `style`, or null. */
export function ansi(line) {
    const pieces = [];
    let style = PLAIN;
    let from = 0;
    const push = (text, dressed) => {
        if (text !== "") pieces.push([text, ...dressed]);
    };
    for (const match of line.matchAll(CONTROL)) {
        if (pieces.length >= PIECES_MAX) {
            push(line.slice(from).replace(CONTROL, ""), ["", null]);
            return pieces;
        }
        push(line.slice(from, match.index), dress(style));
        from = match.index + match[0].length;
        if (match[2] === "m") style = apply(style, match[1]);
    }
    push(line.slice(from), dress(style));
    return pieces;
}

/** Classes and colours of a style. A colour is the number of a named one, or `[red, green, blue]`. */
function dress({ fore, back, bold, dim, underline, inverse }) {
    const classes = [bold && "ansi-bold", underline && "ansi-underline"].filter(Boolean);
    const [ink, ground] = inverse ? [back, fore] : [fore, back];
    let colours = null;
    if (ground !== null) {
        const below = rgb(ground);
        const wanted = ink === null ? null : rgb(ink);
        const read = wanted !== null && contrast(wanted, below) >= CONTRAST_MIN;
        classes.push("ansi-on");
        colours = { "--fore": css(read ? wanted : contrast(BLACK, below) > contrast(WHITE, below) ? BLACK : WHITE), "--back": css(below) };
    } else if (inverse) {
        // The page's own colours, exchanged.
        classes.push("ansi-inverse");
    } else {
        if (dim) classes.push("ansi-dim");
        if (typeof ink === "number") classes.push(`ansi-${ink > 7 ? "bright-" : ""}${NAMES[ink % 8]}`);
        // The sheet keeps its hue and makes it as dark or light as the theme needs.
        else if (ink !== null) {
            classes.push("ansi-any");
            colours = { "--fore": css(ink) };
        }
    }
    return [classes.join(" "), colours];
}

const rgb = (colour) => typeof colour === "number" ? NAMED[colour] : colour;
const css = (parts) => `rgb(${parts.join(" ")})`;

function contrast(one, other) {
    const [darker, lighter] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (lighter + 0.05) / (darker + 0.05);
}

function luminance(parts) {
    const [red, green, blue] = parts.map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Parameters are separated by `;`; the parts of one by `:`. What is not understood changes nothing. */
function apply(style, parameters) {
    // Private ones (`?`, `>` and so on) are no colours.
    if (!/^[0-9;:]*$/.test(parameters)) return style;
    const list = parameters.split(";");
    let next = { ...style };
    for (let at = 0; at < list.length; at += 1) {
        const [first, ...parts] = list[at].split(":");
        const n = Number(first);
        if (n === 0) next = { ...PLAIN };
        else if (n === 1) next.bold = true;
        else if (n === 2) next.dim = true;
        else if (n === 4) next.underline = parts[0] !== "0";
        else if (n === 7) next.inverse = true;
        else if (n === 21) next.underline = true;
        else if (n === 22) Object.assign(next, { bold: false, dim: false });
        else if (n === 24) next.underline = false;
        else if (n === 27) next.inverse = false;
        else if (n >= 30 && n <= 37) next.fore = n - 30;
        else if (n === 39) next.fore = null;
        else if (n >= 40 && n <= 47) next.back = n - 40;
        else if (n === 49) next.back = null;
        else if (n >= 90 && n <= 97) next.fore = n - 82;
        else if (n >= 100 && n <= 107) next.back = n - 92;
        else if (n === 38 || n === 48) {
            // `38:5:N`, `38:2:R:G:B`, `38:2:SPACE:R:G:B`, or the same over the next parameters, which must not be read as their own.
            const given = parts.length > 0 ? parts : list.slice(at + 1, at + (list[at + 1] === "5" ? 3 : 5));
            if (parts.length === 0) at += given.length;
            const colour = extended(given);
            if (colour !== null) next[n === 38 ? "fore" : "back"] = colour;
        }
    }
    return next;
}

/** A colour of 256 (`5 N`) or a true one (`2 R G B`); null if it is neither. */
function extended([kind, ...values]) {
    const parts = (kind === "2" ? values.slice(-3) : values.slice(0, 1)).map((part) => part === "" ? 0 : Number(part));
    if (parts.some((part) => !(part <= 255))) return null;
    if (kind === "2") return parts.length === 3 ? parts : null;
    if (kind !== "5" || parts.length === 0) return null;
    const [n] = parts;
    if (n < 16) return n;
    if (n >= 232) return Array(3).fill(8 + (n - 232) * 10);
    const level = (step) => step === 0 ? 0 : 55 + step * 40;
    return [Math.floor((n - 16) / 36), Math.floor((n - 16) / 6) % 6, (n - 16) % 6].map(level);
}
