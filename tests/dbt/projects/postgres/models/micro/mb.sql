{{ config(materialized='incremental', incremental_strategy='microbatch', unique_key='id', event_time='ts', batch_size='day', begin='2026-01-01') }}
select id, ts from {{ ref('mb_src') }}
