//! Reading what is stored: charts, traffic, exports, pages of events, flushes and gaps, and sizes.

use chrono_tz::Tz;
use tidegate::actors::buffer::WaitingHistory;
use tidegate::clock::Timestamp;
use tidegate::config::RetentionConfig;
use tidegate::endpoint::EndpointHealth;
use tidegate::event::{EndpointId, EventKind, Gap, Record, TunnelKey};
use tidegate::id::EventId;
use tidegate::query::export::{self, Export, ExportQuery};
use tidegate::query::heard::Live;
use tidegate::query::history::{self, HistoryQuery, HistoryQuestion};
use tidegate::query::range::Range;
use tidegate::query::traffic::{self, Billing, By, Moved, PeriodName, TrafficQuery};
use tidegate::query::{Names, Scope};
use tidegate::store::{EventFilter, HistoryRow, LiveChanges, ReadConnection, Store, received_at};

use crate::postgres::TestDatabase;
use crate::sample::{at, batch, endpoint, event, gap, live_changes, minute, open, open_when_released, tunnel, update};

const ALL: EventFilter = EventFilter { scope: Scope::Fleet, kind: None, lowest: i64::MIN, below: i64::MAX };

/// Events 1 to 30 in three flushes; every third is a log event of `aaaa0002`, the others are updates of `aaaa0001`.
fn written(database: &TestDatabase) -> ReadConnection {
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), at(0)).unwrap();
    for first in [1, 11, 21] {
        let records = (first..first + 10).map(|id| {
            let mut event = event(id);
            if id % 3 == 0 {
                (event.kind, event.instance) = (EventKind::Log, "aaaa0002".into());
            }
            Record::Event(event)
        });
        store.commit_events(&batch(records.collect())).unwrap();
    }
    ReadConnection::open(&database.url()).unwrap_or_else(|error| panic!("{error}"))
}

pub fn a_page_ends_where_it_is_full_or_has_looked_at_enough(database: &TestDatabase) {
    let mut reader = written(database);
    let mut page = |filter: &EventFilter, limit, scan| {
        let page = reader.events_before(filter, limit, scan).unwrap();
        (page.events.iter().map(|event| event.id).collect::<Vec<_>>(), page.next_below)
    };
    assert_eq!(page(&ALL, 3, 5), (vec![30, 29, 28], Some(28)), "without a filter only the page is looked at");
    assert_eq!(page(&EventFilter { below: 3, ..ALL }, 3, 5), (vec![2, 1], None));
    let logs = EventFilter { kind: Some("log".to_owned()), ..ALL };
    assert_eq!(page(&logs, 2, 1_000), (vec![30, 27], Some(27)));
    // Ten rows are looked at: 30 to 21.
    assert_eq!(page(&logs, 9, 10), (vec![30, 27, 24, 21], Some(21)));
    assert_eq!(page(&EventFilter { below: 21, ..logs.clone() }, 9, 100), (vec![18, 15, 12, 9, 6, 3], None));
    let nobody = EventFilter { scope: Scope::Tunnel(tunnel("cccc0000")), ..ALL };
    assert_eq!(page(&nobody, 9, 10), (vec![], Some(21)));
    assert_eq!(page(&EventFilter { below: 8, ..nobody }, 9, 10), (vec![], None));
    let other = EventFilter { scope: Scope::Tunnel(tunnel("aaaa0002")), below: 10, ..ALL };
    assert_eq!(page(&other, 9, 100), (vec![9, 6, 3], None));
    assert_eq!(page(&EventFilter { scope: Scope::Endpoint(EndpointId(2)), ..ALL }, 9, 100), (vec![], None));
}

pub fn a_cursor_stays_valid_while_rows_arrive_and_expire(database: &TestDatabase) {
    let mut reader = written(database);
    let first = reader.events_before(&ALL, 10, 100).unwrap();
    database.execute("DELETE FROM endpoint_sse WHERE id BETWEEN 18 AND 22");
    open_when_released(database).commit_events(&batch(vec![update(31)])).unwrap();
    let second = reader.events_before(&EventFilter { below: first.next_below.unwrap(), ..ALL }, 10, 100).unwrap();
    assert_eq!(second.events.iter().map(|event| event.id).collect::<Vec<_>>(), (8..=17).rev().collect::<Vec<_>>());
}

