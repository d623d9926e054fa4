use super::figures::Figures;
use super::*;
use crate::event::{InstanceConfig, InstanceId, Peer, Sample, Status};
use crate::redact::Redacted;
use crate::store::FlushCause;

const NOON: i64 = 1_795_435_200_000_000;

fn tunnel() -> TunnelKey {
    TunnelKey { endpoint: EndpointId(1), instance: InstanceId::from("9545ac3d") }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(NOON + seconds * Timestamp::SECOND)
}

fn update(seconds: i64, tcp_rx: u64) -> Record {
    of_kind(EventKind::Update, seconds, tcp_rx)
}

fn of_kind(kind: EventKind, seconds: i64, tcp_rx: u64) -> Record {
    let counters = Counters { tcp_rx, ..Counters::default() };
    let sample = Sample { status: Status::Running, counters, ping: Some(10), ..Sample::default() };
    Record::Event(Event {
        id: EventId(NOON + seconds * 10 + 1),
        endpoint: EndpointId(1),
        received_at: at(seconds),
        event_time: None,
        kind,
        instance: tunnel().instance,
        sample: Some(sample),
        config: None,
        detail: None,
        logs: None,
        stored: true,
    })
}

fn cut(histories: &mut Histories, seconds: i64, open: bool) -> HistoryBatch {
    histories.cut(EventId(1), info(seconds), open).expect("something to cut")
}

fn info(seconds: i64) -> FlushInfo {
    FlushInfo { cause: FlushCause::Hourly, boundary: None, skipped_boundaries: 0, cut_at: at(seconds) }
}

#[test]
fn traffic_between_two_windows_is_in_the_later_one_and_the_sum_is_the_movement() {
    let mut histories = Histories::default();
    for (seconds, tcp_rx) in [(0, 1000), (5, 1500), (55, 2000), (60, 2600), (65, 2700), (130, 3000)] {
        histories.observe(&update(seconds, tcp_rx));
    }
    let batch = cut(&mut histories, 131, true);
    let deltas: Vec<u64> = batch.rows.iter().map(|row| row.figures.delta.tcp_rx).collect();
    assert_eq!(deltas, [1000, 700, 300]);
    assert_eq!(deltas.iter().sum::<u64>(), 3000 - 1000);
    assert_eq!(batch.rows[1].figures.speed_in(), Some(70));
}

#[test]
fn a_reset_to_zero_counts_nothing_and_growth_goes_on_from_zero() {
    let mut histories = Histories::default();
    for (seconds, tcp_rx) in [(0, 1000), (5, 0), (10, 0), (15, 40)] {
        histories.observe(&update(seconds, tcp_rx));
    }
    let batch = cut(&mut histories, 20, true);
    assert_eq!(batch.rows[0].figures.delta.tcp_rx, 40);
    assert_eq!(batch.counter_events.len(), 1);
    assert_eq!(batch.counter_events[0].kind.as_ref(), "reset");
}

#[test]
fn a_reset_that_the_next_report_undoes_does_not_count_a_lifetime() {
    let mut histories = Histories::default();
    for (seconds, tcp_rx) in [(0, 1000), (3, 0), (5, 1200), (10, 1300)] {
        histories.observe(&update(seconds, tcp_rx));
    }
    let batch = cut(&mut histories, 20, true);
    assert_eq!(batch.rows[0].figures.delta.tcp_rx, 300);
    let kinds: Vec<&str> = batch.counter_events.iter().map(|event| event.kind.as_ref()).collect();
    assert_eq!(kinds, ["reset", "reset_undone"]);
}

#[test]
fn a_fall_to_an_older_value_counts_nothing_and_is_listed() {
    let mut histories = Histories::default();
    for (seconds, tcp_rx) in [(0, 300_000), (5, 100_000), (10, 100_500)] {
        histories.observe(&update(seconds, tcp_rx));
    }
    let batch = cut(&mut histories, 20, true);
    assert_eq!(batch.rows[0].figures.delta.tcp_rx, 500);
    assert_eq!(batch.counter_events[0].kind.as_ref(), "fall_unknown");
    assert_eq!(batch.counter_events[0].before.tcp_rx, 300_000);
}

