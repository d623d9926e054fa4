//! `tidegate import nodepassdash` with the real binary: databases made by hand with each defect, from SQLite and PostgreSQL, into
//! SQLite and PostgreSQL.

#[path = "common/recorder.rs"]
mod recorder;
#[path = "common/stored.rs"]
mod stored;

mod import_support;
mod postgres;

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use import_support::{Dash, Version};
use postgres::{Around, TestDatabase};
use recorder::Setup;
use serde_json::Value;
use tidegate::clock::{Clock, SystemClock, Timestamp};
use tidegate::event::{Counters, EndpointId, TunnelKey};
use tidegate::history::audit::{StoredAccount, TunnelHistory, check_tunnel};
use tidegate::history::calendar::Calendar;
use tidegate::history::figures::Figures;

const MINUTE: i64 = Timestamp::MINUTE;
const HOUR: i64 = 60 * MINUTE;

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn run(setup: &Setup, code: i32, arguments: &[&str]) -> String {
    let output = setup.run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
    text(&output)
}

/// Imports, which must go well.
fn import(setup: &Setup, dash: &Dash, more: &[&str]) -> Value {
    let source = dash.source();
    let arguments = [&["import", "nodepassdash", &source, "--json"], more].concat();
    let output = setup.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let told = text(&output);
    assert!(!told.contains("canary"), "a secret was printed: {told}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
}

/// How often each defect was found.
fn repairs(report: &Value) -> BTreeMap<String, u64> {
    let repairs = report["repairs"].as_array().unwrap().iter();
    repairs.map(|repair| (repair["defect"].as_str().unwrap().to_owned(), repair["count"].as_u64().unwrap())).collect()
}

/// The start of an hour some hours ago, so that minutes of it are kept as minutes.
fn hours_ago(hours: i64) -> Timestamp {
    let now = SystemClock.wall().0;
    Timestamp(now - now.rem_euclid(HOUR) - hours * HOUR)
}

/// A time as NodePassDash writes it, in UTC with `Z` where `east` is 0.
fn written(at: Timestamp, east: i64) -> String {
    let local = Timestamp(at.0 + east * HOUR).to_utc();
    let offset = if east == 0 { "Z".to_owned() } else { format!("{}{:02}:00", if east < 0 { '-' } else { '+' }, east.abs()) };
    local.format("%Y-%m-%d %H:%M:%S%.f").to_string() + &offset
}

fn minute_after(start: Timestamp, minute: i64) -> String {
    written(Timestamp(start.0 + minute * MINUTE), 0)
}

/// `record_time delta_tcp_in` of a table's rows of one tunnel, times in minutes after `start`.
fn deltas(database: &mut Around, table: &str, instance: &str, start: Timestamp) -> Vec<(i64, i64)> {
    let sql = format!(
        "SELECT record_time || ' ' || delta_tcp_in AS value FROM {table} WHERE instance_id = '{instance}' ORDER BY endpoint_id, record_time"
    );
    let row = |row: &String| {
        let (time, delta) = row.split_once(' ').unwrap();
        ((time.parse::<i64>().unwrap() - start.0) / MINUTE, delta.parse().unwrap())
    };
    database.texts(&sql).iter().map(row).collect()
}

fn total(database: &mut Around, table: &str, owner: &str) -> i64 {
    database.number(&format!("SELECT CAST(COALESCE(SUM(delta_tcp_in), 0) AS BIGINT) AS value FROM {table} WHERE {owner}"))
}

/// Everything that the ladder says, to compare with.
fn ladder(database: &mut Around) -> Vec<String> {
    let tables = [
        ("service_history", "instance_id"),
        ("history_hours", "instance_id"),
        ("history_days", "instance_id"),
        ("history_minute_totals", "tunnels"),
        ("history_hour_totals", "tunnels"),
        ("history_day_totals", "tunnels"),
    ];
    let rows = |(table, column): &(&str, &str)| {
        database.texts(&format!(
            "SELECT '{table} ' || endpoint_id || ' ' || {column} || ' ' || record_time || ' ' || delta_tcp_in || ' ' || delta_tcp_out || ' ' \
             || record_count || ' ' || covered_ms || ' ' || ping_count AS value FROM {table} ORDER BY endpoint_id, {column}, record_time"
        ))
    };
    tables.iter().flat_map(rows).collect()
}

/// Has the program's own proof look at every tunnel: days against accounts, hours against minutes, days against hours.
fn assert_adds_up(database: &mut Around) {
    let numbers = |database: &mut Around, sql: &str| -> Vec<(String, Vec<i64>)> {
        let row = |row: &String| {
            let mut words = row.split(' ').map(str::to_owned);
            (words.next().unwrap(), words.map(|word| word.parse().unwrap()).collect())
        };
        database.texts(sql).iter().map(row).collect()
    };
    let floors = ["service_history", "history_hours", "history_days"].map(|table| {
        let sql =
            format!("SELECT CAST(COALESCE(MAX(floor), 0) AS BIGINT) AS value FROM retention_floors WHERE table_name = '{table}'");
        Timestamp(database.number(&sql))
    });
    let mut tunnels = BTreeMap::<String, TunnelHistory>::new();
    for (nth, table) in ["service_history", "history_hours", "history_days"].into_iter().enumerate() {
        let sql = format!(
            "SELECT endpoint_id || '/' || instance_id || ' ' || record_time || ' ' || delta_tcp_in || ' ' || delta_tcp_out || ' ' || \
             delta_udp_in || ' ' || delta_udp_out || ' ' || record_count || ' ' || expected_count || ' ' || covered_ms AS value FROM {table}"
        );
        for (name, row) in numbers(database, &sql) {
            let bytes = |n: usize| row[n].unsigned_abs();
            let delta = Counters { tcp_rx: bytes(1), tcp_tx: bytes(2), udp_rx: bytes(3), udp_tx: bytes(4) };
            let (record_count, expected_count) = (row[5] as i32, row[6] as i32);
            let figures = Figures { delta, covered_ms: row[7], record_count, expected_count, ..Figures::default() };
            tunnels.entry(name).or_default().levels[nth].insert(Timestamp(row[0]), figures);
        }
    }
    let sql = "SELECT endpoint_id || '/' || instance_id || ' ' || risen_tcp_rx || ' ' || risen_tcp_tx || ' ' || risen_udp_rx || ' ' || \
               risen_udp_tx AS value FROM history_accounts";
    for (name, risen) in numbers(database, sql) {
        let account = StoredAccount { risen: [risen[0], risen[1], risen[2], risen[3]], ..StoredAccount::default() };
        tunnels.entry(name).or_default().account = Some(account);
    }
    assert!(!tunnels.is_empty());
    for (name, history) in tunnels {
        let tunnel = TunnelKey { endpoint: EndpointId(1), instance: name.as_str().into() };
        let problems = check_tunnel(&tunnel, &history, &Calendar::default(), floors);
        assert!(problems.is_empty(), "{name}: {problems:#?}");
    }
}

/// One endpoint with one tunnel.
fn small(dash: &mut Dash) {
    dash.endpoint(1, "tokyo", "http://127.0.0.1:9");
    dash.tunnel(1, "aaaa0000", "web");
}

/// A source and a target of each kind. Whatever was imported, the program's own proof holds for it: tunnels, totals and levels.
fn everywhere(version: Version, test: impl Fn(&mut Dash, &Setup)) {
    for (source, target) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut dash = if source { Dash::postgres(version) } else { Dash::sqlite(version) };
        let database = target.then(TestDatabase::postgres);
        let setup = database.as_ref().map_or_else(Setup::sqlite, |database| Setup::on_database(&database.url_text()));
        test(&mut dash, &setup);
        run(&setup, 0, &["check", "--history"]);
    }
}