pub fn a_range_of_time_goes_through_the_flushes(database: &TestDatabase) {
    let mut reader = written(database);
    let mut within = |from, until| reader.event_ids_within(Range { from: at(from), until: at(until) }).unwrap();
    assert_eq!(within(12, 13), Some((11, 20)), "whole flushes");
    assert_eq!(within(5, 12), Some((1, 20)));
    assert_eq!(within(-10, 100), Some((1, 30)));
    assert_eq!(within(31, 100), None);
    assert_eq!(within(0, 1), None);
    let spans = reader.flush_spans(15, 25).unwrap();
    assert_eq!(spans.iter().map(|span| span.ids).collect::<Vec<_>>(), [(11, 20), (21, 30)]);
    // These ids are small numbers, whose clock reads 2024: the flush knows better.
    assert_eq!(received_at(EventId(15), &spans), at(11));
}

pub fn flushes_and_gaps_are_paged_newest_first(database: &TestDatabase) {
    let mut reader = written(database);
    let mut of_one = gap(41);
    of_one.instance = "aaaa0001".into();
    open_when_released(database).commit_events(&batch(vec![Record::Gap(gap(40)), Record::Gap(of_one)])).unwrap();
    let flushes = reader.flushes_before(i64::MAX, 3).unwrap();
    assert_eq!(flushes.iter().map(|flush| flush.first_id).collect::<Vec<_>>(), [Some(40), Some(21), Some(11)]);
    let older = reader.flushes_before(flushes[2].id, 3).unwrap();
    assert_eq!(older.iter().map(|flush| flush.rows).collect::<Vec<_>>(), [10]);
    let mut gaps =
        |scope: Scope, below| -> Vec<i64> { reader.gaps_before(&scope, below, 10).unwrap().iter().map(|gap| gap.id).collect() };
    assert_eq!(gaps(Scope::Fleet, i64::MAX), [41, 40]);
    assert_eq!(gaps(Scope::Fleet, 41), [40]);
    assert_eq!(gaps(Scope::Tunnel(tunnel("aaaa0001")), i64::MAX), [41, 40]);
    assert_eq!(gaps(Scope::Tunnel(tunnel("aaaa0002")), i64::MAX), [40], "that of its whole endpoint");
    assert_eq!(gaps(Scope::Endpoint(EndpointId(2)), i64::MAX), [0; 0]);
    let names = Names::read(&mut reader).unwrap();
    assert_eq!((names.find("tokyo").unwrap(), names.of(EndpointId(2))), (EndpointId(1), None));
    assert!(names.find("paris").is_err());
}

pub fn sizes_are_told_table_by_table(database: &TestDatabase) {
    let mut reader = written(database);
    open_when_released(database).commit_history(&tidy(100, vec![minute("aaaa0001", 7), minute("aaaa0001", 5)])).unwrap();
    // PostgreSQL estimates, once it has looked.
    database.execute("ANALYZE");
    let storage = reader.storage().unwrap();
    let table = |name: &str| storage.tables.iter().find(|table| table.name == name).unwrap();
    assert_eq!((table("endpoint_sse").rows, table("flushes").rows), (Some(30), Some(4)));
    assert_eq!((table("service_history").rows, table("service_history").oldest), (Some(2), Some(at(300))));
    assert_eq!(table("history_hour_totals").oldest, Some(at(0)));
    assert_eq!(table("tunnel_state").rows.unwrap_or_default(), 0);
    assert!(table("endpoint_sse").bytes >= 4_096 && storage.database_bytes >= table("endpoint_sse").bytes);
    assert_eq!(table("endpoint_sse").oldest, Some(at(1)));
    assert_eq!(table("flushes").oldest, Some(Timestamp(at(3_600).0)));
    assert_eq!(table("endpoints").oldest, None);
}

/// Waiting rows under a scope, as the recorder hands them over.
fn waiting(counting: Vec<HistoryRow>, batches: Vec<(EventId, Vec<HistoryRow>)>, as_of: i64) -> WaitingHistory {
    WaitingHistory { counting, batches, as_of: EventId(as_of), ..WaitingHistory::default() }
}

fn question(scope: (Option<&str>, Option<&str>), step: &str, zone: Tz) -> HistoryQuestion {
    question_of((-1, 1), scope, step, zone)
}

