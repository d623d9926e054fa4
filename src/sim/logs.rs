//! What the recorder logs, line by line: it is searched for secrets, and it stands in the trace.

use std::cell::RefCell;
use std::sync::Once;

use log::{LevelFilter, Log, Metadata, Record};

type Sink = Box<dyn Fn(&str)>;

thread_local! {
    static SINK: RefCell<Option<Sink>> = const { RefCell::new(None) };
}

struct ToSink;

impl Log for ToSink {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        SINK.with(|sink| {
            // A line that is logged while a line is being taken is not taken.
            if let Ok(sink) = sink.try_borrow()
                && let Some(sink) = sink.as_ref()
            {
                sink(&format!("{} {}", record.level(), record.args()));
            }
        });
    }

    fn flush(&self) {}
}

/// While it lives, lines that this thread logs go to a sink.
pub struct Capture(());

/// Has this thread's log lines go to `sink`. Where the process has a logger of its own already, nothing is captured.
#[must_use]
pub fn capture(sink: impl Fn(&str) + 'static) -> Capture {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if log::set_logger(&ToSink).is_ok() {
            log::set_max_level(LevelFilter::Info);
        }
    });
    SINK.with(|own| *own.borrow_mut() = Some(Box::new(sink)));
    Capture(())
}

impl Drop for Capture {
    fn drop(&mut self) {
        SINK.with(|own| *own.borrow_mut() = None);
    }
}
