//! Where the sums of traffic come from.

use chrono_tz::Tz;
use futures_util::future::{FutureExt, LocalBoxFuture};

use crate::blocking::Blocking;
use crate::query::Scope;
use crate::query::traffic::{self, Billing, By, PeriodName, Traffic, TrafficQuery};
use crate::recorder::RecorderHandle;
use crate::store::{DatabaseUrl, ReadConnection};

/// Tries to read history that is committed meanwhile.
const TRIES: usize = 5;

/// Adds up what each master moved in the present billing cycle; passed in, so that a test can say it.
pub trait CycleTraffic {
    /// Names of masters with bytes, received and sent together.
    fn sums(&self) -> LocalBoxFuture<'static, Result<Vec<(String, u64)>, String>>;
}

/// As `/api/v1/traffic?by=endpoint` adds up, on a connection of its own.
#[derive(Clone)]
pub struct StoredTraffic {
    /// Knows what waits to be stored.
    pub recorder: RecorderHandle,
    /// Where the rest is.
    pub database: DatabaseUrl,
    /// `storage.timezone`.
    pub timezone: Tz,
    /// `billing.start_day`.
    pub billing_start_day: u8,
}

impl CycleTraffic for StoredTraffic {
    fn sums(&self) -> LocalBoxFuture<'static, Result<Vec<(String, u64)>, String>> {
        let this = self.clone();
        async move {
            for _ in 0..TRIES {
                if let Some(traffic) = this.read().await? {
                    let sum = |row: traffic::TrafficRow| {
                        let cycle = row.cycle?;
                        Some((row.endpoint?, cycle.received.saturating_add(cycle.sent)))
                    };
                    return Ok(traffic.rows.into_iter().filter_map(sum).collect());
                }
            }
            Err("history was committed again and again while it was read".to_owned())
        }
        .boxed_local()
    }
}

impl StoredTraffic {
    async fn read(&self) -> Result<Option<Traffic>, String> {
        let Self { recorder, database, timezone, billing_start_day } = self.clone();
        let (now, billing) = (recorder.frame.clock.wall(), Billing { timezone, start_day: billing_start_day });
        let waiting = recorder.waiting_history(Scope::Fleet).await;
        let query = TrafficQuery { by: Some(By::Endpoint), endpoint: None, period: Some(PeriodName::Cycle) };
        let read = Blocking::Threads.run("traffic", move || {
            let mut reader = ReadConnection::open(&database).map_err(|error| error.to_string())?;
            traffic::answer(&mut reader, &query, &waiting, now, billing).map_err(|error| error.to_string())
        });
        read.await
    }
}
