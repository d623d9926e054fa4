//! Which tunnels are the two ends of one: they share a service id (`peer.sid`), and both report the same bytes.
//!
//! A server is left out of a total if a client with its service id is followed: by the same endpoint for the endpoint's
//! total, by any endpoint for the fleet's. One server may have several clients, whose traffic is together what it reports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::{EndpointId, InstanceConfig, TunnelKey};

/// Whose total a row counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InTotals {
    /// The endpoint's.
    pub endpoint: bool,
    /// The fleet's.
    pub fleet: bool,
}

impl InTotals {
    /// Counts in both.
    pub const BOTH: Self = Self { endpoint: true, fleet: true };

    pub(super) fn and(self, other: Self) -> Self {
        Self { endpoint: self.endpoint && other.endpoint, fleet: self.fleet && other.fleet }
    }
}

/// One end of a tunnel, as far as it can be paired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// Service id, not empty.
    pub(super) sid: Box<str>,
    /// A client, as opposed to a server.
    pub(super) client: bool,
}

impl End {
    /// `None` for a tunnel without a service id.
    pub(super) fn of(config: &InstanceConfig) -> Option<Self> {
        let sid = config.peer.sid.as_str();
        (!sid.is_empty()).then(|| Self { sid: sid.into(), client: config.kind.as_str() == "client" })
    }
}

/// Followed clients by service id and endpoint.
#[derive(Debug, Default)]
pub(super) struct Clients(BTreeMap<Box<str>, BTreeMap<EndpointId, u32>>);

impl Clients {
    pub(super) fn add(&mut self, endpoint: EndpointId, end: Option<&End>) {
        if let Some(end) = end.filter(|end| end.client) {
            *self.0.entry(end.sid.clone()).or_default().entry(endpoint).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, endpoint: EndpointId, end: Option<&End>) {
        let Some(end) = end.filter(|end| end.client) else { return };
        let Some(endpoints) = self.0.get_mut(&end.sid) else { return };
        if let Some(count) = endpoints.get_mut(&endpoint) {
            *count -= 1;
            if *count == 0 {
                endpoints.remove(&endpoint);
            }
        }
        if endpoints.is_empty() {
            self.0.remove(&end.sid);
        }
    }

    /// Whose totals a tunnel of this endpoint counts in now.
    pub(super) fn in_totals(&self, endpoint: EndpointId, end: Option<&End>) -> InTotals {
        let clients = end.filter(|end| !end.client).and_then(|end| self.0.get(&end.sid));
        let here = clients.is_some_and(|clients| clients.contains_key(&endpoint));
        InTotals { endpoint: !here, fleet: clients.is_none() }
    }
}

/// Whose totals these tunnels count in, with all of them followed.
pub fn in_totals<'a>(tunnels: impl Iterator<Item = (&'a TunnelKey, &'a InstanceConfig)>) -> BTreeMap<TunnelKey, InTotals> {
    let ends: BTreeMap<&TunnelKey, Option<End>> = tunnels.map(|(tunnel, config)| (tunnel, End::of(config))).collect();
    let mut clients = Clients::default();
    ends.iter().for_each(|(tunnel, end)| clients.add(tunnel.endpoint, end.as_ref()));
    ends.into_iter().map(|(tunnel, end)| (tunnel.clone(), clients.in_totals(tunnel.endpoint, end.as_ref()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(sid: &str, client: bool) -> Option<End> {
        Some(End { sid: sid.into(), client })
    }

    #[test]
    fn a_server_is_left_out_while_a_client_of_its_service_is_followed() {
        let (here, there) = (EndpointId(1), EndpointId(2));
        let mut clients = Clients::default();
        let server = end("s", false);
        assert_eq!(clients.in_totals(here, server.as_ref()), InTotals::BOTH);
        clients.add(there, end("s", true).as_ref());
        assert_eq!(clients.in_totals(here, server.as_ref()), InTotals { endpoint: true, fleet: false });
        clients.add(here, end("s", true).as_ref());
        assert_eq!(clients.in_totals(here, server.as_ref()), InTotals { endpoint: false, fleet: false });
        assert_eq!(clients.in_totals(here, end("s", true).as_ref()), InTotals::BOTH, "the client counts");
        assert_eq!(clients.in_totals(here, end("other", false).as_ref()), InTotals::BOTH);
        assert_eq!(clients.in_totals(here, None), InTotals::BOTH);
        clients.remove(here, end("s", true).as_ref());
        clients.remove(there, end("s", true).as_ref());
        assert_eq!(clients.in_totals(here, server.as_ref()), InTotals::BOTH);
    }
}
