// @generated automatically by Diesel CLI.

diesel::table! {
    use diesel::sql_types::*;

    alerts (kind, endpoint, instance_id) {
        kind -> Text,
        endpoint -> Text,
        instance_id -> Text,
        since -> Int8,
        text -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    counter_events (event_id, kind) {
        event_id -> Int8,
        kind -> Text,
        endpoint_id -> Int4,
        instance_id -> Text,
        time -> Int8,
        before_tcp_rx -> Int8,
        before_tcp_tx -> Int8,
        before_udp_rx -> Int8,
        before_udp_tx -> Int8,
        after_tcp_rx -> Int8,
        after_tcp_tx -> Int8,
        after_udp_rx -> Int8,
        after_udp_tx -> Int8,
        counted_tcp_rx -> Int8,
        counted_tcp_tx -> Int8,
        counted_udp_rx -> Int8,
        counted_udp_tx -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    endpoint_sse (id) {
        id -> Int8,
        event_type -> Text,
        event_time -> Nullable<Int8>,
        endpoint_id -> Int4,
        instance_id -> Text,
        status -> Text,
        tcp_rx -> Int8,
        tcp_tx -> Int8,
        udp_rx -> Int8,
        udp_tx -> Int8,
        tcps -> Nullable<Int4>,
        udps -> Nullable<Int4>,
        pool -> Nullable<Int4>,
        ping -> Nullable<Int4>,
        logs -> Nullable<Text>,
        detail -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    endpoints (id) {
        id -> Int4,
        name -> Text,
        url -> Text,
        api_path -> Text,
        api_key -> Text,
        status -> Text,
        reason -> Text,
        since -> Int8,
        last_check -> Nullable<Int8>,
        version -> Nullable<Text>,
        tls -> Text,
        paused -> Bool,
        log_events -> Nullable<Bool>,
        master_id -> Nullable<Text>,
        created_at -> Int8,
        updated_at -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    flushes (id) {
        id -> Int8,
        batch -> Text,
        cause -> Text,
        boundary -> Nullable<Int8>,
        skipped_boundaries -> Int4,
        first_id -> Nullable<Int8>,
        last_id -> Nullable<Int8>,
        through_id -> Nullable<Int8>,
        first_received -> Nullable<Int8>,
        last_received -> Nullable<Int8>,
        rows -> Int8,
        skipped -> Int8,
        quarantined -> Int8,
        duration_us -> Int8,
        cut_at -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    gaps (id) {
        id -> Int8,
        endpoint_id -> Int4,
        instance_id -> Text,
        from_time -> Int8,
        to_time -> Int8,
        reason -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    history_accounts (endpoint_id, instance_id) {
        endpoint_id -> Int4,
        instance_id -> Text,
        risen_tcp_rx -> Int8,
        risen_tcp_tx -> Int8,
        risen_udp_rx -> Int8,
        risen_udp_tx -> Int8,
        closing_tcp_rx -> Int8,
        closing_tcp_tx -> Int8,
        closing_udp_rx -> Int8,
        closing_udp_tx -> Int8,
        open_tcp_rx -> Int8,
        open_tcp_tx -> Int8,
        open_udp_rx -> Int8,
        open_udp_tx -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    history_day_totals (endpoint_id, record_time) {
        endpoint_id -> Int4,
        record_time -> Int8,
        delta_tcp_in -> Int8,
        delta_tcp_out -> Int8,
        delta_udp_in -> Int8,
        delta_udp_out -> Int8,
        avg_ping -> Nullable<Float8>,
        min_ping -> Nullable<Int4>,
        max_ping -> Nullable<Int4>,
        avg_pool -> Nullable<Int4>,
        avg_tcps -> Nullable<Int4>,
        avg_udps -> Nullable<Int4>,
        avg_speed_in -> Nullable<Float8>,
        avg_speed_out -> Nullable<Float8>,
        record_count -> Int4,
        expected_count -> Int4,
        ping_count -> Int4,
        covered_ms -> Int8,
        tunnels -> Int4,
        zone_changed -> Bool,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    history_days (endpoint_id, instance_id, record_time) {
        endpoint_id -> Int4,
        instance_id -> Text,
        record_time -> Int8,
        delta_tcp_in -> Int8,
        delta_tcp_out -> Int8,
        delta_udp_in -> Int8,
        delta_udp_out -> Int8,
        avg_ping -> Nullable<Float8>,
        min_ping -> Nullable<Int4>,
        max_ping -> Nullable<Int4>,
        avg_pool -> Nullable<Int4>,
        avg_tcps -> Nullable<Int4>,
        avg_udps -> Nullable<Int4>,
        avg_speed_in -> Nullable<Float8>,
        avg_speed_out -> Nullable<Float8>,
        record_count -> Int4,
        expected_count -> Int4,
        ping_count -> Int4,
        covered_ms -> Int8,
        zone_changed -> Bool,
        left_out -> Int4,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    history_hour_totals (endpoint_id, record_time) {
        endpoint_id -> Int4,
        record_time -> Int8,
        delta_tcp_in -> Int8,
        delta_tcp_out -> Int8,
        delta_udp_in -> Int8,
        delta_udp_out -> Int8,
        avg_ping -> Nullable<Float8>,
        min_ping -> Nullable<Int4>,
        max_ping -> Nullable<Int4>,
        avg_pool -> Nullable<Int4>,
        avg_tcps -> Nullable<Int4>,
        avg_udps -> Nullable<Int4>,
        avg_speed_in -> Nullable<Float8>,
        avg_speed_out -> Nullable<Float8>,
        record_count -> Int4,
        expected_count -> Int4,
        ping_count -> Int4,
        covered_ms -> Int8,
        tunnels -> Int4,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    history_hours (endpoint_id, instance_id, record_time) {
        endpoint_id -> Int4,
        instance_id -> Text,
        record_time -> Int8,
        delta_tcp_in -> Int8,
        delta_tcp_out -> Int8,
        delta_udp_in -> Int8,
        delta_udp_out -> Int8,
        avg_ping -> Nullable<Float8>,
        min_ping -> Nullable<Int4>,
        max_ping -> Nullable<Int4>,
        avg_pool -> Nullable<Int4>,
        avg_tcps -> Nullable<Int4>,
        avg_udps -> Nullable<Int4>,
        avg_speed_in -> Nullable<Float8>,
        avg_speed_out -> Nullable<Float8>,
        record_count -> Int4,
        expected_count -> Int4,
        ping_count -> Int4,
        covered_ms -> Int8,
        left_out -> Int4,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    history_imports (endpoint_id, instance_id) {
        endpoint_id -> Int4,
        instance_id -> Text,
        through -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    history_minute_totals (endpoint_id, record_time) {
        endpoint_id -> Int4,
        record_time -> Int8,
        delta_tcp_in -> Int8,
        delta_tcp_out -> Int8,
        delta_udp_in -> Int8,
        delta_udp_out -> Int8,
        avg_ping -> Nullable<Float8>,
        min_ping -> Nullable<Int4>,
        max_ping -> Nullable<Int4>,
        avg_pool -> Nullable<Int4>,
        avg_tcps -> Nullable<Int4>,
        avg_udps -> Nullable<Int4>,
        avg_speed_in -> Nullable<Float8>,
        avg_speed_out -> Nullable<Float8>,
        record_count -> Int4,
        expected_count -> Int4,
        ping_count -> Int4,
        covered_ms -> Int8,
        tunnels -> Int4,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    history_state (endpoint_id, instance_id) {
        endpoint_id -> Int4,
        instance_id -> Text,
        state -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    history_zones (from_time) {
        from_time -> Int8,
        timezone -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    mode_usage (mode) {
        mode -> Text,
        time_us -> Int8,
        events -> Int8,
        rows -> Int8,
        single_transactions -> Int8,
        batch_transactions -> Int8,
        live_transactions -> Int8,
        other_transactions -> Int8,
        bytes -> Nullable<Int8>,
        database_us -> Int8,
        latency_us -> Int8,
        latency_max_us -> Int8,
        left_to_batch -> Int8,
        compared_since -> Nullable<Int8>,
        identical -> Int8,
        different -> Int8,
        missing_in_realtime -> Int8,
        missing_in_batch -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    quarantine (id) {
        id -> Int8,
        event_id -> Int8,
        endpoint_id -> Int4,
        row -> Text,
        reason -> Text,
        time -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    retention_floors (table_name) {
        table_name -> Text,
        floor -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    service_history (endpoint_id, instance_id, record_time) {
        endpoint_id -> Int4,
        instance_id -> Text,
        record_time -> Int8,
        delta_tcp_in -> Int8,
        delta_tcp_out -> Int8,
        delta_udp_in -> Int8,
        delta_udp_out -> Int8,
        avg_ping -> Nullable<Float8>,
        min_ping -> Nullable<Int4>,
        max_ping -> Nullable<Int4>,
        avg_pool -> Nullable<Int4>,
        avg_tcps -> Nullable<Int4>,
        avg_udps -> Nullable<Int4>,
        avg_speed_in -> Nullable<Float8>,
        avg_speed_out -> Nullable<Float8>,
        record_count -> Int4,
        expected_count -> Int4,
        ping_count -> Int4,
        covered_ms -> Int8,
        left_out -> Int4,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    settings (name) {
        name -> Text,
        value -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    tunnel_config (endpoint_id, instance_id) {
        endpoint_id -> Int4,
        instance_id -> Text,
        name -> Text,
        #[sql_name = "type"]
        type_ -> Text,
        url -> Text,
        config_line -> Text,
        restart -> Nullable<Bool>,
        mode -> Nullable<Int4>,
        peer_sid -> Text,
        peer_type -> Text,
        peer_alias -> Text,
        tags -> Text,
        unknown_fields -> Text,
        last_event -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    tunnel_state (endpoint_id, instance_id) {
        endpoint_id -> Int4,
        instance_id -> Text,
        status -> Text,
        tcp_rx -> Int8,
        tcp_tx -> Int8,
        udp_rx -> Int8,
        udp_tx -> Int8,
        tcps -> Nullable<Int4>,
        udps -> Nullable<Int4>,
        pool -> Nullable<Int4>,
        ping -> Nullable<Int4>,
        last_event_time -> Int8,
        last_event -> Int8,
    }
}

diesel::joinable!(tunnel_config -> endpoints (endpoint_id));
diesel::joinable!(tunnel_state -> endpoints (endpoint_id));

diesel::allow_tables_to_appear_in_same_query!(
    alerts,
    counter_events,
    endpoint_sse,
    endpoints,
    flushes,
    gaps,
    history_accounts,
    history_day_totals,
    history_days,
    history_hour_totals,
    history_hours,
    history_imports,
    history_minute_totals,
    history_state,
    history_zones,
    mode_usage,
    quarantine,
    retention_floors,
    service_history,
    settings,
    tunnel_config,
    tunnel_state,
);
