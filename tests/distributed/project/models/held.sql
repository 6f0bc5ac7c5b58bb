-- Waits for as long as a test holds the lock.
{{ config(pre_hook="select pg_advisory_xact_lock_shared(4711)") }}
select id from {{ ref("first") }}
