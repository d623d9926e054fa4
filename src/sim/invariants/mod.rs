//! What must always be true: one file each, which states the property and where it comes from.
//!
//! To add one, write a file with a struct that folds over observations, tests of it on made-up good and bad histories
//! (`made_up` has the words), and a line in [`all`].

mod batches;
mod boundaries;
mod cache;
mod convergence;
mod durable;
mod expiry;
mod freshness;
mod history;
mod live;
mod maps;
mod memory;
mod order;
mod patience;
mod received;
mod reports;
mod secrets;
mod segments;
mod shutdown;
mod told;
mod unique;

#[cfg(test)]
pub mod made_up;

use std::time::Duration;

use super::observation::Observation;
use super::oracle::Oracle;
use crate::pipeline::Settings;

pub use batches::Batches;
pub use boundaries::Boundaries;
pub use cache::Cache;
pub use convergence::Convergence;
pub use durable::Durable;
pub use expiry::Expiry;
pub use freshness::Freshness;
pub use history::HistoryAddsUp;
pub use live::Live;
pub use maps::Maps;
pub use memory::Memory;
pub use order::Order;
pub use patience::Patience;
pub use received::Received;
pub use reports::Reports;
pub use secrets::Secrets;
pub(crate) use secrets::holds_secret;
pub use segments::Segments;
pub use shutdown::Shutdown;
pub use told::Told;
pub use unique::Unique;

/// A property that is checked with each observation.
pub trait Invariant {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Checks an observation, given the oracle before it. Returns how many facts were checked.
    ///
    /// # Errors
    /// The violation, in words.
    fn check(&mut self, oracle: &Oracle, seen: &Observation) -> Result<u64, String>;
}

/// What the invariants need to know of the recorder.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What it was configured with.
    pub settings: Settings,
    /// Longest time that one blocking call takes while no fault says otherwise.
    pub latency_max: Duration,
}

/// All of them.
#[must_use]
pub fn all(terms: &Terms) -> Vec<Box<dyn Invariant + Send>> {
    vec![
        Box::new(Received::new(terms)),
        Box::new(Unique),
        Box::new(Order::default()),
        Box::new(Boundaries::new(terms)),
        Box::new(Batches::new(terms)),
        Box::new(Memory::new(terms)),
        Box::new(Segments::new(terms)),
        Box::new(Durable::new(terms)),
        Box::new(HistoryAddsUp::default()),
        Box::new(Reports::default()),
        Box::new(Cache::default()),
        Box::new(Freshness::new(terms)),
        Box::new(Live::default()),
        Box::new(Convergence),
        Box::new(Secrets),
        Box::new(Maps),
        Box::new(Shutdown),
        Box::new(Patience::default()),
        Box::new(Told::new(terms)),
        Box::new(Expiry::new(terms)),
    ]
}
