//! Records as bytes, and bytes as records; knows nothing of files.
//!
//! A frame is, integers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the payload, at least 1; 0 makes the frame an end mark |
//! | 4 | ordinal: how many records stand before it in the segment |
//! | 2 | check of the 8 bytes before: the upper half of their CRC-32 |
//! | 4 | CRC-32 of length, ordinal and payload |
//! | n | payload: the record in postcard |
//!
//! Both checksums start from the segment's name, so that a frame is sound in its own segment only. The check of its own
//! lets a reader trust a length before it has seen the payload, and find the next frame behind a damaged one without
//! a marker byte (`scan.rs`). The ordinal tells how many records are missing, and a record from its own copy.
//! The report of a tunnel takes some 67 bytes, so its frame 81; it came in as some 600 bytes of JSON.

use postcard::ser_flavors::Flavor;
use serde::Serialize;

use crate::event::Record;
use crate::journal::segment::{SegmentKind, SegmentName};
use crate::store::HistoryBatch;

/// Bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: usize = 14;

/// Most that a payload may take. An event is bounded by 1 MiB at the decoder; a history batch of 100,000 tunnels
/// takes some 60 MB.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// A record takes more than [`PAYLOAD_BYTES_MAX`]. It was not added; the caller drops and counts it or hands over less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of more than {PAYLOAD_BYTES_MAX} bytes cannot be journaled")]
pub struct TooLarge;

/// Records encoded for one segment, to be written in one call. Reusable: [`Frames::clear`] keeps the memory.
///
/// The checksums are left blank until [`Writer::append`](super::Writer::append) binds the frames to a segment: it does
/// so on the thread that writes, and the same frames can go to another segment when the first one failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    kind: SegmentKind,
    bytes: Vec<u8>,
    records: u32,
}

impl Frames {
    /// Nothing yet, for a segment of that kind.
    #[must_use]
    pub fn new(kind: SegmentKind) -> Self {
        Self { kind, bytes: Vec::new(), records: 0 }
    }

    /// Frames that hold one history batch.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn history(batch: &HistoryBatch) -> Result<Self, TooLarge> {
        let mut frames = Self::new(SegmentKind::History);
        frames.push_value(batch)?;
        Ok(frames)
    }

    /// Adds a record. Does not allocate once the buffer has grown.
    ///
    /// # Errors
    /// [`TooLarge`].
    ///
    /// # Panics
    /// If these are frames for a history segment.
    pub fn push(&mut self, record: &Record) -> Result<(), TooLarge> {
        assert_eq!(self.kind, SegmentKind::Events, "a record belongs to an event segment");
        self.push_value(record)
    }

    fn push_value(&mut self, value: &impl Serialize) -> Result<(), TooLarge> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        let payload = start + FRAME_HEADER_BYTES;
        let encoded =
            postcard::serialize_with_flavor(value, Into { bytes: &mut self.bytes, end_max: payload + PAYLOAD_BYTES_MAX });
        // Apart from the bound, encoding into memory cannot fail: no type in a record has a length unknown in advance.
        if encoded.is_err() {
            self.bytes.truncate(start);
            return Err(TooLarge);
        }
        let length = length_field(self.bytes.len() - payload);
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.records += 1;
        Ok(())
    }

    /// Kind of segment they are for.
    #[must_use]
    pub fn kind(&self) -> SegmentKind {
        self.kind
    }

    /// How many records.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }

    /// How many bytes they will take in a file.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// True without records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Forgets the records, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
    }

    /// Numbers the frames from `ordinal` on and makes their checksums those of a segment.
    pub(super) fn bind(&mut self, seed: u32, mut ordinal: u32) -> &[u8] {
        let mut at = 0;
        while at < self.bytes.len() {
            let length = u32::from_le_bytes(four(&self.bytes, at));
            let payload = at + FRAME_HEADER_BYTES;
            let next = payload + length as usize;
            let header = frame_header(seed, length, ordinal, &self.bytes[payload..next]);
            self.bytes[at..payload].copy_from_slice(&header);
            ordinal += 1;
            at = next;
        }
        &self.bytes
    }
}

/// The frame that ends a segment of `records` records: nothing follows it, and a segment that was cut off lacks it.
#[must_use]
pub(super) fn end_mark(name: &SegmentName, records: u32) -> [u8; FRAME_HEADER_BYTES] {
    frame_header(name.checksum_seed(), 0, records, END_MARK_CONTENT)
}

/// What the CRC of an end mark covers in place of a payload.
pub(super) const END_MARK_CONTENT: &[u8] = b"end";

