//! The journal against a plain reference: whatever is done to it and to its disk, what was synced is read back, once, in
//! order, and nothing is read that was not written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use tidegate::clock::Timestamp;
use tidegate::event::{EndpointId, Gap, InstanceId, Record};
use tidegate::id::EventId;
use tidegate::journal::{
    Call, Content, Damage, DamageKind, Fault, Frames, Header, Journal, JournalError, MemoryDisk, Phase, Recorder, RepairReport,
    Run, SegmentKind, SegmentName, SegmentNo, Writer, verify,
};

/// What can happen to a journal.
#[derive(Clone, Debug)]
enum Action {
    /// Records are appended to a segment that was begun in this life, if there is one.
    Append {
        segment: usize,
        records: u8,
    },
    /// Records begin a new segment.
    Begin {
        records: u8,
    },
    Seal {
        segment: usize,
    },
    Sync,
    /// A segment is let go, not always the oldest.
    Remove {
        segment: usize,
    },
    /// Calls fail from now on, until they were met or the process ends.
    Fail {
        call: Call,
        after_bytes: u8,
        times: u8,
    },
    /// So many bytes are left from now on; 255 takes the bound away.
    Room(u8),
    /// The process dies; the machine does not.
    Kill,
    /// The machine dies.
    Crash {
        seed: u64,
    },
    /// As `Crash`, and while the journal is repaired, a call fails.
    CrashAndFail {
        seed: u64,
        call: Call,
    },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let call = prop::sample::select(vec![
        Call::Append,
        Call::Sync,
        Call::Truncate,
        Call::SyncDirectory,
        Call::Create,
        Call::Remove,
        Call::OpenAppend,
    ]);
    let action = prop_oneof![
        8 => (0..3_usize, 1..6_u8).prop_map(|(segment, records)| Action::Append { segment, records }),
        4 => (1..6_u8).prop_map(|records| Action::Begin { records }),
        3 => (0..3_usize).prop_map(|segment| Action::Seal { segment }),
        5 => Just(Action::Sync),
        2 => (0..3_usize).prop_map(|segment| Action::Remove { segment }),
        3 => (call.clone(), any::<u8>(), 1..3_u8)
            .prop_map(|(call, after_bytes, times)| Action::Fail { call, after_bytes, times }),
        1 => any::<u8>().prop_map(Action::Room),
        1 => Just(Action::Kill),
        2 => any::<u64>().prop_map(|seed| Action::Crash { seed }),
        1 => (any::<u64>(), call).prop_map(|(seed, call)| Action::CrashAndFail { seed, call }),
    ];
    prop::collection::vec(action, 1..60)
}

fn record(id: i64) -> Record {
    Record::Gap(Gap {
        id: EventId(id),
        endpoint: EndpointId(1),
        instance: InstanceId::default(),
        from: Timestamp(id * 7),
        to: Timestamp(id * 7 + 1),
        // Long enough now and then for a record to span blocks of the disk.
        reason: "x".repeat(usize::try_from(id % 7 * id % 97 * 4).unwrap()).into(),
    })
}

/// What is known of a segment from outside.
#[derive(Clone, Debug, Default)]
struct Expected {
    /// Appended and answered with success, in order.
    accepted: Vec<i64>,
    /// How many of them have to survive every crash.
    durable: usize,
    /// Refused, but it was not possible to cut them off: they may come back.
    doubtful: BTreeSet<i64>,
    /// A failed sync was about it: the system may have dropped what was not durable, and only a crash will tell.
    sync_failed: bool,
    sealed: bool,
    /// Sealed, and synced after that: no crash can damage it.
    settled: bool,
    /// It was found damaged at a start, and stays so.
    damaged: bool,
}

struct Model {
    disk: MemoryDisk,
    writer: Writer,
    run: u32,
    next_id: i64,
    segments: BTreeMap<SegmentNo, Expected>,
    /// Removed, and whether a sync came after.
    removed: BTreeMap<SegmentNo, (Expected, bool)>,
    /// Refused with the segment that they were to begin: a crash can undo the removal of its file.
    taken_back: BTreeSet<i64>,
    full: bool,
}

