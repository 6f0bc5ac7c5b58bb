{{ config(materialized='incremental', incremental_strategy='microbatch', unique_key='id', event_time='ts', batch_size='day', begin='2026-01-01') }}
select id, ts, cast(case when id = 2 then 'not a number ' || id else '1' end as integer) as n from {{ ref('mb_src') }}