/// A question about so many hours before and after noon, asked at their end.
fn question_of((from, until): (i64, i64), scope: (Option<&str>, Option<&str>), step: &str, zone: Tz) -> HistoryQuestion {
    let text = |time: Timestamp| Some(time.to_string());
    let query = HistoryQuery {
        endpoint: scope.0.map(str::to_owned),
        tunnel: scope.1.map(str::to_owned),
        since: text(at(from * 3_600)),
        until: text(at(until * 3_600)),
        step: Some(step.to_owned()),
    };
    let days = |days: u64| std::time::Duration::from_secs(days * 86_400);
    let retention = RetentionConfig { events: days(1), minutes: days(7), hours: days(90), days: None };
    HistoryQuestion::new(query, at(until * 3_600), zone, &retention).unwrap()
}

/// Bytes received by step, of those that are known, with their times in minutes after noon.
fn received(reader: &mut ReadConnection, question: &HistoryQuestion, waiting: &WaitingHistory) -> Option<Vec<(i64, u64)>> {
    let chart = history::answer(reader, question, waiting).unwrap_or_else(|error| panic!("{error}"))?;
    assert_eq!(chart.columns.time.len(), chart.columns.received.len());
    let times = chart.columns.time.iter().map(|time| (time * Timestamp::SECOND - at(0).0) / Timestamp::MINUTE);
    Some(times.zip(chart.columns.received).filter_map(|(time, bytes)| Some((time, bytes?))).collect())
}

pub fn a_chart_is_what_is_stored_and_what_waits(database: &TestDatabase) {
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), at(0)).unwrap();
    store.set_timezone(Tz::Asia__Kolkata, at(-86_400)).unwrap();
    store.commit_history(&tidy(10, vec![minute("aaaa0001", 0), minute("aaaa0001", 40), minute("aaaa0002", 40)])).unwrap();
    drop(store);
    let mut reader = ReadConnection::open(&database.url()).unwrap();
    let zone = Tz::Asia__Kolkata;
    let of_one = (None, Some("tokyo/aaaa0001"));
    let none = WaitingHistory::default();
    // A minute of a tunnel receives 1 byte over TCP and 3 over UDP.
    assert_eq!(received(&mut reader, &question(of_one, "1m", zone), &none).unwrap(), [(0, 4), (40, 4)]);
    assert_eq!(received(&mut reader, &question(of_one, "1h", zone), &none).unwrap(), [(-30, 4), (30, 4)]);
    assert_eq!(received(&mut reader, &question(of_one, "1d", zone), &none).unwrap(), [(-17 * 60 - 30, 8)]);
    for scope in [(None, None), (Some("tokyo"), None)] {
        assert_eq!(received(&mut reader, &question(scope, "1m", zone), &none).unwrap(), [(0, 4), (40, 8)]);
        assert_eq!(received(&mut reader, &question(scope, "1h", zone), &none).unwrap(), [(-30, 4), (30, 8)]);
    }
    // What is counting, and two batches of which one is stored already.
    let rows = waiting(
        vec![minute("aaaa0001", 42)],
        vec![(EventId(10), vec![minute("aaaa0001", 40)]), (EventId(11), vec![minute("aaaa0001", 41)])],
        12,
    );
    assert_eq!(received(&mut reader, &question(of_one, "1h", zone), &rows).unwrap(), [(-30, 4), (30, 12)]);
    assert_eq!(received(&mut reader, &question((None, None), "1h", zone), &rows).unwrap(), [(-30, 4), (30, 16)]);
    assert_eq!(received(&mut reader, &question((None, Some("tokyo/aaaa0002")), "1h", zone), &rows).unwrap(), [(30, 4)]);
    // A batch that is newer than what the recorder knew of: what was counting may be in it.
    assert_eq!(received(&mut reader, &question(of_one, "1h", zone), &waiting(vec![minute("aaaa0001", 42)], Vec::new(), 9)), None);
    for (scope, found) in
        [((Some("paris"), None), false), ((None, Some("tokyo/cccc0000")), false), ((None, Some("tokyo/aaaa0002")), true)]
    {
        assert_eq!(history::answer(&mut reader, &question(scope, "1h", zone), &none).is_ok(), found, "{scope:?}");
    }
}