impl Model {
    fn new() -> Self {
        let disk = MemoryDisk::new();
        let writer = Journal::open(Arc::new(disk.clone())).unwrap().into_writer(Run(1)).unwrap().0;
        Self {
            disk,
            writer,
            run: 1,
            next_id: 1,
            segments: BTreeMap::new(),
            removed: BTreeMap::new(),
            taken_back: BTreeSet::new(),
            full: false,
        }
    }

    fn carry_out(&mut self, action: &Action) {
        match *action {
            Action::Append { segment, records } => {
                if let Some(no) = self.open_segment(segment) {
                    self.append(no, records);
                }
            }
            Action::Begin { records } => self.append(self.writer.next_no(), records),
            Action::Seal { segment } => {
                if let Some(no) = self.open_segment(segment)
                    && self.writer.seal(no).is_ok()
                {
                    self.segments.get_mut(&no).unwrap().sealed = true;
                }
            }
            Action::Sync => self.sync(),
            Action::Remove { segment } => self.remove(segment),
            Action::Fail { call, after_bytes, times } => {
                self.disk.fail(call, Fault { after_bytes: after_bytes.into(), ..Fault::BROKEN }, times.into());
            }
            Action::Room(bytes) => {
                self.full = bytes < u8::MAX;
                self.disk.set_capacity(self.full.then(|| self.disk.used_bytes() + u64::from(bytes)));
            }
            Action::Kill => {
                self.disk.kill();
                self.restart(false);
            }
            Action::Crash { seed } => {
                self.disk.crash(&mut fastrand::Rng::with_seed(seed));
                self.restart(true);
            }
            Action::CrashAndFail { seed, call } => {
                self.disk.crash(&mut fastrand::Rng::with_seed(seed));
                self.disk.fail(call, Fault::BROKEN, 1);
                self.restart(true);
            }
        }
        self.check_running();
    }

    fn open_segment(&self, nth: usize) -> Option<SegmentNo> {
        self.writer.segments().filter(|segment| segment.phase == Phase::Open).map(|segment| segment.no).nth(nth)
    }

    fn append(&mut self, no: SegmentNo, records: u8) {
        let ids: Vec<_> = (self.next_id..self.next_id + i64::from(records)).collect();
        self.next_id += i64::from(records);
        let mut frames = Frames::new(SegmentKind::Events);
        ids.iter().for_each(|id| frames.push(&record(*id)).unwrap());
        let result = self.writer.append(no, &mut frames);
        if self.writer.segment(no).is_none() {
            assert!(result.is_err());
            self.taken_back.extend(ids);
            return;
        }
        let expected = self.segments.entry(no).or_default();
        match result {
            Ok(()) => expected.accepted.extend(ids),
            Err(JournalError::Write { .. }) if self.writer.segment(no).unwrap().phase == Phase::Poisoned => {
                expected.doubtful.extend(ids);
            }
            Err(JournalError::SyncFailed { .. }) => expected.sync_failed = true,
            Err(_) => {}
        }
    }

    fn sync(&mut self) {
        let failed = match self.writer.sync() {
            Ok(()) => {
                self.removed.values_mut().for_each(|(_, durably)| *durably = true);
                Vec::new()
            }
            Err(JournalError::SyncFailed { segments, .. }) => segments,
            Err(other) => panic!("{other}"),
        };
        for (no, expected) in &mut self.segments {
            if failed.contains(no) {
                expected.sync_failed = true;
            } else if !expected.sync_failed && self.writer.segment(*no).unwrap().phase != Phase::Poisoned {
                expected.durable = expected.accepted.len();
                expected.settled = expected.sealed && !expected.damaged;
            }
        }
    }

    fn remove(&mut self, nth: usize) {
        let Some(no) = self.writer.segments().map(|segment| segment.no).nth(nth) else { return };
        // Where it fails, the file is there and goes with a later call.
        let _ = self.writer.remove(no);
        let gone: Vec<_> = self.segments.keys().copied().filter(|no| self.writer.segment(*no).is_none()).collect();
        for no in gone {
            let expected = self.segments.remove(&no).unwrap();
            self.removed.insert(no, (expected, false));
        }
    }

