//! Sessions of the page: who gave the token once has a cookie instead. Kept in memory, so they end with the recorder.

use std::collections::BTreeMap;
use std::time::Duration;

use rustls::crypto::SecureRandom;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// A session that was not used for this long is over.
pub const IDLE_MAX: Duration = Duration::from_secs(7 * 86_400);
/// A session is over after this time, used or not.
pub const LENGTH_MAX: Duration = Duration::from_secs(30 * 86_400);
/// A person has a handful of browsers. With more sessions than this the one that was unused for the longest time ends.
const SESSIONS_MAX: usize = 256;
/// Bytes of randomness in a session's id: not to be guessed, so that wrong ones need not be counted.
const ID_BYTES: usize = 32;

/// All sessions, by the digest of their id: a look-up's duration then tells nothing about the ids there are.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<[u8; 32], Session>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    began: Instant,
    used: Instant,
}

impl Session {
    fn is_over(self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= IDLE_MAX || now.saturating_duration_since(self.began) >= LENGTH_MAX
    }
}

impl Sessions {
    /// Begins a session; its id is in the answer and nowhere else. `None` if the system gives no randomness.
    pub fn begin(&mut self, random: &dyn SecureRandom, now: Instant) -> Option<String> {
        let mut bytes = [0; ID_BYTES];
        random.fill(&mut bytes).ok()?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.sessions.retain(|_, session| !session.is_over(now));
        while self.sessions.len() >= SESSIONS_MAX {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used).map(|(digest, _)| *digest)?;
            self.sessions.remove(&oldest);
        }
        self.sessions.insert(digest(&id), Session { began: now, used: now });
        Some(id)
    }

    /// Whether there is a session of that id; if so it is used now.
    pub fn is_valid(&mut self, id: &str, now: Instant) -> bool {
        let Some(session) = self.sessions.get_mut(&digest(id)).filter(|session| !session.is_over(now)) else { return false };
        session.used = now;
        true
    }

    /// Ends a session.
    pub fn end(&mut self, id: &str) {
        self.sessions.remove(&digest(id));
    }
}

fn digest(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn begin(sessions: &mut Sessions, now: Instant) -> String {
        sessions.begin(rustls::crypto::ring::default_provider().secure_random, now).unwrap()
    }

    #[test]
    fn a_session_lasts_while_it_is_used_and_ends_at_logout() {
        let (mut sessions, start) = (Sessions::default(), SystemClock.monotonic());
        let id = begin(&mut sessions, start);
        assert_eq!(id.len(), 2 * ID_BYTES);
        let later = start + IDLE_MAX - Duration::from_secs(1);
        assert!(sessions.is_valid(&id, later));
        assert!(sessions.is_valid(&id, later + IDLE_MAX - Duration::from_secs(1)), "its use prolonged it");
        assert!(!sessions.is_valid(&id, later + IDLE_MAX * 2));
        let id = begin(&mut sessions, start);
        let days = 1..=LENGTH_MAX.as_secs() / 86_400;
        let valid = days.filter(|day| sessions.is_valid(&id, start + Duration::from_secs(day * 86_400))).count();
        assert_eq!(valid, 29, "in use every day it ends all the same");
        let id = begin(&mut sessions, start);
        sessions.end(&id);
        assert!(!sessions.is_valid(&id, start));
        assert!(!sessions.is_valid("", start));
    }

    #[test]
    fn with_too_many_sessions_the_one_unused_for_longest_ends() {
        let (mut sessions, start) = (Sessions::default(), SystemClock.monotonic());
        let first = begin(&mut sessions, start);
        let second = begin(&mut sessions, start + Duration::from_secs(1));
        assert!(sessions.is_valid(&first, start + Duration::from_secs(2)));
        for _ in 2..=SESSIONS_MAX {
            begin(&mut sessions, start + Duration::from_secs(3));
        }
        assert_eq!(sessions.sessions.len(), SESSIONS_MAX);
        assert!(sessions.is_valid(&first, start) && !sessions.is_valid(&second, start));
    }
}
