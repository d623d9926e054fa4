//! Reading what is stored: pages of events, flushes and gaps, and sizes.

use tidegate::clock::Timestamp;
use tidegate::event::{EndpointId, EventKind, Record};
use tidegate::id::EventId;
use tidegate::query::range::Range;
use tidegate::query::{Names, Scope};
use tidegate::store::{EventFilter, ReadConnection, Store, received_at};

use crate::postgres::TestDatabase;
use crate::sample::{at, batch, endpoint, event, gap, open, open_when_released, tunnel, update};

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
    // PostgreSQL estimates, once it has looked.
    database.execute("ANALYZE");
    let storage = reader.storage().unwrap();
    let table = |name: &str| storage.tables.iter().find(|table| table.name == name).unwrap();
    assert_eq!((table("endpoint_sse").rows, table("flushes").rows), (Some(30), Some(3)));
    assert_eq!(table("tunnel_state").rows.unwrap_or_default(), 0);
    assert!(table("endpoint_sse").bytes >= 4_096 && storage.database_bytes >= table("endpoint_sse").bytes);
    assert_eq!(table("endpoint_sse").oldest, Some(at(1)));
    assert_eq!(table("flushes").oldest, Some(Timestamp(at(3_600).0)));
    assert_eq!(table("endpoints").oldest, None);
}
