//! What waits to be sent on one channel, and when it is tried. Has a bound; what is given up is counted and shown.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::words::Message;
use crate::clock::Timestamp;
use crate::transport::post::PostError;

/// Messages that wait on a channel; with more the oldest is given up. At one message in 15 s that is a quarter of an hour
/// of a channel that does not work; the newest say how things are.
const WAITING_MAX: usize = 60;
/// Tries of a message before it is given up: over an hour, with the longest pause between them.
const TRIES_MAX: u32 = 20;
/// First and longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// Longest pause that the other side can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Messages that were given up and are shown.
const GIVEN_UP_SHOWN: usize = 5;

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// A JSON body to a URL.
    Webhook,
    /// A bot's message to a chat.
    Telegram,
}

impl Channel {
    /// As in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Telegram => "telegram",
        }
    }
}

/// What is shown of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelState {
    /// Messages that wait.
    pub waiting: usize,
    /// Messages that were taken.
    pub sent: u64,
    /// Tries that failed.
    pub failures: u64,
    /// Messages that were given up.
    pub given_up: u64,
    /// Why the last try failed; `None` after one that did not.
    pub last_error: Option<String>,
    /// When the last message was taken.
    pub last_sent: Option<Timestamp>,
    /// What was given up last, the newest first.
    pub last_given_up: Vec<GivenUp>,
}

/// A message that nobody will be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// When it was given up.
    pub time: Timestamp,
    /// Its first line.
    pub title: String,
    /// Why.
    pub reason: String,
}

/// The messages of one channel.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Message>,
    tries: u32,
    not_before: Option<Instant>,
    is_sending: bool,
    state: ChannelState,
}

/// What to do with an outbox now.
#[derive(Debug, PartialEq, Eq)]
pub enum Wait {
    /// Send this; say how it went with [`Outbox::done`].
    Send(Message),
    /// Look again later.
    Nothing,
}

impl Outbox {
    /// Puts a message at the end.
    pub fn push(&mut self, message: Message) {
        if self.waiting.len() >= WAITING_MAX {
            // The first may be on its way: then the next one goes.
            let reason = format!("{WAITING_MAX} messages waited, and a newer one came");
            let oldest = self.waiting.remove(usize::from(self.is_sending));
            self.give_up(oldest, reason, message.time);
        }
        self.waiting.push_back(message);
    }

    /// The next message, if it is time for it.
    pub fn next(&mut self, now: Instant) -> Wait {
        match self.waiting.front() {
            Some(message) if !self.is_sending && self.not_before.is_none_or(|at| now >= at) => {
                self.is_sending = true;
                Wait::Send(message.clone())
            }
            _ => Wait::Nothing,
        }
    }

    /// How the message that was sent last went. What it will be refused for again is given up at once.
    pub fn done(&mut self, result: Result<(), PostError>, now: Instant, wall: Timestamp) {
        self.is_sending = false;
        match result {
            Ok(()) => {
                self.waiting.pop_front();
                (self.tries, self.not_before) = (0, None);
                self.state.sent += 1;
                (self.state.last_error, self.state.last_sent) = (None, Some(wall));
            }
            Err(PostError { reason, is_permanent, retry_after }) => {
                self.tries += 1;
                self.state.failures += 1;
                self.state.last_error = Some(reason.clone());
                if is_permanent || self.tries >= TRIES_MAX {
                    let message = self.waiting.pop_front();
                    self.tries = 0;
                    self.give_up(message, reason, wall);
                }
                let doubled = PAUSE.0.saturating_mul(1 << self.tries.saturating_sub(1).min(10));
                let wanted = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                self.not_before = Some(now + doubled.min(PAUSE.1).max(wanted));
            }
        }
    }

