//! Import from NodePassDash (v3.0.0-beta2 to v4.0.5): `tidegate import nodepassdash`.
//!
//! Two threads read the two history tables of the [`source`], tunnel by tunnel; what comes of them is [`repair`]ed, one tunnel at a
//! time, and added to the ladder in one transaction. Memory holds the rows of a few tunnels, never a table.

pub mod findings;
pub mod plan;
pub mod repair;
pub mod source;
pub mod times;

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use chrono_tz::Tz;
use serde::Serialize;

use self::findings::{Defect, Findings, Found, Offsets};
use self::plan::Plan;
use self::repair::Rows;
use self::source::{Group, HourRow, MinuteRow, Place, Source, SourceEndpoint, SourceError};
use crate::clock::Timestamp;
use crate::event::{Counters, EndpointId, InstanceConfig, InstanceId, TunnelKey};
use crate::history::{InTotals, in_totals};
use crate::store::{self, DatabaseUrl, Import, Imported, Kept, StoreError};

/// Tunnels whose rows may wait between reading and storing.
const GROUPS_AHEAD: usize = 2;

/// What to import, and into what.
#[derive(Clone, Debug)]
pub struct Job {
    /// The source.
    pub source: Place,
    /// The database.
    pub database: DatabaseUrl,
    /// Only look, and say what would be done.
    pub dry_run: bool,
    /// Import the history of tunnels that were deleted too.
    pub deleted: bool,
    /// Zone of hours and days.
    pub zone: Tz,
    /// How long the levels are kept.
    pub kept: Kept,
    /// The present.
    pub now: Timestamp,
}

/// Why an import failed. The database is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far an import is, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    stage: Mutex<&'static str>,
    rows: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    fn enter(&self, stage: &'static str) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.stage.lock().unwrap_or_else(PoisonError::into_inner))?;
        let (rows, total) = (self.rows.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        if rows > 0 { write!(f, ", {rows} of {total} rows") } else { Ok(()) }
    }
}

/// What was found and done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The source, without password.
    pub source: String,
    /// The version whose schema it has.
    pub layout: String,
    /// The database.
    pub database: String,
    /// Nothing was written.
    pub dry_run: bool,
    /// Endpoints.
    pub endpoints: EndpointsReport,
    /// Tunnels.
    pub tunnels: TunnelsReport,
    /// History.
    pub history: HistoryReport,
    /// What was wrong in the source, and what was done about it.
    pub repairs: Vec<Repair>,
}

/// What became of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndpointsReport {
    /// In the source.
    pub found: usize,
    /// Names of those that were made, paused.
    pub added: Vec<String>,
    /// Names of those that have the same address as one of the source.
    pub present: Vec<String>,
    /// Names in the source of those that got another one, with it.
    pub renamed: Vec<(String, String)>,
    /// Names in the source of those that cannot be followed, and why.
    pub skipped: Vec<(String, String)>,
}

/// What became of tunnels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TunnelsReport {
    /// In the source.
    pub found: usize,
    /// Made.
    pub added: usize,
    /// There already, and left as they are.
    pub present: usize,
    /// Without an instance id, or of an endpoint that is not imported.
    pub skipped: usize,
}

/// What became of history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HistoryReport {
    /// Rows of the source's `service_history`.
    pub minute_rows: u64,
    /// Rows of its `traffic_hourly_summary`.
    pub hour_rows: u64,
    /// Samples (minutes, and hours of which no minute is there) that were added.
    pub added: u64,
    /// Samples that an earlier import has brought.
    pub there: u64,
    /// Samples of a time that tidegate recorded itself.
    pub recorded: u64,
    /// Samples older than everything that is kept.
    pub too_old: u64,
    /// Rows written or changed in `service_history`.
    pub minutes: u64,
    /// In `history_hours`.
    pub hours: u64,
    /// In `history_days`.
    pub days: u64,
    /// Bytes added, by counter.
    pub bytes: Bytes,
    /// Rows of `service_history` by the UTC offset of their time.
    pub offsets: BTreeMap<String, u64>,
}

/// Bytes by counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// TCP received.
    pub tcp_in: u64,
    /// TCP sent.
    pub tcp_out: u64,
    /// UDP received.
    pub udp_in: u64,
    /// UDP sent.
    pub udp_out: u64,
}

impl From<Counters> for Bytes {
    fn from(Counters { tcp_rx, tcp_tx, udp_rx, udp_tx }: Counters) -> Self {
        Self { tcp_in: tcp_rx, tcp_out: tcp_tx, udp_in: udp_rx, udp_out: udp_tx }
    }
}

/// A defect of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// Which.
    pub defect: Defect,
    /// The same in words, with what was done.
    pub what: &'static str,
    /// How often, and where.
    #[serde(flatten)]
    pub found: Found,
}

