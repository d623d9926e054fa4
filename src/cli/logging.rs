//! The log: one line per fact on standard error, times in UTC, colour only on a terminal.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use log::LevelFilter;

/// Starts logging by `log` of the configuration. A second call does nothing.
pub fn start(filter: &str) {
    let mut builder = env_logger::Builder::new();
    // Its facts at `info` are about threads; who wants them names the module.
    builder.filter_module("actix_server", LevelFilter::Warn);
    // A request that is no HTTP is its sender's mistake, and is told so; strangers must not fill the log with it.
    builder.filter_module("actix_http", LevelFilter::Off);
    builder.parse_filters(filter);
    builder.format(|out, record| {
        let style = out.default_level_style(record.level());
        let time = out.timestamp_millis();
        writeln!(out, "{time} {style}{:<5}{style:#} {}", record.level(), OneLine(record.args()))
    });
    // A failure means that a logger is there: the library is used inside a program that has its own.
    let _ = builder.try_init();
}

/// Text in one line, whatever it holds: what came from outside must not look like a line of ours.
struct OneLine<'a>(&'a fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Escape<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.chars().try_for_each(|c| match c {
                    '\n' => self.0.write_str("\\n"),
                    c if c.is_control() => write!(self.0, "{}", c.escape_unicode()),
                    c => self.0.write_char(c),
                })
            }
        }
        write!(Escape(f), "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_in_its_line_and_moves_no_cursor() {
        let hostile = "one\ntwo\x1b[2J";
        assert_eq!(OneLine(&format_args!("{hostile}")).to_string(), "one\\ntwo\\u{1b}[2J");
    }
}
