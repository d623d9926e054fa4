//! The keys `alerts.*`.

use std::time::Duration;

use super::{ConfigError, Values};
use crate::alerts::{Rules, fits};
use crate::transport::post::PostTarget;

/// What people are told, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertsConfig {
    /// What is watched.
    pub rules: Rules,
    /// Where the webhook is, and the template of its body.
    pub webhook: Option<(PostTarget, Option<String>)>,
    /// The bot's `sendMessage`, and the chat.
    pub telegram: Option<(PostTarget, String)>,
}

pub(super) fn parse(values: &Values<'_>) -> Result<AlertsConfig, ConfigError> {
    let rules = Rules {
        endpoint_offline: duration(values, "alerts.endpoint_offline")?,
        tunnel_error: duration(values, "alerts.tunnel_error")?,
        flush_overdue: duration(values, "alerts.flush_overdue")?,
        journal_full: duration(values, "alerts.journal_full")?,
        journal_percent: values.count("alerts.journal_percent")?,
    };
    Ok(AlertsConfig { rules, webhook: webhook(values)?, telegram: telegram(values)? })
}

fn duration(values: &Values<'_>, key: &str) -> Result<Option<Duration>, ConfigError> {
    if values.text(key) == "off" { Ok(None) } else { values.duration(key).map(Some) }
}

fn webhook(values: &Values<'_>) -> Result<Option<(PostTarget, Option<String>)>, ConfigError> {
    let template = given(values, "alerts.webhook_template");
    if let Some(template) = template
        && !fits(template)
    {
        return Err(values.error("alerts.webhook_template", None));
    }
    match given(values, "alerts.webhook_url") {
        Some(url) => {
            let target = PostTarget::parse(url).ok_or_else(|| values.error("alerts.webhook_url", None))?;
            Ok(Some((target, template.map(str::to_owned))))
        }
        None if template.is_some() => {
            Err(values.error("alerts.webhook_template", Some("alerts.webhook_url must be set beside it".to_owned())))
        }
        None => Ok(None),
    }
}

fn telegram(values: &Values<'_>) -> Result<Option<(PostTarget, String)>, ConfigError> {
    let (token, chat) = (given(values, "alerts.telegram_token"), given(values, "alerts.telegram_chat"));
    let (token, chat) = match (token, chat) {
        (None, None) => return Ok(None),
        (Some(token), Some(chat)) => (token, chat),
        (Some(_), None) => {
            return Err(values.error("alerts.telegram_chat", Some("it belongs to alerts.telegram_token".to_owned())));
        }
        (None, Some(_)) => {
            return Err(values.error("alerts.telegram_token", Some("it belongs to alerts.telegram_chat".to_owned())));
        }
    };
    // It becomes a part of a path.
    if !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_".contains(&byte)) {
        return Err(values.error("alerts.telegram_token", None));
    }
    let api = values.text("alerts.telegram_api").trim_end_matches('/');
    let target = PostTarget::parse(&format!("{api}/bot{token}/sendMessage"));
    Ok(Some((target.ok_or_else(|| values.error("alerts.telegram_api", None))?, chat.to_owned())))
}

/// A key without default; an empty text counts as not given.
fn given<'a>(values: &'a Values<'_>, key: &str) -> Option<&'a str> {
    Some(values.text(key)).filter(|text| !text.is_empty())
}
