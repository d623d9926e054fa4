//! What is printed: one JSON document or text on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

/// How long something may take before it says that it is still at it.
pub const SILENCE: Duration = Duration::from_secs(2);

/// Prints a document as JSON.
pub fn json(document: &impl Serialize) {
    // Our documents have text keys and finite numbers only; serialising them cannot fail.
    print(&serde_json::to_string_pretty(document).unwrap_or_default());
}

/// Prints a line of text.
///
/// A reader that has gone (`tidegate tunnels | head`) is no error of ours: the program goes on in silence.
pub fn print(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Tells a person something beside the output.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A table without frame; wraps to the terminal, if it is one.
#[must_use]
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    table
}

/// Prints a table without trailing blanks.
pub fn print_table(table: &Table) {
    print(&table.trim_fmt());
}

/// Text from elsewhere without control characters: an alias must neither move the cursor, nor colour the screen, nor turn around
/// what stands beside it.
#[must_use]
pub fn plain(text: &str) -> String {
    // Embeddings, overrides and isolates of writing directions.
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}

/// Most characters of a text from elsewhere in a cell of a table: every row is as wide as the longest one.
const CELL_CHARS_MAX: usize = 80;

/// Such a text for a cell that is not the last one; what is cut ends in `…`. `--json` has all of it.
#[must_use]
pub fn cell(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        None => plain(text),
        Some(_) => plain(&text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect::<String>()),
    }
}

/// Whether a question can be asked.
#[must_use]
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question whose answer is no unless it is yes.
///
/// # Errors
/// As the terminal gives them.
pub fn confirm(question: &str) -> io::Result<bool> {
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Waits, and says what for every time that two seconds have passed in silence.
pub async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let mut waited = Duration::ZERO;
    loop {
        match tokio::time::timeout(SILENCE, &mut work).await {
            Ok(done) => return done,
            Err(_) => {
                waited += SILENCE;
                note(&format!("{what} ... {} s", waited.as_secs()));
            }
        }
    }
}