#[test]
fn counting_goes_on_from_a_stored_state_in_the_same_window() {
    let mut first = Histories::default();
    first.observe(&update(0, 100));
    first.observe(&update(5, 200));
    let batch = cut(&mut first, 7, true);
    assert_eq!(batch.rows[0].figures.delta.tcp_rx, 100);

    let mut second = Histories::default();
    second.restore(batch.through, batch.states.iter().map(|(tunnel, state)| (tunnel.clone(), state.as_deref())));
    second.observe(&update(5, 200));
    second.observe(&update(10, 350));
    let rows = cut(&mut second, 70, true).rows;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].figures.delta.tcp_rx, rows[0].figures.record_count), (150, 1), "the rest of the minute, to be added");
}

#[test]
fn a_minute_that_the_clock_went_back_to_is_added_to() {
    let mut histories = Histories::default();
    for (seconds, tcp_rx) in [(0, 0), (30, 100), (60, 150)] {
        histories.observe(&update(seconds, tcp_rx));
    }
    let Record::Event(mut back) = update(61, 170) else { unreachable!() };
    back.received_at = at(20);
    histories.observe(&Record::Event(back));
    let rows = cut(&mut histories, 62, true).rows;
    assert_eq!(rows.iter().map(|row| row.figures.delta.tcp_rx).collect::<Vec<_>>(), [120, 50]);
}

/// The clock goes back by a minute and forward again: the rows of both minutes are whole in the end, also where parts of
/// them were handed over in between.
#[test]
fn minutes_that_are_lived_through_twice_add_up_however_often_they_are_cut() {
    for cut_often in [false, true] {
        let mut histories = Histories::default();
        let mut stored: BTreeMap<Timestamp, Figures> = BTreeMap::new();
        let mut store = |histories: &mut Histories, seconds| {
            for row in cut(histories, seconds, true).rows {
                let stored = stored.entry(row.minute).or_default();
                *stored = stored.plus(row.figures);
            }
            stored.values().map(|figures| figures.delta.tcp_rx).sum::<u64>()
        };
        // Seconds of the wall clock: up to 90, back to 30, and on to 150.
        let walls = (0..=90).step_by(10).chain((30..=150).step_by(10));
        let mut total = 0;
        for (step, wall) in (0_i64..).zip(walls) {
            let Record::Event(mut event) = update(step, step as u64 * 100) else { unreachable!() };
            event.received_at = at(wall);
            histories.observe(&Record::Event(event));
            if cut_often {
                total = store(&mut histories, wall);
                assert_eq!(total, step as u64 * 100, "at {wall}");
            }
        }
        if !cut_often {
            histories.close_until(at(200));
            total = store(&mut histories, 200);
        }
        assert_eq!(total, 2_200);
    }
}

/// Reports received and expected, by minute after noon.
fn reports(rows: &[HistoryRow]) -> Vec<(i64, i32, i32)> {
    let minute = |row: &HistoryRow| (row.minute.0 - NOON) / Timestamp::MINUTE;
    rows.iter().map(|row| (minute(row), row.figures.record_count, row.figures.expected_count)).collect()
}

/// Reports at these seconds.
fn reported(seconds: impl IntoIterator<Item = i64>) -> Histories {
    let mut histories = Histories::default();
    seconds.into_iter().for_each(|second| histories.observe(&update(second, 0)));
    histories
}