/// A gap of that endpoint or tunnel from one second after noon to another.
fn gap_between(from: i64, to: i64, instance: &str, reason: &str) -> Gap {
    let id = EventId(EventId::first_of(at(to)).0 + from);
    Gap { id, endpoint: EndpointId(1), instance: instance.into(), from: at(from), to: at(to), reason: reason.into() }
}

/// `heard_s` of the minutes from noon on, and how many of them there are in all with those before noon.
fn heard(reader: &mut ReadConnection, question: &HistoryQuestion, waiting: &WaitingHistory) -> Vec<i64> {
    let chart = history::answer(reader, question, waiting).unwrap_or_else(|error| panic!("{error}")).unwrap();
    assert_eq!(chart.columns.time.len(), chart.columns.heard_s.len());
    assert!(chart.columns.heard_s[..60].iter().all(|heard| *heard == 0), "nothing was there before the first report");
    chart.columns.heard_s[60..].to_vec()
}

pub fn a_chart_tells_a_silent_tunnel_from_a_time_of_which_nothing_is_known(database: &TestDatabase) {
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), at(0)).unwrap();
    store.commit_history(&tidy(10, vec![minute("aaaa0001", 0), minute("aaaa0001", 5), minute("aaaa0002", 0)])).unwrap();
    let gaps = [
        gap_between(130, 175, "", "connection_lost"),
        gap_between(140, 150, "", "refused"),
        gap_between(250, 290, "aaaa0002", "vanished"),
        gap_between(0, 300, "", Gap::MASTER_RESTARTED),
    ];
    store.commit_events(&batch(gaps.into_iter().map(Record::Gap).collect())).unwrap();
    let mut reader = ReadConnection::open(&database.url()).unwrap();
    let (none, of_one) = (WaitingHistory::default(), (None, Some("tokyo/aaaa0001")));
    let live = |until: i64, gaps: Vec<Gap>| Live { until: vec![(EndpointId(1), at(until))], gaps };
    let mut of =
        |scope, live: &Live, waiting| heard(&mut reader, &question(scope, "1m", Tz::UTC).with_live(live.clone()), waiting);
    // A tunnel that does not exist any more was there until its last report.
    let connected = live(3_600, Vec::new());
    assert_eq!(of(of_one, &connected, &none)[..8], [60, 60, 15, 60, 60, 60, 0, 0]);
    store.sync_live(&live_changes("aaaa0001", 1, 1)).unwrap();
    store.sync_live(&live_changes("aaaa0002", 1, 2)).unwrap();
    let now = of(of_one, &connected, &none);
    assert_eq!((&now[..8], now[59]), (&[60, 60, 15, 60, 60, 60, 60, 60][..], 60), "it is silent and its master is heard");
    assert_eq!(of((None, Some("tokyo/aaaa0002")), &connected, &none)[3..6], [60, 20, 60], "a gap of its own");
    assert_eq!(of((Some("tokyo"), None), &connected, &none)[3..6], [60, 60, 60], "which is none of its endpoint");
    // A gap that is not stored yet, and a master that is lost since.
    let lost = live(430, vec![gap_between(380, 400, "", "silent"), gap_between(300, 420, "aaaa0002", "vanished")]);
    for scope in [of_one, (Some("tokyo"), None), (None, None)] {
        assert_eq!(of(scope, &lost, &none)[5..9], [60, 40, 10, 0], "{scope:?}");
    }
    // A tunnel of which nothing is stored yet.
    let waits = waiting(vec![minute("bbbb0000", 3)], Vec::new(), 20);
    assert_eq!(of((None, Some("tokyo/bbbb0000")), &connected, &waits)[2..6], [0, 60, 0, 0]);
    // Without a recorder nothing is known since the last sign of life.
    let alone = |reader: &mut ReadConnection| heard(reader, &question(of_one, "1m", Tz::UTC), &none);
    assert!(alone(&mut reader).iter().all(|heard| *heard == 0));
    let health = EndpointHealth { last_heard: Some(at(90)), ..EndpointHealth::default() };
    store.sync_live(&LiveChanges { endpoints: vec![(EndpointId(1), health)], ..LiveChanges::default() }).unwrap();
    assert_eq!(alone(&mut reader)[..3], [60, 30, 0]);
}

