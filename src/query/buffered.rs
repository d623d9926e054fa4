//! Records that are received and not in the database yet: which are asked for, and what the BufferActor answers.

use super::range::Range;
use crate::event::{EndpointId, InstanceId, Record};
use crate::id::EventId;

/// Which records. What is `None` does not restrict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Events or gaps.
    pub what: What,
    /// With an id below this one.
    pub below: EventId,
    /// At most so many, the newest.
    pub limit: usize,
    /// Name of the endpoint.
    pub endpoint: Option<String>,
    /// Instance there. A gap of the whole endpoint concerns all its instances.
    pub instance: Option<String>,
    /// Kind of event.
    pub kind: Option<String>,
    /// Received in this range.
    pub range: Option<Range>,
}

/// Kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Events.
    Events,
    /// Gaps.
    Gaps,
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Buffered {
    /// Newest first.
    pub records: Vec<Record>,
    /// Records that wait in the journal and not in memory, and are not among these.
    pub in_journal_only: u64,
}

impl Wanted {
    /// Everything of one sort, as far as `limit` of it.
    #[must_use]
    pub fn newest(what: What, limit: usize) -> Self {
        Self { what, below: EventId(i64::MAX), limit, endpoint: None, instance: None, kind: None, range: None }
    }

    /// Of the endpoint or tunnel that a question names.
    #[must_use]
    pub fn of(self, endpoint: Option<&str>, tunnel: Option<&str>) -> Self {
        match tunnel.and_then(|address| address.split_once('/')) {
            Some((endpoint, instance)) => {
                Self { endpoint: Some(endpoint.to_owned()), instance: Some(instance.to_owned()), ..self }
            }
            None => Self { endpoint: endpoint.map(str::to_owned), ..self },
        }
    }

    /// Whether a record is asked for. `endpoint` is the id behind the name, `None` where there is no such endpoint.
    #[must_use]
    pub fn takes(&self, record: &Record, endpoint: Option<EndpointId>) -> bool {
        if record.id() >= self.below || (self.endpoint.is_some() && endpoint != Some(record.endpoint())) {
            return false;
        }
        let of_instance = |instance: &InstanceId| self.instance.as_deref().is_none_or(|wanted| wanted == instance.as_str());
        if !self.range.is_none_or(|range| (range.from..range.until).contains(&record.received_at())) {
            return false;
        }
        match (self.what, record) {
            (What::Events, Record::Event(event)) => {
                of_instance(&event.instance) && self.kind.as_deref().is_none_or(|kind| kind == event.kind.as_str())
            }
            (What::Gaps, Record::Gap(gap)) => gap.instance.as_str().is_empty() || of_instance(&gap.instance),
            _ => false,
        }
    }
}
