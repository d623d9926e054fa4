//! Questions about what is stored, asked where the answer is: of the recorder's API, or of the database if none runs.

use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded::Serializer;

use super::exit::{ExitCode, Failure};
use super::output;
use super::place::Place;
use super::{address, database};
use crate::actors::buffer::WaitingHistory;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::query::QueryError;
use crate::query::buffered::Buffered;
use crate::query::events::{self, EventQuery, EventQuestion};
use crate::query::export::{self, ExportQuery};
use crate::query::falls::{self, FallQuery};
use crate::query::history::{self, HistoryQuery, HistoryQuestion};
use crate::query::traffic::{self, Billing, TrafficQuery};

/// A question that routes and commands share.
#[derive(Clone, Debug)]
pub enum Question {
    /// `GET /api/v1/events`.
    Events(EventQuery),
    /// `GET /api/v1/history`.
    History(HistoryQuery),
    /// `GET /api/v1/falls`.
    Falls(FallQuery),
    /// `GET /api/v1/traffic`.
    Traffic(TrafficQuery),
    /// `GET /api/v1/export`.
    Export(ExportQuery),
}

impl Question {
    /// Path and query of its route.
    fn path(&self) -> String {
        match self {
            Self::Events(query) => format!("/api/v1/events?{}", encoded(query)),
            Self::History(query) => format!("/api/v1/history?{}", encoded(query)),
            Self::Falls(query) => format!("/api/v1/falls?{}", encoded(query)),
            Self::Traffic(query) => format!("/api/v1/traffic?{}", encoded(query)),
            Self::Export(query) => format!("/api/v1/export?{}", encoded(query)),
        }
    }

    /// The answer of the database alone, as the route's document.
    fn answer(&self, config: &Config) -> Result<serde_json::Value, Failure> {
        let now = SystemClock.wall();
        let zone = config.storage.timezone;
        let mut reader = database::reader(&config.database)?;
        let reader = reader.connection();
        match self {
            Self::Events(query) => {
                let question = EventQuestion::new(query.clone(), now, zone)?;
                document(&events::answer(reader, &question, &Buffered::default())?)
            }
            // Where nothing waits in memory, nothing can have been committed meanwhile.
            Self::History(query) => {
                let question = HistoryQuestion::new(query.clone(), now, zone, &config.retention)?;
                document(&history::answer(reader, &question, &WaitingHistory::default())?)
            }
            Self::Falls(query) => document(&falls::answer(reader, query, &[], now, zone)?),
            Self::Traffic(query) => {
                let billing = Billing { timezone: zone, start_day: config.billing_start_day };
                document(&traffic::answer(reader, query, &WaitingHistory::default(), now, billing)?)
            }
            Self::Export(query) => document(&export::answer(reader, query, now, zone)?),
        }
    }
}

fn document(answer: &impl Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(answer).map_err(|error| Failure::database(error.to_string()))
}

/// A question as the query of a URL; what is not given is left out.
fn encoded(query: &impl Serialize) -> String {
    let mut encoded = Serializer::new(String::new());
    // A question is a plain struct of texts and numbers.
    if let Ok(serde_json::Value::Object(members)) = serde_json::to_value(query) {
        for (name, value) in members {
            match value {
                serde_json::Value::Null => {}
                serde_json::Value::String(text) => {
                    encoded.append_pair(&name, &text);
                }
                value => {
                    encoded.append_pair(&name, &value.to_string());
                }
            }
        }
    }
    encoded.finish()
}

impl Place<'_> {
    /// Asks, and gives the document of the route.
    ///
    /// # Errors
    /// [`Failure`] of the recorder or of the database.
    pub async fn ask<T: DeserializeOwned>(&self, question: &Question) -> Result<T, Failure> {
        match self {
            Self::Recorder(client) => Ok(client.call(Method::GET, &question.path(), None).await?.success()?),
            Self::Database { config, .. } => serde_json::from_value(question.answer(config)?)
                .map_err(|error| Failure::database(format!("the answer is not understood: {error}"))),
        }
    }

    /// Says, where no recorder answers, what is missing from the answers.
    pub fn mention_journal(&self) {
        if let Self::Database { why, .. } = self {
            output::note(&format!("note: {why}; this is what the database holds, without what waits in the journal"));
        }
    }

    /// `ENDPOINT/INSTANCE_ID` of the tunnel that is meant: given so, or by an alias that is unique. A tunnel that is gone has
    /// history and events all the same and can only be given so.
    ///
    /// # Errors
    /// As [`Place::tunnels`]; usage if there is none or the alias is not unique.
    pub async fn tunnel_address(&self, given: &str) -> Result<String, Failure> {
        let tunnels = self.tunnels().await?;
        match address::resolve(&tunnels, given) {
            Ok(tunnel) => Ok(format!("{}/{}", tunnel.endpoint, tunnel.instance_id)),
            Err(failure) => {
                let endpoint = given.split_once('/').map(|(endpoint, _)| endpoint);
                let known = match endpoint {
                    Some(endpoint) => self.endpoints().await?.iter().any(|known| known.name == endpoint),
                    None => false,
                };
                if known { Ok(given.to_owned()) } else { Err(failure) }
            }
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let code = match &error {
            QueryError::NotFound(_) | QueryError::Invalid(_) => ExitCode::Usage,
            QueryError::Store(_) | QueryError::Busy(_) => ExitCode::Database,
        };
        Self { code, message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_written_as_a_url_takes_it() {
        let query = EventQuery {
            endpoint: Some("東京".to_owned()),
            since: Some("2026-11-25T08:00:00+01:00".to_owned()),
            kind: Some("a&b".to_owned()),
            limit: Some(5),
            ..EventQuery::default()
        };
        let path = Question::Events(query).path();
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(path.split_once('?').unwrap().1.as_bytes()).into_owned().collect();
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected =
            [own("endpoint", "東京"), own("kind", "a&b"), own("limit", "5"), own("since", "2026-11-25T08:00:00+01:00")];
        assert_eq!(
            {
                let mut pairs = pairs;
                pairs.sort();
                pairs
            },
            expected
        );
    }
}
