//! `tidegate events`.

use super::Json;
use super::exit::{ExitCode, Failure};
use super::output::{self, plain};
use super::place::Place;
use super::question::Question;
use crate::config::Config;
use crate::event::EventKind;
use crate::query::events::{EventDocument, EventQuery, Events as Document, LIMIT_MAX};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Newest first. With the recorder running also what it has buffered; without it what the journal holds is not \
                  included. Only the key of the table is indexed: a filter scans from the newest event on, so what is rare \
                  takes a moment.\n\n\
                  Examples:\n  tidegate events --tunnel tokyo/9c3209de --kind log --since 2h\n  tidegate events --limit 5 --json"
)]
pub(super) struct Events {
    /// Only of this endpoint
    #[arg(long, value_name = "NAME", conflicts_with = "tunnel")]
    endpoint: Option<String>,
    /// Only of this tunnel: ENDPOINT/INSTANCE_ID, or its alias where that is unique
    #[arg(long, value_name = "TUNNEL")]
    tunnel: Option<String>,
    /// Only of this kind: initial, create, update, delete, shutdown, log
    #[arg(long)]
    kind: Option<String>,
    /// Only received since then: an age (24h), RFC 3339, or a date
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only received before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// Only older than this: `next` of an earlier answer
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[command(flatten)]
    output: Json,
}

impl Events {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let place = Place::find(config).await;
        let tunnel = match &self.tunnel {
            Some(tunnel) => Some(place.tunnel_address(tunnel).await?),
            None => None,
        };
        let first = EventQuery {
            endpoint: self.endpoint.clone(),
            tunnel,
            kind: self.kind.clone(),
            since: self.since.clone(),
            until: self.until.clone(),
            limit: None,
            cursor: self.cursor.clone(),
        };
        place.mention_journal();
        let document = output::patiently("looking for events", collect(&place, first, self.limit)).await?;
        if let Some(failure) = self.kind.as_deref().and_then(|kind| unknown_kind(kind, document.events.is_empty())) {
            return Err(failure);
        }
        if self.output.json {
            output::json(&document);
        } else {
            show(&document);
        }
        if document.in_journal_only > 0 {
            output::note(&format!("note: {} more wait in the journal alone and are not shown", document.in_journal_only));
        }
        Ok(ExitCode::Done)
    }
}

/// A kind that is none and was not found. A newer master's kind that this version does not know is found by its name.
fn unknown_kind(kind: &str, is_nothing_found: bool) -> Option<Failure> {
    let is_unknown = !EventKind::NAMES.contains(&kind);
    let failure = || {
        let known = EventKind::NAMES.join(", ");
        Failure::usage(format!("there is no kind `{}`, and no event of it; kinds are {known}", plain(kind)))
    };
    (is_unknown && is_nothing_found).then(failure)
}

/// Asks for page after page until there are enough.
async fn collect(place: &Place<'_>, query: EventQuery, limit: u32) -> Result<Document, Failure> {
    let (mut all, mut cursor) = (Document::default(), query.cursor.clone());
    loop {
        let missing = limit - u32::try_from(all.events.len()).unwrap_or(limit);
        let page = EventQuery { limit: Some(missing.min(LIMIT_MAX)), cursor: cursor.take(), ..query.clone() };
        let page: Document = place.ask(&Question::Events(page)).await?;
        all.events.extend(page.events);
        (all.next, all.in_journal_only) = (page.next, page.in_journal_only);
        cursor.clone_from(&all.next);
        if cursor.is_none() || all.events.len() >= limit as usize {
            return Ok(all);
        }
    }
}

fn show(document: &Document) {
    let mut table = output::table(&["RECEIVED", "KIND", "TUNNEL", "STATUS", "RECEIVED BYTES", "SENT BYTES", "PING", "WHAT"]);
    for event in &document.events {
        let bytes = |a: u64, b: u64| if event.status.is_empty() { "-".to_owned() } else { a.saturating_add(b).to_string() };
        table.add_row([
            // To the millisecond: what comes behind it says nothing.
            format!("{}Z{}", &event.received[..event.received.len().min(23)], if event.stored { "" } else { " *" }),
            plain(&event.kind),
            plain(&format!("{}/{}", event.endpoint.as_deref().unwrap_or("(removed)"), event.instance_id)),
            plain(&event.status),
            bytes(event.tcp_rx, event.udp_rx),
            bytes(event.tcp_tx, event.udp_tx),
            event.ping.map_or_else(|| "-".to_owned(), |ping| ping.to_string()),
            plain(&what(event)),
        ]);
    }
    output::print_table(&table);
    if document.events.iter().any(|event| !event.stored) {
        output::note("* not in the database yet");
    }
    if let Some(next) = &document.next {
        output::note(&format!("older ones: --cursor {next}"));
    }
}

/// The line of a log event, or what changed.
fn what(event: &EventDocument) -> String {
    match &event.logs {
        Some(line) => without_colours(line),
        None => event.detail.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// A line as instances print it, without the colours around its level (ESC `[` digits `m`). Whatever else is no text is shown as such.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('m').filter(|(codes, _)| codes.chars().all(|c| c.is_ascii_digit() || c == ';')) {
            Some((_, rest)) => plain.push_str(rest),
            None => {
                plain.push_str("\u{1b}[");
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_none_and_was_not_found_is_an_error_that_names_the_kinds() {
        let failure = unknown_kind("nope", true).unwrap();
        assert!(failure.message.contains("`nope`") && failure.message.contains("delete, shutdown, log"), "{}", failure.message);
        assert!(unknown_kind("nope", false).is_none(), "a newer master sent some");
        for kind in EventKind::NAMES {
            assert!(unknown_kind(kind, true).is_none() && !matches!(EventKind::from(kind), EventKind::Other(_)), "{kind}");
        }
    }

    #[test]
    fn colours_of_a_log_line_are_left_out_and_other_controls_are_not_hidden() {
        assert_eq!(without_colours("06:17  \u{1b}[31mERROR\u{1b}[0m  text"), "06:17  ERROR  text");
        assert_eq!(without_colours("\u{1b}[2J\u{1b}[1;31mam\u{1b}["), "\u{1b}[2Jam\u{1b}[");
    }
}
