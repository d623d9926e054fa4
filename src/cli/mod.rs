//! The command line: one file per command, and what they share.

pub mod address;
pub mod api_key;
mod backup;
mod check;
pub mod client;
mod completions;
pub mod database;
mod demo;
mod endpoint;
mod events;
pub mod exit;
mod export;
mod flush;
mod history;
mod import;
pub mod logging;
mod migrate;
mod mode;
pub mod output;
pub mod place;
mod question;
mod replay;
mod restore;
mod run;
mod signals;
mod simulate;
mod stats;
mod traffic;
mod tunnels;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use self::exit::{ExitCode, Failure};
use crate::config::{Config, Sources, keys};
use crate::http::identity;
use crate::status::snapshot::VERSION;

/// Follows the event streams of many NodePass masters and lets them into a database in batches.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version = VERSION,
    max_term_width = 110,
    after_help = "Example:\n  tidegate run --endpoint tokyo=http://10.0.0.5:9090/api\n\n\
                  `tidegate run --help` lists the keys of the configuration."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
struct Global {
    /// Configuration file [default: tidegate.toml if it exists]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Configuration")]
    config: Option<PathBuf>,
    /// Database: sqlite:PATH or postgres://... [default: sqlite:tidegate.db]
    #[arg(long, global = true, value_name = "URL", help_heading = "Configuration")]
    database_url: Option<String>,
    /// Sets a key of the configuration, over file and environment; can be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = "Configuration")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Records until it is told to stop
    Run(run::Run),
    /// Records a built-in fleet of simulated masters, to look around
    Demo(demo::Demo),
    /// Verifies the journal and the database
    Check(check::Check),
    /// Brings the database's schema up to date
    Migrate(migrate::Migrate),
    /// Shows what the recorder does
    Stats(stats::Stats),
    /// Adds, changes, lists and removes masters
    Endpoint(endpoint::Endpoint),
    /// Lists tunnels, or shows one
    Tunnels(tunnels::Tunnels),
    /// Shows events, newest first
    Events(events::Events),
    /// Shows what a tunnel, an endpoint or the fleet did, step by step
    History(history::History),
    /// Adds up today's, this month's and this billing cycle's traffic
    Traffic(traffic::Traffic),
    /// Writes stored events or history as CSV or JSON lines
    Export(export::Export),
    /// Writes what is buffered to the database, now
    Flush(flush::Flush),
    /// Shows or changes how events reach the database, and what that costs
    Mode(mode::Mode),
    /// Feeds recorded streams through the same path as live ones
    Replay(replay::Replay),
    /// Brings endpoints, tunnels and history from another program
    Import(import::Import),
    /// Copies the database into a file, also while it is recorded to
    Backup(backup::Backup),
    /// Makes a backup the database again
    Restore(restore::Restore),
    /// Runs the real recorder on virtual time with simulated masters and faults, from a seed
    Simulate(simulate::Simulate),
    /// Prints a completion script for a shell
    Completions(completions::Completions),
}

/// `--json` of every command that prints.
#[derive(Clone, Copy, Debug, Args)]
struct Json {
    /// One JSON document on standard output, everything else on standard error
    #[arg(long)]
    json: bool,
}

/// The list of keys, for the end of a long help.
fn keys_help(example: &str) -> String {
    format!("{example}\n\n{}", keys::help())
}

/// Of a flag that is given on both sides of a command's name clap keeps those on one.
fn all_sets_are_there(kept: &[String], arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let is_set = |argument: &OsString| argument.to_str().is_some_and(|text| text == "--set" || text.starts_with("--set="));
    let given = arguments.take_while(|argument| argument != "--").filter(is_set).count();
    if given > kept.len() {
        return Err(Failure::usage(
            "some --set stand before the command's name and some behind it; give all of them behind it".to_owned(),
        ));
    }
    Ok(())
}

/// Runs the command that was given. Must be called inside an actix System.
///
/// # Errors
/// [`Failure`]: what to print on standard error, and the exit code.
pub async fn execute(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { global, command } = cli;
    all_sets_are_there(&global.set, std::env::args_os())?;
    if let Command::Completions(command) = &command {
        return Ok(command.execute());
    }
    let mut command = match command {
        // It has a configuration of its own, drawn from the seed.
        Command::Simulate(command) => {
            if global.config.is_some() || global.database_url.is_some() || !global.set.is_empty() {
                return Err(Failure::usage(
                    "simulate draws its configuration from the seed, so --config, --set and --database-url would change nothing; \
                     give --database for another database",
                ));
            }
            return command.execute();
        }
        command => command,
    };
    let mut sources =
        Sources { config: global.config, database_url: global.database_url, set: global.set, ..Sources::of_process() };
    if let Command::Run(command) = &command {
        command.add_to(&mut sources);
    }
    if let Command::Mode(command) = &mut command {
        command.take_keys(&mut sources.set)?;
    }
    let mut config = Config::load(&sources)?;
    logging::start(&config.log);
    match command {
        Command::Run(_) => run::record(&config, Vec::new(), &identity::of(&config.database)).await,
        Command::Demo(command) => command.execute(&mut config, sources.database_url.is_some()).await,
        Command::Check(command) => command.execute(&config).await,
        Command::Migrate(command) => command.execute(&config).await,
        Command::Stats(command) => command.execute(&config).await,
        Command::Endpoint(command) => command.execute(&config).await,
        Command::Tunnels(command) => command.execute(&config).await,
        Command::Events(command) => command.execute(&config).await,
        Command::History(command) => command.execute(&config).await,
        Command::Traffic(command) => command.execute(&config).await,
        Command::Export(command) => command.execute(&config).await,
        Command::Flush(command) => command.execute(&config).await,
        Command::Mode(command) => command.execute(&config).await,
        Command::Replay(command) => command.execute(&config).await,
        Command::Import(command) => command.execute(&config).await,
        Command::Backup(command) => command.execute(&config).await,
        Command::Restore(command) => command.execute(&config).await,
        Command::Simulate(command) => command.execute(),
        Command::Completions(command) => Ok(command.execute()),
    }
}
