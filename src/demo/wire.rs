//! HTTP/1.1 by hand, as much as a simulated master needs: it gives control over chunks, pieces, stalls and cuts.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::sim::master::{Request, Wire};

/// Longest request head that is read.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The last chunk of a body.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A request as it came.
#[derive(Default)]
pub(super) struct ReceivedRequest {
    method: String,
    path: String,
    key: Option<String>,
    /// HTTP/1.0: the body of an answer is not chunked.
    pub http_1_0: bool,
    /// The connection is closed after the answer.
    pub closes: bool,
}

impl ReceivedRequest {
    pub fn as_request(&self) -> Request<'_> {
        Request { method: &self.method, path: &self.path, key: self.key.as_deref() }
    }
}

/// Reads a request head; `None` at the end of the connection. `buffer` keeps what came after the head.
pub(super) async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<ReceivedRequest>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end + 4);
            return Ok(Some(parse(&head)));
        }
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the request head is too long"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(head: &str) -> ReceivedRequest {
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let mut request = ReceivedRequest {
        method: first.next().unwrap_or_default().to_owned(),
        path: first.next().unwrap_or_default().to_owned(),
        http_1_0: first.next() == Some("HTTP/1.0"),
        ..ReceivedRequest::default()
    };
    request.closes = request.http_1_0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("x-api-key") {
            request.key = Some(value.to_owned());
        } else if name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close") {
            request.closes = true;
        }
    }
    request
}

/// Each piece as one HTTP chunk, or as it stands for HTTP/1.0.
pub(super) fn as_chunks(pieces: &[Bytes], http_1_0: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(pieces.iter().map(|piece| piece.len() + 12).sum());
    for piece in pieces {
        if http_1_0 {
            out.extend_from_slice(piece);
        } else {
            push_chunk_head(&mut out, piece.len());
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

/// The length of a chunk in hexadecimal, and its line end.
pub(super) fn push_chunk_head(out: &mut Vec<u8>, length: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.max(1).leading_zeros()).div_ceil(4);
    out.extend((0..digits).rev().map(|digit| DIGITS[length >> (4 * digit) & 15]));
    out.extend_from_slice(b"\r\n");
}

/// Sends bytes as the wire lets them pass.
pub(super) async fn send(stream: &mut TcpStream, bytes: &[u8], wire: Wire) -> io::Result<()> {
    if wire.piece_bytes == 0 {
        return stream.write_all(bytes).await;
    }
    for piece in bytes.chunks(wire.piece_bytes) {
        stream.write_all(piece).await?;
        if wire.pause > Duration::ZERO {
            tokio::time::sleep(wire.pause).await;
        }
    }
    Ok(())
}

/// Waits until the reader has closed its side (or sent something, which is dropped).
pub(super) async fn reader_left(stream: &TcpStream) {
    let mut scrap = [0; 256];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut scrap) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_head_is_the_length_in_hexadecimal() {
        for length in [1, 9, 15, 16, 255, 256, 604, 65_535, 1_048_576] {
            let mut out = Vec::new();
            push_chunk_head(&mut out, length);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{length:x}\r\n"));
        }
    }

    #[test]
    fn a_request_is_read_whatever_the_case_of_its_headers() {
        let request = parse("GET /api/v1/events HTTP/1.1\r\nHost: x\r\nx-API-key:  abc \r\nConnection: Close");
        assert_eq!(request.as_request(), Request::get("/api/v1/events", "abc"));
        assert!(request.closes && !request.http_1_0);
    }
}