#[test]
fn the_interval_is_learnt_and_gives_the_expected_count() {
    // A change of state between two reports, at 126, does not disturb it.
    let mut histories = reported((0..26).map(|step| step * 5).chain([126]));
    assert_eq!(reports(&cut(&mut histories, 180, true).rows), [(0, 12, 12), (1, 12, 12), (2, 3, 2)]);
    // Not before the second distance that is like the first.
    assert_eq!(reports(&cut(&mut reported([0, 5]), 180, true).rows), [(0, 2, 0)]);
    assert_eq!(reports(&cut(&mut reported([0, 5, 10]), 180, true).rows), [(0, 3, 3)]);
    assert_eq!(reports(&cut(&mut reported([0, 31, 90, 95, 100]), 180, true).rows), [(0, 2, 0), (1, 3, 3)]);
}

#[test]
fn the_report_that_ends_a_silence_brings_what_was_due_in_it() {
    // Silent from 0:20 to 3:40.
    let mut histories = reported((0..=4).chain(44..=47).map(|step| step * 5));
    let rows = cut(&mut histories, 240, true).rows;
    assert_eq!(reports(&rows), [(0, 5, 5), (3, 4, 43)]);
    let whole = rows.iter().fold(Figures::default(), |sum, row| sum.plus(row.figures));
    assert_eq!((whole.record_count, whole.expected_count), (9, 48), "an hour shows it");
}

#[test]
fn reports_that_come_less_often_than_once_a_minute_are_expected_too() {
    let mut histories = reported((0..=5).map(|step| step * 180));
    let expected: i32 = cut(&mut histories, 960, true).rows.iter().map(|row| row.figures.expected_count).sum();
    assert_eq!(expected, 6);
}

#[test]
fn reports_that_are_early_or_late_are_expected_once() {
    let mut histories = reported([0, 5, 10, 17, 20, 25, 33, 35, 41, 45, 50, 55]);
    assert_eq!(reports(&cut(&mut histories, 60, true).rows), [(0, 12, 12)]);
}

#[test]
fn of_a_tunnel_that_is_stopped_nothing_is_expected_until_it_runs_again() {
    let mut histories = reported([0, 5, 10]);
    let Record::Event(mut stopped) = update(13, 0) else { unreachable!() };
    stopped.sample.as_mut().unwrap().status = Status::Stopped;
    histories.observe(&Record::Event(stopped));
    [600, 605].into_iter().for_each(|second| histories.observe(&update(second, 0)));
    assert_eq!(reports(&cut(&mut histories, 660, true).rows), [(0, 4, 4), (10, 2, 2)]);
}

#[test]
fn a_clock_that_is_set_back_neither_loses_nor_invents_a_report() {
    let mut histories = reported([600, 605, 610]);
    for (step, wall) in [(611, 10), (612, 15), (613, 20)] {
        let Record::Event(mut back) = update(step, 0) else { unreachable!() };
        back.received_at = at(wall);
        histories.observe(&Record::Event(back));
    }
    assert_eq!(reports(&cut(&mut histories, 660, true).rows), [(0, 3, 3), (10, 3, 3)]);
}

/// Wherever the recorder is killed: what was handed over and what is counted anew are together what one life counts.
#[test]
fn a_restart_expects_the_same_reports_as_a_life_without_one() {
    let seconds: Vec<i64> = (0..=4).chain([5, 9, 10, 44, 45, 46]).map(|step| step * 5).chain([233, 235, 240]).collect();
    let sums = |rows: Vec<HistoryRow>| {
        let mut minutes: BTreeMap<Timestamp, Figures> = BTreeMap::new();
        for row in rows {
            let minute = minutes.entry(row.minute).or_default();
            *minute = minute.plus(row.figures);
        }
        minutes
    };
    let whole = sums(cut(&mut reported(seconds.iter().copied()), 300, true).rows);
    for open in [false, true] {
        for killed_after in 1..seconds.len() {
            let mut before = reported(seconds[..killed_after].iter().copied());
            let batch = cut(&mut before, seconds[killed_after - 1], open);
            let mut after = Histories::default();
            after.restore(batch.through, batch.states.iter().map(|(tunnel, state)| (tunnel.clone(), state.as_deref())));
            // The journal gives some of the records once more.
            seconds.iter().for_each(|second| after.observe(&update(*second, 0)));
            let rows = batch.rows.into_iter().chain(cut(&mut after, 300, true).rows).collect();
            assert_eq!(sums(rows), whole, "killed after {killed_after}, open windows handed over: {open}");
        }
    }
}