#[test]
fn endpoints_come_paused_with_their_keys_and_tunnels_without_their_passwords() {
    for version in [Version::First, Version::Last] {
        everywhere(version, |dash, setup| {
            small(dash);
            dash.endpoint(2, "香港 2", "https://10.0.0.6:9090");
            dash.tunnel(2, "bbbb0000", "mail");
            let report = import(setup, dash, &[]);
            assert_eq!(report["endpoints"]["added"], serde_json::json!(["tokyo", "香港-2"]));
            assert_eq!((&report["tunnels"]["added"], &report["tunnels"]["skipped"]), (&2.into(), &0.into()));
            let mut database = stored::connect(setup.database_url());
            let endpoints = database.texts(
                "SELECT name || ' ' || url || ' ' || api_path || ' ' || api_key || ' ' || tls || ' ' || paused AS value FROM endpoints ORDER BY id",
            );
            assert!(endpoints[0].starts_with("tokyo http://127.0.0.1:9 /api canary-key-1 verify "), "{endpoints:?}");
            assert!(endpoints[1].starts_with("香港-2 https://10.0.0.6:9090 /api canary-key-2 pin "), "{endpoints:?}");
            assert!(endpoints.iter().all(|endpoint| endpoint.ends_with('1') || endpoint.ends_with("true")), "{endpoints:?}");
            let tunnels = database.texts(
                "SELECT instance_id || ' ' || name || ' ' || type || ' ' || status || ' ' || url || ' ' || tcp_rx || ' ' || mode || ' ' || tcps \
                 AS value FROM tunnels ORDER BY endpoint_id",
            );
            assert_eq!(tunnels[0], "aaaa0000 web client running client://***@10.0.0.5:101/127.0.0.1:80?log=info 700 2 3");
            let configs = database.texts(
                "SELECT name || url || config_line || peer_sid || peer_type || peer_alias || tags || unknown_fields AS value FROM tunnel_config",
            );
            assert!(configs.len() == 2 && !postgres::joined(&configs).contains("canary"), "{configs:?}");
            if setup.database_url().starts_with("sqlite:") {
                let bytes = std::fs::read(setup.database_path()).unwrap();
                assert!(!bytes.windows(15).any(|window| window == b"canary-password"), "a password is in the file");
            }
            assert!(run(setup, 0, &["check"]).contains("nothing is wrong"));
        });
    }
}