    /// What the running process reads is what it was told that it had written.
    fn check_running(&self) {
        for (no, expected) in &self.segments {
            let segment = self.writer.read_back(*no).unwrap();
            let poisoned = self.writer.segment(*no).unwrap().phase == Phase::Poisoned;
            let read = ids(&segment.content);
            let doubtful = |id: &i64| expected.doubtful.contains(id) || self.taken_back.contains(id);
            let known: Vec<_> = read.iter().copied().filter(|id| !doubtful(id)).collect();
            assert_eq!(known, expected.accepted, "segment {no}");
            assert!(poisoned || expected.damaged || segment.damage.is_empty(), "segment {no}: {:?}", segment.damage);
        }
        let bytes: u64 = self.writer.segments().map(|segment| segment.bytes).sum();
        assert_eq!(self.writer.bytes(), bytes);
    }

    /// Starts on what is there, checks it against what was expected, and expects from now on what was found.
    fn restart(&mut self, crashed: bool) {
        self.run += 1;
        let mut reading = Journal::open(Arc::new(self.disk.clone())).unwrap();
        let mut found: BTreeMap<SegmentNo, Vec<i64>> = BTreeMap::new();
        while let Some(segment) = reading.next_segment().unwrap() {
            let known = ids(&segment.content).into_iter().filter(|id| !self.taken_back.contains(id)).collect();
            found.insert(segment.no, known);
        }
        for (no, expected) in &self.segments {
            check_found(*no, expected, found.get(no).map_or(&[], Vec::as_slice), crashed);
        }
        for (no, read) in &found {
            match (self.segments.get(no), self.removed.get(no)) {
                (Some(_), _) => {}
                (None, Some((expected, durably))) => {
                    // A file that could not be begun and was taken back may return, empty.
                    assert!(!durably || read.is_empty(), "segment {no} was removed, that was synced, and it is back");
                    check_found(*no, &Expected { durable: 0, ..expected.clone() }, read, crashed);
                }
                (None, None) => assert!(read.is_empty(), "segment {no} was never begun and has {read:?}"),
            }
        }
        let (writer, report) = match reading.into_writer(Run(self.run)) {
            Ok(repaired) => repaired,
            // The directory could not be synced; the operator starts again.
            Err(JournalError::Repair { .. }) => {
                self.disk.clear_faults();
                return self.restart(crashed);
            }
            Err(other) => panic!("{other}"),
        };
        self.disk.clear_faults();
        self.check_report(&report);
        let unsure = !report.failed.is_empty();
        let sealed = |no: &SegmentNo| writer.segment(*no).is_some_and(|segment| segment.phase == Phase::Sealed);
        self.segments = found
            .into_iter()
            .map(|(no, accepted)| {
                let before = self.segments.get(&no).cloned().unwrap_or_default();
                // A sync that failed in an earlier life may have dropped what still seems to be there: `journal/mod.rs`.
                let unsure = unsure || (before.sync_failed && !crashed);
                let durable = if unsure { before.durable.min(accepted.len()) } else { accepted.len() };
                let lasting =
                    |damage: &Damage| !damage.kind.is_trace_of_a_crash() && damage.file.starts_with(&format!("{:020}", no.0));
                let damaged = report.damage.iter().any(lasting);
                let (sealed, settled) = (sealed(&no), sealed(&no) && !unsure && !damaged);
                let doubtful = BTreeSet::new();
                (no, Expected { accepted, durable, doubtful, sync_failed: unsure, sealed, settled, damaged })
            })
            .collect();
        self.removed.retain(|no, _| !self.segments.contains_key(no));
        self.removed.values_mut().for_each(|(_, durably)| *durably = true);
        self.writer = writer;
    }

    /// No crash makes the journal look as if someone had damaged it.
    fn check_report(&self, report: &RepairReport) {
        for damage in &report.damage {
            let expected = SegmentName::parse(&damage.file).and_then(|name| self.segments.get(&name.no));
            if expected.is_some_and(|expected| expected.sync_failed || expected.damaged) {
                continue;
            }
            assert!(!expected.is_some_and(|expected| expected.settled), "{damage} in a settled segment");
            let torn = matches!(damage.kind, DamageKind::TornTail | DamageKind::NeverSynced | DamageKind::Corrupt);
            assert!(torn, "{damage}");
        }
    }
}

