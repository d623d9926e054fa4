//! Decoder for `text/event-stream`, by the rules of the WHATWG HTML standard (section "Interpreting an event stream").
//!
//! Bytes go in as they arrive, cut anywhere; events come out as borrowed text. An event that lies in one piece of the
//! input is handed on without a copy. What is kept between two pieces is bounded: an event whose data is longer than
//! the limit is read to its end, reported as [`Frame::Oversized`], and the stream goes on with the next one.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

/// Longest data of one event in bytes. The largest event seen from a real master had 256 kB.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// Capacity that a buffer may keep after an event; what a larger event took is given back. A usual event has 700 bytes.
const KEPT_CAPACITY_BYTES: usize = 64 << 10;

/// Room for the field's name in front of the longest data, so that the limit is about the data alone.
const FIELD_NAME_BYTES: usize = 16;

const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// What the decoder found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A complete event.
    Event(SseEvent<'a>),
    /// An event above the limit, of which nothing was kept.
    Oversized {
        /// Where its first line begins in the stream, in bytes.
        offset: u64,
        /// Its length up to the blank line, in bytes.
        length: u64,
    },
}

/// A complete event. Bytes that are not UTF-8 were replaced by U+FFFD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The field `event`; `message` where there was none or an empty one.
    pub name: &'a str,
    /// The `data` lines, joined by LF.
    pub data: &'a str,
    /// The last `id` of the stream so far; empty before the first.
    pub last_event_id: &'a str,
    /// Where its first line begins in the stream, in bytes (a byte order mark counts).
    pub offset: u64,
}

/// Incremental decoder of one stream. A new connection needs a new decoder.
#[derive(Debug)]
pub struct Decoder {
    data_bytes_max: usize,
    /// Bytes of the stream that were consumed.
    position: u64,
    /// How many bytes of a byte order mark were seen; 3 once the start of the stream is behind.
    bom_matched: usize,
    /// The last piece ended in CR: a LF at the start of the next one belongs to it.
    after_cr: bool,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    /// The unfinished line has bytes that were not kept, since it is a comment or part of a refused event.
    line_dropped: bool,
    /// Where the unfinished line begins.
    line_offset: u64,
    /// Data lines of the unfinished event, each followed by LF.
    data: Vec<u8>,
    has_data: bool,
    name: String,
    last_event_id: String,
    retry_millis: Option<u64>,
    /// Where the unfinished event begins; `None` between events.
    event_offset: Option<u64>,
    refused: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(EVENT_BYTES_MAX)
    }
}

impl Decoder {
    /// A decoder that refuses events with more than `data_bytes_max` bytes of data.
    #[must_use]
    pub fn new(data_bytes_max: usize) -> Self {
        Self {
            data_bytes_max,
            position: 0,
            bom_matched: 0,
            after_cr: false,
            line: Vec::new(),
            line_dropped: false,
            line_offset: 0,
            data: Vec::new(),
            has_data: false,
            name: String::new(),
            last_event_id: String::new(),
            retry_millis: None,
            event_offset: None,
            refused: false,
        }
    }

    /// The last `retry` field, in milliseconds.
    #[must_use]
    pub fn retry_millis(&self) -> Option<u64> {
        self.retry_millis
    }

