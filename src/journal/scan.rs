//! Finds the frames in a segment's bytes, also behind damage; knows nothing of files.

use std::ops::Range;

use crate::journal::record::{END_MARK_CONTENT, FRAME_HEADER_BYTES, PAYLOAD_BYTES_MAX, checksums, four, header_check};

/// What a segment's bytes hold, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where the payloads of the sound frames stand.
    pub payloads: Vec<Range<usize>>,
    /// Stretches that are not sound frames where one was expected. Neighbours are joined.
    pub bad: Vec<Bad>,
    /// Records known to be missing, from the ordinals around a hole and from the end mark.
    pub records_missing: u32,
    /// The end mark was found.
    pub sealed: bool,
    /// The ordinal after the last sound frame.
    pub next_ordinal: u32,
}

/// A stretch that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// Where it stands. Empty where sound frames adjoin whose ordinals do not: records were cut out there.
    pub range: Range<usize>,
    /// What it is.
    pub kind: BadKind,
}

/// What a bad stretch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadKind {
    /// A frame or an end mark follows it, or followed once: an empty stretch.
    Middle,
    /// It reaches the end of the bytes, and there is no end mark.
    Tail,
    /// A frame that is sound, but whose ordinal was there before.
    Duplicate,
    /// It follows the end mark.
    AfterEnd,
}

enum Found {
    Frame { payload: Range<usize>, ordinal: u32 },
    End { records: u32, next: usize },
}

/// Reads all frames from `start` on.
///
/// Damage ends where the next sound frame or end mark begins. Where a header is sound and its payload is not, that is
/// tried behind the payload first, so that what a payload contains is not taken for a frame; else at each byte.
pub(super) fn scan(bytes: &[u8], start: usize, seed: u32) -> Scan {
    let mut scan = Scan::default();
    let mut at = start.min(bytes.len());
    while at < bytes.len() {
        match frame_at(bytes, at, seed) {
            Some(Found::Frame { payload, ordinal }) => {
                let next = payload.end;
                if ordinal < scan.next_ordinal {
                    scan.push_bad(at..next, BadKind::Duplicate);
                } else {
                    scan.expect_ordinal(ordinal, at);
                    scan.payloads.push(payload);
                    scan.next_ordinal = ordinal.saturating_add(1);
                }
                at = next;
            }
            Some(Found::End { records, next }) => {
                scan.sealed = true;
                scan.expect_ordinal(records, at);
                if next < bytes.len() {
                    scan.push_bad(next..bytes.len(), BadKind::AfterEnd);
                }
                return scan;
            }
            None => {
                let next = resynchronise(bytes, at, seed);
                let kind = if next == bytes.len() { BadKind::Tail } else { BadKind::Middle };
                scan.push_bad(at..next, kind);
                at = next;
            }
        }
    }
    scan
}

impl Scan {
    /// Notes the records that are missing before `ordinal`, whose frame stands at `at`.
    fn expect_ordinal(&mut self, ordinal: u32, at: usize) {
        let missing = ordinal.saturating_sub(self.next_ordinal);
        if missing > 0 {
            self.records_missing += missing;
            if self.bad.last().is_none_or(|bad| bad.range.end != at) {
                self.bad.push(Bad { range: at..at, kind: BadKind::Middle });
            }
        }
    }

    fn push_bad(&mut self, range: Range<usize>, kind: BadKind) {
        match self.bad.last_mut() {
            Some(last) if last.range.end == range.start && last.kind == kind => last.range.end = range.end,
            _ => self.bad.push(Bad { range, kind }),
        }
    }
}

/// The sound frame or end mark that begins at `at`.
fn frame_at(bytes: &[u8], at: usize, seed: u32) -> Option<Found> {
    let (length, ordinal) = header_at(bytes, at, seed)?;
    let payload = at + FRAME_HEADER_BYTES..(at + FRAME_HEADER_BYTES).checked_add(length)?;
    let content = if length == 0 { END_MARK_CONTENT } else { bytes.get(payload.clone())? };
    let (_, crc) = checksums(seed, &bytes[at..at + 8], content);
    if crc.to_le_bytes() != four(bytes, at + 10) {
        return None;
    }
    if length == 0 { Some(Found::End { records: ordinal, next: payload.end }) } else { Some(Found::Frame { payload, ordinal }) }
}

/// Length and ordinal of a header whose check holds.
fn header_at(bytes: &[u8], at: usize, seed: u32) -> Option<(usize, u32)> {
    let header = bytes.get(at..at + FRAME_HEADER_BYTES)?;
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&header[..8]);
    if header_check(hasher.finalize()).to_le_bytes() != header[8..10] {
        return None;
    }
    let length = u32::from_le_bytes(four(header, 0)) as usize;
    (length <= PAYLOAD_BYTES_MAX).then(|| (length, u32::from_le_bytes(four(header, 4))))
}

