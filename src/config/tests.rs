use std::fs;

use super::*;

fn sources(environment: &[(&str, &str)], set: &[&str]) -> Sources {
    Sources {
        environment: environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        set: set.iter().map(|&set| set.to_owned()).collect(),
        ..Sources::default()
    }
}

fn with_file(text: &str, mut sources: Sources) -> (tempfile::TempDir, Sources) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("tidegate.toml"), text).unwrap();
    sources.directory = Some(directory.path().to_owned());
    (directory, sources)
}

fn error(sources: &Sources) -> String {
    Config::load(sources).unwrap_err().to_string()
}

#[test]
fn without_any_layer_the_defaults_of_the_interface_hold() {
    let config = Config::load(&Sources::default()).unwrap();
    assert_eq!(config.database.to_string(), "sqlite:tidegate.db");
    assert_eq!(
        config.storage,
        StorageConfig {
            mode: None,
            max_buffer_size: 1_000,
            max_buffer_bytes: 4 << 20,
            batch_size: 100,
            flush_interval: Duration::from_secs(3_600),
            timezone: Tz::UTC,
            memory_max_events: 100_000,
            log_events: true,
        }
    );
    assert_eq!(config.cache.sync_interval, Duration::from_secs(5));
    assert_eq!(
        config.journal,
        JournalConfig {
            dir: "tidegate.db.journal".into(),
            sync: JournalSync::Every(Duration::from_secs(1)),
            max_bytes: 1 << 30,
            min_free_bytes: 64 << 20,
        }
    );
    let day = Duration::from_secs(86_400);
    assert_eq!((config.retention.events, config.retention.minutes, config.retention.hours), (day, 7 * day, 90 * day));
    assert_eq!(config.retention.days, Some(humantime::parse_duration("5y").unwrap()));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8686");
    assert_eq!((config.shutdown_deadline, config.billing_start_day, config.node), (Duration::from_secs(30), 1, 0));
    assert_eq!(config.log, "info");
}

#[test]
fn each_layer_goes_over_the_one_before() {
    let file = "[storage]\nmax_buffer_size = 2\nbatch_size = 2\nflush_interval = \"2h\"\n";
    let environment = [("TIDEGATE_STORAGE__BATCH_SIZE", "3"), ("TIDEGATE_STORAGE__FLUSH_INTERVAL", "3h")];
    let (_directory, sources) = with_file(file, sources(&environment, &["storage.flush_interval=4h"]));
    let storage = Config::load(&sources).unwrap().storage;
    assert_eq!((storage.max_buffer_size, storage.batch_size), (2, 3));
    assert_eq!(storage.flush_interval, Duration::from_secs(4 * 3_600));
}

#[test]
fn flags_of_their_own_go_over_set() {
    let mut sources = sources(&[], &["database.url=sqlite:a.db", "http.listen=127.0.0.1:1"]);
    sources.database_url = Some("postgres://u:p@h/d".to_owned());
    sources.listen = Some("[::1]:2".to_owned());
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.database.to_string(), "postgres://u@h/d");
    assert_eq!(config.http.listen.to_string(), "[::1]:2");
    assert_eq!(config.journal.dir, PathBuf::from("tidegate.journal"), "no SQLite path to follow");
}

#[test]
fn values_that_look_like_numbers_stay_text_where_text_is_meant() {
    let config = Config::load(&sources(&[("TIDEGATE_HTTP__TOKEN", "0123")], &[])).unwrap();
    assert_eq!(config.http.token.unwrap().reveal(), "0123");
}

#[test]
fn an_unknown_key_names_its_layer_and_suggests_the_right_one() {
    let (_directory, in_file) = with_file("\n[storage]\nbatchsize = 5\n", Sources::default());
    let message = error(&in_file);
    assert!(message.contains("unknown key `storage.batchsize`") && message.contains("tidegate.toml, line 3"), "{message}");
    assert!(message.contains("did you mean `storage.batch_size`?"), "{message}");

    let message = error(&sources(&[("TIDEGATE_BATCH_SIZE", "5")], &[]));
    assert!(message.contains("environment variable TIDEGATE_BATCH_SIZE"), "{message}");
    assert!(message.contains("did you mean TIDEGATE_STORAGE__BATCH_SIZE?"), "{message}");

    let message = error(&sources(&[], &["http=1"]));
    assert!(message.contains("flag --set") && message.contains("`http` is a section"), "{message}");

    let message = error(&sources(&[("TIDEGATE_ENDPOINTS", "x")], &[]));
    assert!(message.contains("--endpoint NAME=URL"), "{message}");
}