    fn give_up(&mut self, message: Option<Message>, reason: String, time: Timestamp) {
        let Some(Message { title, .. }) = message else { return };
        self.state.given_up += 1;
        self.state.last_given_up.insert(0, GivenUp { time, title, reason });
        self.state.last_given_up.truncate(GIVEN_UP_SHOWN);
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What is shown.
    #[must_use]
    pub fn state(&self) -> ChannelState {
        ChannelState { waiting: self.waiting.len(), ..self.state.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn message(n: usize) -> Message {
        Message { title: n.to_string(), text: n.to_string(), ..Message::test(Timestamp(3)) }
    }

    fn given_up(n: usize, reason: &str) -> GivenUp {
        GivenUp { time: Timestamp(3), title: n.to_string(), reason: reason.to_owned() }
    }

    #[test]
    fn what_is_refused_for_good_is_given_up_at_once_and_the_next_one_is_tried() {
        let (mut outbox, now) = (Outbox::default(), SystemClock.monotonic());
        (1..=7).for_each(|n| outbox.push(message(n)));
        let mut at = now;
        for n in 1..=6 {
            assert_eq!(outbox.next(at), Wait::Send(message(n)));
            outbox.done(Err(PostError::permanent("it answered 404")), at, Timestamp(3));
            assert_eq!(outbox.next(at), Wait::Nothing, "not all in a row");
            at += PAUSE.0;
        }
        assert_eq!(outbox.next(at), Wait::Send(message(7)));
        let state = outbox.state();
        assert_eq!((state.given_up, state.failures, state.waiting), (6, 6, 1));
        assert_eq!(state.last_given_up, [6, 5, 4, 3, 2].map(|n| given_up(n, "it answered 404")), "the newest, and not all");
    }

    #[test]
    fn the_other_side_says_how_long_it_wants_to_be_left_alone_within_a_bound() {
        for (wanted, pause) in [(1, 5), (30, 30), (100_000, 3_600)] {
            let (mut outbox, now) = (Outbox::default(), SystemClock.monotonic());
            outbox.push(message(1));
            assert_eq!(outbox.next(now), Wait::Send(message(1)));
            let retry_after = Some(Duration::from_secs(wanted));
            outbox.done(Err(PostError { retry_after, ..PostError::passing("it answered 429") }), now, Timestamp(3));
            assert_eq!(outbox.next(now + Duration::from_secs(pause - 1)), Wait::Nothing);
            assert_eq!(outbox.next(now + Duration::from_secs(pause)), Wait::Send(message(1)), "{wanted}");
        }
    }

    #[test]
    fn what_failed_is_tried_again_after_longer_and_longer_pauses_and_then_given_up() {
        let (mut outbox, start) = (Outbox::default(), SystemClock.monotonic());
        outbox.push(message(1));
        outbox.push(message(2));
        let (mut now, mut pauses) = (start, Vec::new());
        loop {
            let Wait::Send(sent) = outbox.next(now) else {
                now += Duration::from_secs(1);
                continue;
            };
            if sent == message(2) {
                break;
            }
            assert_eq!(outbox.next(now), Wait::Nothing, "one at a time");
            pauses.push(now - start);
            outbox.done(Err(PostError::passing("refused")), now, Timestamp(3));
        }
        assert_eq!(pauses.len(), TRIES_MAX as usize);
        assert_eq!(pauses[1..4], [5, 15, 35].map(Duration::from_secs));
        outbox.done(Ok(()), now, Timestamp(7));
        let expected = ChannelState {
            waiting: 0,
            sent: 1,
            failures: u64::from(TRIES_MAX),
            given_up: 1,
            last_error: None,
            last_sent: Some(Timestamp(7)),
            last_given_up: vec![given_up(1, "refused")],
        };
        assert_eq!(outbox.state(), expected);
    }

    #[test]
    fn with_too_many_the_oldest_goes_and_is_counted() {
        let (mut outbox, now) = (Outbox::default(), SystemClock.monotonic());
        outbox.push(message(0));
        assert_eq!(outbox.next(now), Wait::Send(message(0)));
        for n in 1..=WAITING_MAX {
            outbox.push(message(n));
        }
        assert_eq!((outbox.state().waiting, outbox.state().given_up), (WAITING_MAX, 1));
        assert_eq!(outbox.state().last_given_up, [given_up(1, "60 messages waited, and a newer one came")]);
        outbox.done(Ok(()), now, Timestamp(0));
        assert_eq!(outbox.next(now), Wait::Send(message(2)), "the one on its way was not touched");
    }
}
