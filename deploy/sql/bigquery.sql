-- Ledgers on GCS in BigQuery. Replace my-bucket/ledgers and the dataset dbt_ledgers. See docs/sql.md.
-- One wildcard is all that a URI may have; it also finds checkpoints, which the views leave out by their path.

CREATE OR REPLACE EXTERNAL TABLE dbt_ledgers.ledger_lines (
  `kind` STRING,
  `type` STRING,
  `run` STRING,
  `seq` INT64,
  `epoch` INT64,
  `ts` TIMESTAMP,
  `attempt` INT64,
  `command` ARRAY<STRING>,
  `invocation` STRING,
  `producer_started_at` TIMESTAMP,
  `host` STRING,
  `pid` INT64,
  `try_number` INT64,
  `clear_number` INT64,
  `version` STRING,
  `scope` STRING,
  `task_id` STRING,
  `unique_ids` ARRAY<STRING>,
  `source` STRING,
  `manifest_sha256` STRING,
  `dbt_version` STRING,
  `invocation_id` STRING,
  `threads` INT64,
  `target` STRING,
  `unique_id` STRING,
  `resource_type` STRING,
  `name` STRING,
  `materialized` STRING,
  `relation` STRING,
  `started_at` TIMESTAMP,
  `thread` STRING,
  `index` INT64,
  `total` INT64,
  `status` STRING,
  `execution_time` FLOAT64,
  `outcome` STRING,
  `message` STRING,
  `finished_at` TIMESTAMP,
  `failures` INT64,
  `rows_affected` INT64,
  `query_id` STRING,
  `adapter_response` JSON,
  `skip_cause` ARRAY<STRING>,
  `by_choice` STRING,
  `lines` ARRAY<STRING>,
  `dropped` INT64,
  `sha256` STRING,
  `size` INT64,
  `path` STRING,
  `exit_code` INT64,
  `ended_by` STRING,
  `will_retry` BOOL,
  `incomplete` STRING
)
OPTIONS (
  format = 'NEWLINE_DELIMITED_JSON',
  uris = ['gs://my-bucket/ledgers/v1/*.jsonl'],
  ignore_unknown_values = TRUE
);

-- BigQuery has no function that decodes %XX: dag_id and its likes are as they stand in the path. A path part that begins with + goes on with the
-- one before it.
CREATE OR REPLACE VIEW dbt_ledgers.records AS
WITH segments AS (
  SELECT _FILE_NAME AS object, * FROM dbt_ledgers.ledger_lines WHERE REGEXP_CONTAINS(_FILE_NAME, r'/seg/[0-9]{10,}\.jsonl$')
),
headers AS (
  SELECT object, epoch, seq, REPLACE(run, '/+', '') AS prefix FROM segments WHERE kind = 'segment'
)
SELECT
  REGEXP_EXTRACT(headers.prefix, r'/deployment=([^/]*)') AS deployment,
  REGEXP_EXTRACT(headers.prefix, r'/dag=([^/]*)') AS dag_id,
  REGEXP_EXTRACT(headers.prefix, r'/run=([^/]*)') AS run_id,
  REGEXP_EXTRACT(headers.prefix, r'/group=([^/]*)') AS task_group,
  CAST(REGEXP_EXTRACT(headers.prefix, r'/map=([^/]*)') AS INT64) AS map_index,
  headers.epoch AS attempt_number,
  headers.seq AS segment,
  segments.ts AS recorded_at,
  segments.* EXCEPT (type, run, seq, epoch, object)
FROM segments
JOIN headers ON headers.object = segments.object
WHERE segments.kind <> 'segment';

CREATE OR REPLACE VIEW dbt_ledgers.nodes AS
SELECT * FROM dbt_ledgers.records
WHERE kind = 'node_finished'
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY deployment, dag_id, run_id, task_group, map_index, unique_id
  ORDER BY attempt_number DESC, IF(outcome IN ('success', 'warn', 'noop', 'reused'), 0, 1), segment DESC, recorded_at DESC
) = 1;
