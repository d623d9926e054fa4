// The language: the reader's choice, else the browser's.
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
