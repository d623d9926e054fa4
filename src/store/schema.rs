// Generated: see diesel.toml.
#![expect(missing_docs, reason = "generated; the columns are documented in the migrations")]

diesel::table! {
    counter_events (event_id, kind) {
        event_id -> BigInt,
        kind -> Text,
        endpoint_id -> Integer,
        instance_id -> Text,
        time -> BigInt,
        before_tcp_rx -> BigInt,
        before_tcp_tx -> BigInt,
        before_udp_rx -> BigInt,
        before_udp_tx -> BigInt,
        after_tcp_rx -> BigInt,
        after_tcp_tx -> BigInt,
        after_udp_rx -> BigInt,
        after_udp_tx -> BigInt,
    }
}

diesel::table! {
    endpoint_sse (id) {
        id -> BigInt,
        event_type -> Text,
        event_time -> Nullable<BigInt>,
        endpoint_id -> Integer,
        instance_id -> Text,
        status -> Text,
        tcp_rx -> BigInt,
        tcp_tx -> BigInt,
        udp_rx -> BigInt,
        udp_tx -> BigInt,
        tcps -> Nullable<Integer>,
        udps -> Nullable<Integer>,
        pool -> Nullable<Integer>,
        ping -> Nullable<Integer>,
        logs -> Nullable<Text>,
        detail -> Nullable<Text>,
    }
}

diesel::table! {
    endpoints (id) {
        id -> Integer,
        name -> Text,
        url -> Text,
        api_path -> Text,
        api_key -> Text,
        status -> Text,
        reason -> Text,
        since -> BigInt,
        last_check -> Nullable<BigInt>,
        version -> Nullable<Text>,
        tls -> Text,
        paused -> Bool,
        log_events -> Nullable<Bool>,
        master_id -> Nullable<Text>,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    flushes (id) {
        id -> BigInt,
        batch -> Text,
        cause -> Text,
        boundary -> Nullable<BigInt>,
        skipped_boundaries -> Integer,
        first_id -> Nullable<BigInt>,
        last_id -> Nullable<BigInt>,
        through_id -> Nullable<BigInt>,
        first_received -> Nullable<BigInt>,
        last_received -> Nullable<BigInt>,
        rows -> BigInt,
        skipped -> BigInt,
        quarantined -> BigInt,
        duration_us -> BigInt,
        cut_at -> BigInt,
    }
}

diesel::table! {
    gaps (id) {
        id -> BigInt,
        endpoint_id -> Integer,
        instance_id -> Text,
        from_time -> BigInt,
        to_time -> BigInt,
        reason -> Text,
    }
}

diesel::table! {
    history_state (endpoint_id, instance_id) {
        endpoint_id -> Integer,
        instance_id -> Text,
        state -> Text,
    }
}

diesel::table! {
    quarantine (id) {
        id -> BigInt,
        event_id -> BigInt,
        endpoint_id -> Integer,
        row -> Text,
        reason -> Text,
        time -> BigInt,
    }
}

diesel::table! {
    service_history (endpoint_id, instance_id, record_time) {
        endpoint_id -> Integer,
        instance_id -> Text,
        record_time -> BigInt,
        delta_tcp_in -> BigInt,
        delta_tcp_out -> BigInt,
        delta_udp_in -> BigInt,
        delta_udp_out -> BigInt,
        avg_ping -> Nullable<Double>,
        min_ping -> Nullable<Integer>,
        max_ping -> Nullable<Integer>,
        avg_pool -> Nullable<Integer>,
        avg_tcps -> Nullable<Integer>,
        avg_udps -> Nullable<Integer>,
        avg_speed_in -> Nullable<Double>,
        avg_speed_out -> Nullable<Double>,
        record_count -> Integer,
        expected_count -> Integer,
    }
}

diesel::table! {
    tunnel_config (endpoint_id, instance_id) {
        endpoint_id -> Integer,
        instance_id -> Text,
        name -> Text,
        #[sql_name = "type"]
        type_ -> Text,
        url -> Text,
        config_line -> Text,
        restart -> Nullable<Bool>,
        mode -> Nullable<Integer>,
        peer_sid -> Text,
        peer_type -> Text,
        peer_alias -> Text,
        tags -> Text,
        unknown_fields -> Text,
        last_event -> BigInt,
    }
}

diesel::table! {
    tunnel_state (endpoint_id, instance_id) {
        endpoint_id -> Integer,
        instance_id -> Text,
        status -> Text,
        tcp_rx -> BigInt,
        tcp_tx -> BigInt,
        udp_rx -> BigInt,
        udp_tx -> BigInt,
        tcps -> Nullable<Integer>,
        udps -> Nullable<Integer>,
        pool -> Nullable<Integer>,
        ping -> Nullable<Integer>,
        last_event_time -> BigInt,
        last_event -> BigInt,
    }
}

diesel::joinable!(tunnel_config -> endpoints (endpoint_id));
diesel::joinable!(tunnel_state -> endpoints (endpoint_id));

diesel::allow_tables_to_appear_in_same_query!(
    counter_events,
    endpoint_sse,
    endpoints,
    flushes,
    gaps,
    history_state,
    quarantine,
    service_history,
    tunnel_config,
    tunnel_state,
);
