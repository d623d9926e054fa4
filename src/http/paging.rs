//! Parts of the lists that are shown whole unless asked otherwise. A cursor names the last document of the part before, so that it
//! stays valid whatever is added or removed meanwhile.

use super::problem::Problem;
use crate::event::{EndpointId, InstanceId, TunnelKey};

/// Most documents of a part.
const LIMIT_MAX: u32 = 1_000;

/// How many documents at most: all, unless a limit is given.
pub(super) fn limit(given: Option<u32>) -> Result<usize, Problem> {
    match given {
        None => Ok(usize::MAX),
        Some(limit @ 1..=LIMIT_MAX) => Ok(limit as usize),
        Some(limit) => Err(Problem::bad_request(format!("limit={limit}: give 1 to {LIMIT_MAX}"))),
    }
}

/// The member `next` behind a list, with its comma; nothing for who did not ask for a part.
pub(super) fn next(is_part: bool, next: Option<&str>) -> String {
    if is_part { format!(",\"next\":{}", serde_json::Value::from(next)) } else { String::new() }
}

/// The cursor that names this tunnel.
pub(super) fn cursor(tunnel: &TunnelKey) -> String {
    format!("{}/{}", tunnel.endpoint.0, tunnel.instance.as_str())
}

/// The tunnel that a cursor names.
pub(super) fn tunnel(cursor: &str) -> Result<TunnelKey, Problem> {
    let wrong = || Problem::bad_request("`cursor` is none: give what `next` of an earlier answer was");
    let (endpoint, instance) = cursor.split_once('/').ok_or_else(wrong)?;
    Ok(TunnelKey { endpoint: EndpointId(endpoint.parse().map_err(|_| wrong())?), instance: InstanceId::from(instance) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fake::{ask, with_endpoint};
    use super::*;

    /// The names in each part of the list of endpoints, following `next` to its end.
    async fn parts(limit: usize) -> Vec<Vec<String>> {
        let fake = with_endpoint().await;
        for (nth, name) in ["paris", "東京", "aachen"].into_iter().enumerate() {
            let body = json!({"name": name, "url": format!("http://10.0.1.{nth}:9090")});
            assert_eq!(ask(&fake, "POST", "/api/v1/endpoints", Some(body)).await.0, 201);
        }
        let (mut parts, mut cursor) = (Vec::new(), String::new());
        loop {
            let (status, _, part) = ask(&fake, "GET", &format!("/api/v1/endpoints?limit={limit}{cursor}"), None).await;
            assert_eq!(status, 200, "{part}");
            let names = part["endpoints"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned());
            parts.push(names.collect());
            let Some(next) = part["next"].as_str() else {
                assert_eq!(part.get("next"), Some(&Value::Null), "at the end it is there and null");
                return parts;
            };
            let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
            cursor = format!("&cursor={next}");
        }
    }

    #[actix_rt::test]
    async fn endpoints_come_in_parts_that_are_the_whole_together() {
        assert_eq!(parts(3).await, [vec!["aachen", "paris", "tokyo"], vec!["東京"]]);
        assert_eq!(parts(1).await.concat(), ["aachen", "paris", "tokyo", "東京"]);
        assert_eq!(parts(4).await.len(), 1, "no empty part at the end");
    }

    #[actix_rt::test]
    async fn who_does_not_ask_for_a_part_gets_everything_and_no_next() {
        let fake = with_endpoint().await;
        for path in ["/api/v1/endpoints", "/api/v1/tunnels", "/api/v1/tunnels?endpoint=tokyo"] {
            let (status, _, whole) = ask(&fake, "GET", path, None).await;
            assert!(status == 200 && whole.get("next").is_none(), "{path}: {whole}");
        }
        for query in ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=x/y"] {
            assert_eq!(ask(&fake, "GET", &format!("/api/v1/tunnels?{query}"), None).await.0, 400, "{query}");
        }
    }

    #[test]
    fn a_cursor_names_its_tunnel_whatever_its_id() {
        for instance in ["9545ac3d", "a/b", "", "東 京"] {
            let key = TunnelKey { endpoint: EndpointId(7), instance: InstanceId::from(instance) };
            assert_eq!(tunnel(&cursor(&key)).unwrap(), key);
        }
    }
}
