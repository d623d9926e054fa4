//! From what NodePassDash stored of one tunnel to what it moved, minute by minute.
//!
//! Both of its tables hold counters as they stood at some time: `service_history` in columns named `delta_*`, once a minute,
//! `traffic_hourly_summary` in `*_total`, once an hour. Together they are one series of samples, and what was moved is the
//! difference from one to the next, as for samples that are received. An hour counts only where no minute of it is there. What
//! NodePassDash reckoned itself (`*_increment`) is not used.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::{Defect, Findings, Offsets};
use super::source::{HourRow, MinuteRow};
use super::times::Time;
use crate::clock::Timestamp;
use crate::event::Counters;
use crate::history::figures::{Figures, Ping};
use crate::history::{Before, step};

const HOUR: i64 = 60 * Timestamp::MINUTE;

/// The tables' rows of one tunnel.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Of `service_history`, in no order.
    pub minutes: Vec<MinuteRow>,
    /// Of `traffic_hourly_summary`, in no order.
    pub hours: Vec<HourRow>,
}

/// The counters at some time, and what else is known of the stretch that ended then.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Timestamp,
    /// Breaks ties: rows of one minute come in the order in which they were stored.
    id: i64,
    counters: Counters,
    figures: Figures,
}

/// What a tunnel moved, by UTC minute. `name` stands in the examples; rows after `now` are left out.
pub fn repair(name: &str, rows: &Rows, now: Timestamp, findings: &mut Findings) -> BTreeMap<Timestamp, Figures> {
    let minutes = minute_samples(name, &rows.minutes, now, findings);
    let known: BTreeSet<i64> = minutes.iter().map(|sample| sample.at.0.div_euclid(HOUR)).collect();
    let offset = offsets(&rows.minutes).only();
    let mut samples = hour_samples(name, &rows.hours, offset, now, findings);
    // An hour that begins at half past may have minutes in two of UTC.
    samples.retain(|sample| {
        let (first, last) = (sample.at.0 - HOUR + Timestamp::MINUTE, sample.at.0);
        !(known.contains(&first.div_euclid(HOUR)) || known.contains(&last.div_euclid(HOUR)))
    });
    samples.extend(minutes);
    samples.sort_by_key(|sample| (sample.at, sample.id));
    differences(name, &samples, findings)
}

fn offsets(rows: &[MinuteRow]) -> Offsets {
    let mut offsets = Offsets::default();
    rows.iter().filter_map(|row| row.time).for_each(|time| offsets.note(time, String::new));
    offsets
}

fn minute_samples(name: &str, rows: &[MinuteRow], now: Timestamp, findings: &mut Findings) -> Vec<Sample> {
    let mut seen = BTreeSet::new();
    let mut samples = Vec::with_capacity(rows.len());
    for row in rows {
        let Some((at, counters)) = sound(name, row.time, row.counters, now, findings) else { continue };
        if !seen.insert((at, row.counters, row.gauges, row.ping.to_bits(), row.records)) {
            findings.note(Defect::Duplicate, || format!("{name} {at}: id {}", row.id));
            continue;
        }
        let gauge = |value: i64| i32::try_from(value).ok();
        let records = i32::try_from(row.records.max(0)).unwrap_or(i32::MAX);
        let figures = Figures {
            ping: ping(row.ping, records),
            pool: gauge(row.gauges[0]),
            tcps: gauge(row.gauges[1]),
            udps: gauge(row.gauges[2]),
            record_count: records,
            ..Figures::default()
        };
        samples.push(Sample { at: at.minute(), id: row.id, counters, figures });
    }
    let count = samples.len() as u64;
    findings.note_many(Defect::CumulativeDeltas, count, || format!("{name}: {count} rows"));
    samples
}

/// NodePassDash writes 0 where no ping was known, and the mean where some were: lowest and highest are not known.
fn ping(mean: f64, records: i32) -> Option<Ping> {
    // A saturating cast; what is no number of milliseconds is dropped.
    let millis = mean.round() as i32;
    let count = records.max(1);
    (mean.is_finite() && millis > 0).then(|| Ping {
        sum: (mean * f64::from(count)).round() as i64,
        count,
        min: millis,
        max: millis,
    })
}

