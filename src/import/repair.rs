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
            // It stands for the last record of its hour.
            _ => samples.push(Sample {
                at: Timestamp(at.minute().0 + HOUR - Timestamp::MINUTE),
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
