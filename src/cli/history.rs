//! `tidegate history`.

use std::io::IsTerminal;

use chrono::{DateTime, TimeZone};
use chrono_tz::Tz;

use super::exit::{ExitCode, Failure};
use super::output::{self, plain};
use super::place::Place;
use super::question::Question;
use crate::config::Config;
use crate::query::falls::{self, FallCounters, FallDocument, FallQuery, Falls};
use crate::query::history::{Columns, History as Document, HistoryQuery};

/// Width of the small picture above the table.
const PICTURE_COLUMNS: usize = 72;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The step follows the range unless it is given: minutes for a day, hours for two months, days beyond, as far as \
                  retention.* still holds them. What is not known, and what was silent, stays empty; it is not zero. Without a recorder what the \
                  journal holds is not included.\n\n\
                  --falls lists what makes a total lower than what was moved, in place of the chart: counters that were reset, that a killed \
                  master brought back older, or that fell for no reason that is seen.\n\n\
                  Examples:\n  tidegate history tokyo/9c3209de --since 6h\n  tidegate history tokyo --since 30d --step 1d --csv\n  \
                  tidegate history --all --since 2026-11-01\n  tidegate history tokyo --falls --since 90d"
)]
pub(super) struct History {
    /// An endpoint, or a tunnel: ENDPOINT/INSTANCE_ID, or its alias where that is unique [default: the fleet]
    #[arg(value_name = "TUNNEL|ENDPOINT")]
    of: Option<String>,
    /// The fleet: all endpoints together
    #[arg(long, conflicts_with = "of")]
    all: bool,
    /// From then on: an age (24h), RFC 3339, or a date
    #[arg(long, value_name = "TIME", default_value = "24h")]
    since: String,
    /// Until then [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// auto, 1m, 1h or 1d; at most 7500 steps
    #[arg(long, default_value = "auto")]
    step: String,
    /// Comma-separated values with a header
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Counters that fell, newest first, in place of the chart
    #[arg(long, conflicts_with_all = ["step", "csv"])]
    falls: bool,
    #[command(flatten)]
    output: super::Json,
}

impl History {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let place = Place::find(config).await;
        if self.falls {
            return self.list_falls(&place).await;
        }
        let query = HistoryQuery { since: Some(self.since), until: self.until, step: Some(self.step), ..HistoryQuery::default() };
        let (endpoint, tunnel) = scope(&place, self.of.as_deref()).await?;
        let query = HistoryQuery { endpoint, tunnel, ..query };
        place.mention_journal();
        let document: Document = output::patiently("reading history", place.ask(&Question::History(query))).await?;
        if self.output.json {
            output::json(&document);
        } else if self.csv {
            output::print(csv(&document.columns)?.trim_end());
        } else {
            show(&document);
        }
        if document.in_journal_only > 0 {
            output::note(&format!("note: {} rows wait in the journal alone and are not counted", document.in_journal_only));
        }
        Ok(ExitCode::Done)
    }
}

/// The endpoint or the tunnel that is meant; neither is the fleet.
async fn scope(place: &Place<'_>, of: Option<&str>) -> Result<(Option<String>, Option<String>), Failure> {
    Ok(match of {
        None => (None, None),
        Some(of) if place.endpoints().await?.iter().any(|endpoint| endpoint.name == of) => (Some(of.to_owned()), None),
        Some(of) => (None, Some(place.tunnel_address(of).await?)),
    })
}

impl History {
    async fn list_falls(self, place: &Place<'_>) -> Result<ExitCode, Failure> {
        let (endpoint, tunnel) = scope(place, self.of.as_deref()).await?;
        let (since, until) = (Some(self.since), self.until);
        let mut query = FallQuery { endpoint, tunnel, since, until, limit: Some(falls::LIMIT_MAX), ..FallQuery::default() };
        place.mention_journal();
        let mut all = Falls::default();
        loop {
            let page: Falls = output::patiently("looking for falls", place.ask(&Question::Falls(query.clone()))).await?;
            all.falls.extend(page.falls);
            query.before = page.next;
            if query.before.is_none() {
                break;
            }
        }
        if self.output.json {
            output::json(&all);
        } else if all.falls.is_empty() {
            output::note("no counter fell in that time");
        } else {
            show_falls(&all.falls);
        }
        Ok(ExitCode::Done)
    }
}

