//! What readers see of live state: a copy on the HTTP server's thread. It is brought up to date for all readers together,
//! with what changed and no more, at most ten times a second, so that the recorder's thread does not pay for their number.
//! Each document is written as JSON once when it changes; a list is a concatenation.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::document::{EndpointDocument, TunnelDocument, TunnelStatuses};
use super::problem::Problem;
use super::recorder::RecorderApi;
use crate::actors::endpoints::EndpointView;
use crate::clock::{SharedClock, Timestamp};
use crate::event::{EndpointId, InstanceId, TunnelKey, TunnelState};
use crate::live::Delta;
use crate::rates::Rate;

/// A copy this young is shown as it is.
const FRESH: Duration = Duration::from_millis(100);

/// The copy, and where it comes from.
pub struct Mirror<R> {
    recorder: R,
    clock: SharedClock,
    picture: RefCell<Picture>,
    /// Held while the recorder is asked: who comes meanwhile waits for the same answer.
    refreshed: Mutex<Option<Instant>>,
}

impl<R: RecorderApi> Mirror<R> {
    /// An empty copy; it is filled when it is first asked for.
    #[must_use]
    pub fn new(recorder: R, clock: SharedClock) -> Self {
        let picture = RefCell::new(Picture::new(clock.wall()));
        Self { recorder, clock, picture, refreshed: Mutex::new(None) }
    }

    /// Makes sure that the copy is at most 100 ms old.
    ///
    /// # Errors
    /// The recorder's problem; the copy stays as it was.
    pub async fn refresh(&self) -> Result<(), Problem> {
        self.refresh_if_older(FRESH).await
    }

    /// Makes sure that the copy shows what was before this call: for who just changed something.
    ///
    /// # Errors
    /// As [`Mirror::refresh`].
    pub async fn refresh_now(&self) -> Result<(), Problem> {
        self.refresh_if_older(Duration::ZERO).await
    }

    async fn refresh_if_older(&self, age: Duration) -> Result<(), Problem> {
        let mut refreshed = self.refreshed.lock().await;
        let now = self.clock.monotonic();
        if refreshed.is_some_and(|at| now.saturating_duration_since(at) < age) {
            return Ok(());
        }
        let version = self.picture.borrow().version;
        // In this order: the endpoint of a tunnel that is told of is known by then, unless it was removed meanwhile.
        let delta = self.recorder.live_since(version).await?;
        let endpoints = self.recorder.endpoints().await?;
        self.picture.borrow_mut().take(delta, &endpoints, self.clock.wall());
        *refreshed = Some(now);
        Ok(())
    }

    /// Reads the copy.
    pub fn read<T>(&self, reading: impl FnOnce(&Picture) -> T) -> T {
        reading(&self.picture.borrow())
    }

    /// Begins or ends to note what is removed, for [`Mirror::take_removed`].
    pub fn note_removed(&self, wanted: bool) {
        self.picture.borrow_mut().removed = wanted.then(Removed::default);
    }

    /// What was removed since the last call, while that is noted.
    pub fn take_removed(&self) -> Removed {
        self.picture.borrow_mut().removed.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// Endpoints and tunnels as they are shown.
pub struct Picture {
    /// The recorder's version of what is contained.
    version: u64,
    /// Rises when a document changes.
    revision: u64,
    /// Tells the revisions of this run from those of the last.
    began: Timestamp,
    endpoints: BTreeMap<EndpointId, EndpointShown>,
    tunnels: BTreeMap<TunnelKey, TunnelShown>,
    removed: Option<Removed>,
}

/// Names of what is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Endpoints.
    pub endpoints: BTreeSet<String>,
    /// Tunnels: endpoint and instance.
    pub tunnels: BTreeSet<(String, String)>,
}

struct EndpointShown {
    name: String,
    text: Rc<str>,
    revision: u64,
}

struct TunnelShown {
    state: TunnelState,
    rate: Option<Rate>,
    text: Rc<str>,
    revision: u64,
}

impl Picture {
    fn new(began: Timestamp) -> Self {
        Self { version: 0, revision: 0, began, endpoints: BTreeMap::new(), tunnels: BTreeMap::new(), removed: None }
    }

