//! EndpointsActor: which endpoints there are, and one SseIngestActor for each that is not paused.

use actix::Message;

use crate::endpoint::{ApiKey, Fingerprint};
use crate::event::EndpointId;

/// The stream carried a new API key for the master.
///
/// Sent by the SseIngestActor, which uses the key from then on. The reply means that it will be stored.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct KeyRotated {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The key.
    pub api_key: ApiKey,
}

/// The master told its id. Sent by the SseIngestActor once per connection where it differs from what is known.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Identified {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// 16 hex digits.
    pub master_id: String,
}

/// The first certificate of an endpoint with `tls = pin` and no fingerprint was seen; it is kept.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct CertificateSeen {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
}
