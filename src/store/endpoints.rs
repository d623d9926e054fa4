//! `endpoints`: who is followed. Also the text forms of [`TlsPolicy`] and [`EndpointStatus`], which nothing else needs.

use diesel::result::Error;
use diesel::{AsChangeset, ExpressionMethods, Insertable, OptionalExtension, QueryDsl, QueryResult, Queryable, RunQueryDsl};

use super::connection::{Connection, on};
use super::events::text;
use super::schema::{endpoints, history_state, tunnel_config, tunnel_state};
use super::{EndpointChange, NewEndpoint, StoreError};
use crate::clock::Timestamp;
use crate::endpoint::{ApiKey, Endpoint, EndpointHealth, EndpointStatus, MasterUrl, TlsPolicy};
use crate::event::EndpointId;

/// Why a request about an endpoint was not carried out.
#[derive(Debug)]
pub(super) enum Failure {
    /// The request cannot be carried out.
    Refused(StoreError),
    /// The database failed.
    Query(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Query(error)
    }
}

fn refused(message: String) -> Failure {
    Failure::Refused(StoreError::refused(message))
}

/// Makes an endpoint.
pub(super) fn add(connection: &mut Connection, new: &NewEndpoint, at: Timestamp) -> Result<EndpointId, Failure> {
    let taken = endpoints::table.filter(endpoints::name.eq(&new.name)).select(endpoints::id);
    let taken: Option<i32> = on!(&mut *connection, c => taken.first(c).optional())?;
    if taken.is_some() {
        return Err(refused(format!(
            "there is an endpoint `{}` already; change it with `tidegate endpoint set`, or choose another name",
            new.name
        )));
    }
    let row = NewRow {
        name: &new.name,
        url: new.url.origin(),
        api_path: &new.url.prefix,
        api_key: new.api_key.reveal(),
        status: EndpointStatus::Offline.as_str(),
        reason: "",
        since: at.0,
        tls: tls_text(&new.tls),
        paused: false,
        log_events: new.log_events,
        created_at: at.0,
        updated_at: at.0,
    };
    let id: i32 =
        on!(connection, c => diesel::insert_into(endpoints::table).values(&row).returning(endpoints::id).get_result(c))?;
    Ok(EndpointId(id))
}

/// Changes an endpoint.
pub(super) fn change(connection: &mut Connection, id: EndpointId, change: &EndpointChange, at: Timestamp) -> Result<(), Failure> {
    if let Some(master_id) = &change.master_id {
        let other =
            endpoints::table.filter(endpoints::master_id.eq(master_id)).filter(endpoints::id.ne(id.0)).select(endpoints::name);
        let other: Option<String> = on!(&mut *connection, c => other.first(c).optional())?;
        if let Some(other) = other {
            return Err(refused(format!("this master is followed already, as `{other}`; remove one of the two")));
        }
    }
    let changeset = ChangedRow {
        url: change.url.as_ref().map(MasterUrl::origin),
        api_path: change.url.as_ref().map(|url| url.prefix.as_str()),
        api_key: change.api_key.as_ref().map(ApiKey::reveal),
        tls: change.tls.as_ref().map(tls_text),
        paused: change.paused,
        log_events: change.log_events,
        master_id: change.master_id.as_deref(),
        updated_at: at.0,
    };
    let changed = on!(connection, c => diesel::update(endpoints::table.find(id.0)).set(&changeset).execute(c))?;
    if changed == 1 {
        Ok(())
    } else {
        Err(refused(format!("there is no endpoint number {id}; it may have been removed meanwhile")))
    }
}

/// Removes an endpoint, its live tunnels and what the history worker kept for them. Doing it twice is no error.
pub(super) fn remove(connection: &mut Connection, id: EndpointId) -> QueryResult<()> {
    on!(connection, c => {
        diesel::delete(tunnel_state::table.filter(tunnel_state::endpoint_id.eq(id.0))).execute(c)?;
        diesel::delete(tunnel_config::table.filter(tunnel_config::endpoint_id.eq(id.0))).execute(c)?;
        diesel::delete(history_state::table.filter(history_state::endpoint_id.eq(id.0))).execute(c)?;
        diesel::delete(endpoints::table.find(id.0)).execute(c)?;
    });
    Ok(())
}

/// Stores health; an endpoint that is gone is left out.
pub(super) fn store_health(connection: &mut Connection, id: EndpointId, health: &EndpointHealth) -> QueryResult<()> {
    let values = (
        endpoints::status.eq(health.status.as_str()),
        endpoints::reason.eq(text(&health.reason)),
        endpoints::since.eq(health.since.0),
        endpoints::last_check.eq(health.last_heard.map(|time| time.0)),
        endpoints::version.eq(health.version.as_deref().map(text)),
    );
    on!(connection, c => diesel::update(endpoints::table.find(id.0)).set(values).execute(c))?;
    Ok(())
}