    /// Takes over what changed in the recorder, and lets go of rates whose time is over.
    fn take(&mut self, delta: Delta, views: &[EndpointView], now: Timestamp) {
        let Delta { version, endpoints, thinned, tunnels } = delta;
        self.version = version;
        let revision = self.revision + 1;
        let names: BTreeMap<EndpointId, &str> =
            views.iter().map(|view| (view.endpoint.id, view.endpoint.name.as_str())).collect();
        let endpoints: BTreeSet<EndpointId> = endpoints.into_iter().collect();
        let followed = |id: &EndpointId| endpoints.contains(id) && names.contains_key(id);
        let thinned: BTreeMap<EndpointId, BTreeSet<InstanceId>> = thinned.into_iter().collect();
        let mut changed = self.remove(followed, &names, &thinned);
        for (key, state, rate) in tunnels {
            let Some(name) = names.get(&key.endpoint) else { continue };
            let rate = rate.filter(|rate| rate.until > now);
            let text = tunnel_text(name, &key.instance, &state, rate);
            let known = self.tunnels.get(&key).filter(|known| known.text == text).map(|known| known.revision);
            changed |= known.is_none();
            self.tunnels.insert(key, TunnelShown { state, rate, text, revision: known.unwrap_or(revision) });
        }
        for (key, shown) in &mut self.tunnels {
            if shown.rate.is_some_and(|rate| rate.until <= now)
                && let Some(name) = names.get(&key.endpoint)
            {
                shown.rate = None;
                shown.text = tunnel_text(name, &key.instance, &shown.state, None);
                shown.revision = revision;
                changed = true;
            }
        }
        changed |= self.take_endpoints(views, revision);
        if changed {
            self.revision = revision;
        }
    }

    /// Removes what is not there any more; true if something was.
    fn remove(
        &mut self,
        followed: impl Fn(&EndpointId) -> bool,
        names: &BTreeMap<EndpointId, &str>,
        thinned: &BTreeMap<EndpointId, BTreeSet<InstanceId>>,
    ) -> bool {
        let before = (self.endpoints.len(), self.tunnels.len());
        let Self { endpoints, tunnels, removed, .. } = self;
        tunnels.retain(|key, _| {
            let gone = !followed(&key.endpoint) || thinned.get(&key.endpoint).is_some_and(|left| !left.contains(&key.instance));
            if gone && let (Some(removed), Some(endpoint)) = (removed.as_mut(), endpoints.get(&key.endpoint)) {
                removed.tunnels.insert((endpoint.name.clone(), key.instance.to_string()));
            }
            !gone
        });
        endpoints.retain(|id, endpoint| {
            let gone = !names.contains_key(id);
            if gone && let Some(removed) = removed.as_mut() {
                removed.endpoints.insert(endpoint.name.clone());
            }
            !gone
        });
        (self.endpoints.len(), self.tunnels.len()) != before
    }

    fn take_endpoints(&mut self, views: &[EndpointView], revision: u64) -> bool {
        let mut sums: BTreeMap<EndpointId, (TunnelStatuses, Option<(u64, u64)>)> = BTreeMap::new();
        for (key, shown) in &self.tunnels {
            let (statuses, rates) = sums.entry(key.endpoint).or_default();
            statuses.count(shown.state.sample.status.as_str());
            if let Some(rate) = shown.rate {
                let sum = rates.get_or_insert_default();
                *sum = (sum.0.saturating_add(rate.bytes_in), sum.1.saturating_add(rate.bytes_out));
            }
        }
        let mut changed = false;
        for view in views {
            let id = view.endpoint.id;
            let (statuses, rates) = sums.get(&id).copied().unwrap_or_default();
            let text = text_of(&EndpointDocument::new(view, statuses, rates));
            if self.endpoints.get(&id).is_none_or(|shown| shown.text != text) {
                self.endpoints.insert(id, EndpointShown { name: view.endpoint.name.clone(), text, revision });
                changed = true;
            }
        }
        changed
    }

    /// Rises when anything that is shown changes.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A text that is another one whenever anything that is shown changed, for `ETag`.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("{:x}-{:x}", self.began.0, self.revision)
    }