/// Imports, or tries to without writing. Blocks, for as long as it takes.
///
/// # Errors
/// [`ImportError`]; nothing was changed then.
pub fn run(job: &Job, progress: &Progress) -> Result<Report, ImportError> {
    progress.enter("opening");
    let mut source = Source::open(&job.source)?;
    let minute_rows = source.count("service_history")?;
    let hour_rows = source.count("traffic_hourly_summary")?;
    progress.total.store(minute_rows + hour_rows, Ordering::Relaxed);
    let report = Report {
        source: job.source.to_string(),
        layout: source.layout().to_owned(),
        database: job.database.to_string(),
        dry_run: job.dry_run,
        history: HistoryReport { minute_rows, hour_rows, ..HistoryReport::default() },
        ..Report::default()
    };
    store::import(&job.database, !job.dry_run, job.zone, job.kept, job.now, |import| {
        let mut work = Work { job, progress, import, report, findings: Findings::default() };
        let known = work.definitions(&mut source)?;
        work.history(&known)?;
        if source.has_changed() {
            let error = format!("{} was written to while it was read; import it again", job.source);
            return Err(SourceError::Unreadable(error).into());
        }
        progress.enter("storing");
        let Work { mut report, findings, .. } = work;
        report.repairs =
            findings.iter().map(|(defect, found)| Repair { defect, what: defect.what(), found: found.clone() }).collect();
        Ok(report)
    })
}

struct Work<'a, 'b> {
    job: &'a Job,
    progress: &'a Progress,
    import: &'a mut Import<'b>,
    report: Report,
    findings: Findings,
}

/// What the source's endpoints and tunnels are here.
struct Known {
    /// By the source's number.
    endpoints: BTreeMap<i64, (EndpointId, String)>,
    /// Tunnels that the source has, by its numbers.
    tunnels: std::collections::BTreeSet<(i64, String)>,
    in_totals: BTreeMap<TunnelKey, InTotals>,
}

impl Work<'_, '_> {
    fn definitions(&mut self, source: &mut Source) -> Result<Known, ImportError> {
        self.progress.enter("endpoints and tunnels");
        let found = source.endpoints()?;
        let endpoints = self.endpoints(&found)?;
        let mut tunnels = std::collections::BTreeSet::new();
        let mut configs: BTreeMap<TunnelKey, Arc<InstanceConfig>> =
            self.import.tunnels()?.into_iter().map(|(key, state)| (key, state.config)).collect();
        let there = configs.clone();
        let mut new = BTreeMap::new();
        for tunnel in source.tunnels()? {
            self.report.tunnels.found += 1;
            let made = endpoints.get(&tunnel.endpoint).and_then(|(id, _)| {
                let endpoint = found.iter().find(|endpoint| endpoint.id == tunnel.endpoint)?;
                plan::tunnel(&tunnel, endpoint).map(|made| (*id, made))
            });
            let Some((endpoint, (instance, config, sample, seen_at))) = made else {
                self.report.tunnels.skipped += 1;
                continue;
            };
            tunnels.insert((tunnel.endpoint, tunnel.instance));
            let key = TunnelKey { endpoint, instance };
            if there.contains_key(&key) || new.contains_key(&key) {
                self.report.tunnels.present += 1;
            } else {
                self.report.tunnels.added += 1;
                configs.insert(key.clone(), config.clone());
                new.insert(key.clone(), (key, config, sample, seen_at));
            }
        }
        self.import.add_tunnels(new.into_values().collect())?;
        let in_totals = in_totals(configs.iter().map(|(key, config)| (key, config.as_ref())));
        Ok(Known { endpoints, tunnels, in_totals })
    }

    fn endpoints(&mut self, found: &[SourceEndpoint]) -> Result<BTreeMap<i64, (EndpointId, String)>, ImportError> {
        let there = self.import.endpoints()?;
        let mut ids: BTreeMap<String, EndpointId> = there.iter().map(|endpoint| (endpoint.name.clone(), endpoint.id)).collect();
        let mut known = BTreeMap::new();
        self.report.endpoints.found = found.len();
        for (endpoint, plan) in found.iter().zip(plan::endpoints(found, &there)) {
            let name = match plan {
                Plan::Add(new) => {
                    ids.insert(new.name.clone(), self.import.add_endpoint(&new)?);
                    if new.name != endpoint.name {
                        self.report.endpoints.renamed.push((endpoint.name.clone(), new.name.clone()));
                    }
                    self.report.endpoints.added.push(new.name.clone());
                    new.name
                }
                Plan::Present(name) => {
                    self.report.endpoints.present.push(name.clone());
                    name
                }
                Plan::Skip(why) => {
                    self.report.endpoints.skipped.push((endpoint.name.clone(), why));
                    continue;
                }
            };
            if let Some(id) = ids.get(&name) {
                known.insert(endpoint.id, (*id, name));
            }
        }
        Ok(known)
    }