#[test]
fn cumulative_counters_become_deltas_on_every_level() {
    everywhere(Version::Last, |dash, setup| {
        small(dash);
        let start = hours_ago(3);
        for (minute, rx) in [(58, 1_000), (59, 1_400), (60, 1_500), (61, 2_500)] {
            dash.minute(1, "aaaa0000", &minute_after(start, minute), rx);
        }
        let report = import(setup, dash, &[]);
        let mut database = stored::connect(setup.database_url());
        assert_eq!(deltas(&mut database, "service_history", "aaaa0000", start), [(58, 0), (59, 400), (60, 100), (61, 1_000)]);
        assert_eq!(deltas(&mut database, "history_hours", "aaaa0000", start), [(0, 400), (60, 1_100)]);
        for (table, owner) in [
            ("history_days", "endpoint_id = 1"),
            ("history_minute_totals", "endpoint_id = 1"),
            ("history_hour_totals", "endpoint_id = 0"),
            ("history_day_totals", "endpoint_id = 0"),
        ] {
            assert_eq!(total(&mut database, table, owner), 1_500, "{table}");
        }
        assert_eq!(report["history"]["bytes"]["tcp_in"], 1_500);
        assert_eq!(report["history"]["bytes"]["tcp_out"], 750);
        assert_eq!(repairs(&report)["cumulative_deltas"], 4);
        let figures = database.texts(
            "SELECT avg_ping || ' ' || avg_pool || ' ' || avg_tcps || ' ' || record_count || ' ' || covered_ms || ' ' || avg_speed_in AS value \
             FROM service_history ORDER BY record_time DESC LIMIT 1",
        );
        assert!(figures[0].starts_with("12.5 4 3 12 60000 17"), "{figures:?}");
    });
}

#[test]
fn a_fall_counts_nothing_and_is_reported() {
    everywhere(Version::First, |dash, setup| {
        small(dash);
        let start = hours_ago(3);
        for (minute, rx) in [(0, 50_000), (1, 50_600), (2, 100), (3, 400), (4, 0), (5, 70)] {
            dash.minute(1, "aaaa0000", &minute_after(start, minute), rx);
        }
        let report = import(setup, dash, &[]);
        let mut database = stored::connect(setup.database_url());
        assert_eq!(
            deltas(&mut database, "service_history", "aaaa0000", start),
            [(0, 0), (1, 600), (2, 0), (3, 300), (4, 0), (5, 70)]
        );
        assert_eq!(repairs(&report)["counter_fell"], 2);
        assert_adds_up(&mut database);
    });
}

