//! Requests that a test answers by hand.

use std::io::Read;
use std::net::TcpStream;

use serde_json::Value;

/// Reads one request with a JSON body: its first line, and the body.
pub fn read_request(tcp: &mut TcpStream) -> (String, Value) {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4_096];
        let length = tcp.read(&mut piece).unwrap();
        assert_ne!(length, 0, "the request ended early");
        request.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return (head.lines().next().unwrap().to_owned(), body);
        }
    }
}
