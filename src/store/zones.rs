//! `history_zones`: which time zone cuts hours and days, and from which minute on.

use chrono_tz::Tz;
use diesel::{ExpressionMethods, QueryDsl, QueryResult, RunQueryDsl};

use super::connection::{Connection, on};
use super::schema::{history_day_totals, history_days, history_zones};
use crate::clock::Timestamp;
use crate::history::calendar::Calendar;

/// The zones that were in force. A name that this program's zones do not have any more counts as UTC.
pub(super) fn calendar(connection: &mut Connection) -> QueryResult<Calendar> {
    use history_zones as z;
    let rows: Vec<(i64, String)> =
        on!(connection, c => z::table.order(z::from_time).select((z::from_time, z::timezone)).load(c))?;
    Ok(Calendar::new(rows.into_iter().map(|(from, zone)| (Timestamp(from), zone.parse().unwrap_or(Tz::UTC)))))
}

/// From the next full minute after `at` on hours and days are cut in this zone. The first zone that a database gets applies to
/// all that is in it.
pub(super) fn set(connection: &mut Connection, zone: Tz, at: Timestamp) -> QueryResult<()> {
    use history_zones as z;
    let newest = z::table.order(z::from_time.desc()).select(z::timezone).limit(1);
    let known: Vec<String> = on!(&mut *connection, c => newest.load(c))?;
    if known.first().is_some_and(|known| known == zone.name()) {
        return Ok(());
    }
    let from = if known.is_empty() { Timestamp(0) } else { Timestamp(at.minute().0 + Timestamp::MINUTE) };
    // A change that was to come, when the clock was set back since.
    on!(&mut *connection, c => diesel::delete(z::table.filter(z::from_time.ge(from.0))).execute(c))?;
    let row = (z::from_time.eq(from.0), z::timezone.eq(zone.name()));
    on!(&mut *connection, c => diesel::insert_into(z::table).values(row).execute(c))?;
    let day = calendar(connection)?.day(Timestamp(from.0 - Timestamp::MINUTE));
    if day.zone_changed {
        let days = history_days::table.filter(history_days::record_time.eq(day.start.0));
        let totals = history_day_totals::table.filter(history_day_totals::record_time.eq(day.start.0));
        on!(connection, c => {
            diesel::update(days).set(history_days::zone_changed.eq(true)).execute(c)?;
            diesel::update(totals).set(history_day_totals::zone_changed.eq(true)).execute(c)?;
        });
    }
    Ok(())
}