/// The stored increments are wrong in both ways; what counts is the difference of the totals.
#[test]
fn hours_without_minutes_are_reckoned_from_their_totals() {
    everywhere(Version::Last, |dash, setup| {
        small(dash);
        let start = hours_ago(24 * 20);
        let hour = |nth: i64| written(Timestamp(start.0 + nth * HOUR), 0);
        // A lifetime as the first increment, growth, a reset with its negative increment, a gap of two days and its spike.
        dash.hour(1, "aaaa0000", &hour(0), 900_000, 900_000, 60);
        dash.hour(1, "aaaa0000", &hour(1), 901_000, 1_000, 60);
        dash.hour(1, "aaaa0000", &hour(2), 500, -900_500, 60);
        dash.hour(1, "aaaa0000", &hour(3), 500, 0, 0);
        dash.hour(1, "aaaa0000", &hour(51), 2_500, 2_500, 60);
        let report = import(setup, dash, &[]);
        let mut database = stored::connect(setup.database_url());
        assert_eq!(deltas(&mut database, "service_history", "aaaa0000", start), []);
        assert_eq!(deltas(&mut database, "history_hours", "aaaa0000", start), [(0, 0), (60, 1_000), (120, 0), (51 * 60, 2_000)]);
        let repairs = repairs(&report);
        assert_eq!(repairs["negative_increment"], 1);
        assert_eq!(repairs["lifetime_spike"], 2);
        assert_eq!(repairs["carried_forward"], 1);
        assert_eq!(report["history"]["bytes"]["tcp_in"], 3_000);
    });
}

#[test]
fn an_hour_of_which_there_are_minutes_is_taken_from_them() {
    everywhere(Version::Last, |dash, setup| {
        small(dash);
        let start = hours_ago(24 * 20);
        let hour = |nth: i64| written(Timestamp(start.0 + nth * HOUR), 0);
        dash.hour(1, "aaaa0000", &hour(0), 1_000, 1_000, 60);
        dash.hour(1, "aaaa0000", &hour(1), 1_900, 900, 60);
        dash.minute(1, "aaaa0000", &minute_after(start, 61), 1_300);
        dash.minute(1, "aaaa0000", &minute_after(start, 119), 1_900);
        dash.minute(1, "aaaa0000", &minute_after(start, 120), 2_000);
        import(setup, dash, &[]);
        let mut database = stored::connect(setup.database_url());
        assert_eq!(deltas(&mut database, "history_hours", "aaaa0000", start), [(0, 0), (60, 900), (120, 100)]);
    });
}

/// Text with several offsets, in SQLite only: PostgreSQL keeps instants.
#[test]
fn times_of_several_offsets_are_put_in_the_order_of_their_instants() {
    let mut dash = Dash::sqlite(Version::Last);
    let setup = Setup::sqlite();
    small(&mut dash);
    let start = hours_ago(3);
    let at = |minute: i64| Timestamp(start.0 + minute * MINUTE);
    for (minute, east, rx) in [(3, 8, 400), (0, 0, 100), (2, -5, 300), (1, 8, 200), (4, 8, 500)] {
        dash.minute(1, "aaaa0000", &written(at(minute), east), rx);
    }
    dash.minute(1, "aaaa0000", "yesterday", 450);
    dash.minute(1, "aaaa0000", "2199-01-01 00:00:00.123456789+08:00", 460);
    dash.minute(1, "aaaa0000", &written(at(5), 0), -7);
    let report = import(&setup, &dash, &[]);
    let mut database = stored::connect(setup.database_url());
    assert_eq!(deltas(&mut database, "service_history", "aaaa0000", start), [(0, 0), (1, 100), (2, 100), (3, 100), (4, 100)]);
    let repairs = repairs(&report);
    assert_eq!((repairs["unreadable_time"], repairs["in_future"], repairs["negative_counter"]), (1, 1, 1), "{report:#}");
    assert!(repairs["mixed_offsets"] >= 2, "{report:#}");
    assert_eq!(report["history"]["offsets"]["-05:00"], 1, "{report:#}");
}