    fn history(&mut self, known: &Known) -> Result<(), ImportError> {
        self.progress.enter("reading and sorting history");
        let (minutes, minutes_read) = read(&self.job.source, Source::minutes);
        let (hours, hours_read) = read(&self.job.source, Source::hours);
        let mut offsets = Offsets::default();
        let (mut minutes, mut hours) = (minutes.into_iter().peekable(), hours.into_iter().peekable());
        let mut imported = Imported::default();
        while let Some((endpoint, instance, rows)) = next_tunnel(&mut minutes, &mut hours) {
            self.progress.enter("history");
            self.progress.rows.fetch_add((rows.minutes.len() + rows.hours.len()) as u64, Ordering::Relaxed);
            imported.add(&self.tunnel(known, endpoint, &instance, &rows, &mut offsets)?);
        }
        // What ended a table early is an error of its thread.
        for thread in [minutes_read, hours_read] {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        offsets.tell(&mut self.findings);
        let history = &mut self.report.history;
        history.offsets = offsets.counts();
        history.bytes = imported.moved.into();
        [history.minutes, history.hours, history.days] = imported.rows;
        let Imported { added, there, recorded, too_old, .. } = imported;
        (history.added, history.there, history.recorded, history.too_old) = (added, there, recorded, too_old);
        Ok(())
    }

    fn tunnel(
        &mut self,
        known: &Known,
        endpoint: i64,
        instance: &str,
        rows: &Rows,
        offsets: &mut Offsets,
    ) -> Result<Imported, ImportError> {
        let count = (rows.minutes.len() + rows.hours.len()) as u64;
        let Some((id, name)) = known.endpoints.get(&endpoint) else {
            self.findings.note_many(Defect::DeletedEndpoint, count, || format!("endpoint {endpoint}: {count} rows"));
            return Ok(Imported::default());
        };
        let name = format!("{name}/{instance}");
        for row in &rows.minutes {
            if let Some(time) = row.time {
                offsets.note(time, || format!("{name} {}", time.at));
            }
        }
        if !known.tunnels.contains(&(endpoint, instance.to_owned())) {
            self.findings.note_many(Defect::DeletedTunnel, count, || format!("{name}: {count} rows"));
            if !self.job.deleted || instance.is_empty() || instance == InstanceId::KEY_HOLDER {
                return Ok(Imported::default());
            }
        }
        let minutes = repair::repair(&name, rows, self.job.now, &mut self.findings);
        let key = TunnelKey { endpoint: *id, instance: instance.into() };
        let in_totals = known.in_totals.get(&key).copied().unwrap_or(InTotals::BOTH);
        Ok(self.import.add_history(&key, in_totals, &minutes)?)
    }
}

/// Reads the groups of a table one after the other, until it is told that nobody wants more.
type Table<T> = fn(&mut Source, &mut dyn FnMut(Group<T>) -> bool) -> Result<(), SourceError>;

type Reading = std::thread::JoinHandle<Result<(), SourceError>>;

/// Reads a table on a thread and a connection of its own.
fn read<T: Send + 'static>(place: &Place, table: Table<T>) -> (Receiver<Group<T>>, Reading) {
    let (send, receive) = sync_channel(GROUPS_AHEAD);
    let place = place.clone();
    // Whoever gave up no longer receives.
    let work = move || Source::open(&place).and_then(|mut source| table(&mut source, &mut |group| send.send(group).is_ok()));
    (receive, std::thread::spawn(work))
}

/// The tunnel that comes first in either table, with its rows of both.
fn next_tunnel(
    minutes: &mut Peekable<impl Iterator<Item = Group<MinuteRow>>>,
    hours: &mut Peekable<impl Iterator<Item = Group<HourRow>>>,
) -> Option<(i64, String, Rows)> {
    let minute_key = minutes.peek().map(|group| (group.endpoint, group.instance.clone()));
    let hour_key = hours.peek().map(|group| (group.endpoint, group.instance.clone()));
    let key = minute_key.into_iter().chain(hour_key).min()?;
    let minutes = minutes.next_if(|group| (group.endpoint, &group.instance) == (key.0, &key.1));
    let hours = hours.next_if(|group| (group.endpoint, &group.instance) == (key.0, &key.1));
    let rows = Rows {
        minutes: minutes.map(|group| group.rows).unwrap_or_default(),
        hours: hours.map(|group| group.rows).unwrap_or_default(),
    };
    Some((key.0, key.1, rows))
}
