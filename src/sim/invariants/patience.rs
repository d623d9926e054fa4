//! A dead database is not hammered: after a failed try of a batch the next one comes after the back-off, whatever fills up
//! meanwhile. A success of any call, a stop and a restart end the back-off.

use std::time::Duration;

use super::super::observation::{Answer, Observation, Seen};
use super::super::oracle::Oracle;
use super::Invariant;

/// The shortest back-off.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub struct Patience {
    failed_at: Option<Duration>,
}

impl Invariant for Patience {
    fn name(&self) -> &'static str {
        "a dead database is not hammered"
    }

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        let at = observation.at;
        let failed = match &observation.seen {
            Seen::Started { .. } | Seen::Ended(_) => {
                self.failed_at = None;
                return Ok(0);
            }
            Seen::Defined
            | Seen::Expired { answer: Answer::Acknowledged(_), .. }
            | Seen::Live { answer: Answer::Acknowledged(()), .. }
            | Seen::Single { answer: Answer::Acknowledged(_), .. } => {
                self.failed_at = None;
                return Ok(0);
            }
            Seen::Events { answer, .. } | Seen::History { answer, .. } => !matches!(answer, Answer::Acknowledged(_)),
            _ => return Ok(0),
        };
        if let Some(failed_at) = self.failed_at.take()
            && at.saturating_sub(failed_at) < WAIT_MIN
            && !oracle.faulty("stopping")
        {
            return Err(format!("a batch was tried again {:?} after it failed", at.saturating_sub(failed_at)));
        }
        self.failed_at = failed.then_some(at);
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, committed, update};
    use super::*;

    #[test]
    fn a_second_try_after_a_while_is_good() {
        let mut history = History::of(Patience::default());
        history.written("1.events", &[update(1, 1)]).batch(&[update(1, 1)], false, Answer::Refused).pass(1);
        history.batch(&[update(1, 1)], false, committed(1, 0)).batch(&[], false, committed(0, 0));
        history.is_good();
    }

    #[test]
    fn a_second_try_at_once_is_found_unless_someone_waits_for_the_end() {
        let mut history = History::of(Patience::default());
        history.batch(&[], false, Answer::Refused).batch(&[], false, Answer::Refused);
        history.is_bad("tried again 0ns after it failed");
        let mut history = History::of(Patience::default());
        history.batch(&[], false, Answer::Refused).see(Seen::Fault { name: "stopping", on: true });
        history.batch(&[], false, Answer::Refused);
        history.is_good();
    }
}
