//! Alerts: what is wrong for long enough is told to a webhook or to Telegram, and so is its end. The decisions are here, on
//! values and without a clock of their own; [`crate::actors::alerts`] looks, sends and shows.

mod messenger;
mod outbox;
mod traffic;
mod watch;
mod words;

pub use self::messenger::{Messenger, Notify};
pub use self::outbox::{Channel, ChannelState, GivenUp, Outbox, Wait};
pub use self::traffic::{CycleTraffic, StoredTraffic};
pub use self::watch::{Active, Condition, Look, Notice, Rules, TunnelInError, Turn, Watch};
pub use self::words::{Message, TEMPLATE_WORDS, fits};
