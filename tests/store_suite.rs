//! One suite for both databases: whatever the store promises holds on SQLite files and on a real PostgreSQL server alike.

mod postgres;

#[path = "store_suite/endpoints.rs"]
mod endpoints;
#[path = "store_suite/events.rs"]
mod events;
#[path = "store_suite/expiry.rs"]
mod expiry;
#[path = "store_suite/faults.rs"]
mod faults;
#[path = "store_suite/history.rs"]
mod history;
#[path = "store_suite/live.rs"]
mod live;
#[path = "store_suite/modes.rs"]
mod modes;
#[path = "store_suite/opening.rs"]
mod opening;
#[path = "store_suite/queries.rs"]
mod queries;
#[path = "store_suite/sample.rs"]
mod sample;
#[path = "store_suite/sizes.rs"]
mod sizes;

/// Makes of each function one test per database.
macro_rules! on_both_databases {
    ($($module:ident::$name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[test] fn $name() { crate::$module::$name(&crate::postgres::TestDatabase::sqlite()); })*
        }
        mod on_postgres {
            $(#[test] fn $name() { crate::$module::$name(&crate::postgres::TestDatabase::postgres()); })*
        }
    };
}

on_both_databases!(
    endpoints::names_and_masters_are_unique,
    endpoints::an_endpoint_is_read_as_it_was_written,
    endpoints::what_an_endpoint_left_behind_stays_or_is_purged,
    endpoints::a_purge_of_nothing_but_gaps_is_not_taken_for_a_loss,
    events::a_batch_is_stored_with_its_flush,
    events::a_batch_that_was_stored_is_not_stored_again,
    events::ids_that_are_there_are_skipped_and_counted,
    events::a_boundary_without_records_leaves_a_flush,
    events::flushes_stand_in_the_order_of_commits,
    events::a_row_that_is_refused_goes_to_quarantine_and_the_rest_is_stored,
    events::a_table_that_refuses_everything_is_not_the_rows_fault,
    events::counters_beyond_the_range_stay_at_its_end,
    events::a_statement_takes_one_row_or_a_thousand_and_nothing_beyond,
    events::a_nul_character_stops_nothing,
    expiry::minutes_expire_tunnel_by_tunnel_and_no_sum_falls,
    expiry::days_and_falls_that_expire_leave_accounts_that_still_add_up,
    expiry::a_row_that_somebody_changed_is_found,
    expiry::rows_that_are_missing_altogether_are_found_by_the_other_levels,
    expiry::events_gaps_and_flushes_expire_by_when_they_were_received,
    expiry::what_a_clock_ahead_has_dated_expires_with_what_came_after_it,
    expiry::what_a_clock_behind_has_dated_takes_nothing_young_with_it,
    history::parts_of_a_minute_add_up_on_every_level_and_only_once,
    history::totals_count_each_tunnel_once_and_leave_out_the_other_end,
    history::hours_and_days_follow_the_zone_and_the_day_of_a_change_is_marked,
    history::accounts_add_up_from_batch_to_batch,
    history::states_and_counter_events_are_stored_with_the_history,
    live::live_state_is_never_overwritten_by_something_older,
    live::a_removed_tunnel_is_gone_and_a_removed_endpoint_does_not_come_back,
    live::all_that_was_stored_is_loaded,
    live::people_read_without_a_recorder,
    modes::a_record_is_stored_with_its_tunnels_state_and_brings_no_tunnel_back,
    modes::a_batch_stores_what_was_left_out_and_counts_the_rest_as_stored,
    modes::a_row_that_nobody_reported_as_written_is_skipped_and_not_counted_as_single,
    modes::a_comparison_finds_what_differs_and_what_is_missing_on_either_side,
    modes::a_record_that_the_database_refuses_is_left_to_its_batch,
    modes::settings_and_usage_are_read_as_they_were_kept,
    modes::what_people_were_told_is_read_as_it_was_kept,
    opening::a_newer_schema_is_refused,
    opening::a_second_recorder_is_refused_until_the_first_ends,
    opening::an_older_schema_is_migrated_once,
    queries::a_page_ends_where_it_is_full_or_has_looked_at_enough,
    queries::a_cursor_stays_valid_while_rows_arrive_and_expire,
    queries::a_range_of_time_goes_through_the_flushes,
    queries::flushes_and_gaps_are_paged_newest_first,
    queries::sizes_are_told_table_by_table,
    queries::a_chart_is_what_is_stored_and_what_waits,
    queries::a_chart_tells_a_silent_tunnel_from_a_time_of_which_nothing_is_known,
    queries::what_was_imported_or_whose_gaps_have_expired_counts_as_not_heard,
    queries::traffic_is_summed_by_day_month_and_cycle,
    queries::a_flush_on_the_day_of_a_zone_change_moves_no_figure,
    queries::an_export_pages_through_everything_once,
);
