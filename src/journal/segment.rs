//! What a segment is called and how its file begins.
//!
//! [`SegmentName`] is the only place that builds or parses a file name; [`Header`] the only one that knows the first
//! bytes of a file.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Version of the file format, of the frames and of the records in them. Records are not self-describing: whoever
/// changes a type that is journaled raises this (a test in `record.rs` notices).
pub const FORMAT_VERSION: u16 = 2;

/// Bytes of [`Header`] in a file.
pub const HEADER_BYTES: usize = 36;

const MAGIC: [u8; 8] = *b"tidegate";
const SET_ASIDE_SUFFIX: &str = "damaged";
const UNREADABLE_SUFFIX: &str = "unreadable";

/// Number of a segment. Counts up by one over both kinds, so that a missing file is seen; the first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentNo(pub u64);

impl SegmentNo {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for SegmentNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentKind {
    /// Records of an event batch.
    Events,
    /// Closed history windows that wait for the database.
    History,
}

impl SegmentKind {
    /// As in file names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::History => "history",
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Events => 1,
            Self::History => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Events),
            2 => Some(Self::History),
            _ => None,
        }
    }
}

/// Tells one life of the process from the next, so that a number that is used again (the file of its first use was lost
/// in a crash, or all segments had been removed) does not bring old bytes to life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run(pub u32);

impl Run {
    /// The run that began at `start`. Two runs are alike only if they began in the same millisecond of a 49-day cycle.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the low bits are what differs between runs")]
    pub fn started_at(start: Timestamp) -> Self {
        Self(start.millis() as u32)
    }
}

/// Everything that a file name says. Names sort by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Number.
    pub no: SegmentNo,
    /// The run that made it.
    pub run: Run,
    /// Kind.
    pub kind: SegmentKind,
}

impl SegmentName {
    /// The segment that a file name stands for; `None` for every other file.
    #[must_use]
    pub fn parse(file: &str) -> Option<Self> {
        let (stem, kind) = file.rsplit_once('.')?;
        let kind = match kind {
            "events" => SegmentKind::Events,
            "history" => SegmentKind::History,
            _ => return None,
        };
        let (no, run) = stem.split_once('-')?;
        let name = Self { no: SegmentNo(no.parse().ok()?), run: Run(u32::from_str_radix(run, 16).ok()?), kind };
        // One spelling only: what parses but would be written otherwise is not ours.
        (name.to_string() == file).then_some(name)
    }

    /// The segment that a file of [`Self::set_aside`] or [`Self::unreadable`] came from.
    #[must_use]
    pub fn parse_aside(file: &str) -> Option<(Self, Aside)> {
        let (rest, suffix) = file.rsplit_once('.')?;
        match suffix {
            UNREADABLE_SUFFIX => Some((Self::parse(rest)?, Aside::Unreadable)),
            SET_ASIDE_SUFFIX => Some((Self::parse(rest.rsplit_once(".at")?.0)?, Aside::Damaged)),
            _ => None,
        }
    }

    /// Name for damaged bytes that stood at `offset`; `copy` tells files apart that would be called alike.
    #[must_use]
    pub fn set_aside(&self, offset: u64, copy: usize) -> String {
        if copy == 0 {
            format!("{self}.at{offset:010}.{SET_ASIDE_SUFFIX}")
        } else {
            format!("{self}.at{offset:010}-{copy}.{SET_ASIDE_SUFFIX}")
        }
    }

    /// Name under which a segment is kept that the disk does not give back.
    #[must_use]
    pub fn unreadable(&self) -> String {
        format!("{self}.{UNREADABLE_SUFFIX}")
    }

    /// What the checksums of the segment's frames start from: a frame of another segment never passes for one of this.
    #[must_use]
    pub(super) fn checksum_seed(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[self.kind.byte()]);
        hasher.update(&self.no.0.to_le_bytes());
        hasher.update(&self.run.0.to_le_bytes());
        hasher.finalize()
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:08x}.{}", self.no.0, self.run.0, self.kind.as_str())
    }
}

/// Why a file is kept beside the segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Aside {
    /// Bytes that did not make a record.
    Damaged,
    /// A whole segment that could not be read.
    Unreadable,
}