#[test]
fn a_deleted_tunnel_leaves_its_row_and_no_state() {
    let mut histories = Histories::default();
    histories.observe(&update(0, 5));
    histories.observe(&update(5, 8));
    histories.observe(&of_kind(EventKind::Delete, 6, 8));
    let batch = cut(&mut histories, 7, false);
    assert_eq!(batch.rows.len(), 1);
    assert_eq!(batch.states, [(tunnel(), None)]);
    assert!(histories.tunnels.is_empty() && histories.changed.is_empty());
}

/// Found by seed 61001: the first events that were accepted after a refusal were stored, and history was told a moment too late.
#[test]
fn the_last_sample_that_was_left_out_brings_the_traffic_when_nothing_is_left_out_any_more() {
    let mut histories = Histories::default();
    histories.observe(&update(0, 5));
    for (seconds, tcp_rx) in [(5, 20), (10, 70)] {
        histories.skip(&update(seconds, tcp_rx));
    }
    assert_eq!(cut(&mut histories, 11, true).rows[0].figures.delta.tcp_rx, 0);
    histories.count_skipped();
    let batch = cut(&mut histories, 12, true);
    assert_eq!((batch.rows[0].figures.delta.tcp_rx, batch.rows[0].figures.record_count), (65, 1));
    histories.observe(&update(15, 71));
    assert_eq!(cut(&mut histories, 16, true).rows[0].figures.delta.tcp_rx, 1);
}

/// Found by seed 200134: the boundary came between the first record that the journal took again and the word that it does. The
/// record's segment went, and its sample was counted nowhere but in memory.
#[test]
fn nothing_that_was_left_out_is_handed_over_as_counted() {
    let mut histories = Histories::default();
    histories.observe(&update(0, 5));
    let _ = cut(&mut histories, 2, true);
    histories.skip(&update(5, 20));
    assert_eq!(histories.through(), update(0, 5).id());
    assert!(histories.cut(EventId(2), info(6), true).is_none());
    histories.count_skipped();
    assert_eq!((histories.through(), cut(&mut histories, 7, true).through), (update(5, 20).id(), update(5, 20).id()));
}

/// The end of a tunnel is known and handed over while samples are left out; after a crash the journal gives its record once more.
#[test]
fn a_tunnel_that_is_gone_is_not_begun_by_the_record_of_its_end() {
    let mut histories = Histories::default();
    histories.observe(&update(0, 5));
    histories.skip(&update(5, 20));
    histories.skip(&of_kind(EventKind::Delete, 6, 21));
    let batch = cut(&mut histories, 7, true);
    assert_eq!((batch.through, batch.rows[0].figures.delta.tcp_rx), (update(0, 5).id(), 16));
    let mut after = Histories::default();
    after.restore(batch.through, batch.states.iter().map(|(tunnel, state)| (tunnel.clone(), state.as_deref())));
    after.observe(&of_kind(EventKind::Delete, 6, 21));
    assert!(after.cut(EventId(2), info(8), true).is_none());
}

#[test]
fn a_tunnel_that_was_deleted_meanwhile_is_not_begun_again_by_what_was_left_out() {
    let mut histories = Histories::default();
    histories.observe(&update(0, 5));
    histories.skip(&update(5, 20));
    histories.skip(&of_kind(EventKind::Delete, 6, 21));
    assert!(histories.skipped.is_empty(), "tunnels come and go while nothing is accepted");
    histories.count_skipped();
    assert!(histories.tunnels.is_empty());
    assert_eq!(cut(&mut histories, 7, false).rows[0].figures.delta.tcp_rx, 16);
}

