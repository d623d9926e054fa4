// The language: the reader's choice, else the browser's.
import phrases from "./phrases.js";
import strings from "./strings.js";

const LANGUAGES = ["en", "zh"];

function initial() {
    let chosen = null;
    try {
        chosen = localStorage.getItem("language");
    } catch {
        // Storage may be off.
    }
    if (LANGUAGES.includes(chosen)) return chosen;
    const wanted = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
    return wanted.find((tag) => LANGUAGES.includes(tag)) ?? "en";
}

let language = initial();
document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";

/** `en` or `zh`. */
export const lang = () => language;

/** The locale for numbers and times. The browser's own where it speaks the language: it knows of 12 or 24 hours. */
export function locale() {
    return navigator.languages.find((tag) => tag.toLowerCase().startsWith(language)) ?? (language === "zh" ? "zh-CN" : "en-GB");
}

/** Changes the language and keeps the choice. */
export function setLang(chosen) {
    language = chosen;
    document.documentElement.lang = chosen === "zh" ? "zh-Hans" : "en";
    try {
        localStorage.setItem("language", chosen);
    } catch {
        // Then it holds until the page is closed.
    }
}

/** The text of that name, with `{name}` replaced by the values. */
export function t(name, values = {}) {
    const text = strings[name]?.[language];
    if (text === undefined) throw new Error(`no text named ${name}`);
    return text.replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

/** The text for a word that the recorder chose, or the word itself where a newer one says something unknown. */
export function word(group, value) {
    return strings[`${group}.${value}`]?.[language] ?? value;
}

const HOLE = /(`?)\{(\d)\}/g;
/** Texts that were said lately: a view is drawn anew each second. */
const said = new Map();
const SAID_MAX = 200;
let patterns = null;

/** What a phrase looks like. What stands in backticks is a name or a value, and is not taken for a phrase itself. */
function pattern([phrase, text]) {
    const holes = [];
    const source = phrase.split(/(`?\{\d\})/).map((part, nth) => {
        if (nth % 2 === 0) return part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
        holes.push(part);
        return part.replace(/\{\d\}/, "(.*?)");
    });
    return { looks: new RegExp(`^${source.join("")}$`, "s"), holes, text };
}

function sentence(told) {
    const weight = ([phrase]) => phrase.replace(HOLE, "").length;
    // What is said with more words of its own is tried first: the others might hold it.
    patterns ??= Object.entries(phrases).sort((one, other) => weight(other) - weight(one)).map(pattern);
    for (const { looks, holes, text } of patterns) {
        const found = looks.exec(told);
        if (found) return text.replace(HOLE, (_, tick, nth) => tick + (holes[nth - 1].startsWith("`") ? found[nth] : sentence(found[nth])));
    }
    return told;
}

/** What the recorder says in its own words, in the reader's language; what is not known (another's words) as it is. */
export function say(told) {
    if (!told || language === "en") return told;
    if (!said.has(told)) {
        if (said.size >= SAID_MAX) said.clear();
        const sentences = told.split("; ");
        const known = sentences.map(sentence);
        said.set(told, known.every((text, nth) => text === sentences[nth]) ? told : known.join("；"));
    }
    return said.get(told);
}