/// Where to go on after the unsound frame at `at`; the end of the bytes if nothing sound follows.
fn resynchronise(bytes: &[u8], at: usize, seed: u32) -> usize {
    if let Some((length, _)) = header_at(bytes, at, seed) {
        let behind = at + FRAME_HEADER_BYTES + length;
        if behind == bytes.len() || frame_at(bytes, behind, seed).is_some() {
            return behind;
        }
    }
    (at + 1..bytes.len()).find(|&candidate| frame_at(bytes, candidate, seed).is_some()).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{Frames, end_mark};
    use crate::journal::samples;
    use crate::journal::segment::{Run, SegmentKind, SegmentName, SegmentNo};

    const NAME: SegmentName = SegmentName { no: SegmentNo(1), run: Run(1), kind: SegmentKind::Events };

    /// `count` records from `first` on, bound to the segment `NAME`.
    fn frames(first: u32, count: u32) -> Vec<u8> {
        let mut frames = Frames::new(SegmentKind::Events);
        for nth in 0..count {
            frames.push(&samples::report(i64::from(first + nth))).unwrap();
        }
        frames.bind(NAME.checksum_seed(), first).to_vec()
    }

    fn scan_all(bytes: &[u8]) -> Scan {
        scan(bytes, 0, NAME.checksum_seed())
    }

    #[test]
    fn whole_frames_are_found_with_and_without_an_end_mark() {
        let mut bytes = frames(0, 3);
        let open = scan_all(&bytes);
        assert_eq!((open.payloads.len(), open.sealed, open.bad.len()), (3, false, 0));
        bytes.extend(end_mark(&NAME, 3));
        let sealed = scan_all(&bytes);
        assert_eq!((sealed.payloads.len(), sealed.sealed, sealed.bad.len()), (3, true, 0));
    }

    #[test]
    fn a_flipped_bit_anywhere_costs_one_record_and_no_other() {
        let one = frames(0, 1).len();
        let mut bytes = frames(0, 3);
        bytes.extend(end_mark(&NAME, 3));
        for bit in one * 8..2 * one * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = scan_all(&flipped);
            assert_eq!((found.payloads.len(), found.records_missing), (2, 1), "bit {bit}");
            assert_eq!(found.bad, [Bad { range: one..2 * one, kind: BadKind::Middle }], "bit {bit}");
        }
    }

    #[test]
    fn bytes_cut_out_or_put_in_cost_the_records_they_touch() {
        let one = frames(0, 1).len();
        let bytes = [frames(0, 4).as_slice(), &end_mark(&NAME, 4)].concat();
        let cut = [&bytes[..one + 20], &bytes[one + 25..]].concat();
        assert_eq!((scan_all(&cut).payloads.len(), scan_all(&cut).records_missing), (3, 1));
        let put = [&bytes[..one + 20], &[1, 2, 3], &bytes[one + 20..]].concat();
        assert_eq!((scan_all(&put).payloads.len(), scan_all(&put).records_missing), (3, 1));
    }

    #[test]
    fn records_cut_out_exactly_are_missed() {
        let one = frames(0, 1).len();
        let bytes = frames(0, 4);
        let cut = scan_all(&[&bytes[..one], &bytes[3 * one..]].concat());
        assert_eq!((cut.payloads.len(), cut.records_missing), (2, 2));
        assert_eq!(cut.bad, [Bad { range: one..one, kind: BadKind::Middle }]);
    }

    #[test]
    fn a_copy_of_a_record_is_not_read_twice() {
        let one = frames(0, 1).len();
        let bytes = frames(0, 3);
        let found = scan_all(&[&bytes[..2 * one], &bytes[one..]].concat());
        assert_eq!((found.payloads.len(), found.records_missing), (3, 0));
        assert_eq!(found.bad, [Bad { range: 2 * one..3 * one, kind: BadKind::Duplicate }]);
    }

    #[test]
    fn a_frame_inside_the_payload_of_a_damaged_frame_is_not_taken_for_a_record() {
        let inner = frames(1, 1);
        let mut outer = samples::full_event(0);
        let crate::event::Record::Event(event) = &mut outer else { unreachable!() };
        // Bytes of a frame are not UTF-8, so the test puts them where a hostile text would stand.
        event.detail = Some("x".repeat(inner.len()).into());
        let mut encoded = Frames::new(SegmentKind::Events);
        encoded.push(&outer).unwrap();
        let mut bytes = encoded.bind(NAME.checksum_seed(), 0).to_vec();
        let start = bytes.windows(inner.len()).position(|window| window.iter().all(|&byte| byte == b'x')).unwrap();
        bytes[start..start + inner.len()].copy_from_slice(&inner);
        bytes.extend(frames(1, 1));
        let found = scan_all(&bytes);
        assert_eq!((found.payloads.len(), found.records_missing), (1, 1));
        assert_eq!(found.payloads[0].end, bytes.len());
    }

    #[test]
    fn frames_of_another_segment_of_zeros_or_of_noise_are_not_records() {
        let mut other = Frames::new(SegmentKind::Events);
        other.push(&samples::report(1)).unwrap();
        let stale = other.bind(SegmentName { run: Run(2), ..NAME }.checksum_seed(), 0).to_vec();
        for junk in [stale, vec![0; 5_000], (0..50_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()] {
            let bytes = [frames(0, 1), junk.clone(), frames(1, 1)].concat();
            let found = scan_all(&bytes);
            assert_eq!((found.payloads.len(), found.records_missing), (2, 0));
            assert_eq!(scan_all(&junk).payloads.len(), 0);
        }
    }

    #[test]
    fn a_torn_tail_is_told_from_damage_in_the_middle_and_from_what_follows_the_end() {
        let one = frames(0, 1).len();
        let whole = frames(0, 2);
        for length in one + 1..2 * one {
            let found = scan_all(&whole[..length]);
            assert_eq!(found.payloads.len(), 1);
            assert_eq!(found.bad, [Bad { range: one..length, kind: BadKind::Tail }]);
        }
        let ended = [&whole[..], &end_mark(&NAME, 2), b"more"].concat();
        assert_eq!(scan_all(&ended).bad.iter().map(|bad| bad.kind).collect::<Vec<_>>(), [BadKind::AfterEnd]);
    }

    #[test]
    fn records_cut_off_before_the_end_mark_are_counted() {
        let found = scan_all(&[frames(0, 2).as_slice(), &end_mark(&NAME, 5)].concat());
        assert_eq!((found.payloads.len(), found.sealed, found.records_missing), (2, true, 3));
    }
}