#[test]
fn nothing_new_gives_no_batch() {
    let mut histories = Histories::default();
    histories.observe(&update(0, 5));
    let _ = cut(&mut histories, 7, false);
    assert!(histories.cut(EventId(2), info(8), false).is_none());
}

fn accounts(batch: &HistoryBatch) -> Vec<(u64, u64, u64)> {
    batch.accounts.iter().map(|account| (account.from.tcp_rx, account.to.tcp_rx, account.open.tcp_rx)).collect()
}

#[test]
fn a_window_that_is_handed_over_in_parts_expects_no_more_reports_than_a_whole_one() {
    let mut histories = Histories::default();
    let mut expected = 0;
    for step in 0..36 {
        histories.observe(&update(step * 5, 0));
        if step % 5 == 3 {
            let batch = cut(&mut histories, step * 5 + 1, true);
            expected += batch.rows.iter().filter(|row| row.minute == at(60)).map(|row| row.figures.expected_count).sum::<i32>();
        }
    }
    assert_eq!(expected, 12);
}

#[test]
fn the_first_figures_of_a_tunnel_are_not_ours_unless_it_is_seen_being_created() {
    let mut histories = Histories::default();
    histories.observe(&of_kind(EventKind::Initial, 0, 1_000_000));
    histories.observe(&update(5, 1_000_010));
    let batch = cut(&mut histories, 7, true);
    assert_eq!(batch.rows[0].figures.delta.tcp_rx, 10);
    assert_eq!(accounts(&batch), [(1_000_000, 1_000_010, 0)]);

    let mut histories = Histories::default();
    histories.observe(&of_kind(EventKind::Create, 0, 7));
    histories.observe(&update(5, 17));
    assert_eq!(cut(&mut histories, 7, true).rows[0].figures.delta.tcp_rx, 17);
}

#[test]
fn a_create_event_that_an_update_overtook_still_counts_from_zero() {
    let mut histories = Histories::default();
    histories.observe(&update(0, 7));
    histories.observe(&of_kind(EventKind::Create, 1, 7));
    histories.observe(&update(5, 17));
    let batch = cut(&mut histories, 7, true);
    assert_eq!((batch.rows[0].figures.delta.tcp_rx, accounts(&batch)), (17, vec![(0, 17, 0)]));
}

/// Found by a test whose reader slept: the list of instances came with 7 bytes, and then the stream with its older figures.
#[test]
fn a_create_event_that_the_list_of_instances_overtook_counts_nothing_twice() {
    let mut histories = Histories::default();
    histories.learn_version(EndpointId(1), "v1.14.0");
    histories.observe(&of_kind(EventKind::Initial, 0, 7));
    histories.observe(&of_kind(EventKind::Create, 1, 0));
    histories.observe(&update(2, 7));
    histories.observe(&update(5, 17));
    let batch = cut(&mut histories, 7, true);
    assert_eq!((batch.rows[0].figures.delta.tcp_rx, accounts(&batch)), (17, vec![(0, 17, 0)]));
    assert_eq!(batch.counter_events, []);
}

#[test]
fn accounts_go_on_from_batch_to_batch_and_say_what_is_open() {
    let mut histories = Histories::default();
    histories.observe(&update(0, 100));
    histories.observe(&update(50, 150));
    histories.observe(&update(65, 175));
    assert_eq!(accounts(&cut(&mut histories, 66, false)), [(100, 175, 25)]);
    histories.observe(&update(70, 180));
    assert_eq!(accounts(&cut(&mut histories, 71, true)), [(175, 180, 0)]);
    histories.observe(&of_kind(EventKind::Delete, 72, 181));
    assert_eq!(accounts(&cut(&mut histories, 73, true)), [(180, 181, 0)]);
}

