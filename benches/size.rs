//! How large the database of a fleet is when every level is full: 25 masters, 65 tunnels that report every 5 s, the default
//! retention, no log lines. What a row of each table takes, what a tunnel and a year take, what a log line would take beside it.
//!
//! `cargo bench --bench size [-- DAYS]`: each level is filled by the store's own calls, at the rate at which a recorder fills it, oldest
//! first: days of five years, hours of 90 days, the last 7 days report by report through the recorder's minute windows, with the events
//! of the last of them. What expires is deleted on the way by the recorder's own plan. Then DAYS (2) more days are lived through in the
//! same way, and the size is told every 6 hours: it must not grow any more. At the end `check --history` looks at all of it.
#![allow(missing_docs)]

use std::collections::VecDeque;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::{Clock, SystemClock, Timestamp};
use tidegate::config::RetentionConfig;
use tidegate::endpoint::{ApiKey, TlsPolicy};
use tidegate::event::{
    Counters, EndpointId, Event, EventKind, Gap, InstanceConfig, InstanceId, Record, Sample, Status, TunnelKey,
};
use tidegate::history::figures::{Figures, Ping};
use tidegate::history::{Histories, InTotals};
use tidegate::id::{EventId, IdGenerator};
use tidegate::redact::Redacted;
use tidegate::retention::Plan;
use tidegate::sim::traffic::Traffic;
use tidegate::store::{
    Account, DatabaseUrl, DieselStore, EventBatch, FlushCause, FlushInfo, HistoryBatch, HistoryRow, LiveChanges, NewEndpoint,
    ReadConnection, Store,
};

const MASTERS: usize = 25;
const TUNNELS: usize = 65;
/// A report of each tunnel every 5 s, a batch every 1,000 events.
const REPORT_EVERY: i64 = 5 * Timestamp::SECOND;
const BATCH: usize = 1_000;
const BATCHES_PER_HOUR: i64 = TUNNELS as i64 * 720 / BATCH as i64;
const HOUR: i64 = 3_600 * Timestamp::SECOND;
const DAY: i64 = 24 * HOUR;
/// 2026-11-23T00:00:00Z: the first of the days that are lived through when every level is full.
const FULL: i64 = 1_795_392_000_000_000;
const AIM_MB: f64 = 200.0;
const LOG_LINES: usize = 100_000;