    /// The last `id` field, which also events without data set.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Bytes of memory held for an unfinished event.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.line.capacity() + self.data.capacity() + self.name.capacity()
    }

    /// Decodes the next piece of the stream and hands each frame to `on_frame`, in order.
    pub fn feed(&mut self, piece: &[u8], mut on_frame: impl FnMut(Frame<'_>)) {
        let mut rest = self.skip_bom(piece);
        // The first data line of an event stays where it is as long as its piece is at hand.
        let mut borrowed: Option<&[u8]> = None;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = self.advance(rest, 1);
                continue;
            }
            let Some(length) = memchr2(b'\n', b'\r', rest) else {
                if let Some(data) = borrowed.take() {
                    self.keep_data(data);
                }
                self.keep_unfinished_line(rest);
                self.position += rest.len() as u64;
                break;
            };
            let (line, end) = (&rest[..length], rest[length]);
            let start = self.position;
            rest = self.advance(rest, length + 1);
            self.after_cr = end == b'\r';
            if self.line.is_empty() && !self.line_dropped {
                self.complete_line(line, start, &mut borrowed, &mut on_frame);
            } else {
                self.keep_unfinished_line(line);
                self.complete_kept_line(&mut borrowed, &mut on_frame);
            }
        }
        if let Some(data) = borrowed {
            self.keep_data(data);
        }
    }

    /// The stream ended. An event without its blank line is discarded, as the standard wants; its offset and length
    /// are returned.
    pub fn finish(&mut self) -> Option<(u64, u64)> {
        let offset = self.event_offset.take()?;
        Some((offset, self.position - offset))
    }

    fn advance<'a>(&mut self, rest: &'a [u8], bytes: usize) -> &'a [u8] {
        self.position += bytes as u64;
        &rest[bytes..]
    }

    fn skip_bom<'a>(&mut self, mut piece: &'a [u8]) -> &'a [u8] {
        while self.bom_matched < BOM.len() {
            let Some(&byte) = piece.first() else { return piece };
            if byte != BOM[self.bom_matched] {
                // What looked like a mark was the start of the first line.
                if self.bom_matched > 0 {
                    self.line.extend_from_slice(&BOM[..self.bom_matched]);
                    self.event_offset = Some(0);
                }
                self.bom_matched = BOM.len();
                return piece;
            }
            self.bom_matched += 1;
            piece = self.advance(piece, 1);
        }
        piece
    }

    fn keep_unfinished_line(&mut self, bytes: &[u8]) {
        if self.line.is_empty() && !self.line_dropped {
            self.line_offset = self.position;
        }
        let first = self.line.first().or(bytes.first());
        if self.refused || self.line_dropped || first == Some(&b':') {
            self.line_dropped = true;
            return;
        }
        self.event_offset.get_or_insert(self.line_offset);
        if self.data.len() + self.line.len() + bytes.len() > self.data_bytes_max + FIELD_NAME_BYTES {
            self.refuse();
            self.line_dropped = true;
        } else {
            let most = self.data_bytes_max + FIELD_NAME_BYTES;
            extend_within(&mut self.line, bytes, most);
        }
    }

    fn complete_kept_line(&mut self, borrowed: &mut Option<&[u8]>, on_frame: &mut impl FnMut(Frame<'_>)) {
        if std::mem::take(&mut self.line_dropped) {
            self.line.clear();
            return;
        }
        // The line's memory is taken out for the time of the call and put back for the next one.
        let mut line = std::mem::take(&mut self.line);
        if let Some(data) = borrowed.take() {
            self.keep_data(data);
        }
        let mut none = None;
        self.complete_line(&line, self.line_offset, &mut none, on_frame);
        if let Some(data) = none {
            self.keep_data(data);
        }
        line.clear();
        line.shrink_to(KEPT_CAPACITY_BYTES);
        self.line = line;
    }

    /// A whole line, without its end.
    fn complete_line<'a>(
        &mut self,
        line: &'a [u8],
        start: u64,
        borrowed: &mut Option<&'a [u8]>,
        on_frame: &mut impl FnMut(Frame<'_>),
    ) {
        if line.is_empty() {
            self.dispatch(start, borrowed.take(), on_frame);
            return;
        }
        let (field, value) = match memchr(b':', line) {
            Some(0) => return,
            Some(colon) => (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..])),
            None => (line, &line[line.len()..]),
        };
        self.event_offset.get_or_insert(start);
        if self.refused {
            return;
        }
        match field {
            b"data" => {
                if let Some(first) = borrowed.take() {
                    self.keep_data(first);
                }
                if self.data.len() + value.len() > self.data_bytes_max {
                    self.refuse();
                } else if self.has_data {
                    self.keep_data(value);
                } else {
                    self.has_data = true;
                    *borrowed = Some(value);
                }
            }
            b"event" => {
                if value.len() > self.data_bytes_max {
                    self.refuse();
                } else {
                    self.name.clear();
                    self.name.push_str(&String::from_utf8_lossy(value));
                }
            }
            b"id" if memchr(0, value).is_none() => {
                if value.len() > self.data_bytes_max {
                    self.refuse();
                } else {
                    self.last_event_id.clear();
                    self.last_event_id.push_str(&String::from_utf8_lossy(value));
                }
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                // Digits alone fail to parse only beyond u64: for ever, as far as anyone will wait.
                let digits = String::from_utf8_lossy(value);
                self.retry_millis = Some(digits.parse().unwrap_or(u64::MAX));
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, end: u64, borrowed: Option<&[u8]>, on_frame: &mut impl FnMut(Frame<'_>)) {
        let Some(offset) = self.event_offset.take() else { return };
        if std::mem::take(&mut self.refused) {
            on_frame(Frame::Oversized { offset, length: end - offset });
        } else if self.has_data {
            let bytes = borrowed.unwrap_or_else(|| self.data.strip_suffix(b"\n").unwrap_or_default());
            let data = match std::str::from_utf8(bytes) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => String::from_utf8_lossy(bytes),
            };
            let name = if self.name.is_empty() { "message" } else { &self.name };
            on_frame(Frame::Event(SseEvent { name, data: &data, last_event_id: &self.last_event_id, offset }));
        }
        self.forget_event();
    }

    fn keep_data(&mut self, bytes: &[u8]) {
        let most = self.data_bytes_max + FIELD_NAME_BYTES;
        extend_within(&mut self.data, bytes, most);
        extend_within(&mut self.data, b"\n", most);
    }

    fn refuse(&mut self) {
        self.refused = true;
        self.forget_event();
        self.line.clear();
        self.line.shrink_to(KEPT_CAPACITY_BYTES);
    }

    fn forget_event(&mut self) {
        self.has_data = false;
        self.data.clear();
        self.data.shrink_to(KEPT_CAPACITY_BYTES);
        self.name.clear();
        self.name.shrink_to(KEPT_CAPACITY_BYTES);
    }
}

/// Appends, growing by doubling but not beyond `most` bytes unless the content itself needs it.
fn extend_within(buffer: &mut Vec<u8>, bytes: &[u8], most: usize) {
    let needed = buffer.len() + bytes.len();
    if needed > buffer.capacity() {
        let capacity = needed.max(buffer.capacity().saturating_mul(2).min(most));
        buffer.reserve_exact(capacity - buffer.len());
    }
    buffer.extend_from_slice(bytes);
}
