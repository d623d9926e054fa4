//! How many bytes the database writes.

use diesel::sql_types::BigInt;
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};

/// Bytes that this thread has handed to the system's write calls since it began. SQLite runs on the caller's thread, so the
/// difference around a call is what that call wrote: its log, and the pages of a checkpoint. `None` where the system does not
/// tell (not Linux).
pub(super) fn of_this_thread() -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("wchar: ")?.trim().parse().ok())
}

#[derive(QueryableByName)]
struct Position {
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

/// The position of the server's log, whoever wrote it. `None` if the server does not say.
pub(super) fn of_postgres(connection: &mut PgConnection) -> Option<u64> {
    let query = sql_query("SELECT CAST(pg_current_wal_insert_lsn() - '0/0' AS BIGINT) AS bytes");
    query.get_result::<Position>(connection).ok().and_then(|position| u64::try_from(position.bytes).ok())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_a_thread_writes_is_counted() {
        let mut file = tempfile::tempfile().expect("a file");
        let before = of_this_thread().expect("the system tells");
        file.write_all(&[0; 12_345]).expect("it is written");
        let after = of_this_thread().expect("the system tells");
        assert_eq!(after - before, 12_345);
    }
}
