//! `tidegate completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::exit::ExitCode;
use super::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate completions bash > /etc/bash_completion.d/tidegate")]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(&self) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tidegate", &mut script);
        output::print(String::from_utf8_lossy(&script).trim_end());
        ExitCode::Done
    }
}
