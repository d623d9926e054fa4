//! The database as the simulation sees it: a real [`Store`] whose every call is seen, can fail, and can be the last.

use chrono_tz::Tz;

use crate::clock::Timestamp;
use crate::event::{EndpointId, Record};
use crate::modes::StorageMode;
use crate::modes::usage::Usage;
use crate::retention::{Expired, Expiry};
use crate::store::{
    AlertChanges, Committed, EndpointChange, EventBatch, HistoryBatch, LiveChanges, NewEndpoint, Purge, Settings, Store,
    StoreError, StoreErrorKind, Stored,
};

use super::observation::{Answer, Seen};
use super::shared::{Point, Shared};

/// See the module.
pub struct SimStore {
    store: Box<dyn Store>,
    shared: Shared,
}

/// What a call meets.
enum Fate {
    Succeeds,
    Fails(&'static str),
    Doubt { stored: bool },
}

impl SimStore {
    /// Over a store.
    #[must_use]
    pub fn new(store: Box<dyn Store>, shared: Shared) -> Self {
        Self { store, shared }
    }

    fn fate(&self, commits: bool) -> Fate {
        let mut going = self.shared.going();
        if going.database_down {
            return Fate::Fails("the database is down");
        }
        let locked = going.database_locked_one_in;
        if locked > 0 && going.rng.u8(0..locked) == 0 {
            return Fate::Fails("the database is locked");
        }
        match going.doubts.pop().filter(|_| commits) {
            Some(stored) => Fate::Doubt { stored },
            None => Fate::Succeeds,
        }
    }

    fn call<T: Clone>(
        &mut self,
        commits: bool,
        call: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>,
        note: impl FnOnce(Answer<T>) -> Seen,
    ) -> Result<T, StoreError> {
        let point = self.shared.point(false);
        if point == Point::Never {
            self.shared.die();
            return Err(unavailable("the process is gone", false));
        }
        let fate = if point == Point::Goes { self.fate(commits) } else { Fate::Doubt { stored: true } };
        let (answer, result) = match fate {
            Fate::Fails(message) => (Answer::Refused, Err(unavailable(message, false))),
            Fate::Doubt { stored } => {
                // Stored in doubt means that the transaction did what it does, whatever that is.
                let failed = if stored { call(self.store.as_mut()).err() } else { None };
                (Answer::Unknown, Err(failed.unwrap_or_else(|| unavailable("the answer to COMMIT was lost", true))))
            }
            Fate::Succeeds => match call(self.store.as_mut()) {
                Ok(value) => (Answer::Acknowledged(value.clone()), Ok(value)),
                Err(error) => (if error.in_doubt { Answer::Unknown } else { Answer::Refused }, Err(error)),
            },
        };
        self.shared.see(note(answer));
        if point == Point::GoesUnseen {
            self.shared.die();
        }
        result
    }

    /// A call that is not judged.
    fn plain<T>(&mut self, call: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.shared.point(false) != Point::Goes {
            self.shared.die();
            return Err(unavailable("the process is gone", false));
        }
        match self.fate(false) {
            Fate::Fails(message) => Err(unavailable(message, false)),
            Fate::Succeeds | Fate::Doubt { .. } => {
                let result = call(self.store.as_mut());
                if result.is_ok() {
                    self.shared.see(Seen::Defined);
                }
                result
            }
        }
    }
}

fn unavailable(message: &str, in_doubt: bool) -> StoreError {
    StoreError { kind: StoreErrorKind::Unavailable, in_doubt, message: message.to_owned() }
}

impl Store for SimStore {
    fn load(&mut self) -> Result<Stored, StoreError> {
        self.plain(Store::load)
    }

    fn set_timezone(&mut self, zone: Tz, at: Timestamp) -> Result<(), StoreError> {
        self.plain(|store| store.set_timezone(zone, at))
    }

    fn commit_events(&mut self, batch: &EventBatch) -> Result<Committed, StoreError> {
        self.call(true, |store| store.commit_events(batch), |answer| Seen::Events { batch: batch.clone(), answer })
    }

    fn commit_single(&mut self, record: &Record) -> Result<bool, StoreError> {
        let note = |answer| Seen::Single { record: Box::new(record.clone()), answer };
        self.call(true, |store| store.commit_single(record), note)
    }

    fn keep_settings(&mut self, settings: &Settings, usage: &[(StorageMode, Usage)]) -> Result<(), StoreError> {
        self.plain(|store| store.keep_settings(settings, usage))
    }

    fn keep_alerts(&mut self, changes: &AlertChanges) -> Result<(), StoreError> {
        self.plain(|store| store.keep_alerts(changes))
    }

    fn bytes_written(&mut self) -> Option<u64> {
        self.store.bytes_written()
    }

    fn set_batch_size(&mut self, rows: usize) {
        self.store.set_batch_size(rows);
    }

    fn commit_history(&mut self, batch: &HistoryBatch) -> Result<Committed, StoreError> {
        let note = |answer| Seen::History { batch: Box::new(batch.clone()), answer };
        self.call(true, |store| store.commit_history(batch), note)
    }

    fn sync_live(&mut self, changes: &LiveChanges) -> Result<(), StoreError> {
        let note = |answer| Seen::Live { changes: Box::new(changes.clone()), answer };
        self.call(true, |store| store.sync_live(changes), note)
    }

    fn add_endpoint(&mut self, endpoint: &NewEndpoint, at: Timestamp) -> Result<EndpointId, StoreError> {
        self.plain(|store| store.add_endpoint(endpoint, at))
    }

    fn change_endpoint(&mut self, id: EndpointId, change: &EndpointChange, at: Timestamp) -> Result<(), StoreError> {
        self.plain(|store| store.change_endpoint(id, change, at))
    }

    fn expire(&mut self, step: &Expiry) -> Result<Expired, StoreError> {
        let note = |answer| Seen::Expired { what: step.what, before: step.before, now: step.now, answer };
        self.call(true, |store| store.expire(step), note)
    }

    fn purge(&mut self, id: EndpointId, from: Purge) -> Result<Purge, StoreError> {
        self.plain(|store| store.purge(id, from))
    }

    fn remove_endpoint(&mut self, id: EndpointId) -> Result<(), StoreError> {
        self.plain(|store| store.remove_endpoint(id))
    }
}
