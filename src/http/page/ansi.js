// Terminal colours in log lines. Only colours and weight are understood; every other control is left out, so that a line can
// neither move nor hide anything. What comes out is a list of plain texts with classes.

const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

// CSI ... letter; OSC ... BEL or ST; any other ESC and its byte; single control characters but tab.
const CONTROL = /\u001b\[([0-9;:]*)([@-~])|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b.?|[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/gu;

/** Splits a line into `[text, class]`. */
export function ansi(line) {
    const pieces = [];
    let style = { colour: "", bold: false, dim: false };
    let from = 0;
    const push = (text) => {
        if (text === "") return;
        const names = [style.colour && `ansi-${style.colour}`, style.bold && "ansi-bold", style.dim && "ansi-dim"];
        pieces.push([text, names.filter(Boolean).join(" ")]);
    };
    for (const match of line.matchAll(CONTROL)) {
        push(line.slice(from, match.index));
        from = match.index + match[0].length;
        if (match[2] === "m") style = apply(style, match[1]);
    }
    push(line.slice(from));
    return pieces;
}

function apply(style, parameters) {
    const numbers = parameters.split(/[;:]/).map(Number);
    let next = { ...style };
    for (let at = 0; at < numbers.length; at += 1) {
        const n = numbers[at];
        if (n === 0) next = { colour: "", bold: false, dim: false };
        else if (n === 1) next.bold = true;
        else if (n === 2) next.dim = true;
        else if (n === 22) Object.assign(next, { bold: false, dim: false });
        else if (n >= 30 && n <= 37) next.colour = NAMES[n - 30];
        else if (n >= 90 && n <= 97) next.colour = NAMES[n - 90];
        else if (n === 39) next.colour = "";
        // 256 and true colours, and their background: their parameters must not be read as colours of their own.
        else if (n === 38 || n === 48) at += numbers[at + 1] === 5 ? 2 : numbers[at + 1] === 2 ? 4 : 0;
    }
    return next;
}