#[test]
fn keys_of_masters_and_of_tests_are_not_configuration() {
    let environment = [
        ("TIDEGATE_API_KEY", "any"),
        ("TIDEGATE_API_KEY_TOKYO_1", " k3y-of-tokyo\n"),
        ("TIDEGATE_TEST_POSTGRES", "postgres://h/d"),
        ("PATH", "/bin"),
    ];
    let config = Config::load(&sources(&environment, &[])).unwrap();
    assert_eq!(config.api_keys.for_endpoint("Tokyo-1").unwrap().reveal(), "k3y-of-tokyo");
    assert_eq!(config.api_keys.for_endpoint("paris").unwrap().reveal(), "any");
    assert!(!format!("{config:?}").contains("k3y"));
}

#[test]
fn a_value_out_of_range_names_key_value_layer_and_range() {
    for (set, range) in [
        ("storage.max_buffer_size=0", "a whole number from 1 to 1000000"),
        ("storage.batch_size=1001", "a whole number from 1 to 1000"),
        ("storage.batch_size=many", "a whole number from 1 to 1000"),
        ("storage.flush_interval=59s", "a duration from 1m to 1day"),
        ("storage.flush_interval=25h", "a duration from 1m to 1day"),
        ("storage.flush_interval=7m", "it must divide 24 h"),
        ("storage.timezone=Mars/Base", "an IANA name"),
        ("storage.log_events=yes", "`true` or `false`"),
        ("storage.mode=fast", "one of `batched`, `dual`, `realtime`"),
        ("cache.sync_interval=999ms", "a duration from 1s to 1h"),
        ("journal.sync_interval=never", "`always` or `off` or a duration"),
        ("journal.max_bytes=1 kiB", "a size from 64.0 KiB to 1.0 TiB"),
        ("journal.dir=", "a directory"),
        ("retention.events=0", "a duration from 1m"),
        ("retention.days=1h", "`0` or a duration from 1day"),
        ("http.listen=localhost", "an address and a port"),
        ("shutdown.deadline=5", "a duration"),
        ("billing.start_day=32", "from 1 to 31"),
        ("node=256", "from 0 to 255"),
        ("log=loud", "a level"),
    ] {
        let message = error(&sources(&[], &[set]));
        let (key, value) = set.split_once('=').unwrap();
        assert!(message.starts_with(&format!("`{key}` cannot be `{value}` (flag --set); allowed is")), "{message}");
        assert!(message.contains(range), "{message}");
    }
}

#[test]
fn a_value_of_the_wrong_type_in_the_file_is_told_with_its_line() {
    let (_directory, list) = with_file("[http]\nlisten = [\"127.0.0.1:1\"]\n", Sources::default());
    let message = error(&list);
    assert!(message.contains("`http.listen` cannot be of type array") && message.contains("line 2"), "{message}");
}

#[test]
fn broken_toml_is_told_with_its_line_and_without_the_line_itself() {
    let (_directory, broken) = with_file("[http]\ntoken = s3cret\n", Sources::default());
    let message = error(&broken);
    assert!(message.contains("tidegate.toml, line 2: not valid TOML"), "{message}");
    assert!(!message.contains("s3cret"), "{message}");
}

#[test]
fn a_named_file_must_exist_and_the_default_one_need_not() {
    let directory = tempfile::tempdir().unwrap();
    let nothing = Sources { directory: Some(directory.path().to_owned()), ..Sources::default() };
    assert!(Config::load(&nothing).is_ok());
    let message = error(&Sources { config: Some(directory.path().join("no.toml")), ..Sources::default() });
    assert!(message.contains("no.toml") && message.contains("--config"), "{message}");
}

#[test]
fn durations_and_sizes_are_read_as_people_write_them() {
    let set = ["retention.days=0", "journal.sync_interval=always", "journal.max_bytes=10GiB", "storage.flush_interval=1h 30m"];
    let config = Config::load(&sources(&[], &set)).unwrap();
    assert_eq!(config.retention.days, None);
    assert_eq!(config.journal.sync, JournalSync::Always);
    assert_eq!(config.journal.max_bytes, 10 << 30);
    assert_eq!(config.storage.flush_interval, Duration::from_secs(5_400));
}