/// NodePassDash compared times as text: the hour 05 of its own +08:00 holds the rows of 05:xx UTC of a master in UTC.
#[test]
fn an_hour_put_together_in_another_offset_is_moved_to_where_its_rows_are() {
    let mut dash = Dash::sqlite(Version::Last);
    let setup = Setup::sqlite();
    small(&mut dash);
    let start = hours_ago(24 * 20);
    let label = |nth: i64| written(Timestamp(start.0 + nth * HOUR), 0).replace('Z', "+08:00");
    dash.hour(1, "aaaa0000", &label(0), 1_000, 1_000, 60);
    dash.hour(1, "aaaa0000", &label(1), 1_700, 700, 60);
    dash.minute(1, "aaaa0000", &minute_after(start, 125), 1_900);
    let report = import(&setup, &dash, &[]);
    let mut database = stored::connect(setup.database_url());
    assert_eq!(deltas(&mut database, "history_hours", "aaaa0000", start), [(0, 0), (60, 700), (120, 200)]);
    assert_eq!(repairs(&report)["shifted_hour"], 2);
}

#[test]
fn rows_that_are_there_twice_count_once_and_two_windows_of_a_minute_add_up() {
    everywhere(Version::Last, |dash, setup| {
        small(dash);
        let start = hours_ago(3);
        for (minute, rx) in [(0, 100), (1, 250), (1, 250), (2, 300), (2, 370), (0, 100)] {
            dash.minute(1, "aaaa0000", &minute_after(start, minute), rx);
        }
        let report = import(setup, dash, &[]);
        let mut database = stored::connect(setup.database_url());
        assert_eq!(deltas(&mut database, "service_history", "aaaa0000", start), [(0, 0), (1, 150), (2, 120)]);
        let repairs = repairs(&report);
        assert_eq!((repairs["duplicate"], repairs["same_minute"]), (2, 1), "{report:#}");
        assert_eq!(
            database.texts("SELECT record_count AS value FROM service_history ORDER BY record_time DESC LIMIT 1").len(),
            1
        );
        assert_eq!(database.number("SELECT CAST(SUM(record_count) AS BIGINT) AS value FROM service_history"), 48);
    });
}

#[test]
fn rows_of_what_was_deleted_are_counted_and_left_out_unless_asked_for() {
    everywhere(Version::Last, |dash, setup| {
        small(dash);
        let start = hours_ago(3);
        for (endpoint, instance) in [(1, "aaaa0000"), (1, "dddd0000"), (7, "eeee0000")] {
            dash.minute(endpoint, instance, &minute_after(start, 0), 100);
            dash.minute(endpoint, instance, &minute_after(start, 1), 300);
            dash.hour(endpoint, instance, &written(start, 0), 300, 300, 2);
        }
        let report = import(setup, dash, &["--dry-run"]);
        assert_eq!((repairs(&report)["deleted_tunnel"], repairs(&report)["deleted_endpoint"]), (3, 3), "{report:#}");
        import(setup, dash, &[]);
        let mut database = stored::connect(setup.database_url());
        assert_eq!(total(&mut database, "history_day_totals", "endpoint_id = 0"), 200);
        let report = import(setup, dash, &["--deleted"]);
        assert_eq!(repairs(&report)["deleted_tunnel"], 3, "{report:#}");
        assert_eq!(total(&mut database, "history_day_totals", "endpoint_id = 0"), 400);
        assert_eq!(deltas(&mut database, "service_history", "dddd0000", start), [(0, 0), (1, 200)]);
        assert_eq!(deltas(&mut database, "service_history", "eeee0000", start), []);
    });
}

/// Rows of two years, in the levels that still keep them.
#[test]
fn old_rows_go_to_the_level_that_keeps_them() {
    everywhere(Version::Last, |dash, setup| {
        small(dash);
        let days = |days: i64| hours_ago(24 * days);
        for (nth, at) in
            [days(800), days(700), days(200), days(100), days(30), days(8), days(2), hours_ago(1)].into_iter().enumerate()
        {
            dash.minute(1, "aaaa0000", &written(at, 0), 1_000 * (nth as i64 + 1));
        }
        let source = dash.source();
        let report = run(setup, 0, &["import", "nodepassdash", &source, "--json", "--set", "retention.days=750d"]);
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["history"]["too_old"], 1, "{report:#}");
        let mut database = stored::connect(setup.database_url());
        let rows = |database: &mut Around, table: &str| database.number(&format!("SELECT count(*) AS value FROM {table}"));
        assert_eq!(rows(&mut database, "service_history"), 2);
        assert_eq!(rows(&mut database, "history_hours"), 4);
        assert_eq!(rows(&mut database, "history_days"), 7);
        assert_eq!(total(&mut database, "history_days", "1 = 1"), 7_000, "what moved since the row that is too old is known");
        assert_adds_up(&mut database);
    });
}

