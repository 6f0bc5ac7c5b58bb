select cast(d as date) as date_day from generate_series(timestamp '2026-01-01', timestamp '2026-01-31', interval '1 day') d