#[test]
fn a_tunnel_that_comes_back_after_it_was_gone_has_two_accounts_in_a_batch() {
    let mut histories = Histories::default();
    for record in [update(0, 100), of_kind(EventKind::Delete, 5, 140), update(10, 900), update(15, 907)] {
        histories.observe(&record);
    }
    let batch = cut(&mut histories, 20, true);
    assert_eq!((batch.rows[0].figures.delta.tcp_rx, accounts(&batch)), (47, vec![(100, 140, 0), (900, 907, 0)]));
}

#[test]
fn a_reset_lasts_where_the_version_says_so() {
    for (version, moved) in [("v1.8.1", 200), ("v1.8.2", 1_200), ("2.0.0-b10", 1_200), ("nonsense", 200)] {
        let mut histories = Histories::default();
        histories.learn_version(EndpointId(1), version);
        for (seconds, tcp_rx) in [(0, 1_000), (3, 0), (5, 1_200)] {
            histories.observe(&update(seconds, tcp_rx));
        }
        assert_eq!(cut(&mut histories, 20, true).rows[0].figures.delta.tcp_rx, moved, "{version}");
    }
}

fn gap(seconds: i64, reason: &str) -> Record {
    Record::Gap(Gap {
        id: EventId(NOON + seconds * 10),
        endpoint: EndpointId(1),
        instance: InstanceId::from(""),
        from: at(seconds - 2),
        to: at(seconds),
        reason: reason.into(),
    })
}

fn kinds(batch: &HistoryBatch) -> Vec<&str> {
    batch.counter_events.iter().map(|event| event.kind.as_ref()).collect()
}

#[test]
fn a_restart_of_the_master_explains_what_fell_when_the_stream_came_back() {
    // A fall beyond which the counter rises at once, and one to zero.
    for (fallen, next, moved) in [(400, 1_100, 700), (0, 1_100, 1_100)] {
        let mut histories = Histories::default();
        histories.learn_version(EndpointId(1), "v1.14.0");
        histories.observe(&update(0, 1_000));
        histories.observe(&gap(20, "connection_lost"));
        histories.observe(&of_kind(EventKind::Initial, 20, fallen));
        histories.observe(&gap(21, Gap::MASTER_RESTARTED));
        // Growth beyond the old figures is growth: the fall is explained and nothing takes it back.
        histories.observe(&update(25, next));
        let batch = cut(&mut histories, 30, true);
        assert_eq!((kinds(&batch), batch.rows[0].figures.delta.tcp_rx), (vec!["fall_back"], moved));
    }
}

#[test]
fn a_restart_explains_nothing_that_fell_before_the_stream_was_lost() {
    let mut histories = Histories::default();
    for record in [
        update(0, 1_000),
        update(5, 0),
        update(10, 70),
        gap(20, "connection_lost"),
        of_kind(EventKind::Initial, 20, 70),
        gap(21, Gap::MASTER_RESTARTED),
    ] {
        histories.observe(&record);
    }
    assert_eq!(kinds(&cut(&mut histories, 30, true)), ["reset"]);
}

/// The counters were reset, the master was killed, and the state that it came back with is from before the reset.
#[test]
fn an_older_state_that_brings_back_what_was_reset_counts_no_lifetime() {
    for (came_back, counted, next) in [(900, 0, 905), (1_000, 0, 1_005), (1_020, 20, 1_025), (50, 0, 55)] {
        for closed in [false, true] {
            let mut histories = Histories::default();
            histories.learn_version(EndpointId(1), "v1.14.0");
            for record in [update(0, 990), update(5, 1_000), update(10, 0), update(15, 50)] {
                histories.observe(&record);
            }
            let before = cut(&mut histories, 16, true);
            histories.observe(&gap(55, "connection_lost"));
            histories.observe(&of_kind(EventKind::Initial, 55, came_back));
            if closed {
                histories.observe(&update(61, came_back));
            }
            histories.observe(&gap(62, Gap::MASTER_RESTARTED));
            histories.observe(&update(65, next));
            let after = cut(&mut histories, 70, true);
            let moved = |batch: &HistoryBatch| batch.rows.iter().map(|row| row.figures.delta.tcp_rx).sum::<u64>();
            assert_eq!((moved(&before), moved(&after)), (60, counted + 5), "{came_back}");
            let explained: &[&str] = if came_back == 50 { &[] } else { &["fall_back"] };
            assert_eq!(kinds(&after), explained, "{came_back}");
            if let Some(event) = after.counter_events.first() {
                assert_eq!((event.before.tcp_rx, event.after.tcp_rx, event.counted.tcp_rx), (50, came_back, counted));
            }
        }
    }
}