#[test]
fn beyond_loopback_a_token_is_needed_and_the_reason_is_given() {
    let message = error(&sources(&[], &["http.listen=0.0.0.0:8686"]));
    assert!(message.contains("0.0.0.0:8686") && message.contains("anyone could"), "{message}");
    assert!(Config::load(&sources(&[], &["http.listen=0.0.0.0:8686", "http.token=long-enough"])).is_ok());
}

#[test]
fn secrets_are_in_no_error_and_no_debug_output() {
    for set in ["http.token=s3cret with blanks", "database.url=mysql://u:s3cret@h/d", "database.url=postgres://u:s3cret@[/d"] {
        let message = error(&sources(&[], &[set]));
        assert!(!message.contains("s3cret"), "{message}");
    }
    let config = Config::load(&sources(&[], &["http.token=s3cret", "database.url=postgres://u:s3cret@h/d"])).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn a_mode_is_only_given_where_a_layer_says_so() {
    assert_eq!(Config::load(&sources(&[], &[])).unwrap().storage.mode, None);
    let given = Config::load(&sources(&[("TIDEGATE_STORAGE__MODE", "dual")], &[])).unwrap();
    assert_eq!(given.storage.mode, Some(StorageMode::Dual));
}

#[test]
fn rust_log_is_read_only_if_the_key_is_not_set() {
    let environment = [("RUST_LOG", "debug")];
    assert_eq!(Config::load(&sources(&environment, &[])).unwrap().log, "debug");
    assert_eq!(Config::load(&sources(&environment, &["log=warn"])).unwrap().log, "warn");
    assert_eq!(Config::load(&sources(&environment, &["log=info"])).unwrap().log, "info", "set, though to the default");
}

#[test]
fn endpoints_come_from_the_file_and_from_flags() {
    let file = "[[endpoints]]\nname = \"tokyo\"\nurl = \"https://10.0.0.5:9090\"\ntls = \"pin\"\napi_key_file = \"/run/key\"\n\
                log_events = false\n";
    let (_directory, mut sources) = with_file(file, Sources::default());
    sources.endpoints = vec!["paris=http://10.0.0.6:9090/api".to_owned(), "tokyo=https://10.0.0.7:9090".to_owned()];
    let endpoints = Config::load(&sources).unwrap().endpoints;
    assert_eq!(endpoints.len(), 2);
    assert_eq!(
        endpoints[0],
        EndpointConfig {
            name: "tokyo".to_owned(),
            url: "https://10.0.0.7:9090/api".parse().unwrap(),
            tls: crate::endpoint::TlsPolicy::Pin(None),
            api_key_file: Some("/run/key".into()),
            log_events: Some(false),
        },
        "the flag's address and the file's rest"
    );
    assert_eq!(endpoints[1].name, "paris");
}

#[test]
fn an_endpoint_that_cannot_be_used_says_which_and_why() {
    for (entry, reason) in [
        ("url = \"http://h\"", "`name` is missing"),
        ("name = \"a\"", "`url` is missing"),
        ("name = \"a/b\"\nurl = \"http://h\"", "cannot be an endpoint's name"),
        ("name = \"a\"\nurl = \"http://u:s3cret@h\"", "user name or a password"),
        ("name = \"a\"\nurl = \"http://h\"\ntls = \"maybe\"", "`verify`, `pin` or `insecure`"),
        ("name = \"a\"\nurl = \"http://h\"\nca = \"x.pem\"\ntls = \"pin\"", "a CA file goes with `verify`"),
        ("name = \"a\"\nurl = \"http://h\"\napi_key = \"s3cret\"", "TIDEGATE_API_KEY_<NAME>"),
        ("name = \"a\"\nurl = \"http://h\"\nlog_events = 1", "`log_events` is"),
        ("name = \"a\"\nurl = \"http://h\"\n[[endpoints]]\nname = \"a\"\nurl = \"http://h\"", "there twice"),
    ] {
        let (_directory, sources) = with_file(&format!("[[endpoints]]\n{entry}\n"), Sources::default());
        let message = error(&sources);
        assert!(message.contains(reason) && message.contains("tidegate.toml, line"), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
    for flag in ["paris", "paris=nonsense"] {
        assert!(error(&Sources { endpoints: vec![flag.to_owned()], ..Sources::default() }).contains("--endpoint"));
    }
}