pub fn what_was_imported_or_whose_gaps_have_expired_counts_as_not_heard(database: &TestDatabase) {
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), at(0)).unwrap();
    store.sync_live(&live_changes("aaaa0001", 1, 1)).unwrap();
    store.commit_history(&tidy(10, vec![minute("aaaa0001", 0), minute("aaaa0001", 2), minute("aaaa0001", 5)])).unwrap();
    let mut reader = ReadConnection::open(&database.url()).unwrap();
    let none = WaitingHistory::default();
    let connected = Live { until: vec![(EndpointId(1), at(3_600))], gaps: Vec::new() };
    let of_one = question((None, Some("tokyo/aaaa0001")), "1m", Tz::UTC).with_live(connected);
    assert_eq!(heard(&mut reader, &of_one, &none)[..6], [60; 6]);
    database.execute("INSERT INTO history_imports (endpoint_id, instance_id, through) VALUES (1, 'aaaa0001', 1795435320000000)");
    assert_eq!(heard(&mut reader, &of_one, &none)[..6], [0, 0, 0, 0, 0, 60]);
    database.execute("DELETE FROM history_imports");
    // Minutes and hours are gone, and the day that is left says only that it was there by its end.
    database.execute("DELETE FROM service_history");
    assert_eq!(heard(&mut reader, &of_one, &none)[..6], [0; 6], "the hour is over at 13:00");
}

fn tidy(id: i64, rows: Vec<HistoryRow>) -> tidegate::store::HistoryBatch {
    crate::sample::history(id, 0, rows)
}

pub fn traffic_is_summed_by_day_month_and_cycle(database: &TestDatabase) {
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), at(0)).unwrap();
    store.add_endpoint(&endpoint("paris"), at(0)).unwrap();
    let day = 24 * 60;
    let of_paris = |instance: &str, at: i64| {
        let mut row = minute(instance, at);
        row.tunnel.endpoint = EndpointId(2);
        row
    };
    // Noon is 2026-11-23; the cycle began on the 24th of October.
    store.commit_history(&tidy(1, vec![minute("aaaa0001", 0), minute("aaaa0001", -day), minute("aaaa0002", -10 * day)])).unwrap();
    store
        .commit_history(&tidy(2, vec![minute("aaaa0001", -30 * day), of_paris("aaaa0001", 0), of_paris("bbbb", -50 * day)]))
        .unwrap();
    drop(store);
    let mut reader = ReadConnection::open(&database.url()).unwrap();
    let billing = Billing { timezone: Tz::UTC, start_day: 24 };
    let mut rows = |by, endpoint: Option<&str>, waiting: &WaitingHistory| -> Vec<String> {
        let query = TrafficQuery { by, endpoint: endpoint.map(str::to_owned), period: None };
        let answer = traffic::answer(&mut reader, &query, waiting, at(0), billing).unwrap().unwrap();
        let row = |row: traffic::TrafficRow| {
            let name = format!("{} {}", row.endpoint.unwrap_or_default(), row.instance_id.unwrap_or_default());
            let [today, month, cycle] = [row.today, row.month, row.cycle].map(|moved| moved.expect("all three are told"));
            format!("{}: {} {} {}", name.trim(), today.received, month.received, cycle.sent)
        };
        answer.rows.into_iter().map(row).collect()
    };
    let none = WaitingHistory::default();
    assert_eq!(rows(None, None, &none), [": 8 16 30"]);
    assert_eq!(rows(Some(By::Endpoint), None, &none), ["tokyo: 4 12 24", "paris: 4 4 6"]);
    assert_eq!(rows(None, Some("tokyo"), &none), ["tokyo: 4 12 24"]);
    let tunnels = ["tokyo aaaa0001: 4 8 18", "tokyo aaaa0002: 0 4 6", "paris aaaa0001: 4 4 6"];
    assert_eq!(rows(Some(By::Tunnel), None, &none), tunnels);
    assert_eq!(rows(Some(By::Tunnel), Some("tokyo"), &none), tunnels[..2]);
    let more = waiting(vec![minute("aaaa0003", 1), of_paris("aaaa0001", 1)], Vec::new(), 5);
    assert_eq!(rows(None, None, &more), [": 16 24 42"]);
    assert_eq!(rows(Some(By::Tunnel), Some("tokyo"), &more), [tunnels[0], tunnels[1], "tokyo aaaa0003: 4 4 6"]);
    assert_eq!(rows(Some(By::Endpoint), Some("paris"), &more), ["paris: 8 8 12"]);
    // One period alone: the same figures, and no row for what moved nothing in it.
    let mut one = |by, period| -> Vec<String> {
        let query = TrafficQuery { by: Some(by), endpoint: None, period: Some(period) };
        let answer = traffic::answer(&mut reader, &query, &more, at(0), billing).unwrap().unwrap();
        let figure = |moved: Option<Moved>| moved.map_or("-".to_owned(), |moved| moved.received.to_string());
        let row = |row: traffic::TrafficRow| {
            let name = format!("{} {}", row.endpoint.unwrap_or_default(), row.instance_id.unwrap_or_default());
            format!("{}: {} {} {}", name.trim(), figure(row.today), figure(row.month), figure(row.cycle))
        };
        answer.rows.into_iter().map(row).collect()
    };
    assert_eq!(one(By::Fleet, PeriodName::Today), [": 16 - -"]);
    assert_eq!(one(By::Endpoint, PeriodName::Cycle), ["tokyo: - - 20", "paris: - - 8"]);
    let today = ["tokyo aaaa0001: 4 - -", "tokyo aaaa0003: 4 - -", "paris aaaa0001: 8 - -"];
    assert_eq!(one(By::Tunnel, PeriodName::Today), today);
    assert_eq!(one(By::Tunnel, PeriodName::Month)[1], "tokyo aaaa0002: - 4 -");
}