#[test]
fn what_came_back_was_traffic_unless_the_master_was_started_anew_after_a_fall() {
    let reset = || vec![update(0, 1_000), update(5, 0), update(10, 50), gap(20, "connection_lost")];
    let moved = |records: Vec<Record>| {
        let mut histories = Histories::default();
        histories.learn_version(EndpointId(1), "v1.14.0");
        records.iter().for_each(|record| histories.observe(record));
        cut(&mut histories, 30, true).rows[0].figures.delta.tcp_rx
    };
    let same_master = reset().into_iter().chain([of_kind(EventKind::Initial, 20, 900)]);
    assert_eq!(moved(same_master.collect()), 900);
    let no_fall =
        [update(0, 50), gap(20, "connection_lost"), of_kind(EventKind::Initial, 20, 900), gap(21, Gap::MASTER_RESTARTED)];
    assert_eq!(moved(no_fall.into()), 850);
    let grown = [update(0, 30), update(5, 0), update(10, 50), gap(20, "connection_lost"), of_kind(EventKind::Initial, 20, 900)];
    assert_eq!(moved(grown.into_iter().chain([gap(21, Gap::MASTER_RESTARTED)]).collect()), 900, "what was reset is behind it");
}

/// Somebody reset the counters while the master was away, and up to v1.8.1 the next report brings the old figures back.
#[test]
fn where_resets_do_not_last_the_next_report_may_undo_one_that_was_seen_with_a_restart() {
    let mut histories = Histories::default();
    histories.learn_version(EndpointId(1), "v1.7.0");
    for record in [
        update(0, 1_000),
        gap(20, "recorder_stopped"),
        of_kind(EventKind::Initial, 20, 0),
        gap(21, Gap::MASTER_RESTARTED),
        update(25, 1_100),
    ] {
        histories.observe(&record);
    }
    let batch = cut(&mut histories, 30, true);
    assert_eq!((kinds(&batch), batch.rows[0].figures.delta.tcp_rx), (vec!["fall_back", "reset_undone"], 100));
}

/// A master may come back as an older version, and does not tell it at the same moment.
#[test]
fn after_a_restart_resets_are_not_taken_to_last_until_the_master_tells_its_version() {
    let mut histories = Histories::default();
    histories.learn_version(EndpointId(1), "v1.14.0");
    for record in [update(0, 1_000), gap(20, Gap::MASTER_RESTARTED), update(25, 0), update(30, 1_200)] {
        histories.observe(&record);
    }
    assert_eq!(cut(&mut histories, 35, true).rows[0].figures.delta.tcp_rx, 200);
}

/// What is counted anew after a crash is judged by what was known before it, whatever version the master has by then.
#[test]
fn records_that_are_counted_anew_are_judged_by_what_the_stored_state_says_of_resets() {
    for (version, moved) in [("v1.7.0", 200), ("v1.14.0", 1_200)] {
        let mut before = Histories::default();
        before.learn_version(EndpointId(1), version);
        before.observe(&update(0, 900));
        before.observe(&update(5, 1_000));
        let batch = cut(&mut before, 7, true);
        let mut after = Histories::default();
        after.restore(batch.through, batch.states.iter().map(|(tunnel, state)| (tunnel.clone(), state.as_deref())));
        after.observe(&update(10, 0));
        after.observe(&update(15, 1_200));
        assert_eq!(cut(&mut after, 20, true).rows[0].figures.delta.tcp_rx, moved, "{version}");
    }
}

