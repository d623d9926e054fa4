//! Which alerts hold. A condition must hold for a while before it is told, and be gone for a while before its end is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Timestamp;

/// A condition that was told is over when it has been gone for this long: what comes and goes is one alert.
pub const GONE_FOR: Duration = Duration::from_secs(30);

/// What is watched. `None` switches a rule off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `alerts.endpoint_offline`: a master is offline or has failed for this long.
    pub endpoint_offline: Option<Duration>,
    /// `alerts.tunnel_error`: a tunnel is in error for this long.
    pub tunnel_error: Option<Duration>,
    /// `alerts.flush_overdue`: a flush is overdue for this long.
    pub flush_overdue: Option<Duration>,
    /// `alerts.journal_full`: the journal is above its share for this long.
    pub journal_full: Option<Duration>,
    /// `alerts.journal_percent`: percent of `journal.max_bytes`.
    pub journal_percent: u64,
    /// `alerts.traffic_limit`: bytes of one master in a billing cycle, received and sent.
    pub traffic_limit: Option<u64>,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// The flush of a boundary is not committed a minute after it.
    FlushOverdue,
    /// The journal is near its limit.
    JournalFull,
    /// A master is not followed.
    EndpointOffline {
        /// Its name.
        endpoint: String,
    },
    /// A master moved more in this billing cycle than it may.
    TrafficLimit {
        /// Its name.
        endpoint: String,
    },
    /// A tunnel is in error.
    TunnelError {
        /// Name of its master.
        endpoint: String,
        /// Its id there.
        instance: String,
    },
}

impl Condition {
    /// All kinds.
    pub const KINDS: [&str; 5] = ["flush_overdue", "journal_full", "endpoint_offline", "traffic_limit", "tunnel_error"];

    /// As in documents; one of [`Condition::KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::FlushOverdue => "flush_overdue",
            Self::JournalFull => "journal_full",
            Self::EndpointOffline { .. } => "endpoint_offline",
            Self::TrafficLimit { .. } => "traffic_limit",
            Self::TunnelError { .. } => "tunnel_error",
        }
    }

    /// The condition of this kind with this subject, `""` where it has none; `None` of a kind of another version.
    #[must_use]
    pub fn from_parts(kind: &str, endpoint: &str, instance: &str) -> Option<Self> {
        let (endpoint, instance) = (endpoint.to_owned(), instance.to_owned());
        Some(match kind {
            "flush_overdue" => Self::FlushOverdue,
            "journal_full" => Self::JournalFull,
            "endpoint_offline" => Self::EndpointOffline { endpoint },
            "traffic_limit" => Self::TrafficLimit { endpoint },
            "tunnel_error" => Self::TunnelError { endpoint, instance },
            _ => return None,
        })
    }

    /// The master that it concerns, and the instance.
    #[must_use]
    pub fn subject(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::FlushOverdue | Self::JournalFull => (None, None),
            Self::EndpointOffline { endpoint } | Self::TrafficLimit { endpoint } => (Some(endpoint), None),
            Self::TunnelError { endpoint, instance } => (Some(endpoint), Some(instance)),
        }
    }
}

/// How things are at one look.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Masters that are not paused: name, and the reason if it is not followed.
    pub endpoints: Vec<(String, Option<String>)>,
    /// Tunnels whose status is `error`; of masters that are not followed nothing is known.
    pub tunnels: Vec<TunnelInError>,
    /// Whether a flush is overdue.
    pub flush_overdue: bool,
    /// Bytes of the journal, and its limit.
    pub journal: (u64, u64),
    /// Bytes of each master in this billing cycle; `None` until they were added up once.
    pub traffic: Option<Vec<(String, u64)>>,
}

/// A tunnel whose status is `error`.
#[derive(Clone, Debug)]
pub struct TunnelInError {
    /// Name of its master.
    pub endpoint: String,
    /// Its id there.
    pub instance: String,
    /// Its alias; may be empty.
    pub alias: String,
}