/// Whatever `storage.timezone` was changed to: what waits is in the same day, month, cycle, hour and slot as when it is stored.
pub fn a_flush_on_the_day_of_a_zone_change_moves_no_figure(database: &TestDatabase) {
    let hour = 60;
    let mut id = 0;
    for (old, new) in [
        (Tz::Asia__Kolkata, Tz::UTC),
        (Tz::UTC, Tz::Asia__Kolkata),
        (Tz::America__New_York, Tz::Asia__Tokyo),
        (Tz::Asia__Tokyo, Tz::America__New_York),
    ] {
        let mut store = open_when_released(database);
        for table in ["service_history", "history_hours", "history_days", "history_zones"] {
            database.execute(&format!("DELETE FROM {table}"));
        }
        for table in ["minute", "hour", "day"] {
            database.execute(&format!("DELETE FROM history_{table}_totals"));
        }
        if id == 0 {
            store.add_endpoint(&endpoint("tokyo"), at(0)).unwrap();
        }
        store.set_timezone(old, at(-30 * 86_400)).unwrap();
        store.commit_history(&tidy(id + 1, (-40..0).map(|n| minute("aaaa0001", n * hour)).collect())).unwrap();
        store.set_timezone(new, at(0)).unwrap();
        let late: Vec<HistoryRow> = (-4..=3).map(|n| minute("aaaa0001", n * hour + 5)).collect();
        let waits = waiting(late.clone(), Vec::new(), id + 1);
        let mut reader = ReadConnection::open(&database.url()).unwrap();
        let billing = Billing { timezone: new, start_day: 23 };
        let mut all = |waiting: &WaitingHistory| {
            let mut figures = Vec::new();
            for by in [By::Fleet, By::Endpoint, By::Tunnel] {
                let query = TrafficQuery { by: Some(by), ..TrafficQuery::default() };
                let sums = traffic::answer(&mut reader, &query, waiting, at(4 * 3_600), billing).unwrap().unwrap();
                figures.push(format!("{:?} {:?}", sums.periods, sums.rows));
            }
            for (scope, step) in [(None, Some("tokyo/aaaa0001")), (None, None)]
                .into_iter()
                .flat_map(|scope| ["1h", "1d"].map(|step| (scope, step)))
            {
                let question = question_of((-48, 5), scope, step, new);
                figures.push(format!("{:?}", received(&mut reader, &question, waiting).unwrap()));
            }
            figures
        };
        let before = all(&waits);
        store.commit_history(&tidy(id + 2, late)).unwrap();
        assert_eq!(all(&WaitingHistory::default()), before, "{old} to {new}");
        // The day of the change is marked in charts and exports, and no other.
        let question = question_of((-48, 5), (None, None), "1d", new);
        let chart = history::answer(&mut reader, &question, &WaitingHistory::default()).unwrap().unwrap().columns;
        let marked = chart.time.iter().zip(&chart.zone_changed).filter_map(|(time, mark)| mark.then_some(*time));
        let marked: Vec<String> = marked.map(|time| Timestamp(time * Timestamp::SECOND).to_string()).collect();
        assert_eq!((marked.len(), chart.zone_changed.len()), (1, chart.time.len()), "{old} to {new}: {marked:?}");
        let mut exported = |what| {
            let query = ExportQuery { what, since: None, until: None, endpoint: None, tunnel: None, limit: None, cursor: None };
            export::answer(&mut reader, &query, at(4 * 3_600), new).unwrap()
        };
        let days = exported(Export::Days);
        let rows = days.rows.iter().filter(|row| row.last() == Some(&true.into())).map(|row| row[0].as_str().unwrap());
        assert_eq!((rows.collect::<Vec<_>>(), days.columns.last().unwrap().as_str()), (vec![&*marked[0]], "zone_changed"));
        assert_eq!(exported(Export::Hours).columns.last().unwrap(), "covered_ms");
        let today = traffic::answer(
            &mut reader,
            &TrafficQuery { period: Some(PeriodName::Today), ..TrafficQuery::default() },
            &WaitingHistory::default(),
            at(4 * 3_600),
            billing,
        );
        let today = today.unwrap().unwrap().rows[0].today.unwrap();
        assert!(today.received > 0, "{old} to {new}: the day that holds now counts");
        id += 2;
    }
}