fn hour_samples(name: &str, rows: &[HourRow], offset: Option<i32>, now: Timestamp, findings: &mut Findings) -> Vec<Sample> {
    let mut sound_rows = Vec::with_capacity(rows.len());
    for row in rows {
        let Some((at, counters)) = sound(name, row.time, row.totals, now, findings) else { continue };
        let actual = match (row.time, offset) {
            (Some(time), Some(offset)) if time.offset.is_some() => time.in_offset(offset),
            _ => at,
        };
        if actual != at {
            findings.note(Defect::ShiftedHour, || format!("{name} {at}: to {actual}"));
        }
        sound_rows.push((actual, row, counters));
    }
    sound_rows.sort_by_key(|(at, row, _)| (*at, row.id));
    let mut before: Option<(Timestamp, &HourRow)> = None;
    let mut samples = Vec::with_capacity(sound_rows.len());
    for (at, row, counters) in sound_rows {
        inspect(name, at, before.map(|(_, row)| row), row, findings);
        let known = before.replace((at, row));
        match known {
            Some((time, twin)) if time == at && twin.totals == row.totals => {
                findings.note(Defect::Duplicate, || format!("{name} {at}: id {}", row.id));
            }
            Some((_, last)) if row.records == 0 && last.totals == row.totals => {
                findings.note(Defect::CarriedForward, || format!("{name} {at}"));
            }
            // It stands for the last record of its hour, which may not be over.
            _ => samples.push(Sample {
                at: Timestamp(at.minute().0 + HOUR - Timestamp::MINUTE).min(now.minute()),
                id: row.id,
                counters,
                figures: Figures::default(),
            }),
        }
    }
    samples
}

/// Notes an increment that cannot be what was moved in the hour.
fn inspect(name: &str, at: Timestamp, before: Option<&HourRow>, row: &HourRow, findings: &mut Findings) {
    if let Some(negative) = row.increments.iter().find(|increment| **increment < 0) {
        findings.note(Defect::NegativeIncrement, || format!("{name} {at}: {negative}"));
    }
    let spike = |(nth, increment): &(usize, &i64)| {
        **increment > 0 && **increment == row.totals[*nth] && before.is_none_or(|before| before.totals[*nth] != 0)
    };
    if let Some((_, spike)) = row.increments.iter().enumerate().find(spike) {
        findings.note(Defect::LifetimeSpike, || format!("{name} {at}: {spike}"));
    }
}

/// The time and the counters of a row, if both are possible.
fn sound(
    name: &str,
    time: Option<Time>,
    counters: [i64; 4],
    now: Timestamp,
    findings: &mut Findings,
) -> Option<(Timestamp, Counters)> {
    let Some(time) = time else {
        findings.note(Defect::UnreadableTime, || name.to_owned());
        return None;
    };
    if time.at > now {
        findings.note(Defect::InFuture, || format!("{name} {}", time.at));
        return None;
    }
    if counters.iter().any(|counter| *counter < 0) {
        findings.note(Defect::NegativeCounter, || format!("{name} {}", time.at));
        return None;
    }
    let [tcp_rx, tcp_tx, udp_rx, udp_tx] = counters.map(i64::unsigned_abs);
    Some((time.at, Counters { tcp_rx, tcp_tx, udp_rx, udp_tx }))
}

/// Counts from each sample to the next. What the counters showed before the first one is not known to belong to any time.
fn differences(name: &str, samples: &[Sample], findings: &mut Findings) -> BTreeMap<Timestamp, Figures> {
    let mut rows = BTreeMap::<Timestamp, Figures>::new();
    let mut last: Option<(Timestamp, Before)> = None;
    for sample in samples {
        let (counted, covered_ms, fall) = match last {
            None => (Counters::default(), 0, None),
            Some((at, before)) => {
                let step = step(before, sample.counters);
                if step.kind.is_some() {
                    findings.note(Defect::CounterFell, || {
                        format!("{name} {}: {} to {}", sample.at, shown(before.counters), shown(sample.counters))
                    });
                }
                (step.counted, (sample.at.0 - at.0) / 1_000, step.fall)
            }
        };
        let figures = Figures { delta: counted, covered_ms, ..sample.figures };
        let known = rows.get(&sample.at).copied();
        if known.is_some() {
            findings.note(Defect::SameMinute, || format!("{name} {}: id {}", sample.at, sample.id));
        }
        rows.insert(sample.at, known.map_or(figures, |known| known.plus(figures)));
        last = Some((sample.at, Before { counters: sample.counters, fall, resets_last: false }));
    }
    rows
}

