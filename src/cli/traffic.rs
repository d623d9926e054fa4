//! `tidegate traffic`.

use super::Json;
use super::exit::{ExitCode, Failure};
use super::output::{self, cell, plain};
use super::place::Place;
use super::question::Question;
use crate::config::Config;
use crate::query::traffic::{By, Moved, Period, PeriodName, Traffic as Document, TrafficQuery, TrafficRow};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Days, months and cycles are those of storage.timezone; a cycle begins on billing.start_day, on the last day of \
                  months that are shorter. Of all endpoints together the two ends of a tunnel count once, where peer.sid tells.\n\n\
                  Examples:\n  tidegate traffic\n  tidegate traffic --by tunnel --endpoint tokyo\n  \
                  tidegate traffic --by tunnel --period today\n  \
                  tidegate traffic --by endpoint --json --set billing.start_day=15"
)]
pub(super) struct Traffic {
    /// A row for the fleet, for each endpoint, or for each tunnel [default: fleet; endpoint with --endpoint]
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Only of this endpoint
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// Only this period; much faster with many tunnels [default: all three]
    #[arg(long, value_enum)]
    period: Option<PeriodName>,
    #[command(flatten)]
    output: Json,
}

impl Traffic {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let place = Place::find(config).await;
        place.mention_journal();
        let question = Question::Traffic(TrafficQuery { by: self.by, endpoint: self.endpoint, period: self.period });
        let document: Document = output::patiently("adding up", place.ask(&question)).await?;
        if self.output.json {
            output::json(&document);
        } else {
            show(&document, self.period);
        }
        if document.in_journal_only > 0 {
            output::note(&format!("note: {} rows wait in the journal alone and are not counted", document.in_journal_only));
        }
        Ok(ExitCode::Done)
    }
}

fn show(document: &Document, only: Option<PeriodName>) {
    let Document { rows, periods, timezone, .. } = document;
    type Column<'a> = (PeriodName, [&'static str; 2], &'a Period, fn(&TrafficRow) -> Option<Moved>);
    let all: [Column<'_>; 3] = [
        (PeriodName::Today, ["TODAY IN", "today"], &periods.today, |row| row.today),
        (PeriodName::Month, ["MONTH IN", "month"], &periods.month, |row| row.month),
        (PeriodName::Cycle, ["CYCLE IN", "cycle"], &periods.cycle, |row| row.cycle),
    ];
    let asked: Vec<Column<'_>> = all.into_iter().filter(|(name, ..)| only.is_none_or(|only| only == *name)).collect();
    let header: Vec<&str> = ["", "ALIAS"].into_iter().chain(asked.iter().flat_map(|(_, [head, _], ..)| [*head, "OUT"])).collect();
    let mut table = output::table(&header);
    for row in rows {
        let moved = asked.iter().flat_map(|(.., of)| moved(of(row).unwrap_or_default()));
        table.add_row([name(row), cell(&row.alias)].into_iter().chain(moved));
    }
    output::print_table(&table);
    let day = |period: &Period| period.from.get(..16).unwrap_or_default().to_owned();
    let since: Vec<String> = asked.iter().map(|(_, [_, word], period, _)| format!("{word} since {}Z", day(period))).collect();
    output::print(&format!("{} ({timezone})", since.join(", ")));
}

fn name(row: &TrafficRow) -> String {
    match (&row.endpoint, &row.instance_id) {
        (Some(endpoint), Some(instance)) => format!("{endpoint}/{}", plain(instance)),
        (None, Some(instance)) => format!("(removed)/{}", plain(instance)),
        (Some(endpoint), None) => endpoint.clone(),
        (None, None) => "all".to_owned(),
    }
}

fn moved(moved: Moved) -> [String; 2] {
    [moved.received, moved.sent].map(|bytes| bytesize::ByteSize(bytes).to_string())
}
