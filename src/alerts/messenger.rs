//! How messages leave.

use bytes::Bytes;
use futures_util::future::{FutureExt, LocalBoxFuture};
use serde_json::json;

use super::outbox::Channel;
use super::words::{Message, cut, fill};
use crate::transport::HttpTransport;
use crate::transport::post::{PostError, PostTarget};

/// Longest text that Telegram takes, in UTF-16 units.
const TELEGRAM_UNITS_MAX: usize = 4_096;

/// Sends messages; passed in, so that a test sees them.
pub trait Notify {
    /// Sends one. The error holds no secret.
    fn send(&self, channel: Channel, message: &Message) -> LocalBoxFuture<'static, Result<(), PostError>>;
}

/// Sends over the network.
#[derive(Clone, Default)]
pub struct Messenger {
    /// For the connections.
    pub transport: HttpTransport,
    /// Where the webhook is, and the template of its body.
    pub webhook: Option<(PostTarget, Option<String>)>,
    /// The bot's `sendMessage`, and the chat.
    pub telegram: Option<(PostTarget, String)>,
}

impl Messenger {
    /// The channels that are configured.
    #[must_use]
    pub fn channels(&self) -> Vec<Channel> {
        let webhook = self.webhook.as_ref().map(|_| Channel::Webhook);
        let telegram = self.telegram.as_ref().map(|_| Channel::Telegram);
        webhook.into_iter().chain(telegram).collect()
    }

    fn request(&self, channel: Channel, message: &Message) -> Result<(PostTarget, Bytes), PostError> {
        let (target, body) = match channel {
            Channel::Webhook => {
                let (target, template) = self.webhook.as_ref().ok_or_else(|| PostError::permanent("there is no webhook"))?;
                let body = match template {
                    None => message.document(),
                    Some(template) => fill(template, message)
                        .map_err(|error| PostError::permanent(format!("the template is no JSON: {error}")))?,
                };
                (target, body)
            }
            Channel::Telegram => {
                let (target, chat) = self.telegram.as_ref().ok_or_else(|| PostError::permanent("there is no Telegram bot"))?;
                let text = cut(&message.text, TELEGRAM_UNITS_MAX);
                (target, json!({"chat_id": chat, "text": text, "link_preview_options": {"is_disabled": true}}))
            }
        };
        Ok((target.clone(), body.to_string().into()))
    }
}

impl Notify for Messenger {
    fn send(&self, channel: Channel, message: &Message) -> LocalBoxFuture<'static, Result<(), PostError>> {
        let transport = self.transport.clone();
        let request = self.request(channel, message);
        async move {
            let (target, body) = request?;
            transport.post(&target, body).await
        }
        .boxed_local()
    }
}
