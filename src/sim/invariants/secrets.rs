//! Secrets stay secret (promise 7): the canaries that masters send (API keys, tunnel passwords) stand in no record, no live
//! state, no log line and no column but `endpoints.api_key`.

use super::super::master::{KEY_CANARY, TUNNEL_PASSWORD};
use super::super::observation::{Observation, Seen};
use super::super::oracle::Oracle;
use super::Invariant;
use crate::event::{InstanceConfig, Record};

/// See the module.
#[derive(Debug, Default)]
pub struct Secrets;

impl Invariant for Secrets {
    fn name(&self) -> &'static str {
        "no secret in any output"
    }

    fn check(&mut self, _: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Written { records, .. } => {
                for record in records {
                    in_record(record)?;
                }
                Ok(records.len() as u64)
            }
            Seen::Live { changes, .. } => {
                for (_, config, _) in &changes.configs {
                    in_config(config, "tunnel_config")?;
                }
                for (_, health) in &changes.endpoints {
                    clean(&health.reason, "the reason of an endpoint's health")?;
                }
                Ok(1)
            }
            Seen::Logged { line } => clean(line, "a log line").map(|()| 1),
            Seen::Settled(settled) => match settled.audit.leaks.first() {
                Some(column) => Err(format!("a secret stands in {column}")),
                None => Ok(1),
            },
            _ => Ok(0),
        }
    }
}

/// Whether a text holds a canary.
#[must_use]
pub(crate) fn holds_secret(text: &str) -> bool {
    text.contains(KEY_CANARY) || text.contains(TUNNEL_PASSWORD)
}

fn clean(text: &str, place: &str) -> Result<(), String> {
    if holds_secret(text) { Err(format!("a secret stands in {place}: {text}")) } else { Ok(()) }
}

fn in_record(record: &Record) -> Result<(), String> {
    match record {
        Record::Event(event) => {
            clean(event.kind.as_str(), "an event's kind")?;
            clean(event.instance.as_str(), "an event's instance id")?;
            event.detail.as_deref().map_or(Ok(()), |detail| clean(detail, "an event's detail"))?;
            event.logs.as_ref().map_or(Ok(()), |logs| clean(logs.as_str(), "an event's log line"))?;
            event.config.as_ref().map_or(Ok(()), |config| in_config(config, "an event's configuration"))
        }
        Record::Gap(gap) => clean(&gap.reason, "a gap's reason"),
    }
}

fn in_config(config: &InstanceConfig, place: &str) -> Result<(), String> {
    let InstanceConfig { alias, kind, url, config, peer, tags, unknown, .. } = config;
    for text in [alias, kind, url, config, unknown, &peer.sid, &peer.kind, &peer.alias] {
        clean(text.as_str(), place)?;
    }
    tags.iter().try_for_each(|(name, value)| clean(name.as_str(), place).and_then(|()| clean(value.as_str(), place)))
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, update};
    use super::*;
    use crate::redact::Redacted;

    #[test]
    fn clean_records_and_lines_are_good() {
        let mut history = History::of(Secrets);
        history.written("1.events", &[update(1, 1)]).see(Seen::Logged { line: "database works again".into() });
        history.is_good();
    }

    #[test]
    fn a_canary_is_found_wherever_it_stands() {
        let Record::Event(mut event) = update(1, 1) else { unreachable!() };
        event.logs = Some(Redacted::from_store(&format!("server://{TUNNEL_PASSWORD}@1.2.3.4:5/6")));
        let mut history = History::of(Secrets);
        history.written("1.events", &[Record::Event(event)]);
        history.is_bad("an event's log line");
        let mut history = History::of(Secrets);
        history.see(Seen::Logged { line: format!("key {KEY_CANARY}01234567 refused") });
        history.is_bad("a log line");
    }
}
