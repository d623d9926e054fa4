//! How events reach the database: the modes, what may be tuned while the recorder runs, what each mode cost, and whether it is
//! safe to go on to `batched`. Plain values; who acts on them is the [`RealtimeActor`](crate::actors::realtime).

pub mod ledger;
pub mod report;
pub mod single_queue;
pub mod usage;

use serde::{Deserialize, Serialize};

/// How events reach the database. The journal and the batches are there in each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageMode {
    /// Each event by itself, in a transaction with its tunnel's state, as soon as it is received. Its batch stores what was
    /// left out.
    Realtime,
    /// As `Realtime`, and each batch is compared with what stands there.
    Dual,
    /// In batches only.
    #[default]
    Batched,
}

impl StorageMode {
    /// All of them, in the order of a rollout.
    pub const ALL: [Self; 3] = [Self::Realtime, Self::Dual, Self::Batched];

    /// The key of the configuration, and its name in the table `settings`.
    pub const KEY: &'static str = "storage.mode";

    /// As in the configuration and in the stats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Dual => "dual",
            Self::Batched => "batched",
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name)
    }

    /// Whether events are written one at a time.
    #[must_use]
    pub fn writes_singly(self) -> bool {
        self != Self::Batched
    }
}

impl std::str::FromStr for StorageMode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::from_name(name).ok_or_else(|| format!("there is no mode `{name}`; there are realtime, dual and batched"))
    }
}

impl std::fmt::Display for StorageMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
