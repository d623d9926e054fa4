//! The program's flags, configuration and exit codes, through the real binary.

#[allow(dead_code, reason = "each test program uses a part")]
mod cli_support;

use cli_support::{nobody, run, run_with};

#[test]
fn usage_errors_end_with_2_and_nothing_on_standard_output() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["nonsense"], &["endpoint"], &["endpoint", "add", "tokyo"], &["tunnels", "--colour"], &["replay"]]
    {
        let ran = run(directory.path(), arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn what_a_simulation_cannot_be_or_would_not_heed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (flags, words) in [
        (&["--report-interval", "0s"][..], "--report-interval must be from 100ms"),
        (&["--live-sync", "10h"], "--live-sync must be from 1s to 1h"),
        (&["--seed", "18446744073709551615", "--runs", "2"], "beyond the last seed"),
        (&["--set", "foo=bar"], "would change nothing"),
        (&["--database-url", "sqlite:x.db"], "give --database for another"),
    ] {
        let ran = run(directory.path(), &[&["simulate"], flags].concat());
        assert_eq!(ran.code, 2, "{flags:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{flags:?}: {}", ran.stderr);
    }
}

#[test]
fn version_names_the_commit() {
    let directory = tempfile::tempdir().unwrap();
    let ran = run(directory.path(), &["--version"]);
    let commit = ran.stdout.trim().strip_prefix(concat!("tidegate ", env!("CARGO_PKG_VERSION"), " (")).unwrap();
    let commit = commit.strip_suffix(')').unwrap();
    assert!(commit == "unknown" || commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{commit}");
}

/// The commands that a help text lists, but for `help` itself.
fn commands_in(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let words = listed.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    words.filter(|word| *word != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_has_help_with_an_example_that_mentions_no_key_as_an_argument() {
    let directory = tempfile::tempdir().unwrap();
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = Vec::new();
    while let Some(command) = open.pop() {
        let mut arguments: Vec<_> = command.iter().map(String::as_str).collect();
        arguments.push("--help");
        let ran = run(directory.path(), &arguments);
        assert_eq!(ran.code, 0, "{command:?}");
        let example = ran.stdout.split_once("Example").map_or("", |(_, example)| example);
        assert!(example.contains("tidegate "), "{command:?}: {}", ran.stdout);
        assert!(!ran.stdout.contains("--api-key "), "{command:?}");
        open.extend(commands_in(&ran.stdout).into_iter().map(|word| [command.clone(), vec![word]].concat()));
        seen.push(command.join(" "));
    }
    assert!(seen.len() > 25 && seen.iter().any(|command| command == "endpoint trust"), "{seen:?}");
    let keys = run(directory.path(), &["run", "--help"]).stdout;
    for key in tidegate::config::keys::KEYS {
        assert!(keys.contains(key.name) && key.default.is_none_or(|default| keys.contains(default)), "{}", key.name);
    }
}

#[test]
fn a_wrong_configuration_ends_with_2_and_names_the_layer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for (arguments, environment, expected) in [
        (&["stats", "--set", "storage.batchsize=1"][..], None, "flag --set"),
        (&["--set", "nonsense", "stats"], None, "KEY=VALUE"),
        (&["stats", "--database-url", "mysql://u:s3cret@h/d"], None, "flag --database-url"),
        (&["stats", "--config", "missing.toml"], None, "missing.toml"),
        (&["stats"], Some(("TIDEGATE_STORAGE__COLOUR", "red")), "environment variable TIDEGATE_STORAGE__COLOUR"),
        (&["stats"], Some(("TIDEGATE_HTTP__TOKEN", "s3cret with blanks")), "TIDEGATE_HTTP__TOKEN"),
        (&["run", "--listen", "0.0.0.0:8686"], None, "http.token"),
        (&["run", "--endpoint", "tokyo"], None, "NAME=URL"),
        (&["run", "--set", "storage.mode=fast"], None, "`realtime`"),
    ] {
        let ran = run_with(path, arguments, environment.as_slice(), "");
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(expected), "{arguments:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
    }
    std::fs::write(path.join("tidegate.toml"), "# ours\n[cache]\nsync_interval = \"soon\"\n").unwrap();
    let ran = run(path, &["stats"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("tidegate.toml, line 3") && ran.stderr.contains("1s to 1h"), "{}", ran.stderr);
}

#[test]
fn an_address_that_is_taken_is_told_before_the_database_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ran = run(directory.path(), &["run", "--listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("another program listens there"), "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn flush_without_a_recorder_ends_with_3_and_says_how_to_start_one() {
    let directory = tempfile::tempdir().unwrap();
    let ran = run(directory.path(), &["flush", &nobody(), "--json"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    assert!(ran.stderr.contains("no recorder runs at 127.0.0.1:") && ran.stderr.contains("tidegate run"), "{}", ran.stderr);
}

#[test]
fn a_key_is_needed_and_never_asked_for_without_a_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let ran = run(directory.path(), &["endpoint", "add", "tokyo-1", "http://127.0.0.1:1", &nobody()]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("TIDEGATE_API_KEY_TOKYO_1") && ran.stderr.contains("--api-key-file"), "{}", ran.stderr);
    for (file, content) in [("empty", ""), ("two words", "a b")] {
        std::fs::write(directory.path().join("key"), content).unwrap();
        let ran = run(directory.path(), &["endpoint", "add", "tokyo", "http://127.0.0.1:1", "--api-key-file", "key", &nobody()]);
        assert_eq!(ran.code, 2, "{file}");
        assert!(ran.stderr.contains("not an API key") && !ran.stderr.contains("a b"), "{}", ran.stderr);
    }
}

#[test]
fn a_purge_is_confirmed_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let ran = run(directory.path(), &["endpoint", "remove", "tokyo", "--purge", &nobody()]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_replayed_says_why() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("undated.sse"), "data: {}\n\n").unwrap();
    for (arguments, expected) in [
        (&["replay", "missing.sse"][..], "cannot read missing.sse"),
        (&["replay", "undated.sse"], "undated.times.jsonl"),
        (&["replay", "--as", "a/b", "undated.sse"], "cannot be an endpoint's name"),
    ] {
        let ran = run(directory.path(), arguments);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}

#[test]
fn completions_are_a_script_that_names_the_commands() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(directory.path(), &["completions", shell]);
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains("endpoint") && ran.stdout.contains("trust"), "{shell}");
    }
}

#[test]
fn sets_on_both_sides_of_the_command_are_refused_since_some_would_be_lost() {
    let directory = tempfile::tempdir().unwrap();
    let one_side = run(directory.path(), &["--set", "http.listen=127.0.0.1:9", "--set", "billing.start_day=15", "stats"]);
    assert_eq!(one_side.code, 4, "there is no database: {}", one_side.stderr);
    let ran = run(directory.path(), &["--set", "http.listen=127.0.0.1:9", "stats", "--set", "billing.start_day=15"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("give all of them behind it"), "{}", ran.stderr);
}