/// What is read is in order, was written, holds what is durable, and after a mere kill everything.
fn check_found(no: SegmentNo, expected: &Expected, read: &[i64], crashed: bool) {
    assert!(read.is_sorted_by(|a, b| a < b), "segment {no}: {read:?} is out of order");
    let required = if crashed { expected.durable } else { expected.accepted.len() };
    for id in &expected.accepted[..required.max(expected.durable)] {
        assert!(read.contains(id), "segment {no}: {id} is lost, read {read:?} of {expected:?}");
    }
    for id in read {
        assert!(expected.accepted.contains(id) || expected.doubtful.contains(id), "segment {no}: {id} was never accepted");
    }
}

/// Ids of a segment; each record must be what was written under its id.
fn ids(content: &Content) -> Vec<i64> {
    let Content::Events(records) = content else { panic!("no history was written") };
    records
        .iter()
        .map(|read| {
            assert_eq!(*read, record(read.id().0), "a record that was never written");
            read.id().0
        })
        .collect()
}

fn run(actions: &[Action]) {
    let mut model = Model::new();
    for action in actions {
        model.carry_out(action);
    }
    model.disk.clear_faults();
    model.disk.set_capacity(None);
    let no = model.writer.next_no();
    model.append(no, 3);
    model.sync();
    assert_eq!(model.segments[&no].durable, 3, "once the disk is well again, the journal works");
    model.carry_out(&Action::Crash { seed: 7 });
    model.carry_out(&Action::Crash { seed: 8 });
}

proptest! {
    // `PROPTEST_CASES` raises the number.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1_500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_was_synced_is_read_back_once_and_in_order_whatever_happens(actions in actions()) {
        run(&actions);
    }

    /// Any bytes at all, with and without a sound header before them.
    #[test]
    fn no_bytes_make_reading_checking_or_repairing_panic(
        junk in prop::collection::vec(any::<u8>(), 0..3_000),
        with_header in any::<bool>(),
        history in any::<bool>(),
    ) {
        let kind = if history { SegmentKind::History } else { SegmentKind::Events };
        let name = SegmentName { no: SegmentNo(1), run: Run(1), kind };
        let disk = MemoryDisk::new();
        disk.edit(&name.to_string(), |bytes| {
            if with_header {
                bytes.extend(Header { name, settled_through: SegmentNo(0), follows_durable: false }.encode());
            }
            bytes.extend(&junk);
        });
        let report = verify(&disk, Recorder::Stopped).unwrap();
        prop_assert_eq!(report.records(), 0);
        let (mut writer, _) = Journal::open(Arc::new(disk.clone())).unwrap().into_writer(Run(2)).unwrap();
        let mut frames = Frames::new(SegmentKind::Events);
        frames.push(&record(1)).unwrap();
        let no = writer.next_no();
        writer.append(no, &mut frames).unwrap();
        prop_assert_eq!(ids(&writer.read_back(no).unwrap().content), [1]);
    }

    /// Stretches of a sealed segment are overwritten: each record that they do not touch is read.
    #[test]
    fn records_that_damage_does_not_touch_are_read(
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..40)), 1..6),
    ) {
        let disk = MemoryDisk::new();
        let (mut writer, _) = Journal::open(Arc::new(disk.clone())).unwrap().into_writer(Run(1)).unwrap();
        let no = writer.next_no();
        let mut ends = vec![tidegate::journal::HEADER_BYTES];
        for id in 1..=20 {
            let mut frames = Frames::new(SegmentKind::Events);
            frames.push(&record(id)).unwrap();
            ends.push(ends.last().unwrap() + frames.bytes());
            writer.append(no, &mut frames).unwrap();
        }
        writer.seal(no).unwrap();
        let name = disk.names().remove(0);
        let mut touched = BTreeSet::new();
        disk.edit(&name, |bytes| {
            for (at, new) in &edits {
                let at = at.index(bytes.len());
                let end = (at + new.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&new[..end - at]);
                touched.extend((1..=20_i64).zip(ends.windows(2)).filter(|(_, frame)| frame[0] < end && at < frame[1]).map(|(id, _)| id));
            }
        });
        let read = ids(&writer.read_back(no).unwrap().content);
        prop_assert!(read.is_sorted_by(|a, b| a < b));
        for id in (1..=20).filter(|id| !touched.contains(id)) {
            prop_assert!(read.contains(&id), "{} is lost, damage touched {:?}", id, touched);
        }
    }
}