fn main() -> ExitCode {
    let days = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(2_i64);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("tidegate.db");
    let mut fleet = Fleet::new(&path);
    let began = SystemClock.monotonic();
    let days_kept = fleet.days(|retention| retention.days.expect("days expire by default"));
    let (hours_kept, minutes_kept) = (fleet.days(|retention| retention.hours), fleet.days(|retention| retention.minutes));
    println!(
        "{MASTERS} masters, {TUNNELS} tunnels, kept: {minutes_kept} days of minutes, {hours_kept} of hours, {days_kept} of days"
    );
    for day in -days_kept..-hours_kept {
        let start = FULL + day * DAY;
        fleet.whole(start, 86_400);
        fleet.expire(start + DAY);
    }
    println!("days:    {}", fleet.told());
    for hour in -hours_kept * 24..-minutes_kept * 24 {
        let start = FULL + hour * HOUR;
        fleet.flushes(start);
        fleet.whole(start, 3_600);
        fleet.expire(start + HOUR);
    }
    println!("hours:   {}", fleet.told());
    for hour in -minutes_kept * 24..days * 24 {
        let start = FULL + hour * HOUR;
        fleet.live(start, hour >= -24);
        fleet.expire(start + HOUR);
        if hour >= 0 && hour % 6 == 5 {
            println!("hour {:>3}: {}", hour + 1, fleet.told());
        }
    }
    println!("filled and lived through in {:.0} s\n", (SystemClock.monotonic() - began).as_secs_f64());
    let small = fleet.sizes(days_kept);
    let sound = fleet.check();
    fleet.log_lines();
    if small && sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Tunnel {
    key: TunnelKey,
    traffic: Traffic,
    counters: Counters,
}

/// The fleet and its database.
struct Fleet {
    url: DatabaseUrl,
    store: DieselStore,
    retention: RetentionConfig,
    plan: Plan,
    ids: IdGenerator,
    tunnels: Vec<Tunnel>,
    histories: Histories,
    waiting: VecDeque<Record>,
    rng: fastrand::Rng,
}

impl Fleet {
    fn new(path: &Path) -> Self {
        let url: DatabaseUrl = format!("sqlite:{}", path.display()).parse().expect("a URL");
        let mut store = DieselStore::open(&url, 100, Arc::new(SystemClock)).expect("a database");
        let mut rng = fastrand::Rng::with_seed(1);
        for number in 0..MASTERS {
            let endpoint = NewEndpoint {
                name: format!("master-{number:02}"),
                url: format!("http://10.0.0.{number}:9090/api").parse().expect("a URL"),
                api_key: ApiKey::new("0123456789abcdef0123456789abcdef"),
                tls: TlsPolicy::Verify,
                log_events: None,
            };
            store.add_endpoint(&endpoint, Timestamp(FULL)).expect("it is added");
        }
        let tunnels: Vec<Tunnel> = (0..TUNNELS)
            .map(|number| Tunnel {
                key: TunnelKey {
                    endpoint: EndpointId((number % MASTERS) as i32 + 1),
                    instance: InstanceId::from(&*format!("{:08x}", rng.u32(..))),
                },
                // Between 100 kB/s and 2 MB/s at the peak, some UDP in a third of them.
                traffic: Traffic {
                    seed: rng.u64(..),
                    peak_down: rng.u64(100_000..2_000_000),
                    peak_up: rng.u64(10_000..200_000),
                    udp_percent: if number % 3 == 0 { 10 } else { 0 },
                    users_offset_seconds: 0,
                },
                counters: Counters::default(),
            })
            .collect();
        let text = Redacted::from_store;
        let configs = tunnels.iter().map(|tunnel| {
            let url = format!("client://0.0.0.0:10101/127.0.0.1:8080?log=info&mode=2&name={}", tunnel.key.instance);
            let config = InstanceConfig {
                alias: text("a tunnel of ours"),
                kind: text("client"),
                url: text(&url),
                config: text(&format!("{url}&dial=auto&dns=5m0s&min=64&notcp=0&noudp=0&proxy=0&rate=0&read=0s&slot=65536")),
                ..InstanceConfig::default()
            };
            (tunnel.key.clone(), Arc::new(config), EventId(1))
        });
        let samples = tunnels.iter().map(|tunnel| (tunnel.key.clone(), Sample::default(), Timestamp(FULL), EventId(1)));
        let changes = LiveChanges { configs: configs.collect(), samples: samples.collect(), ..LiveChanges::default() };
        store.sync_live(&changes).expect("it is stored");
        // The defaults of the configuration.
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let retention = RetentionConfig {
            events: days(1),
            minutes: days(7),
            hours: days(90),
            days: Some(Duration::from_secs(5 * 31_557_600)),
        };
        Self {
            url,
            store,
            plan: Plan::new(retention.clone()),
            retention,
            ids: IdGenerator::new(0, EventId::ZERO),
            tunnels,
            histories: Histories::default(),
            waiting: VecDeque::new(),
            rng,
        }
    }

    fn days(&self, kept: impl Fn(&RetentionConfig) -> Duration) -> i64 {
        (kept(&self.retention).as_secs() / 86_400) as i64
    }

    fn info(cause: FlushCause, at: i64) -> FlushInfo {
        FlushInfo { cause, boundary: None, skipped_boundaries: 0, cut_at: Timestamp(at) }
    }

    /// One row of each tunnel for a whole hour or day: the minute that it also gives expires before anyone counts it.
    fn whole(&mut self, start: i64, seconds: u64) {
        let mut rows = Vec::new();
        let mut accounts = Vec::new();
        for tunnel in &mut self.tunnels {
            let rng = &mut self.rng;
            let mut bytes = |peak: u64| peak * seconds * rng.u64(20..80) / 100;
            let (down, up) = (bytes(tunnel.traffic.peak_down), bytes(tunnel.traffic.peak_up));
            let udp = |bytes: u64| bytes * tunnel.traffic.udp_percent / 100;
            let delta = Counters { tcp_rx: up - udp(up), tcp_tx: down - udp(down), udp_rx: udp(up), udp_tx: udp(down) };
            let reports = (seconds / 5) as i32;
            let figures = Figures {
                delta,
                covered_ms: seconds as i64 * 1_000,
                ping: Some(Ping { sum: i64::from(reports) * 33, count: reports, min: 12, max: 240 }),
                pool: Some(64),
                tcps: Some(self.rng.i32(0..40)),
                udps: Some(0),
                record_count: reports - i32::from(self.rng.u8(..) < 20),
                expected_count: reports,
            };
            let from = tunnel.counters;
            tunnel.counters = Counters {
                tcp_rx: from.tcp_rx + delta.tcp_rx,
                tcp_tx: from.tcp_tx + delta.tcp_tx,
                udp_rx: from.udp_rx + delta.udp_rx,
                udp_tx: from.udp_tx + delta.udp_tx,
            };
            let (minute, key) = (Timestamp(start), tunnel.key.clone());
            accounts.push(Account { tunnel: key.clone(), from, to: tunnel.counters, open: Counters::default() });
            rows.push(HistoryRow { tunnel: key, minute, figures, in_totals: InTotals::BOTH });
        }
        rows.sort_by(|a, b| (&a.tunnel, a.minute).cmp(&(&b.tunnel, b.minute)));
        let id = self.ids.next(Timestamp(start + seconds as i64 * Timestamp::SECOND - 1));
        let info = Self::info(FlushCause::Hourly, start + seconds as i64 * Timestamp::SECOND);
        let batch = HistoryBatch { id, info, through: id, rows, counter_events: Vec::new(), states: Vec::new(), accounts };
        self.store.commit_history(&batch).expect("it is stored");
    }

    /// The flushes of an hour whose events have expired since, and a gap of each master a day.
    fn flushes(&mut self, start: i64) {
        for number in 0..BATCHES_PER_HOUR {
            let at = start + number * HOUR / BATCHES_PER_HOUR;
            let mut records = vec![self.report(0, at)];
            if (start / HOUR * BATCHES_PER_HOUR + number) % (24 * BATCHES_PER_HOUR / MASTERS as i64) == 0 {
                records.push(self.gap(at));
            }
            self.commit_events(records, FlushCause::Threshold, at);
        }
    }

    fn gap(&mut self, at: i64) -> Record {
        let endpoint = EndpointId(self.rng.i32(1..=MASTERS as i32));
        Record::Gap(Gap {
            id: self.ids.next(Timestamp(at)),
            endpoint,
            instance: InstanceId::default(),
            from: Timestamp(at - 3 * Timestamp::SECOND),
            to: Timestamp(at),
            reason: "connection_lost".into(),
        })
    }

    /// A report of a tunnel.
    fn report(&mut self, number: usize, at: i64) -> Record {
        let tunnel = &self.tunnels[number];
        let (tcps, udps) = tunnel.traffic.connections(Timestamp(at));
        let sample = Sample {
            status: Status::Running,
            counters: tunnel.counters,
            ping: Some(self.rng.i32(10..120)),
            pool: Some(64),
            tcps: Some(tcps),
            udps: Some(udps),
        };
        Record::Event(Event {
            id: self.ids.next(Timestamp(at)),
            endpoint: tunnel.key.endpoint,
            received_at: Timestamp(at),
            event_time: Some(Timestamp(at - 1_234)),
            kind: EventKind::Update,
            instance: tunnel.key.instance.clone(),
            sample: Some(sample),
            config: None,
            detail: None,
            logs: None,
            stored: true,
        })
    }

    /// An hour report by report; its events are stored or, where they will have expired, stand for the batches that they were in.
    fn live(&mut self, start: i64, events: bool) {
        if !events {
            self.flushes(start);
        }
        for step in 0..HOUR / REPORT_EVERY {
            for number in 0..TUNNELS {
                let at = start + step * REPORT_EVERY + number as i64 * REPORT_EVERY / TUNNELS as i64;
                let tunnel = &mut self.tunnels[number];
                let moved = tunnel.traffic.moved(Timestamp(at - REPORT_EVERY), Timestamp(at));
                tunnel.counters.tcp_rx += moved.tcp_up;
                tunnel.counters.tcp_tx += moved.tcp_down;
                tunnel.counters.udp_rx += moved.udp_up;
                tunnel.counters.udp_tx += moved.udp_down;
                let record = self.report(number, at);
                self.histories.observe(&record);
                if events {
                    self.waiting.push_back(record);
                    if self.waiting.len() >= BATCH {
                        let records = self.waiting.drain(..).collect();
                        self.commit_events(records, FlushCause::Threshold, at);
                    }
                }
            }
        }
        let end = start + HOUR;
        if events && !self.waiting.is_empty() {
            let records = self.waiting.drain(..).collect();
            self.commit_events(records, FlushCause::Hourly, end);
        }
        self.histories.close_until(Timestamp(end));
        let id = self.ids.next(Timestamp(end));
        if let Some(batch) = self.histories.cut(id, Self::info(FlushCause::Hourly, end), false) {
            self.store.commit_history(&batch).expect("it is stored");
        }
    }

    fn commit_events(&mut self, records: Vec<Record>, cause: FlushCause, at: i64) {
        let batch = EventBatch::new(Self::info(cause, at), Arc::new(records));
        self.store.commit_events(&batch).expect("it is stored");
    }

    /// What the FlushActor does between two batches.
    fn expire(&mut self, now: i64) {
        let uptime = Duration::from_micros((now - FULL + 3_000 * DAY).unsigned_abs());
        while let Some(step) = self.plan.next(uptime, Timestamp(now)) {
            let began = SystemClock.monotonic();
            let expired = self.store.expire(&step).expect("it expires");
            self.plan.done(&step, expired, SystemClock.monotonic() - began, Timestamp(now));
        }
    }

    fn told(&self) -> String {
        let storage = ReadConnection::open(&self.url).and_then(|mut reader| reader.storage()).expect("sizes");
        let free = storage.free_bytes.unwrap_or_default();
        format!("{:.1} MB, {:.1} MB of it free", storage.database_bytes as f64 / 1e6, free as f64 / 1e6)
    }

    /// Whether it is as small as it should be.
    fn sizes(&self, days_kept: i64) -> bool {
        let storage = ReadConnection::open(&self.url).and_then(|mut reader| reader.storage()).expect("sizes");
        println!("{:<24} {:>10} {:>9} {:>13}", "table", "rows", "MB", "bytes per row");
        let mut of_days = 0.0;
        for table in &storage.tables {
            let rows = table.rows.unwrap_or_default();
            let each = table.bytes as f64 / rows.max(1) as f64;
            println!("{:<24} {rows:>10} {:>9.2} {each:>13.1}", table.name, table.bytes as f64 / 1e6);
            if ["history_days", "history_day_totals"].contains(&table.name.as_str()) {
                of_days += table.bytes as f64;
            }
        }
        let all = storage.database_bytes as f64;
        println!("file: {:.1} MB, {:.2} MB of it free", all / 1e6, storage.free_bytes.unwrap_or_default() as f64 / 1e6);
        println!("a tunnel: {:.2} MB in all, for ever", all / 1e6 / TUNNELS as f64);
        let years = days_kept as f64 / 365.25;
        println!("a tunnel and year of days, totals included: {:.1} kB", of_days / 1e3 / TUNNELS as f64 / years);
        println!("aim: under {AIM_MB} MB: {}", if all / 1e6 < AIM_MB { "met" } else { "MISSED" });
        all / 1e6 < AIM_MB
    }

    fn check(&self) -> bool {
        let report = ReadConnection::open(&self.url).and_then(|mut reader| reader.check_history()).expect("it is read");
        println!("check --history: {} rows, {} problems", report.rows, report.problems.len());
        report.problems.iter().take(5).for_each(|problem| println!("  {problem}"));
        report.problems.is_empty()
    }

    /// What log lines take, which are not part of the above.
    fn log_lines(&mut self) {
        let bytes = |fleet: &Self| {
            let storage = ReadConnection::open(&fleet.url).and_then(|mut reader| reader.storage()).expect("sizes");
            let table = storage.tables.iter().find(|table| table.name == "endpoint_sse");
            table.map_or(0, |table| table.bytes)
        };
        let before = bytes(self);
        let line = "2026-11-23 06:17:35.483  \u{1b}[32mINFO\u{1b}[0m  Exchange complete: TCP 10.0.0.5:51234 <-> 127.0.0.1:8080";
        for first in (0..LOG_LINES).step_by(BATCH) {
            let records = (first..first + BATCH).map(|number| {
                let Record::Event(event) = self.report(number % TUNNELS, FULL + 400 * DAY + number as i64) else {
                    unreachable!("a report is an event")
                };
                Record::Event(Event { kind: EventKind::Log, logs: Some(Redacted::from_store(line)), ..event })
            });
            let records = records.collect();
            self.commit_events(records, FlushCause::Threshold, FULL + 400 * DAY);
        }
        let each = (bytes(self) - before) as f64 / LOG_LINES as f64;
        println!("beside it, a log line of {} characters: {each:.1} bytes", line.len());
    }
}