/// An alert that was told and is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// What.
    pub condition: Condition,
    /// Since when it has held.
    pub since: Timestamp,
    /// For people.
    pub text: String,
}

/// What becomes of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// It begins.
    Begins,
    /// Its cause is gone.
    Over,
    /// Its master was paused or removed: how it is there is not known any more.
    Unwatched,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether it begins, or how it ends.
    pub turn: Turn,
    /// What.
    pub alert: Active,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    seen: Timestamp,
    text: String,
    told: bool,
    gone_since: Option<Instant>,
}

/// Watches the conditions. Memory is bounded by the masters and tunnels there are.
#[derive(Debug)]
pub struct Watch {
    rules: Rules,
    held: BTreeMap<Condition, Held>,
}

impl Watch {
    /// A watch that has seen nothing yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, held: BTreeMap::new() }
    }

    /// A watch that goes on from what a recorder before this one told. What no rule asks for any more is forgotten.
    #[must_use]
    pub fn going_on(rules: Rules, told: impl IntoIterator<Item = Active>, now: Instant) -> Self {
        let told = told.into_iter().filter(|alert| rules.ask_for(&alert.condition));
        let held = told.map(|Active { condition, since, text }| {
            (condition, Held { since: now, seen: since, text, told: true, gone_since: None })
        });
        Self { held: held.collect(), rules }
    }

    /// Takes a look and says what is to be told now.
    pub fn look(&mut self, look: &Look, now: Instant, wall: Timestamp) -> Vec<Notice> {
        let holding = self.holding(look);
        for (condition, text) in &holding {
            let new = || Held { since: now, seen: wall, text: String::new(), told: false, gone_since: None };
            let held = self.held.entry(condition.clone()).or_insert_with(new);
            held.text.clone_from(text);
            held.gone_since = None;
        }
        let known: BTreeSet<&str> = look.endpoints.iter().map(|(name, _)| name.as_str()).collect();
        let offline: BTreeSet<&str> =
            look.endpoints.iter().filter(|(_, reason)| reason.is_some()).map(|(name, _)| name.as_str()).collect();
        let mut notices = Vec::new();
        let rules = &self.rules;
        self.held.retain(|condition, held| {
            let alert = |held: &Held| Active { condition: condition.clone(), since: held.seen, text: held.text.clone() };
            if holding.contains_key(condition) {
                let after = rules.after(condition).unwrap_or_default();
                if !held.told && now.saturating_duration_since(held.since) >= after {
                    held.told = true;
                    notices.push(Notice { turn: Turn::Begins, alert: alert(held) });
                }
                return true;
            }
            if let (Some(endpoint), _) = condition.subject() {
                // Removed or paused by a person.
                if !known.contains(endpoint) {
                    if held.told {
                        notices.push(Notice { turn: Turn::Unwatched, alert: alert(held) });
                    }
                    return false;
                }
                // Nothing is heard of the tunnels of a master that is away.
                if matches!(condition, Condition::TunnelError { .. }) && offline.contains(endpoint) {
                    return true;
                }
                if matches!(condition, Condition::TrafficLimit { .. }) && look.traffic.is_none() {
                    return true;
                }
            }
            let gone_since = *held.gone_since.get_or_insert(now);
            if !held.told {
                return false;
            }
            if now.saturating_duration_since(gone_since) < GONE_FOR {
                return true;
            }
            notices.push(Notice { turn: Turn::Over, alert: alert(held) });
            false
        });
        notices
    }

    /// What was told and is not over.
    #[must_use]
    pub fn active(&self) -> Vec<Active> {
        let told = self.held.iter().filter(|(_, held)| held.told);
        told.map(|(condition, held)| Active { condition: condition.clone(), since: held.seen, text: held.text.clone() }).collect()
    }

    /// The conditions that hold now, with a text each.
    fn holding(&self, look: &Look) -> BTreeMap<Condition, String> {
        let mut holding = BTreeMap::new();
        let rules = &self.rules;
        if look.flush_overdue && rules.flush_overdue.is_some() {
            let text = "a flush is overdue: the boundary passed and its events are not committed".to_owned();
            holding.insert(Condition::FlushOverdue, text);
        }
        let (bytes, limit) = look.journal;
        if rules.journal_full.is_some() && u128::from(bytes) * 100 > u128::from(limit) * u128::from(rules.journal_percent) {
            let text = format!(
                "the journal holds {} of {}: events wait for the database, and at the limit they are refused",
                bytesize::ByteSize(bytes),
                bytesize::ByteSize(limit)
            );
            holding.insert(Condition::JournalFull, text);
        }
        if rules.endpoint_offline.is_some() {
            for (endpoint, reason) in &look.endpoints {
                if let Some(reason) = reason {
                    let text = if reason.is_empty() { "it is offline".to_owned() } else { reason.clone() };
                    holding.insert(Condition::EndpointOffline { endpoint: endpoint.clone() }, text);
                }
            }
        }
        if rules.tunnel_error.is_some() {
            for TunnelInError { endpoint, instance, alias } in &look.tunnels {
                let name = if alias.is_empty() { instance } else { alias };
                let condition = Condition::TunnelError { endpoint: endpoint.clone(), instance: instance.clone() };
                holding.insert(condition, format!("tunnel {name} is in error"));
            }
        }
        if let Some(limit) = rules.traffic_limit {
            let followed: BTreeSet<&str> = look.endpoints.iter().map(|(name, _)| name.as_str()).collect();
            let above = |(endpoint, bytes): &&(String, u64)| *bytes >= limit && followed.contains(endpoint.as_str());
            for (endpoint, bytes) in look.traffic.iter().flatten().filter(above) {
                let (bytes, limit) = (bytesize::ByteSize(*bytes), bytesize::ByteSize(limit));
                let text = format!("{bytes} moved in this billing cycle, of {limit}");
                holding.insert(Condition::TrafficLimit { endpoint: endpoint.clone() }, text);
            }
        }
        holding
    }
}

