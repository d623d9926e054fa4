//! The keys that may change while the recorder runs, checked as all others are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keys::Key;
use super::layers::Layers;
use super::{ConfigError, Origin, StorageConfig, Values};

/// What may be tuned while the recorder runs. Values are within the ranges of [`KEYS`](super::keys::KEYS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// `storage.max_buffer_size`: events at which a batch is cut.
    pub max_buffer_size: usize,
    /// `storage.batch_size`: rows per statement.
    pub batch_size: usize,
    /// `storage.flush_interval`: longest wait of an event.
    pub flush_interval: Duration,
    /// `cache.sync_interval`: how often changes of live state are written.
    pub sync_interval: Duration,
}

impl Tuning {
    /// The keys that it is made of.
    pub const KEYS: [&str; 4] =
        ["storage.max_buffer_size", "storage.batch_size", "storage.flush_interval", "cache.sync_interval"];

    /// Whether a key may change while the recorder runs.
    #[must_use]
    pub fn has(name: &str) -> bool {
        Self::KEYS.contains(&name)
    }

    /// As the configuration says.
    #[must_use]
    pub fn new(storage: &StorageConfig, sync_interval: Duration) -> Self {
        let StorageConfig { max_buffer_size, batch_size, flush_interval, .. } = *storage;
        Self { max_buffer_size, batch_size, flush_interval, sync_interval }
    }

    /// The value of a key as the configuration would spell it; `None` for a key that is none of [`Self::KEYS`].
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        match name {
            "storage.max_buffer_size" => Some(self.max_buffer_size.to_string()),
            "storage.batch_size" => Some(self.batch_size.to_string()),
            "storage.flush_interval" => Some(humantime::format_duration(self.flush_interval).to_string()),
            "cache.sync_interval" => Some(humantime::format_duration(self.sync_interval).to_string()),
            _ => None,
        }
    }

    /// This with one key changed. `origin` is for the error.
    ///
    /// # Errors
    /// [`ConfigError`] if there is no such key, it cannot change while the recorder runs, or the value is not allowed.
    pub fn with(mut self, name: &str, text: &str, origin: &Origin) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        layers.put(name, text.trim().to_owned(), origin.clone())?;
        let values = Values(&layers);
        match name {
            "storage.max_buffer_size" => self.max_buffer_size = values.count(name)?,
            "storage.batch_size" => self.batch_size = values.count(name)?,
            "storage.flush_interval" => self.flush_interval = values.flush_interval()?,
            "cache.sync_interval" => self.sync_interval = values.duration(name)?,
            _ => {
                return Err(ConfigError::Fixed {
                    key: name.to_owned(),
                    origin: origin.clone(),
                    changeable: Self::KEYS.join(", "),
                });
            }
        }
        Ok(self)
    }

    /// This with what the database knows. Keys that are none of [`Self::KEYS`] are not looked at.
    ///
    /// # Errors
    /// As [`Tuning::with`].
    pub fn with_all(self, settings: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let tuned = settings.iter().filter(|(name, _)| Self::has(name));
        tuned.into_iter().try_fold(self, |tuning, (name, text)| tuning.with(name, text, &Origin::Database))
    }
}

impl Key {
    /// Whether it may change while the recorder runs.
    #[must_use]
    pub fn changes_while_running(&self) -> bool {
        Tuning::has(self.name) || self.name == crate::modes::StorageMode::KEY
    }
}

impl Default for Tuning {
    /// The defaults of the keys; a test holds them against the table.
    fn default() -> Self {
        Self {
            max_buffer_size: 1_000,
            batch_size: 100,
            flush_interval: Duration::from_secs(3_600),
            sync_interval: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    #[test]
    fn a_key_that_may_change_takes_what_the_configuration_takes_and_nothing_else() {
        let with = |name, text| Tuning::default().with(name, text, &Origin::Request);
        assert_eq!(with("storage.max_buffer_size", "500").unwrap().max_buffer_size, 500);
        assert_eq!(with("storage.flush_interval", "15m").unwrap().flush_interval, Duration::from_secs(900));
        for (name, text, words) in [
            ("storage.max_buffer_size", "0", "a whole number from 1"),
            ("storage.flush_interval", "7m", "must divide 24 h"),
            ("storage.batch_size", "many", "a whole number"),
            ("journal.max_bytes", "1 GiB", "cannot change while the recorder runs"),
            ("storage.batchsize", "1", "did you mean"),
        ] {
            let error = with(name, text).unwrap_err().to_string();
            assert!(error.contains(words), "{name}={text}: {error}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        for name in Tuning::KEYS {
            let default = keys::find(name).and_then(|key| key.default).unwrap();
            assert_eq!(Tuning::default().text(name).as_deref(), Some(default), "{name}");
        }
    }

    #[test]
    fn every_key_is_spelt_so_that_it_is_read_as_it_is() {
        let tuning =
            Tuning { max_buffer_size: 7, batch_size: 9, flush_interval: Duration::from_secs(5_400), ..Tuning::default() };
        let read = Tuning::KEYS
            .iter()
            .try_fold(Tuning::default(), |read, name| read.with(name, &tuning.text(name).unwrap_or_default(), &Origin::Request));
        assert_eq!(read.unwrap(), tuning);
    }
}
