//! `tidegate traffic`.

use super::Json;
use super::exit::{ExitCode, Failure};
use super::output::{self, plain};
use super::place::Place;
use super::question::Question;
use crate::config::Config;
use crate::query::traffic::{By, Moved, Period, Traffic as Document, TrafficQuery, TrafficRow};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Days, months and cycles are those of storage.timezone; a cycle begins on billing.start_day, on the last day of \
                  months that are shorter. Of all endpoints together the two ends of a tunnel count once, where peer.sid tells.\n\n\
                  Examples:\n  tidegate traffic\n  tidegate traffic --by tunnel --endpoint tokyo\n  \
                  tidegate traffic --by endpoint --json --set billing.start_day=15"
)]
pub(super) struct Traffic {
    /// A row for the fleet, for each endpoint, or for each tunnel [default: fleet; endpoint with --endpoint]
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Only of this endpoint
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    #[command(flatten)]
    output: Json,
}

impl Traffic {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let place = Place::find(config).await;
        place.mention_journal();
        let question = Question::Traffic(TrafficQuery { by: self.by, endpoint: self.endpoint });
        let document: Document = output::patiently("adding up", place.ask(&question)).await?;
        if self.output.json {
            output::json(&document);
        } else {
            show(&document);
        }
        if document.in_journal_only > 0 {
            output::note(&format!("note: {} rows wait in the journal alone and are not counted", document.in_journal_only));
        }
        Ok(ExitCode::Done)
    }
}

fn show(document: &Document) {
    let header = ["", "ALIAS", "TODAY IN", "OUT", "MONTH IN", "OUT", "CYCLE IN", "OUT"];
    let mut table = output::table(&header);
    for row in &document.rows {
        let (today, month, cycle) = (moved(row.today), moved(row.month), moved(row.cycle));
        table.add_row([name(row), plain(&row.alias), today.0, today.1, month.0, month.1, cycle.0, cycle.1]);
    }
    output::print_table(&table);
    let day = |period: &Period| period.from.get(..16).unwrap_or_default().to_owned();
    let periods = &document.periods;
    output::print(&format!(
        "today since {}Z, month since {}Z, cycle since {}Z ({})",
        day(&periods.today),
        day(&periods.month),
        day(&periods.cycle),
        document.timezone
    ));
}

fn name(row: &TrafficRow) -> String {
    match (&row.endpoint, &row.instance_id) {
        (Some(endpoint), Some(instance)) => format!("{endpoint}/{}", plain(instance)),
        (None, Some(instance)) => format!("(removed)/{}", plain(instance)),
        (Some(endpoint), None) => endpoint.clone(),
        (None, None) => "all".to_owned(),
    }
}

fn moved(moved: Moved) -> (String, String) {
    let bytes = |bytes: u64| bytesize::ByteSize(bytes).to_string();
    (bytes(moved.received), bytes(moved.sent))
}