/// An update of one end of a tunnel, of endpoint 1 for a server and 2 for a client, at its first report with what it is.
fn end(instance: &str, kind: &str, seconds: i64, tcp_rx: u64) -> Record {
    let Record::Event(event) = update(seconds, tcp_rx) else { unreachable!() };
    let peer = Peer { sid: Redacted::from_store("service"), ..Peer::default() };
    let config = InstanceConfig { kind: Redacted::from_store(kind), peer, ..InstanceConfig::default() };
    let endpoint = EndpointId(if kind == "client" { 2 } else { 1 });
    let id = EventId(event.id.0 + i64::from(endpoint.0));
    Record::Event(Event {
        id,
        endpoint,
        instance: InstanceId::from(instance),
        config: Some(std::sync::Arc::new(config)),
        ..event
    })
}

/// What rows add to the fleet's total.
fn in_fleet(batch: &HistoryBatch) -> u64 {
    batch.rows.iter().filter(|row| row.in_totals.fleet).map(|row| row.figures.delta.tcp_rx).sum()
}

/// A recorder that starts anew, with what the last one stored.
fn restarted(batch: &HistoryBatch) -> Histories {
    let mut histories = Histories::default();
    histories.restore(batch.through, batch.states.iter().map(|(tunnel, state)| (tunnel.clone(), state.as_deref())));
    histories
}

/// Both ends moved 100 bytes together, and the client's endpoint is paused: the server moves 200 more. Then comes a restart.
fn with_a_paused_client() -> (u64, Histories) {
    let mut histories = Histories::default();
    for (seconds, moved) in [(0, 0), (5, 100)] {
        histories.observe(&end("aaaa0001", "server", seconds, moved));
        histories.observe(&end("bbbb0002", "client", seconds, moved));
    }
    histories.observe(&end("aaaa0001", "server", 65, 200));
    histories.observe(&end("aaaa0001", "server", 125, 300));
    let batch = cut(&mut histories, 130, true);
    (in_fleet(&batch), restarted(&batch))
}

#[test]
fn a_client_whose_endpoint_was_paused_counts_on_its_return_what_its_server_was_left_out_with() {
    let (before, mut histories) = with_a_paused_client();
    assert_eq!(before, 100, "the server is left out all the same");
    histories.observe(&end("aaaa0001", "server", 185, 400));
    histories.observe(&end("bbbb0002", "client", 185, 400));
    assert_eq!(before + in_fleet(&cut(&mut histories, 190, true)), 400);
}

/// What was moved between the pause and the removal is in no total of the fleet: the server's row was left out of it, and the client's
/// never came. Too low, never too high.
#[test]
fn a_server_counts_from_when_its_paused_client_was_removed() {
    let (before, mut histories) = with_a_paused_client();
    histories.forget(EndpointId(2));
    histories.observe(&end("aaaa0001", "server", 185, 400));
    histories.observe(&end("aaaa0001", "server", 245, 450));
    assert_eq!((before, in_fleet(&cut(&mut histories, 250, true))), (100, 150));
}

#[test]
fn of_two_followed_ends_the_client_counts_in_totals() {
    let end = |instance: &str, kind: &str, seconds: i64| {
        let Record::Event(event) = update(seconds, 5) else { unreachable!() };
        let peer = Peer { sid: Redacted::from_store("service"), ..Peer::default() };
        let config = InstanceConfig { kind: Redacted::from_store(kind), peer, ..InstanceConfig::default() };
        Record::Event(Event { instance: InstanceId::from(instance), config: Some(std::sync::Arc::new(config)), ..event })
    };
    let mut histories = Histories::default();
    histories.observe(&end("aaaa0001", "server", 0));
    histories.observe(&end("bbbb0002", "client", 1));
    let rows = cut(&mut histories, 2, true).rows;
    let counts: Vec<bool> = rows.iter().map(|row| row.in_totals.fleet).collect();
    assert_eq!(counts, [false, true]);
}
