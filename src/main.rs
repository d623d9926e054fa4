//! The program: arguments, command, exit code.

use std::process;

use clap::Parser;
use tidegate::cli::{self, Cli, output};

fn main() {
    let cli = Cli::parse();
    let system = actix_rt::System::new();
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