    /// The documents of endpoints that changed after a revision, by name.
    pub fn endpoints_after(&self, revision: u64) -> impl Iterator<Item = &Rc<str>> {
        let mut changed: Vec<&EndpointShown> = self.endpoints.values().filter(|shown| shown.revision > revision).collect();
        changed.sort_by(|a, b| a.name.cmp(&b.name));
        changed.into_iter().map(|shown| &shown.text)
    }

    /// The document of one endpoint.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<&Rc<str>> {
        self.endpoints.values().find(|shown| shown.name == name).map(|shown| &shown.text)
    }

    /// The documents of tunnels that changed after a revision: of all endpoints, of one, or one of one's.
    pub fn tunnels_after(&self, revision: u64, endpoint: Option<&str>, instance: Option<&str>) -> impl Iterator<Item = &Rc<str>> {
        let instance = instance.map(str::to_owned);
        self.tunnels_of(endpoint)
            .filter(move |(key, shown)| {
                shown.revision > revision && instance.as_deref().is_none_or(|instance| key.instance.as_str() == instance)
            })
            .map(|(_, shown)| &shown.text)
    }

    /// The documents of at most `limit` endpoints whose names come after that one, and the name at which they end if there are
    /// more.
    #[must_use]
    pub fn endpoint_page(&self, after: Option<&str>, limit: usize) -> (Vec<&Rc<str>>, Option<&str>) {
        let is_after = |shown: &&EndpointShown| after.is_none_or(|after| shown.name.as_str() > after);
        let mut page: Vec<&EndpointShown> = self.endpoints.values().filter(is_after).collect();
        page.sort_by(|a, b| a.name.cmp(&b.name));
        let more = page.len() > limit;
        page.truncate(limit);
        let end = page.last().filter(|_| more).map(|shown| shown.name.as_str());
        (page.into_iter().map(|shown| &shown.text).collect(), end)
    }

    /// The documents of at most `limit` tunnels after that one, of all endpoints or of one, and the tunnel at which they end if
    /// there are more.
    #[must_use]
    pub fn tunnel_page(
        &self,
        endpoint: Option<&str>,
        after: Option<&TunnelKey>,
        limit: usize,
    ) -> (Vec<&Rc<str>>, Option<&TunnelKey>) {
        let mut rest = self.tunnels_of(endpoint).filter(|(key, _)| after.is_none_or(|after| *key > after));
        let page: Vec<(&TunnelKey, &TunnelShown)> = rest.by_ref().take(limit).collect();
        let end = page.last().filter(|_| rest.next().is_some()).map(|(key, _)| *key);
        (page.into_iter().map(|(_, shown)| &shown.text).collect(), end)
    }

    /// In the order of endpoints' ids and of instances.
    fn tunnels_of(&self, endpoint: Option<&str>) -> impl Iterator<Item = (&TunnelKey, &TunnelShown)> {
        // By endpoint: names are few, tunnels are many.
        let wanted: Vec<EndpointId> = self
            .endpoints
            .iter()
            .filter(|(_, shown)| endpoint.is_none_or(|name| shown.name == name))
            .map(|(id, _)| *id)
            .collect();
        wanted.into_iter().flat_map(move |id| {
            let first = TunnelKey { endpoint: id, instance: InstanceId::default() };
            self.tunnels.range(first..).take_while(move |(key, _)| key.endpoint == id)
        })
    }
}

fn tunnel_text(endpoint: &str, instance: &InstanceId, state: &TunnelState, rate: Option<Rate>) -> Rc<str> {
    text_of(&TunnelDocument::new(endpoint, instance, state, rate.map(|rate| (rate.bytes_in, rate.bytes_out))))
}

fn text_of(document: &impl serde::Serialize) -> Rc<str> {
    serde_json::to_string(document).expect("a document of plain values can be written").into()
}

/// A JSON array of documents.
#[must_use]
pub fn list<'a>(documents: impl Iterator<Item = &'a Rc<str>>) -> String {
    let mut text = String::from("[");
    for document in documents {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(document);
    }
    text.push(']');
    text
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