/// The first [`HEADER_BYTES`] of a file, integers little-endian: `tidegate`, version (2), kind (1), flags (1), number (8),
/// run (4), settled through (8), CRC-32 of all before it (4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose header it is.
    pub name: SegmentName,
    /// When this file was made, every segment up to this number was sealed and synced, or already gone. So one of
    /// them that lacks its end mark was damaged later, and was not torn by a crash.
    pub settled_through: SegmentNo,
    /// When this file was made, the file with the number before it was there and its entry was synced: if it is missing, no crash
    /// took it. Older recorders never said so.
    pub follows_durable: bool,
}

/// Why a header could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// The file is shorter than a header.
    Short,
    /// Not a header, or its checksum is wrong.
    Corrupt,
    /// Sound, but of a format that this program does not know.
    Version(u16),
}

impl Header {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10] = self.name.kind.byte();
        bytes[11] = u8::from(self.follows_durable);
        bytes[12..20].copy_from_slice(&self.name.no.0.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.name.run.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.settled_through.0.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header at the start of a file's bytes.
    ///
    /// # Errors
    /// [`BadHeader`]; the version is looked at only where the checksum holds.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else { return Err(BadHeader::Short) };
        if bytes[..8] != MAGIC || crc32fast::hash(&bytes[..32]) != u32::from_le_bytes(part(bytes, 32)) {
            return Err(BadHeader::Corrupt);
        }
        let version = u16::from_le_bytes(part(bytes, 8));
        if version != FORMAT_VERSION {
            return Err(BadHeader::Version(version));
        }
        let kind = SegmentKind::from_byte(bytes[10]).ok_or(BadHeader::Corrupt)?;
        Ok(Self {
            name: SegmentName {
                no: SegmentNo(u64::from_le_bytes(part(bytes, 12))),
                run: Run(u32::from_le_bytes(part(bytes, 20))),
                kind,
            },
            settled_through: SegmentNo(u64::from_le_bytes(part(bytes, 24))),
            follows_durable: bytes[11] & 1 != 0,
        })
    }
}

/// `N` bytes from `at` on; callers stay within the array.
fn part<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: SegmentName = SegmentName { no: SegmentNo(42), run: Run(0xabc), kind: SegmentKind::History };

    #[test]
    fn a_name_has_one_spelling_and_reads_back() {
        assert_eq!(NAME.to_string(), "00000000000000000042-00000abc.history");
        assert_eq!(SegmentName::parse(&NAME.to_string()), Some(NAME));
        for other in ["42-abc.history", "00000000000000000042-00000ABC.history", "00000000000000000042-00000abc.log", "lock", ""]
        {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn names_of_files_kept_aside_lead_back_to_their_segment_and_are_no_segments() {
        for (file, aside) in [
            (NAME.set_aside(36, 0), Aside::Damaged),
            (NAME.set_aside(36, 3), Aside::Damaged),
            (NAME.unreadable(), Aside::Unreadable),
        ] {
            assert_eq!(SegmentName::parse_aside(&file), Some((NAME, aside)));
            assert_eq!(SegmentName::parse(&file), None);
        }
        assert_ne!(NAME.set_aside(36, 0), NAME.set_aside(36, 1));
    }

    #[test]
    fn names_sort_by_number_over_both_kinds_and_all_runs() {
        let name = |no, run, kind| SegmentName { no: SegmentNo(no), run: Run(run), kind }.to_string();
        let sorted = [name(1, 9, SegmentKind::History), name(2, 1, SegmentKind::Events), name(u64::MAX, 0, SegmentKind::Events)];
        assert!(sorted.is_sorted());
    }

    #[test]
    fn a_header_reads_back_and_every_flipped_bit_in_it_is_noticed() {
        for follows_durable in [false, true] {
            let header = Header { name: NAME, settled_through: SegmentNo(40), follows_durable };
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
        let header = Header { name: NAME, settled_through: SegmentNo(40), follows_durable: true };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped), Err(BadHeader::Corrupt), "bit {bit}");
        }
        assert_eq!(Header::decode(&bytes[..35]), Err(BadHeader::Short));
    }

    #[test]
    fn a_header_of_another_version_is_told_from_a_broken_one() {
        let mut bytes = Header { name: NAME, settled_through: SegmentNo(40), follows_durable: false }.encode();
        bytes[8] = 9;
        let checksum = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(BadHeader::Version(9)));
    }
}
