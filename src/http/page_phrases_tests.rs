//! What the recorder says in its own words, and its translation in `phrases.js`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::tests::table;

/// Modules whose sentences for people come to the page: each of them is translated. A sentence of another module is as soon as it
/// is in the table; it must then be in the code.
const SPEAKERS: &[&str] = &[
    "transport/mod.rs",
    "transport/http.rs",
    "transport/tls.rs",
    "transport/probe.rs",
    "transport/post.rs",
    "actors/sse_ingest/connect.rs",
    "actors/sse_ingest/check.rs",
    "actors/endpoints.rs",
    "actors/endpoints/changes.rs",
    "actors/endpoints/learnt.rs",
    "actors/buffer/requests.rs",
    "actors/realtime.rs",
    "alerts/messenger.rs",
    "alerts/outbox.rs",
    "alerts/watch.rs",
    "endpoint.rs",
    "http/alerts.rs",
    "http/endpoints.rs",
    "http/history.rs",
    "http/probe.rs",
    "http/recorder.rs",
    "http/starting.rs",
    "modes/report.rs",
    "store/pool.rs",
];

/// The literals of some code, but for those of its tests, of attributes (`error` apart), of the log and of panics.
fn literals(code: TokenStream, found: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = code.into_iter().collect();
    let shown = |at: usize| tokens.get(at).map(ToString::to_string).unwrap_or_default();
    let mut at = 0;
    while at < tokens.len() {
        let word = shown(at);
        let silent = matches!(word.as_str(), "trace" | "debug" | "info" | "warn" | "error" | "unreachable" | "assert");
        if word == "#" && shown(at + 1).replace(' ', "") == "[cfg(test)]" {
            while !is_end_of_item(&tokens[at]) {
                at += 1;
            }
        } else if word == "#" {
            at += if shown(at + 1) == "!" { 2 } else { 1 };
            match &tokens[at] {
                TokenTree::Group(attribute) if shown(at).starts_with("[error") => literals(attribute.stream(), found),
                _ => {}
            }
        } else if silent && shown(at + 1) == "!" {
            at += 2;
        } else if word == "expect" {
            at += 1;
        } else if let TokenTree::Group(group) = &tokens[at] {
            literals(group.stream(), found);
        } else if let TokenTree::Literal(literal) = &tokens[at] {
            found.extend(text(&literal.to_string()));
        }
        at += 1;
    }
}

fn is_end_of_item(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace) || token.to_string() == ";"
}

/// The text of a literal of text.
fn text(literal: &str) -> Option<String> {
    let quoted = literal.strip_prefix('"')?.strip_suffix('"')?;
    let mut lines = quoted.split("\\\n");
    let first = lines.next()?.to_owned();
    Some(lines.fold(first, |whole, line| whole + line.trim_start()).replace("\\\"", "\""))
}

/// Its sentences, with `{1}`, `{2}` for what they hold. What has no words of its own is no sentence.
fn sentences(text: &str) -> Vec<String> {
    let of_words =
        |sentence: &String| sentence.replace(|c: char| !c.is_ascii_lowercase(), " ").split(' ').any(|word| word.len() > 1);
    if !text.contains(' ') {
        return Vec::new();
    }
    // The advice of a probe puts the endpoint's name there.
    text.replace(" NAME", " {}").split("; ").map(numbered).filter(of_words).collect()
}

fn numbered(sentence: &str) -> String {
    let mut parts = sentence.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    let rest =
        parts.enumerate().map(|(nth, part)| format!("{{{}}}{}", nth + 1, part.split_once('}').map_or("", |(_, after)| after)));
    first + &rest.collect::<String>()
}

fn said_in(path: &Path) -> BTreeSet<String> {
    let code = std::fs::read_to_string(path).unwrap();
    let tokens = code.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut found = Vec::new();
    literals(tokens, &mut found);
    found.iter().flat_map(|text| sentences(text)).collect()
}

fn modules(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            modules(&path, found);
        } else if path.to_string_lossy().ends_with(".rs") && !path.to_string_lossy().ends_with("tests.rs") {
            found.push(path);
        }
    }
}

fn phrases() -> BTreeMap<String, String> {
    table("phrases.js")
}

#[test]
fn what_the_recorder_says_on_the_page_is_translated() {
    let phrases = phrases();
    // The words of a database are its own, what is advised is ours.
    let advices = crate::store::database_advices().flat_map(|advice| advice.split("; "));
    let mut missing: Vec<String> = advices.filter(|advice| !phrases.contains_key(*advice)).map(str::to_owned).collect();
    for speaker in SPEAKERS {
        let said = said_in(&Path::new("src").join(speaker));
        if said.is_empty() {
            missing.push(format!("{speaker} says nothing"));
        }
        let new = said.into_iter().filter(|sentence| !phrases.contains_key(sentence));
        missing.extend(new.map(|sentence| format!("{speaker}: {sentence}")));
    }
    assert!(missing.is_empty(), "not in phrases.js:\n{}", missing.join("\n"));
}

#[test]
fn what_is_translated_is_said_somewhere_in_the_code() {
    let mut paths = Vec::new();
    modules(Path::new("src"), &mut paths);
    let said: BTreeSet<String> = paths.iter().flat_map(|path| said_in(path)).collect();
    let unsaid: Vec<String> = phrases().into_keys().filter(|phrase| !said.contains(phrase)).collect();
    assert!(unsaid.is_empty(), "nothing says this:\n{}", unsaid.join("\n"));
}

#[test]
fn a_translation_holds_nothing_that_its_phrase_does_not() {
    for (phrase, translation) in phrases() {
        let holes = |text: &str| text.split('{').skip(1).map(|part| part[..1].to_owned()).collect::<BTreeSet<_>>();
        assert!(holes(&translation).is_subset(&holes(&phrase)), "{phrase}");
        assert!(!phrase.contains("; ") && !translation.is_empty(), "{phrase}: one sentence");
    }
}