fn shown(counters: Counters) -> String {
    let Counters { tcp_rx, tcp_tx, udp_rx, udp_tx } = counters;
    format!("{tcp_rx}/{tcp_tx}/{udp_rx}/{udp_tx}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2025-09-10 05:00 UTC.
    const START: i64 = 1_757_480_400_000_000;
    const NOW: Timestamp = Timestamp(START + 1_000 * HOUR);

    fn time(minute: i64) -> Option<Time> {
        Some(Time { at: Timestamp(START + minute * Timestamp::MINUTE), offset: Some(0) })
    }

    fn minute_row(id: i64, minute: i64, counters: [i64; 4]) -> MinuteRow {
        MinuteRow { id, time: time(minute), counters, ping: 0.0, gauges: [1, 2, 3], records: 12 }
    }

    fn hour_row(id: i64, hour: i64, total: i64, increment: i64, records: i64) -> HourRow {
        HourRow { id, time: time(hour * 60), totals: [total, 0, 0, 0], increments: [increment, 0, 0, 0], records }
    }

    fn repaired(rows: &Rows) -> (Vec<(i64, Figures)>, Findings) {
        let mut findings = Findings::default();
        let minutes = repair("tokyo/aaaa0000", rows, NOW, &mut findings);
        (minutes.into_iter().map(|(at, figures)| ((at.0 - START) / Timestamp::MINUTE, figures)).collect(), findings)
    }

    fn deltas(rows: &Rows) -> Vec<(i64, u64)> {
        repaired(rows).0.into_iter().map(|(minute, figures)| (minute, figures.delta.tcp_rx)).collect()
    }

    #[test]
    fn the_first_row_says_nothing_of_what_was_moved_and_each_later_one_since_the_one_before() {
        let minutes = [(0, 900), (1, 950), (5, 1_000)].map(|(minute, rx)| minute_row(minute, minute, [rx, 0, 0, 0]));
        let rows = Rows { minutes: minutes.to_vec(), hours: Vec::new() };
        let (rows, _) = repaired(&rows);
        assert_eq!(
            rows.iter().map(|row| (row.0, row.1.delta.tcp_rx, row.1.covered_ms)).collect::<Vec<_>>(),
            [(0, 0, 0), (1, 50, 60_000), (5, 50, 240_000)]
        );
    }

    #[test]
    fn a_ping_of_zero_is_none_and_a_mean_is_kept() {
        let mut rows = Rows { minutes: vec![minute_row(1, 0, [0; 4]), minute_row(2, 1, [0; 4])], hours: Vec::new() };
        rows.minutes[1].ping = 20.5;
        let (rows, _) = repaired(&rows);
        assert_eq!(rows[0].1.ping, None);
        assert_eq!(rows[1].1.ping.map(|ping| (ping.mean(), ping.count)), Some((20.5, 12)));
        assert_eq!((rows[1].1.pool, rows[1].1.tcps, rows[1].1.udps), (Some(1), Some(2), Some(3)));
    }

    #[test]
    fn an_hour_stands_for_its_last_minute_and_gives_way_to_minutes() {
        let rows = Rows {
            minutes: vec![minute_row(1, 130, [700, 0, 0, 0])],
            hours: vec![hour_row(2, 0, 100, 100, 60), hour_row(3, 1, 600, 500, 60), hour_row(4, 2, 800, 200, 60)],
        };
        assert_eq!(deltas(&rows), [(59, 0), (119, 500), (130, 100)]);
    }

    #[test]
    fn hours_that_were_carried_forward_are_no_sign_of_life() {
        let hours = vec![
            hour_row(1, 0, 500, 500, 60),
            hour_row(2, 1, 500, 0, 0),
            hour_row(3, 2, 500, 0, 0),
            hour_row(4, 3, 600, 100, 60),
        ];
        let (rows, findings) = repaired(&Rows { minutes: Vec::new(), hours });
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [59, 239]);
        assert_eq!(findings.count(Defect::CarriedForward), 2);
    }

    #[test]
    fn a_spike_is_an_increment_of_everything_after_something_was_counted_before() {
        let of = |hours: Vec<HourRow>| repaired(&Rows { minutes: Vec::new(), hours }).1.count(Defect::LifetimeSpike);
        assert_eq!(of(vec![hour_row(1, 0, 0, 0, 60), hour_row(2, 1, 500, 500, 60)]), 0, "the counter began at zero");
        assert_eq!(of(vec![hour_row(1, 0, 500, 500, 60)]), 1, "the tunnel is older than the first row");
        assert_eq!(of(vec![hour_row(1, 0, 400, 0, 60), hour_row(2, 30, 500, 500, 60)]), 1, "the hour before has no row");
    }

    /// What a tunnel really did: each step moves bytes, and may begin with a reset.
    fn steps() -> impl Strategy<Value = Vec<(i64, [u32; 4], bool)>> {
        let step = (1..6_i64, proptest::array::uniform4(0..5_000_u32), proptest::bool::weighted(0.08));
        proptest::collection::vec(step, 1..120)
    }

    /// The series that these steps show, and what they moved in all.
    fn series(steps: &[(i64, [u32; 4], bool)]) -> (Vec<(i64, [i64; 4])>, [u64; 4]) {
        let (mut minute, mut counters, mut moved) = (0, [1_000_000; 4], [0; 4]);
        let mut series = vec![(minute, counters)];
        for (apart, bytes, reset) in steps {
            minute += apart;
            if *reset {
                counters = [0; 4];
            }
            for n in 0..4 {
                counters[n] += i64::from(bytes[n]);
                moved[n] += u64::from(bytes[n]);
            }
            series.push((minute, counters));
        }
        (series, moved)
    }

    fn four(counters: Counters) -> [u64; 4] {
        [counters.tcp_rx, counters.tcp_tx, counters.udp_rx, counters.udp_tx]
    }

    /// The plain way: from one value to the next, what a counter grew; nothing where it fell. Only what directly follows a
    /// fall may take it back, which is seen by all counters standing where they stood before it.
    fn reference(series: &[(i64, [i64; 4])]) -> Vec<(i64, [u64; 4])> {
        let mut rows = vec![(series[0].0, [0; 4])];
        let mut before_fall: Option<[i64; 4]> = None;
        for pair in series.windows(2) {
            let (before, (minute, after)) = (pair[0].1, pair[1]);
            let grew = |from: [i64; 4]| (0..4).all(|n| after[n] >= from[n]);
            let from = before_fall.filter(|high| grew(*high) && *high != [0; 4]).unwrap_or(before);
            rows.push((minute, std::array::from_fn(|n| u64::try_from(after[n] - from[n]).unwrap_or(0))));
            before_fall = if grew(from) {
                before_fall.filter(|_| after == before && from == before)
            } else {
                Some(if after == [0; 4] { before } else { std::array::from_fn(|n| before[n].max(after[n])) })
            };
        }
        rows
    }

    proptest! {
        /// Whatever the order of the rows, and with some of them twice, the deltas are those of the plain way, and never
        /// more than was moved; without a reset they are exactly that.
        #[test]
        fn deltas_are_those_of_the_plain_way_whatever_the_order_of_the_rows(
            steps in steps(), seed in any::<u64>(), twice in 0..4_usize,
        ) {
            let (series, moved) = series(&steps);
            let mut minutes: Vec<MinuteRow> =
                (1..).zip(&series).map(|(id, (minute, counters))| minute_row(id, *minute, *counters)).collect();
            let mut rng = fastrand::Rng::with_seed(seed);
            let copies: Vec<MinuteRow> = (0..twice)
                .map(|nth| MinuteRow { id: 1_000 + nth as i64, ..minutes[rng.usize(..minutes.len())] })
                .collect();
            minutes.extend(copies);
            rng.shuffle(&mut minutes);
            let (rows, findings) = repaired(&Rows { minutes, hours: Vec::new() });
            let deltas: Vec<(i64, [u64; 4])> = rows.iter().map(|(minute, figures)| (*minute, four(figures.delta))).collect();
            prop_assert_eq!(&deltas, &reference(&series));
            let counted = deltas.iter().fold([0; 4], |sum: [u64; 4], (_, delta)| std::array::from_fn(|n| sum[n] + delta[n]));
            for n in 0..4 {
                prop_assert!(counted[n] <= moved[n], "counted {} of {}", counted[n], moved[n]);
            }
            if steps.iter().all(|step| !step.2) {
                prop_assert_eq!(counted, moved);
            }
            prop_assert_eq!(findings.count(Defect::Duplicate), twice as u64);
        }
    }
}