fn show_falls(falls: &[FallDocument]) {
    let sum = |figures: &FallCounters| {
        let both = |a: u64, b: u64| bytes(a.saturating_add(b));
        format!("{} in, {} out", both(figures.tcp_in, figures.udp_in), both(figures.tcp_out, figures.udp_out))
    };
    let mut table = output::table(&["TIME", "TUNNEL", "WHAT", "BEFORE", "AFTER", "COUNTED"]);
    for fall in falls {
        table.add_row([
            format!("{}Z{}", &fall.time[..fall.time.len().min(19)], if fall.stored { "" } else { " *" }),
            plain(&format!("{}/{}", fall.endpoint.as_deref().unwrap_or("(removed)"), fall.instance_id)),
            plain(&fall.kind),
            sum(&fall.before),
            sum(&fall.after),
            sum(&fall.counted),
        ]);
    }
    output::print_table(&table);
    let meanings = [
        ("reset", "the counters were set to 0"),
        ("reset_undone", "the figures from before a fall are back; what rose beyond them is counted"),
        ("fall_back", "the master was started anew, with older figures"),
        ("fall_unknown", "nothing shows why; what was moved with it counts 0"),
    ];
    for (kind, meaning) in meanings.iter().filter(|(kind, _)| falls.iter().any(|fall| fall.kind == *kind)) {
        output::note(&format!("{kind}: {meaning}"));
    }
    if falls.iter().any(|fall| !fall.stored) {
        output::note("* not in the database yet");
    }
}

/// A line for each step; empty where nothing is known.
fn csv(columns: &Columns) -> Result<String, Failure> {
    fn text<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(String::new, |value| value.to_string())
    }
    let failed = |error: csv::Error| Failure::usage(error.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    let names = [
        "time",
        "in",
        "out",
        "tcp_in",
        "tcp_out",
        "udp_in",
        "udp_out",
        "speed_in",
        "speed_out",
        "ping_avg",
        "ping_min",
        "ping_max",
        "pool",
        "tcps",
        "udps",
        "reports",
        "expected",
        "heard_s",
        "zone_changed",
    ];
    writer.write_record(names).map_err(failed)?;
    for (n, time) in columns.time.iter().enumerate() {
        let record = [
            DateTime::from_timestamp(*time, 0).unwrap_or_default().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            text(columns.received[n]),
            text(columns.sent[n]),
            text(columns.tcp_in[n]),
            text(columns.tcp_out[n]),
            text(columns.udp_in[n]),
            text(columns.udp_out[n]),
            text(columns.speed_in[n]),
            text(columns.speed_out[n]),
            text(columns.ping_avg[n]),
            text(columns.ping_min[n]),
            text(columns.ping_max[n]),
            text(columns.pool[n]),
            text(columns.tcps[n]),
            text(columns.udps[n]),
            text(columns.reports[n]),
            text(columns.expected[n]),
            text(columns.heard_s.get(n)),
            text(columns.zone_changed.get(n)),
        ];
        writer.write_record(record).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

fn show(document: &Document) {
    let zone: Tz = document.timezone.parse().unwrap_or(Tz::UTC);
    let of = match (&document.endpoint, &document.instance_id) {
        (Some(endpoint), Some(instance)) => format!("{}/{}", endpoint, plain(instance)),
        (Some(endpoint), None) => endpoint.clone(),
        _ => "fleet".to_owned(),
    };
    let sum = |values: &[Option<u64>]| bytes(values.iter().flatten().fold(0_u64, |sum, value| sum.saturating_add(*value)));
    output::print(&format!(
        "{of}: {} in, {} out; {} to {}",
        sum(&document.columns.received),
        sum(&document.columns.sent),
        document.from,
        document.to
    ));
    if std::io::stdout().is_terminal() {
        let columns = &document.columns;
        output::print(&format!("in   {}", picture(&columns.received)));
        output::print(&format!("out  {}", picture(&columns.sent)));
    }
    let mut table = output::table(&["TIME", "IN", "OUT", "IN/S", "OUT/S", "PING", "POOL", "TCP", "UDP", "REPORTS"]);
    let columns = &document.columns;
    // Steps without a value in a row, and the word for them.
    let mut without = (0_usize, "");
    for (n, time) in columns.time.iter().enumerate() {
        let word = word(columns, n, document.step_s);
        if word != Some(without.1) && without.0 > 0 {
            table.add_row([format!("({} {})", without.0, without.1)]);
            without.0 = 0;
        }
        match word {
            Some(word) => without = (without.0 + 1, word),
            None => {
                let mark = if columns.zone_changed.get(n) == Some(&true) { " (zone changed)" } else { "" };
                table.add_row(row(columns, n, &format!("{}{mark}", local(zone, *time))));
            }
        }
    }
    if without.0 > 0 {
        table.add_row([format!("({} {})", without.0, without.1)]);
    }
    output::print_table(&table);
}

/// What a step without a value is: silent if the master was heard for half of it or more.
fn word(columns: &Columns, n: usize, step_s: u64) -> Option<&'static str> {
    let heard = columns.heard_s.get(n).copied().unwrap_or_default().max(0).cast_unsigned();
    columns.reports[n].is_none().then_some(if heard * 2 >= step_s { "silent" } else { "unknown" })
}

fn row(columns: &Columns, n: usize, time: &str) -> [String; 10] {
    fn known<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
        value.map_or_else(|| "-".to_owned(), show)
    }
    let speed = |value: Option<i64>| known(value, |speed| format!("{}/s", bytes(speed.max(0).cast_unsigned())));
    let gauge = |value: Option<i32>| known(value, |value| value.to_string());
    let reports = columns.reports[n].unwrap_or_default();
    let expected = columns.expected[n].unwrap_or_default();
    [
        time.to_owned(),
        known(columns.received[n], bytes),
        known(columns.sent[n], bytes),
        speed(columns.speed_in[n]),
        speed(columns.speed_out[n]),
        known(columns.ping_avg[n], |ping| format!("{ping:.1}")),
        gauge(columns.pool[n]),
        gauge(columns.tcps[n]),
        gauge(columns.udps[n]),
        if expected > 0 { format!("{reports}/{expected}") } else { reports.to_string() },
    ]
}

