//! What the versions of the master have and do, by the table of fields and the list of differences in the protocol notes.

use std::time::Duration;

/// A version whose streams were recorded. They are ordered by age; the Rust master stands last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// v1.1.5: the first event stream, with the fewest fields; counts too much.
    Go1_1_5,
    /// v1.4.2: alias and restart; an update only when a connection ends.
    Go1_4_2,
    /// v1.6.1: the periodic report with mode, ping, pool, tcps and udps.
    Go1_6_1,
    /// v1.7.0: `config`, and `tags` as a list.
    Go1_7_0,
    /// v1.14.0: `meta` in place of `tags`, status `error`, resets that last.
    Go1_14_0,
    /// v2.0.0-b10: as v1.14.0.
    Go2_0_0B10,
    /// Rust master 0.1.0: keeps instances and runs none of them.
    Rust0_1_0,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] =
        [Self::Go1_1_5, Self::Go1_4_2, Self::Go1_6_1, Self::Go1_7_0, Self::Go1_14_0, Self::Go2_0_0B10, Self::Rust0_1_0];

    /// As `ver` in `/info`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Go1_1_5 => "v1.1.5",
            Self::Go1_4_2 => "v1.4.2",
            Self::Go1_6_1 => "v1.6.1",
            Self::Go1_7_0 => "v1.7.0",
            Self::Go1_14_0 => "v1.14.0",
            Self::Go2_0_0B10 => "v2.0.0-b10",
            Self::Rust0_1_0 => "0.1.0",
        }
    }

    /// Whether this is the Rust master.
    #[must_use]
    pub fn is_rust(self) -> bool {
        self == Self::Rust0_1_0
    }

    /// `alias` and `restart` in the instance.
    #[must_use]
    pub fn has_alias(self) -> bool {
        self >= Self::Go1_4_2
    }

    /// `mode`, `ping`, `pool`, `tcps`, `udps` in the instance, and a periodic report that fills them.
    #[must_use]
    pub fn has_figures(self) -> bool {
        self >= Self::Go1_6_1
    }

    /// `config` in the instance.
    #[must_use]
    pub fn has_config(self) -> bool {
        self >= Self::Go1_7_0
    }

    /// `tags` as a list of `{"key","value"}`.
    #[must_use]
    pub fn has_tag_list(self) -> bool {
        self == Self::Go1_7_0
    }

    /// `meta` with `peer` and `tags`; a master id.
    #[must_use]
    pub fn has_meta(self) -> bool {
        self >= Self::Go1_14_0
    }

    /// `"logs":""` where there is no line.
    #[must_use]
    pub fn has_empty_logs(self) -> bool {
        self >= Self::Go1_7_0 && !self.is_rust()
    }

    /// `GET /info`.
    #[must_use]
    pub fn has_info(self) -> bool {
        self >= Self::Go1_4_2
    }

    /// Whether a process runs for each instance, prints lines and reports.
    #[must_use]
    pub fn runs_instances(self) -> bool {
        !self.is_rust()
    }

    /// Whether a line with `Server error:` or `Client error:`, or silence, sets the status `error`.
    #[must_use]
    pub fn sets_error(self) -> bool {
        self.has_meta() && !self.is_rust()
    }

    /// Whether a reset lasts; before, the next report brings the old figures back.
    #[must_use]
    pub fn reset_lasts(self) -> bool {
        self.has_meta()
    }

    /// Value of `restart` after a POST.
    #[must_use]
    pub fn restart_by_default(self) -> bool {
        self >= Self::Go1_7_0
    }

    /// How many `stopped` updates a stop sends.
    #[must_use]
    pub fn stopped_updates(self) -> usize {
        if self.has_meta() { 1 } else { 2 }
    }

    /// Time between the `shutdown` event and the end of the body.
    #[must_use]
    pub fn shutdown_to_end(self) -> Duration {
        if self.has_meta() { Duration::from_millis(5) } else { Duration::from_millis(100) }
    }

    /// How many events wait for one subscriber before further ones are dropped (Go) or the oldest are skipped (Rust).
    #[must_use]
    pub fn queue_slots(self) -> usize {
        if self.is_rust() { 65_536 } else { 10 }
    }

    /// What a report counts for each byte moved, as a fraction: v1.1.5 counts six times too much.
    #[must_use]
    pub fn counted_per_byte(self) -> u64 {
        if self == Self::Go1_1_5 { 6 } else { 1 }
    }
}