#[test]
fn an_import_can_be_repeated_and_goes_on_where_it_ended() {
    everywhere(Version::Last, |dash, setup| {
        small(dash);
        dash.tunnel(1, "cccc0000", "mail");
        let start = hours_ago(30);
        for minute in 0..90 {
            dash.minute(1, "aaaa0000", &minute_after(start, minute), 1_000 + minute * 10);
            dash.minute(1, "cccc0000", &minute_after(start, minute), 5_000 + minute);
        }
        import(setup, dash, &[]);
        let mut database = stored::connect(setup.database_url());
        let once = ladder(&mut database);
        let report = import(setup, dash, &[]);
        assert_eq!((&report["history"]["added"], &report["history"]["there"]), (&0.into(), &180.into()), "{report:#}");
        assert_eq!(report["endpoints"]["present"], serde_json::json!(["tokyo"]));
        assert_eq!(report["tunnels"]["present"], 2);
        assert_eq!(ladder(&mut database), once);
        assert_eq!(database.number("SELECT count(*) AS value FROM endpoints"), 1);

        // NodePassDash ran on.
        for minute in 90..100 {
            dash.minute(1, "aaaa0000", &minute_after(start, minute), 1_000 + minute * 10);
        }
        let report = import(setup, dash, &[]);
        assert_eq!(report["history"]["added"], 10, "{report:#}");
        assert_eq!(total(&mut database, "history_day_totals", "endpoint_id = 0"), 99 * 10 + 89);
        assert_eq!(total(&mut database, "history_hours", "instance_id = 'aaaa0000'"), 990);
        assert_adds_up(&mut database);
        run(setup, 0, &["check"]);
    });
}

#[test]
fn what_tidegate_recorded_itself_is_never_added_to() {
    let mut dash = Dash::sqlite(Version::Last);
    let setup = Setup::sqlite();
    small(&mut dash);
    let start = hours_ago(3);
    import(&setup, &dash, &[]);
    let mut database = stored::connect(setup.database_url());
    // It followed the master from minute 2 on, and was off from 3 to 9: minute 10 holds what was moved meanwhile.
    for (minute, delta) in [(2, 11), (10, 777)] {
        let at = start.0 + minute * MINUTE;
        for (table, more, value) in
            [("service_history", "", ""), ("history_hours", "", ""), ("history_days", ", zone_changed", ", FALSE")]
        {
            let record_time = match table {
                "service_history" => at,
                "history_hours" => start.0,
                _ => at - at.rem_euclid(24 * HOUR),
            };
            database.execute(&format!(
                "INSERT INTO {table} (endpoint_id, instance_id, record_time, delta_tcp_in, delta_tcp_out, delta_udp_in, delta_udp_out, \
                 record_count, expected_count, ping_count, covered_ms{more}) VALUES (1, 'aaaa0000', {record_time}, {delta}, 0, 0, 0, 1, 1, 0, 1{value}) \
                 ON CONFLICT (endpoint_id, instance_id, record_time) DO UPDATE SET delta_tcp_in = {table}.delta_tcp_in + {delta}"
            ));
        }
    }
    for minute in 0..20 {
        dash.minute(1, "aaaa0000", &minute_after(start, minute), 1_000 + minute * 10);
    }
    let report = import(&setup, &dash, &[]);
    assert_eq!(deltas(&mut database, "service_history", "aaaa0000", start), [(0, 0), (1, 10), (2, 11), (10, 777)]);
    assert_eq!(total(&mut database, "history_hours", "1 = 1"), 10 + 11 + 777);
    assert_eq!((&report["history"]["added"], &report["history"]["recorded"]), (&2.into(), &18.into()), "{report:#}");
}

