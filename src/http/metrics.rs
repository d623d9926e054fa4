//! `/metrics`: what `/api/v1/stats` shows, and how the server and the alerts fare, in the OpenMetrics text format. Names follow
//! the conventions of Prometheus: base units, `_total` on what only rises. Nothing is counted here.

use std::collections::BTreeMap;
use std::fmt;

use actix_web::{HttpResponse, web};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::archive::Archive;
use super::connection;
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};
use super::stream::Hub;
use crate::actors::alerts::AlertsState;
use crate::alerts::{Channel, ChannelState, Condition};
use crate::clock::Timestamp;
use crate::endpoint::EndpointStatus;
use crate::status::snapshot::{EndpointStats, OptimizedStorage, Stats};
use crate::store::pool::PoolState;

/// What OpenMetrics 1.0 says it is.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Endpoints that have series of their own; with more there are none by endpoint, so that a monitor is not flooded.
const ENDPOINTS_MAX: usize = 1_000;
/// Kinds of events that masters are known to send. A kind that only a hostile one sends must not make a series.
const KINDS: [&str; 6] = ["initial", "create", "update", "delete", "shutdown", "log"];

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config.service(resource("/metrics").get(metrics::<R>));
}

/// The stats in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
))]
async fn metrics<R: RecorderApi>(recorder: web::Data<R>, hub: web::Data<Hub<R>>, archive: web::Data<Archive>) -> Answer {
    let text = encode(Shown {
        stats: recorder.stats(),
        alerts: recorder.alerts(),
        reads: archive.pool_state(),
        connections: connection::open(),
        stream_readers: hub.readers(),
        stream_readers_cut_off: hub.cut_off(),
    });
    // Writing to a text fails only for what the library itself refuses.
    let text = text.map_err(|_| {
        Problem::new(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written as text")
    })?;
    Ok(HttpResponse::Ok().insert_header(("content-type", MEDIA_TYPE)).body(text))
}

fn encode(shown: Shown) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("tidegate");
    registry.register_collector(Box::new(shown));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// What is shown.
#[derive(Debug, Default)]
struct Shown {
    stats: Stats,
    alerts: AlertsState,
    reads: PoolState,
    connections: usize,
    stream_readers: usize,
    stream_readers_cut_off: u64,
}

impl Collector for Shown {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Stats { optimized_storage, dropped, events, endpoints, database, mode, process, .. } = &self.stats;
        let mut page = Page(encoder);
        page.storage(optimized_storage)?;
        page.counters("events", "Events by kind, also those that get no row", "kind", by_kind(events))?;
        page.counters("dropped_events", "Events that were not kept, by reason", "reason", owned(dropped))?;
        page.gauge("database_up", "Whether the last write succeeded", None, f64::from(u8::from(database.ok)))?;
        let since = database.since.as_deref().and_then(seconds);
        page.known("database_status_since_timestamp", "When the last write began to succeed, or to fail", seconds_unit(), since)?;
        page.labelled("storage", "The mode of storage", MetricType::Info, &[(vec![("mode", mode.clone())], 1.0)])?;
        if let Some(process) = process {
            page.labelled("build", "Version and commit", MetricType::Info, &[(vec![("version", process.version.clone())], 1.0)])?;
            page.gauge("uptime", "Time since the start", seconds_unit(), process.uptime_s)?;
            page.gauge("resident_memory", "Resident memory of the process", Some(Unit::Bytes), process.rss_bytes as f64)?;
        }
        page.server(self)?;
        page.alerts(&self.alerts)?;
        page.gauge("endpoints", "Masters that are followed or paused", None, endpoints.len() as f64)?;
        if endpoints.len() <= ENDPOINTS_MAX { page.endpoints(endpoints) } else { Ok(()) }
    }
}