impl Rules {
    /// Whether anybody wants to be told of it.
    fn ask_for(&self, condition: &Condition) -> bool {
        match condition {
            Condition::TrafficLimit { .. } => self.traffic_limit.is_some(),
            other => self.after(other).is_some(),
        }
    }

    fn after(&self, condition: &Condition) -> Option<Duration> {
        match condition {
            Condition::FlushOverdue => self.flush_overdue,
            Condition::JournalFull => self.journal_full,
            Condition::EndpointOffline { .. } => self.endpoint_offline,
            Condition::TunnelError { .. } => self.tunnel_error,
            // A sum does not flutter.
            Condition::TrafficLimit { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    const RULES: Rules = Rules {
        endpoint_offline: Some(Duration::from_secs(120)),
        tunnel_error: Some(Duration::from_secs(60)),
        flush_overdue: Some(Duration::ZERO),
        journal_full: Some(Duration::from_secs(60)),
        journal_percent: 80,
        traffic_limit: Some(1_000),
    };

    /// Looks at seconds of made-up time and gives what is told: `+` begins, `-` is over, `?` is not watched any more.
    struct Made(Watch, Instant);

    impl Made {
        fn new() -> Self {
            Self(Watch::new(RULES), SystemClock.monotonic())
        }

        fn at(&mut self, second: u64, look: &Look) -> Vec<String> {
            let wall = Timestamp(i64::try_from(second).unwrap() * Timestamp::SECOND);
            let notices = self.0.look(look, self.1 + Duration::from_secs(second), wall);
            let sign = |notice: &Notice| match notice.turn {
                Turn::Begins => '+',
                Turn::Over => '-',
                Turn::Unwatched => '?',
            };
            notices.iter().map(|notice| format!("{}{}", sign(notice), notice.alert.condition.kind())).collect()
        }
    }

    fn master(reason: Option<&str>) -> Look {
        Look { endpoints: vec![("tokyo".to_owned(), reason.map(str::to_owned))], journal: (0, 100), ..Look::default() }
    }

    fn tunnel(in_error: bool) -> Look {
        let (endpoint, instance, alias) = ("tokyo".to_owned(), "9545ac3d".to_owned(), "web".to_owned());
        let tunnels = if in_error { vec![TunnelInError { endpoint, instance, alias }] } else { Vec::new() };
        Look { tunnels, ..master(None) }
    }

    #[test]
    fn a_master_is_told_of_when_it_was_away_for_long_enough_and_when_it_is_back() {
        let mut made = Made::new();
        assert!(made.at(0, &master(Some("connection refused"))).is_empty());
        assert!(made.at(119, &master(Some("connection refused"))).is_empty());
        assert_eq!(made.at(120, &master(Some("connection refused"))), ["+endpoint_offline"]);
        assert_eq!(made.0.active()[0].since, Timestamp(0));
        assert!(made.at(130, &master(Some("connection refused"))).is_empty(), "once");
        assert!(made.at(140, &master(None)).is_empty());
        assert_eq!(made.at(170, &master(None)), ["-endpoint_offline"]);
        assert!(made.0.active().is_empty() && made.0.held.is_empty());
    }

    #[test]
    fn what_comes_and_goes_is_one_alert_and_what_is_short_is_none() {
        let mut made = Made::new();
        made.at(0, &tunnel(true));
        assert!(made.at(59, &tunnel(false)).is_empty());
        made.at(60, &tunnel(true));
        assert!(made.at(119, &tunnel(true)).is_empty(), "it is counted from its last beginning");
        assert_eq!(made.at(120, &tunnel(true)), ["+tunnel_error"]);
        assert!(made.at(125, &tunnel(false)).is_empty());
        assert!(made.at(150, &tunnel(true)).is_empty());
        assert!(made.at(160, &tunnel(false)).is_empty());
        assert!(made.at(189, &tunnel(false)).is_empty());
        assert_eq!(made.at(190, &tunnel(false)), ["-tunnel_error"]);
    }

    #[test]
    fn the_tunnels_of_a_master_that_is_away_stay_as_they_were() {
        let mut made = Made::new();
        made.at(0, &tunnel(true));
        assert_eq!(made.at(60, &tunnel(true)), ["+tunnel_error"]);
        assert!(made.at(100, &master(Some("away"))).is_empty());
        assert_eq!(made.at(220, &master(Some("away"))), ["+endpoint_offline"]);
        assert_eq!(made.0.active().len(), 2);
        made.at(300, &tunnel(true));
        assert_eq!(made.at(330, &tunnel(true)), ["-endpoint_offline"]);
        // Its error is over, or it is not there any more.
        made.at(340, &master(None));
        assert_eq!(made.at(370, &master(None)), ["-tunnel_error"]);
    }

    #[test]
    fn what_a_person_removes_or_pauses_is_over_at_once_if_it_was_told() {
        let gone = Look { endpoints: Vec::new(), ..master(None) };
        let mut made = Made::new();
        made.at(0, &master(Some("away")));
        made.at(120, &master(Some("away")));
        assert_eq!(made.at(130, &gone), ["?endpoint_offline"]);
        assert!(made.0.held.is_empty());
        made.at(200, &master(Some("away")));
        assert!(made.at(210, &gone).is_empty(), "it was not told");
        assert!(made.0.held.is_empty());
    }

    #[test]
    fn after_a_restart_what_was_told_is_not_told_again_and_its_end_is() {
        let again = |told: &[(&str, &str, &str)], rules: Rules| {
            let told = told.iter().map(|(kind, endpoint, instance)| Active {
                condition: Condition::from_parts(kind, endpoint, instance).unwrap(),
                since: Timestamp(7),
                text: "away".to_owned(),
            });
            let now = SystemClock.monotonic();
            Made(Watch::going_on(rules, told, now), now)
        };
        let offline = [("endpoint_offline", "tokyo", "")];
        let mut made = again(&offline, RULES);
        for second in [0, 120, 600] {
            assert!(made.at(second, &master(Some("away"))).is_empty(), "it was told");
        }
        assert_eq!(made.0.active()[0].since, Timestamp(7), "since when it was found");
        made.at(610, &master(None));
        assert_eq!(made.at(640, &master(None)), ["-endpoint_offline"]);

        let mut made = again(&offline, RULES);
        assert!(made.at(0, &master(None)).is_empty());
        assert_eq!(made.at(30, &master(None)), ["-endpoint_offline"], "it came back while the recorder was off");
        let mut made = again(&offline, RULES);
        assert_eq!(
            made.at(0, &Look { endpoints: Vec::new(), ..master(None) }),
            ["?endpoint_offline"],
            "it was removed meanwhile"
        );
        let mut made = again(&offline, Rules { endpoint_offline: None, ..RULES });
        assert!(made.at(0, &master(None)).is_empty() && made.0.held.is_empty(), "nobody asks for it any more");

        // Sums come after the first look, and reports of tunnels after the connection.
        let mut made = again(&[("traffic_limit", "tokyo", ""), ("tunnel_error", "tokyo", "9545ac3d")], RULES);
        for second in [0, 60] {
            assert!(made.at(second, &Look { traffic: None, ..master(Some("not connected yet")) }).is_empty());
        }
        let below = Look { traffic: Some(vec![("tokyo".to_owned(), 1)]), ..tunnel(true) };
        made.at(70, &below);
        assert_eq!(made.at(100, &below), ["-traffic_limit"]);
        assert_eq!(made.0.active().len(), 1, "the tunnel is still in error");
    }

    #[test]
    fn every_kind_is_made_of_its_parts_again() {
        for kind in Condition::KINDS {
            let condition = Condition::from_parts(kind, "tokyo", "9545ac3d").unwrap();
            let (endpoint, instance) = condition.subject();
            let again = Condition::from_parts(kind, endpoint.unwrap_or_default(), instance.unwrap_or_default());
            assert_eq!((condition.kind(), again), (kind, Some(condition.clone())));
        }
        assert_eq!(Condition::from_parts("newer", "", ""), None);
    }

    #[test]
    fn journal_flush_and_traffic_have_their_limits() {
        let mut made = Made::new();
        let at_80 = Look { journal: (80, 100), ..Look::default() };
        let above = Look { journal: (81, 100), ..Look::default() };
        made.at(0, &at_80);
        assert!(made.at(600, &at_80).is_empty(), "80 is not above 80");
        made.at(601, &above);
        assert_eq!(made.at(661, &above), ["+journal_full"]);
        let overdue = Look { flush_overdue: true, ..above.clone() };
        assert_eq!(made.at(662, &overdue), ["+flush_overdue"]);
        let traffic = |bytes| Look { traffic: Some(vec![("tokyo".to_owned(), bytes)]), ..master(None) };
        assert!(Made::new().at(0, &traffic(999)).is_empty());
        assert_eq!(Made::new().at(0, &traffic(1_000)), ["+traffic_limit"]);
        let paused = Look { endpoints: Vec::new(), ..traffic(1_000) };
        assert!(Made::new().at(0, &paused).is_empty(), "nobody is told of a master that is paused or removed");
    }

    #[test]
    fn a_rule_that_is_off_tells_nothing() {
        let off = Rules {
            endpoint_offline: None,
            tunnel_error: None,
            flush_overdue: None,
            journal_full: None,
            journal_percent: 80,
            traffic_limit: None,
        };
        let mut watch = Watch::new(off);
        let all = Look {
            endpoints: vec![("tokyo".to_owned(), Some("away".to_owned()))],
            flush_overdue: true,
            journal: (100, 100),
            traffic: Some(vec![("tokyo".to_owned(), u64::MAX)]),
            ..tunnel(true)
        };
        assert!(watch.look(&all, SystemClock.monotonic(), Timestamp(0)).is_empty() && watch.active().is_empty());
    }
}