#[test]
fn a_trial_changes_nothing_and_makes_nothing() {
    everywhere(Version::Last, |dash, setup| {
        small(dash);
        dash.minute(1, "aaaa0000", &minute_after(hours_ago(3), 0), 100);
        dash.minute(1, "aaaa0000", &minute_after(hours_ago(3), 1), 300);
        let sqlite = setup.database_url().starts_with("sqlite:");
        if !sqlite {
            run(setup, 0, &["migrate"]);
        }
        let report = import(setup, dash, &["--dry-run"]);
        assert_eq!(report["history"]["bytes"]["tcp_in"], 200);
        assert_eq!(report["endpoints"]["added"], serde_json::json!(["tokyo"]));
        if sqlite {
            assert!(!setup.database_path().exists());
        } else {
            let mut database = stored::connect(setup.database_url());
            assert_eq!(database.number("SELECT count(*) AS value FROM endpoints"), 0);
            assert_eq!(database.number("SELECT count(*) AS value FROM history_zones"), 0);
        }
        let done = import(setup, dash, &[]);
        assert_eq!(done["history"], report["history"]);
        assert_eq!(done["repairs"], report["repairs"]);
    });
}

/// Both ends of a tunnel report the same bytes.
#[test]
fn two_ends_of_a_tunnel_count_once_in_totals() {
    let mut dash = Dash::sqlite(Version::Last);
    let setup = Setup::sqlite();
    small(&mut dash);
    dash.endpoint(2, "paris", "http://127.0.0.1:10");
    dash.tunnel(2, "bbbb0000", "exit");
    dash.execute("UPDATE tunnels SET peer = '{\"sid\":\"s1\",\"type\":\"1\",\"alias\":\"\"}'");
    dash.execute("UPDATE tunnels SET type = 'server' WHERE instance_id = 'bbbb0000'");
    let start = hours_ago(3);
    for (endpoint, instance) in [(1, "aaaa0000"), (2, "bbbb0000")] {
        dash.minute(endpoint, instance, &minute_after(start, 0), 100);
        dash.minute(endpoint, instance, &minute_after(start, 1), 400);
    }
    import(&setup, &dash, &[]);
    let mut database = stored::connect(setup.database_url());
    assert_eq!(total(&mut database, "history_hour_totals", "endpoint_id = 0"), 300);
    assert_eq!(total(&mut database, "history_hour_totals", "endpoint_id = 2"), 300);
    assert_eq!(total(&mut database, "history_hours", "1 = 1"), 600);
}

/// The bytes, the time of change and the neighbours of a source.
fn seen_from_outside(dash: &Dash) -> Vec<(String, Vec<u8>, Option<std::time::SystemTime>)> {
    let directory = dash.path().parent().unwrap().to_owned();
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).unwrap(), entry.metadata().unwrap().modified().ok())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_source_is_left_exactly_as_it_was_whether_it_is_in_use_or_not() {
    // In use with a write-ahead log, closed with one, without one.
    for way in ["open", "closed", "rollback"] {
        let mut dash = Dash::sqlite(Version::Last);
        let setup = Setup::sqlite();
        if way != "rollback" {
            dash.execute("PRAGMA journal_mode = WAL");
        }
        small(&mut dash);
        dash.minute(1, "aaaa0000", &minute_after(hours_ago(3), 0), 100);
        dash.minute(1, "aaaa0000", &minute_after(hours_ago(3), 1), 300);
        if way != "open" {
            dash.around = stored::connect(&format!("sqlite:{}", setup.path("elsewhere.db").display()));
        }
        let before = seen_from_outside(&dash);
        assert_eq!(before.len(), if way == "open" { 3 } else { 1 }, "{way}");
        let report = import(&setup, &dash, &[]);
        assert_eq!(report["history"]["bytes"]["tcp_in"], 200, "{way}: rows that are in the log alone are read");
        assert!(before == seen_from_outside(&dash), "{way}: the source or its neighbours were changed");
    }
}

/// A file that was copied with its log and without the index of it: SQLite makes that anew, and nothing else.
#[test]
fn rows_in_a_copied_log_are_read_and_neither_file_is_changed() {
    let mut dash = Dash::sqlite(Version::Last);
    let setup = Setup::sqlite();
    dash.execute("PRAGMA journal_mode = WAL");
    small(&mut dash);
    dash.minute(1, "aaaa0000", &minute_after(hours_ago(3), 0), 100);
    dash.minute(1, "aaaa0000", &minute_after(hours_ago(3), 1), 300);
    let copy = Dash::sqlite(Version::Last);
    for end in ["", "-wal"] {
        let path = |dash: &Dash| format!("{}{end}", dash.path().display());
        std::fs::copy(path(&dash), path(&copy)).unwrap();
    }
    let before = seen_from_outside(&copy);
    assert_eq!(before.len(), 2);
    let report = import(&setup, &copy, &[]);
    assert_eq!(report["history"]["bytes"]["tcp_in"], 200);
    let after = seen_from_outside(&copy);
    assert!(before.iter().all(|file| after.contains(file)), "the source was changed");
}