/// Labels of one series and its value.
type Series = (Vec<(&'static str, String)>, f64);

/// The text as it is written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn storage(&mut self, storage: &OptimizedStorage) -> fmt::Result {
        let s = storage;
        self.gauge("buffer_events", "Events accepted and not committed", None, s.buffer_size as f64)?;
        self.gauge("buffer_limit_events", "Events at which a batch is cut", None, s.max_buffer_size as f64)?;
        self.gauge(
            "buffer_usage_ratio",
            "Buffered events per limit; passes 1 while the database is down",
            None,
            s.buffer_usage_pct / 100.0,
        )?;
        self.gauge("buffer", "Bytes of the events that are not committed", Some(Unit::Bytes), s.buffer_bytes as f64)?;
        self.gauge("oldest_unflushed", "Age of the oldest event that is not committed", seconds_unit(), s.oldest_unflushed_s)?;
        self.gauge("waiting_batches", "Batches cut and not committed", None, s.waiting_batches as f64)?;
        let f = s.flushes;
        let causes = [
            ("threshold", f.threshold),
            ("hourly", f.hourly),
            ("manual", f.manual),
            ("drain", f.drain),
            ("recovery", f.recovery),
            ("journal", f.journal),
        ];
        self.counters("flushes", "Flushes by cause", "cause", causes.map(|(cause, n)| (cause.to_owned(), n)))?;
        let share = s.threshold_share_pct.map(|share| share / 100.0);
        self.known("flushes_threshold_ratio", "Flushes for the threshold per all flushes", None, share)?;
        let second = |millis: Option<f64>| millis.map(|millis| millis / 1_000.0);
        self.known("flush_last_duration", "How long the last commit of events took", seconds_unit(), second(s.flush_ms.last))?;
        self.known("flush_mean_duration", "Mean of the last 1,000 commits of events", seconds_unit(), second(s.flush_ms.mean))?;
        self.known("flush_p99_duration", "99th percentile of the last 1,000 commits", seconds_unit(), second(s.flush_ms.p99))?;
        let last = s.last_flush_at.map(unix);
        self.known("last_flush_timestamp", "When the last flush was cut", seconds_unit(), last)?;
        let next = s.next_boundary.as_deref().and_then(seconds);
        self.known("next_boundary_timestamp", "The next boundary", seconds_unit(), next)?;
        self.counter("rows_written", "Rows of events written", s.rows_written)?;
        self.counter("rows_skipped", "Rows whose id was there before: replays and commits in doubt", s.rows_skipped)?;
        self.counter("rows_quarantined", "Rows that the database refused for themselves", s.quarantined)?;
        self.counter("write_retries", "Tries to write after a failed one", s.retries)?;
        self.counter("write_failures", "Failed writes", s.failures)?;
        self.counter("write_transactions", "Transactions committed, of all kinds", s.write_transactions)?;
        self.known("updates_per_transaction", "Update events per transaction", None, s.updates_per_transaction)?;
        let r = s.realtime;
        self.gauge("realtime_queue_events", "Events that wait to be written one at a time", None, r.queue_events as f64)?;
        self.gauge("realtime_queue", "Bytes of the events that wait so", Some(Unit::Bytes), r.queue_bytes as f64)?;
        self.counter("realtime_rows_written", "Events that were written one at a time", r.written)?;
        self.counter("realtime_left_to_batch", "Events that were to be and were left to their batch", r.left_to_batch)?;
        self.gauge("journal", "Bytes of the journal", Some(Unit::Bytes), s.journal_bytes as f64)?;
        let late = s.expiry_late.len() as f64;
        self.gauge("expiry_late_tables", "Tables with rows that should have expired more than an hour ago", None, late)
    }

    /// What the server itself does: connections, readers of the stream, and the reads of the database that answers need.
    fn server(&mut self, shown: &Shown) -> fmt::Result {
        self.gauge("http_connections", "Open connections of the HTTP server", None, shown.connections as f64)?;
        self.gauge("stream_readers", "Readers of /api/v1/stream", None, shown.stream_readers as f64)?;
        let help = "Readers of /api/v1/stream that did not follow and were disconnected";
        self.counter("stream_readers_cut_off", help, shown.stream_readers_cut_off)?;
        let PoolState { running, waiting, refused, late } = shown.reads;
        self.gauge("database_reads_running", "Reads of the database for HTTP that run", None, running as f64)?;
        self.gauge("database_reads_waiting", "Reads that wait for their turn", None, waiting as f64)?;
        self.counter("database_reads_refused", "Reads refused because too many waited", refused)?;
        self.counter("database_reads_late", "Reads given up because they took too long", late)
    }

    fn alerts(&mut self, alerts: &AlertsState) -> fmt::Result {
        let mut active: BTreeMap<String, u64> = Condition::KINDS.map(|kind| (kind.to_owned(), 0)).into();
        for alert in &alerts.active {
            *active.entry(alert.condition.kind().to_owned()).or_default() += 1;
        }
        let active: Vec<Series> = active.into_iter().map(|(kind, count)| (vec![("kind", kind)], count as f64)).collect();
        self.labelled("alerts_active", "Alerts that are not over", MetricType::Gauge, &active)?;
        let each = |value: &dyn Fn(&ChannelState) -> u64| -> Vec<Series> {
            let series = |(channel, state): &(Channel, ChannelState)| {
                (vec![("channel", channel.as_str().to_owned())], value(state) as f64)
            };
            alerts.channels.iter().map(series).collect()
        };
        let waiting = each(&|state| state.waiting as u64);
        self.labelled("alert_messages_waiting", "Messages that wait to be sent", MetricType::Gauge, &waiting)?;
        self.labelled("alert_messages_sent", "Messages that were taken", MetricType::Counter, &each(&|state| state.sent))?;
        let failures = each(&|state| state.failures);
        self.labelled("alert_messages_failures", "Tries to send that failed", MetricType::Counter, &failures)?;
        let given_up = each(&|state| state.given_up);
        self.labelled("alert_messages_given_up", "Messages that were given up", MetricType::Counter, &given_up)
    }

    fn endpoints(&mut self, endpoints: &[EndpointStats]) -> fmt::Result {
        let each = |value: &dyn Fn(&EndpointStats) -> f64| -> Vec<Series> {
            endpoints.iter().map(|endpoint| (vec![("endpoint", endpoint.name.clone())], value(endpoint))).collect()
        };
        let is_up = |endpoint: &EndpointStats| f64::from(u8::from(endpoint.status == EndpointStatus::Online));
        self.labelled("endpoint_up", "Whether the master's stream is open", MetricType::Gauge, &each(&is_up))?;
        let status = |endpoint: &EndpointStats| {
            (vec![("endpoint", endpoint.name.clone()), ("status", endpoint.status.as_str().to_owned())], 1.0)
        };
        let statuses: Vec<Series> = endpoints.iter().map(status).collect();
        self.labelled("endpoint_status", "Status of the master", MetricType::Info, &statuses)?;
        let since = |endpoint: &EndpointStats| seconds(&endpoint.since).unwrap_or_default();
        let name = "endpoint_status_since_timestamp_seconds";
        self.labelled(name, "When the status changed to the present one", MetricType::Gauge, &each(&since))?;
        let tunnels = |endpoint: &EndpointStats| endpoint.tunnels as f64;
        self.labelled("endpoint_tunnels", "Tunnels of the master", MetricType::Gauge, &each(&tunnels))?;
        let received = |endpoint: &EndpointStats| endpoint.events_received as f64;
        let help = "Stored events that the journal has";
        self.labelled("endpoint_events_received", help, MetricType::Counter, &each(&received))?;
        let missed = |endpoint: &EndpointStats| endpoint.reports_missed as f64;
        let help = "Reports that did not come when they were due";
        self.labelled("endpoint_reports_missed", help, MetricType::Counter, &each(&missed))?;
        let reconnects = |endpoint: &EndpointStats| endpoint.reconnects as f64;
        let help = "Connections after the first";
        self.labelled("endpoint_reconnects", help, MetricType::Counter, &each(&reconnects))?;
        let dropped = endpoints.iter().flat_map(|endpoint| {
            let labels = |reason: &str| vec![("endpoint", endpoint.name.clone()), ("reason", reason.to_owned())];
            endpoint.dropped.iter().map(move |(reason, count)| (labels(reason), *count as f64))
        });
        let dropped: Vec<Series> = dropped.collect();
        self.labelled("endpoint_dropped_events", "What was not kept of it, by reason", MetricType::Counter, &dropped)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?.encode_gauge(&value)
    }

    /// A gauge that is absent while its value is not known.
    fn known(&mut self, name: &str, help: &str, unit: Option<Unit>, value: Option<f64>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.gauge(name, help, unit, value))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Counter)?.encode_counter::<[(&str, &str); 0], _, u64>(&value, None)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) -> fmt::Result {
        let series: Vec<Series> = values.into_iter().map(|(text, n)| (vec![(label, text)], n as f64)).collect();
        self.labelled(name, help, MetricType::Counter, &series)
    }

    fn labelled(&mut self, name: &str, help: &str, kind: MetricType, series: &[Series]) -> fmt::Result {
        let is_counter = matches!(kind, MetricType::Counter);
        let is_info = matches!(kind, MetricType::Info);
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in series {
            if is_info {
                metric.encode_info(labels)?;
            } else if is_counter {
                metric.encode_family(labels)?.encode_counter::<[(&str, &str); 0], _, f64>(value, None)?;
            } else {
                metric.encode_family(labels)?.encode_gauge(value)?;
            }
        }
        Ok(())
    }
}

fn seconds_unit() -> Option<Unit> {
    Some(Unit::Seconds)
}

/// Counts by the kinds that are known; all others together are `other`.
fn by_kind(events: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (kind, count) in events {
        let kind = if KINDS.contains(&kind.as_str()) { kind } else { "other" };
        *counts.entry(kind.to_owned()).or_default() += count;
    }
    counts
}

fn owned(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = (String, u64)> {
    counts.iter().map(|(name, count)| (name.clone(), *count))
}

/// Seconds since 1970 of an RFC 3339 time.
fn seconds(time: &str) -> Option<f64> {
    chrono::DateTime::parse_from_rfc3339(time).ok().map(|time| unix(time.to_utc().into()))
}

fn unix(at: Timestamp) -> f64 {
    at.0 as f64 / Timestamp::SECOND as f64
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
