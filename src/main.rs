//! The program: arguments, command, exit code.

use std::{mem, process};

use clap::Parser;
use tidegate::cli::{self, Cli, output};

fn main() {
    let cli = Cli::parse();
    let system = actix_rt::System::new();
    // The thread of the HTTP server may end after this one has run its destructors. The last handle of a System wakes a task of
    // it when it is dropped, which panics in a thread whose locals are gone, and aborts the process. This handle is never dropped.
    mem::forget(actix_rt::System::current());
    let code = match system.block_on(cli::execute(cli)) {
        Ok(code) => code,
        Err(failure) => {
            output::note(&format!("error: {failure}"));
            failure.code
        }
    };
    // Dropping the system would wait for a blocking call on a database that is gone, without limit.
    process::exit(code as i32);
}