#[test]
fn what_is_no_source_is_recognised_and_named() {
    let setup = Setup::sqlite();
    let told = |source: &str| run(&setup, 2, &["import", "nodepassdash", source]);
    let file = |name: &str| setup.path(name).display().to_string();
    assert!(told(&file("nowhere.db")).contains("does not exist"));
    std::fs::write(setup.path("notes.txt"), "some notes\n".repeat(50)).unwrap();
    assert!(told(&file("notes.txt")).contains("is no SQLite database"));
    stored::connect(&format!("sqlite:{}", file("other.db"))).execute("CREATE TABLE notes (text TEXT)");
    assert!(told(&file("other.db")).contains("is no database of NodePassDash"));
    stored::connect(&format!("sqlite:{}", file("old.db"))).execute(
        "CREATE TABLE \"EndpointSSE\" (id INTEGER PRIMARY KEY, \"eventType\" TEXT, \"endpointId\" INTEGER, \"tcpRx\" INTEGER)",
    );
    assert!(told(&file("old.db")).contains("before v3.0.0-beta2"));
    assert!(!setup.database_path().exists(), "nothing was made for a source that is none");
    run(&setup, 0, &["migrate"]);
    assert!(told(&file("tide.db")).contains("database of tidegate"));
    assert!(told("postgres://u:canary@").contains("not a usable source"));
    let unreachable = run(&setup, 4, &["import", "nodepassdash", "postgres://u:canary@127.0.0.1:9/x"]);
    assert!(unreachable.contains("cannot read") && !unreachable.contains("canary"), "{unreachable}");
}

#[test]
fn a_database_in_use_is_left_alone_but_for_a_trial() {
    let mut dash = Dash::sqlite(Version::Last);
    small(&mut dash);
    let setup = Setup::sqlite();
    let recorder = setup.start_and_wait();
    let told = run(&setup, 4, &["import", "nodepassdash", &dash.source()]);
    assert!(told.contains(&format!("in use by pid {}", recorder.pid())), "{told}");
    import(&setup, &dash, &["--dry-run"]);
    recorder.stop_well();
    import(&setup, &dash, &[]);
}

/// Killed while it writes, again and again, and then left to its end.
#[test]
fn an_import_that_is_killed_leaves_nothing_and_can_be_repeated() {
    let mut dash = Dash::sqlite(Version::Last);
    small(&mut dash);
    let start = hours_ago(100);
    // Enough rows to be killed amid them.
    dash.execute(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 59999) \
         INSERT INTO service_history (endpoint_id, instance_id, delta_tcp_in, record_count, record_time) \
         SELECT 1, 'aaaa' || printf('%04d', i / 5000), 1000 + i % 5000, 12, \
         strftime('%Y-%m-%d %H:%M:%S+00:00', {} + (i % 5000) * 60, 'unixepoch') FROM n",
        start.0 / Timestamp::SECOND
    ));
    for nth in 1..12 {
        dash.tunnel(1, &format!("aaaa{nth:04}"), "more");
    }
    let setup = Setup::sqlite();
    run(&setup, 0, &["migrate"]);
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..6 {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["--database-url", setup.database_url(), "import", "nodepassdash", &dash.source()]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        // The moment is random: nothing that can be seen from outside marks the ones of interest.
        std::thread::sleep(Duration::from_micros(rng.u64(..600_000)));
        let _ = child.kill();
        let _ = child.wait();
        let mut database = stored::connect(setup.database_url());
        let there = database.number("SELECT count(*) AS value FROM history_imports");
        assert!(there == 0 || there == 12, "a part of an import is there: {there} tunnels");
        assert_eq!(database.number("SELECT count(*) AS value FROM endpoints"), i64::from(there > 0));
    }
    import(&setup, &dash, &[]);
    let mut database = stored::connect(setup.database_url());
    assert_eq!(total(&mut database, "history_day_totals", "endpoint_id = 0"), 12 * 4_999);
    run(&setup, 0, &["check"]);
}