pub fn an_export_pages_through_everything_once(database: &TestDatabase) {
    drop(written(database));
    let mut store = open_when_released(database);
    let mut rows = Vec::new();
    for instance in ["aaaa0001", "aaaa0002", "a:b/c"] {
        rows.extend((0..5).map(|n| minute(instance, n)));
    }
    rows.push(HistoryRow { tunnel: TunnelKey { endpoint: EndpointId(7), instance: "gone".into() }, ..minute("x", 2) });
    store.commit_history(&tidy(100, rows)).unwrap();
    drop(store);
    let mut reader = ReadConnection::open(&database.url()).unwrap();
    let mut all = |what, endpoint: Option<&str>, tunnel: Option<&str>, since: Timestamp, limit| -> Vec<String> {
        let mut query = ExportQuery {
            what,
            since: Some(since.to_string()),
            until: Some(at(7_200).to_string()),
            endpoint: endpoint.map(str::to_owned),
            tunnel: tunnel.map(str::to_owned),
            limit: Some(limit),
            cursor: None,
        };
        let mut found = Vec::new();
        for _ in 0..100 {
            let page = export::answer(&mut reader, &query, at(7_200), Tz::UTC).unwrap();
            let place = |name: &str| page.columns.iter().position(|column| column == name).unwrap();
            let (instance, key) = (place("instance_id"), place(if what == Export::Events { "id" } else { "time" }));
            found.extend(
                page.rows.iter().map(|row| format!("{}@{}", row[instance].as_str().unwrap(), row[key].as_str().unwrap())),
            );
            let Some(next) = page.next else { return found };
            query.cursor = Some(next);
        }
        panic!("the export does not end");
    };
    for limit in [1, 3, 5, 100] {
        let minutes = all(Export::Minutes, None, None, at(0), limit);
        assert_eq!(minutes.len(), 16, "{limit}: {minutes:?}");
        assert!(minutes.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(all(Export::Minutes, Some("tokyo"), None, at(0), limit).len(), 15);
        assert_eq!(all(Export::Minutes, None, Some("tokyo/a:b/c"), at(120), limit).len(), 3);
        assert_eq!(all(Export::Hours, None, None, at(0), limit).len(), 4);
        assert_eq!(all(Export::Days, Some("tokyo"), None, at(-86_400), limit).len(), 3);
        assert_eq!(all(Export::Days, None, None, at(0), limit).len(), 0, "the day began before");
        let events = all(Export::Events, None, None, at(0), limit);
        assert_eq!((events.len(), events[0].as_str(), events[29].as_str()), (30, "aaaa0001@1", "aaaa0002@30"));
        assert_eq!(all(Export::Events, None, Some("tokyo/aaaa0002"), at(0), limit).len(), 10);
    }
}
