use super::*;
use crate::event::{Counters, EndpointId};
use crate::history::InTotals;
use crate::history::calendar::Calendar;
use crate::history::figures::Ping;

/// 2026-11-23T12:00:00Z.
const NOON: Timestamp = Timestamp(1_795_435_200_000_000);

fn retention() -> RetentionConfig {
    let days = |days: u64| Duration::from_secs(days * 86_400);
    RetentionConfig { events: days(1), minutes: days(7), hours: days(90), days: Some(days(1_825)) }
}

fn question(since: &str, until: Option<&str>, step: Option<&str>) -> Result<HistoryQuestion, QueryError> {
    let query = HistoryQuery {
        since: Some(since.to_owned()),
        until: until.map(str::to_owned),
        step: step.map(str::to_owned),
        ..HistoryQuery::default()
    };
    HistoryQuestion::new(query, NOON, Tz::UTC, &retention())
}

#[test]
fn the_step_follows_the_range_as_far_as_its_level_still_holds_it() {
    for (since, until, step) in [
        ("1h", None, Step::Minute),
        ("24h", None, Step::Minute),
        ("25h", None, Step::Minute),
        ("26h", None, Step::Hour),
        ("7d", Some("6d"), Step::Minute),
        ("8d", Some("7d"), Step::Hour),
        ("60d", None, Step::Hour),
        ("90d", None, Step::Day),
        ("90d", Some("80d"), Step::Hour),
        ("92d", Some("91d"), Step::Day),
        ("5y", None, Step::Day),
        ("20y", None, Step::Day),
    ] {
        assert_eq!(question(since, until, None).unwrap().step, step, "{since} {until:?}");
        assert_eq!(question(since, until, Some("auto")).unwrap().step, step);
    }
}

#[test]
fn a_chart_has_a_bounded_number_of_values() {
    for (since, step) in [("5d", "1m"), ("310d", "1h"), ("20y", "1d"), ("20y", "auto")] {
        assert!(question(since, None, Some(step)).is_ok(), "{since} {step}");
    }
    for (since, step) in [("7501m", "1m"), ("313d", "1h"), ("50y", "1d"), ("1d", "5m"), ("1d", ""), ("1d", "1M")] {
        assert!(matches!(question(since, None, Some(step)), Err(QueryError::Invalid(_))), "{since} {step}");
    }
    let error = question("30d", None, Some("1m")).unwrap_err().to_string();
    assert!(error.contains("43200 values, and 7500 is the most"), "{error}");
}

fn figures(bytes: u64, tcps: i32) -> Figures {
    Figures {
        delta: Counters { tcp_rx: bytes, udp_rx: 1, ..Counters::default() },
        covered_ms: 60_000,
        ping: Some(Ping::of(tcps)),
        tcps: Some(tcps),
        record_count: 12,
        expected_count: 12,
        ..Figures::default()
    }
}

fn row(instance: &str, minute: i64, figures: Figures) -> HistoryRow {
    HistoryRow {
        tunnel: TunnelKey { endpoint: EndpointId(1), instance: instance.into() },
        minute: Timestamp(NOON.0 + minute * Timestamp::MINUTE),
        figures,
        in_totals: InTotals::BOTH,
    }
}

fn chart(since: &str, step: &str, scope: &Scope, stored: &[Stretch], rows: &[HistoryRow]) -> Columns {
    let question = question(since, Some("2026-11-23T12:05:00Z"), Some(step)).unwrap();
    let slots = question.step.slots(&Calendar::default(), question.range);
    let rows: Vec<&HistoryRow> = rows.iter().collect();
    let end = question.step.next(&Calendar::default(), *slots.last().unwrap());
    columns(&slots, &fill(&slots, end, &question, scope, stored, &rows))
}

fn stored(minute: i64, totals: Totals) -> Stretch {
    Stretch { start: Timestamp(NOON.0 + minute * Timestamp::MINUTE), totals, zone_changed: false }
}