/// All endpoints, by name.
pub(super) fn load(connection: &mut Connection) -> Result<Vec<(Endpoint, EndpointHealth)>, Failure> {
    let rows: Vec<Row> = on!(connection, c => endpoints::table.order(endpoints::name).load(c))?;
    rows.into_iter().map(Row::into_endpoint).collect()
}

#[derive(Insertable)]
#[diesel(table_name = endpoints)]
struct NewRow<'a> {
    name: &'a str,
    url: String,
    api_path: &'a str,
    api_key: &'a str,
    status: &'a str,
    reason: &'a str,
    since: i64,
    tls: String,
    paused: bool,
    log_events: Option<bool>,
    created_at: i64,
    updated_at: i64,
}

/// What is `None` stays; `Some(None)` becomes NULL.
#[derive(AsChangeset)]
#[diesel(table_name = endpoints)]
struct ChangedRow<'a> {
    url: Option<String>,
    api_path: Option<&'a str>,
    api_key: Option<&'a str>,
    tls: Option<String>,
    paused: Option<bool>,
    log_events: Option<Option<bool>>,
    master_id: Option<&'a str>,
    updated_at: i64,
}

/// A row of `endpoints`. Has no `Debug`: it holds the key.
#[derive(Queryable)]
pub(super) struct Row {
    id: i32,
    name: String,
    url: String,
    api_path: String,
    api_key: String,
    status: String,
    reason: String,
    since: i64,
    last_check: Option<i64>,
    version: Option<String>,
    tls: String,
    paused: bool,
    log_events: Option<bool>,
    master_id: Option<String>,
    _created_at: i64,
    _updated_at: i64,
}

impl Row {
    fn into_endpoint(self) -> Result<(Endpoint, EndpointHealth), Failure> {
        let unusable = |column: &str| {
            Failure::Refused(StoreError::fatal(format!(
                "endpoint `{}` has an unusable `{column}` in the database; set it again with `tidegate endpoint set`",
                self.name
            )))
        };
        let url: MasterUrl = format!("{}{}", self.url, self.api_path).parse().map_err(|_| unusable("url"))?;
        let tls = tls_from(&self.tls).ok_or_else(|| unusable("tls"))?;
        let status = status_from(&self.status).ok_or_else(|| unusable("status"))?;
        let health = EndpointHealth {
            status,
            reason: self.reason,
            since: Timestamp(self.since),
            last_heard: self.last_check.map(Timestamp),
            version: self.version,
        };
        let endpoint = Endpoint {
            id: EndpointId(self.id),
            name: self.name,
            url,
            api_key: ApiKey::new(&self.api_key),
            tls,
            paused: self.paused,
            log_events: self.log_events,
            master_id: self.master_id,
        };
        Ok((endpoint, health))
    }
}

/// `verify`, `verify:PATH`, `pin`, `pin:HEX` or `insecure`: the column `tls`.
pub(super) fn tls_text(tls: &TlsPolicy) -> String {
    match tls {
        TlsPolicy::Verify => "verify".to_owned(),
        TlsPolicy::VerifyWith(path) => format!("verify:{}", path.display()),
        TlsPolicy::Pin(None) => "pin".to_owned(),
        TlsPolicy::Pin(Some(fingerprint)) => format!("pin:{fingerprint}"),
        TlsPolicy::Insecure => "insecure".to_owned(),
    }
}

fn tls_from(text: &str) -> Option<TlsPolicy> {
    match text.split_once(':') {
        None if text == "verify" => Some(TlsPolicy::Verify),
        None if text == "pin" => Some(TlsPolicy::Pin(None)),
        None if text == "insecure" => Some(TlsPolicy::Insecure),
        Some(("verify", path)) => Some(TlsPolicy::VerifyWith(path.into())),
        Some(("pin", hex)) => hex.parse().ok().map(|fingerprint| TlsPolicy::Pin(Some(fingerprint))),
        _ => None,
    }
}

fn status_from(text: &str) -> Option<EndpointStatus> {
    use EndpointStatus as Status;
    [Status::Online, Status::Offline, Status::Fail, Status::Disconnect].into_iter().find(|status| status.as_str() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Fingerprint;

    #[test]
    fn every_judgement_of_certificates_and_every_status_is_read_as_it_was_written() {
        let pinned = TlsPolicy::Pin(Some(Fingerprint([0xab; 32])));
        let with = TlsPolicy::VerifyWith("/etc/ca:1.pem".into());
        for tls in [TlsPolicy::Verify, with, TlsPolicy::Pin(None), pinned, TlsPolicy::Insecure] {
            assert_eq!(tls_from(&tls_text(&tls)), Some(tls));
        }
        assert_eq!(tls_from("perhaps"), None);
        assert_eq!(status_from("FAIL"), Some(EndpointStatus::Fail));
        assert_eq!(status_from("fail"), None);
    }
}