fn local(zone: Tz, seconds: i64) -> String {
    let utc = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    zone.from_utc_datetime(&utc.naive_utc()).format("%Y-%m-%d %H:%M %Z").to_string()
}

fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

/// The values as a row of blocks, several to a block where there are many; a blank is not known.
fn picture(values: &[Option<u64>]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let each = values.len().div_ceil(PICTURE_COLUMNS).max(1);
    let highest = |chunk: &[Option<u64>]| chunk.iter().flatten().copied().max();
    let columns: Vec<Option<u64>> = values.chunks(each).map(highest).collect();
    let top = columns.iter().flatten().copied().max().unwrap_or_default().max(1);
    let block = |value: &Option<u64>| match value {
        None => ' ',
        Some(value) => BLOCKS[((*value as f64 / top as f64) * 7.0).round() as usize],
    };
    columns.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_shows_the_highest_of_its_columns_and_leaves_gaps() {
        assert_eq!(picture(&[Some(0), Some(50), None, Some(100)]), "▁▅ █");
        let many: Vec<Option<u64>> = (0..1_440).map(|n| (n < 720).then_some(n)).collect();
        let shown = picture(&many);
        assert_eq!((shown.chars().count(), shown.trim_end().chars().count()), (72, 36));
        assert_eq!(picture(&[]), "");
    }

    #[test]
    fn values_that_are_not_known_are_empty_in_csv() {
        let columns = Columns {
            time: vec![1_795_435_200, 1_795_435_260],
            received: vec![Some(5), None],
            sent: vec![Some(6), None],
            tcp_in: vec![Some(5), None],
            tcp_out: vec![Some(6), None],
            udp_in: vec![Some(0), None],
            udp_out: vec![Some(0), None],
            speed_in: vec![Some(1), None],
            speed_out: vec![None, None],
            ping_avg: vec![Some(1.5), None],
            ping_min: vec![Some(1), None],
            ping_max: vec![Some(2), None],
            pool: vec![None, None],
            tcps: vec![Some(3), None],
            udps: vec![Some(0), None],
            reports: vec![Some(12), None],
            expected: vec![Some(12), None],
            heard_s: vec![60, 45],
            zone_changed: vec![false, true],
        };
        let text = csv(&columns).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "2026-11-23T12:00:00Z,5,6,5,6,0,0,1,,1.5,1,2,,3,0,12,12,60,false");
        assert_eq!(lines[2], "2026-11-23T12:01:00Z,,,,,,,,,,,,,,,,,45,true");
        assert_eq!(
            [word(&columns, 0, 60), word(&columns, 1, 60), word(&columns, 1, 120)],
            [None, Some("silent"), Some("unknown")]
        );
    }
}