fn frame_header(seed: u32, length: u32, ordinal: u32, payload: &[u8]) -> [u8; FRAME_HEADER_BYTES] {
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..8].copy_from_slice(&ordinal.to_le_bytes());
    let (check, crc) = checksums(seed, &header[..8], payload);
    header[8..10].copy_from_slice(&check.to_le_bytes());
    header[10..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Check of the header's 8 bytes, CRC of header and payload.
pub(super) fn checksums(seed: u32, header: &[u8], payload: &[u8]) -> (u16, u32) {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(header);
    let check = header_check(hasher.clone().finalize());
    hasher.update(payload);
    (check, hasher.finalize())
}

/// The check of a header whose CRC-32 is `crc`.
pub(super) fn header_check(crc: u32) -> u16 {
    (crc >> 16) as u16
}

/// Four bytes from `at` on; callers stay within the slice.
pub(super) fn four(bytes: &[u8], at: usize) -> [u8; 4] {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    out
}

#[expect(clippy::cast_possible_truncation, reason = "PAYLOAD_BYTES_MAX fits 32 bits")]
fn length_field(length: usize) -> u32 {
    length as u32
}

/// Reads a payload as an event record; `None` if it is not exactly one.
pub(super) fn decode_record(payload: &[u8]) -> Option<Record> {
    decode(payload)
}

/// Reads a payload as a history batch; `None` if it is not exactly one.
pub(super) fn decode_history(payload: &[u8]) -> Option<HistoryBatch> {
    decode(payload)
}

fn decode<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// Lets postcard write to the end of a vector, up to a bound.
struct Into<'a> {
    bytes: &'a mut Vec<u8>,
    end_max: usize,
}

impl Flavor for Into<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        if self.bytes.len() + data.len() > self.end_max {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.try_extend(&[data])
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples;

    #[test]
    fn a_record_reads_back_as_it_was() {
        for record in [samples::report(7), samples::full_event(8), samples::gap(9)] {
            let mut frames = Frames::new(SegmentKind::Events);
            frames.push(&record).unwrap();
            assert_eq!(decode_record(&frames.bytes[FRAME_HEADER_BYTES..]), Some(record));
        }
    }

    #[test]
    fn a_history_batch_reads_back_as_it_was() {
        let batch = samples::history(9);
        let frames = Frames::history(&batch).unwrap();
        assert_eq!(decode_history(&frames.bytes[FRAME_HEADER_BYTES..]), Some(batch));
    }

    #[test]
    fn a_payload_that_is_cut_or_goes_on_is_no_record() {
        let mut frames = Frames::new(SegmentKind::Events);
        frames.push(&samples::full_event(8)).unwrap();
        let payload = &frames.bytes[FRAME_HEADER_BYTES..];
        for length in 0..payload.len() {
            assert_eq!(decode_record(&payload[..length]), None, "{length} bytes");
        }
        assert_eq!(decode_record(&[payload, &[0]].concat()), None);
    }

    /// Records are not self-describing. If this fails, a type that is journaled was changed: raise `FORMAT_VERSION`,
    /// or a recorder that was updated with a full journal reads nonsense, or nothing.
    #[test]
    fn the_encoding_of_a_known_record_has_not_changed() {
        let mut frames = Frames::new(SegmentKind::Events);
        for record in [samples::report(7), samples::full_event(8), samples::gap(9)] {
            frames.push(&record).unwrap();
        }
        let history = Frames::history(&samples::history(9)).unwrap();
        assert_eq!((crc32fast::hash(&frames.bytes), crc32fast::hash(&history.bytes)), (2_490_489_982, 2_067_274_294));
    }

    #[test]
    fn a_report_takes_81_bytes() {
        let mut frames = Frames::new(SegmentKind::Events);
        frames.push(&samples::report(7)).unwrap();
        assert_eq!(frames.bytes(), 81);
    }

    #[test]
    fn the_same_frames_can_be_bound_to_one_segment_after_another() {
        let mut frames = Frames::new(SegmentKind::Events);
        frames.push(&samples::report(7)).unwrap();
        let first = frames.bind(1, 0).to_vec();
        let second = frames.bind(2, 5).to_vec();
        assert_ne!(first, second);
        assert_eq!(frames.bind(1, 0), first);
    }

    #[test]
    fn cleared_frames_are_empty_and_hold_what_is_pushed_next() {
        let mut frames = Frames::new(SegmentKind::Events);
        frames.push(&samples::report(7)).unwrap();
        let before = frames.clone();
        frames.clear();
        assert!(frames.is_empty() && frames.bytes() == 0);
        frames.push(&samples::report(7)).unwrap();
        assert_eq!(frames, before);
    }
}