#[test]
fn what_is_not_known_is_null_and_what_is_zero_is_zero() {
    let idle = Totals { figures: Figures { record_count: 12, ..Figures::default() }, ..Totals::default() };
    let tunnel = Scope::Tunnel(row("a", 0, Figures::default()).tunnel);
    let chart = chart("3m", "1m", &tunnel, &[stored(-2, idle)], &[row("a", 1, figures(59, 3)), row("a", 9, figures(1, 1))]);
    assert_eq!(chart.time.len(), 8);
    assert_eq!(chart.time[0], 1_795_435_020);
    assert_eq!(chart.received, [None, Some(0), None, None, Some(60), None, None, None]);
    assert_eq!(chart.speed_in, [None, None, None, None, Some(1), None, None, None]);
    assert_eq!((chart.ping_avg[1], chart.ping_avg[4], chart.reports[1]), (None, Some(3.0), Some(12)));
}

#[test]
fn what_waits_is_added_to_what_is_stored() {
    let tunnel = Scope::Tunnel(row("a", 0, Figures::default()).tunnel);
    let part = Totals { figures: figures(599, 5), speed_in: Some(10), speed_out: Some(0), tunnels: 0 };
    let rows = [row("a", 1, figures(599, 7)), row("a", 2, figures(599, 9)), row("b", 2, figures(1_000_000, 1))];
    let chart = chart("2h", "1h", &tunnel, &[stored(0, part)], &rows);
    assert_eq!(chart.received, [None, None, Some(1_800)]);
    assert_eq!((chart.speed_in[2], chart.tcps[2], chart.ping_avg[2], chart.reports[2]), (Some(10), Some(9), Some(7.0), Some(36)));
    assert_eq!((chart.ping_min[2], chart.ping_max[2]), (Some(5), Some(9)));
}

#[test]
fn totals_add_tunnels_and_count_an_end_once() {
    let mut left_out = row("server", 1, figures(1_000_000, 1));
    left_out.in_totals = InTotals { endpoint: true, fleet: false };
    let mut elsewhere = row("c", 1, figures(599, 2));
    elsewhere.tunnel.endpoint = EndpointId(2);
    let rows = [row("a", 1, figures(599, 7)), row("b", 1, figures(1_199, 9)), left_out, elsewhere];
    let fleet = chart("1m", "1m", &Scope::Fleet, &[], &rows);
    assert_eq!((fleet.received[2], fleet.speed_in[2], fleet.tcps[2]), (Some(2_400), Some(40), Some(18)));
    let endpoint = chart("1m", "1m", &Scope::Endpoint(EndpointId(2)), &[], &rows);
    assert_eq!(endpoint.received[2], Some(600));
    // A minute of which the windows of other tunnels are stored already.
    let others = Totals { figures: figures(5_999, 1), speed_in: Some(100), speed_out: Some(0), tunnels: 3 };
    let both = chart("1m", "1m", &Scope::Fleet, &[stored(1, others)], &rows);
    assert_eq!((both.received[2], both.speed_in[2], both.tcps[2]), (Some(8_400), Some(140), Some(19)));
    // An hour of which the same tunnels have a part.
    let part = Totals { figures: figures(2_399, 1), speed_in: Some(40), speed_out: Some(0), tunnels: 3 };
    let hour = chart("1m", "1h", &Scope::Fleet, &[stored(0, part)], &rows);
    assert_eq!((hour.received.last(), hour.tcps.last()), (Some(&Some(4_800)), Some(&Some(18))));
}

/// Seen on nine simulated days: twice the speed, on a day on which most tunnels were there for an hour.
#[test]
fn the_speed_of_many_over_an_hour_is_what_they_moved_by_what_has_passed_of_it() {
    let come_and_gone = Totals { figures: figures(3_599_999, 1), speed_in: Some(99_999), speed_out: None, tunnels: 38 };
    let now = Totals { figures: figures(5_999, 1), ..come_and_gone };
    let hours = chart("1h", "1h", &Scope::Fleet, &[stored(-60, come_and_gone), stored(0, now)], &[]);
    // It is noon: of the hour that begins now a minute counts at least.
    assert_eq!((hours.received, hours.speed_in), (vec![Some(3_600_000), Some(6_000)], vec![Some(1_000), Some(100)]));
}
