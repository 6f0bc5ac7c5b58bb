-- Ledgers on S3 in Amazon Athena. Replace my-bucket/ledgers. See docs/sql.md.
-- Times are text here (RFC 3339): from_iso8601_timestamp() makes timestamps of them, as the views do.

CREATE EXTERNAL TABLE ledger_lines (
    `kind` string,
    `type` string,
    `run` string,
    `seq` bigint,
    `epoch` bigint,
    `ts` string,
    `attempt` bigint,
    `command` array<string>,
    `invocation` string,
    `producer_started_at` string,
    `host` string,
    `pid` bigint,
    `try_number` bigint,
    `clear_number` bigint,
    `version` string,
    `scope` string,
    `task_id` string,
    `unique_ids` array<string>,
    `source` string,
    `manifest_sha256` string,
    `dbt_version` string,
    `invocation_id` string,
    `threads` bigint,
    `target` string,
    `unique_id` string,
    `resource_type` string,
    `name` string,
    `materialized` string,
    `relation` string,
    `started_at` string,
    `thread` string,
    `index` bigint,
    `total` bigint,
    `status` string,
    `execution_time` double,
    `outcome` string,
    `message` string,
    `finished_at` string,
    `failures` bigint,
    `rows_affected` bigint,
    `query_id` string,
    `adapter_response` string,
    `skip_cause` array<string>,
    `by_choice` string,
    `lines` array<string>,
    `dropped` bigint,
    `sha256` string,
    `size` bigint,
    `path` string,
    `exit_code` bigint,
    `ended_by` string,
    `will_retry` boolean,
    `incomplete` string
)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
WITH SERDEPROPERTIES ('ignore.malformed.json' = 'true')
STORED AS INPUTFORMAT 'org.apache.hadoop.mapred.TextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://my-bucket/ledgers/v1/';

-- Artifacts and checkpoints lie beside the segments: the path tells them apart. A path part that begins with + goes on with the one before it.
CREATE OR REPLACE VIEW records AS
WITH segments AS (
    SELECT "$path" AS object, * FROM ledger_lines WHERE regexp_like("$path", '/seg/[0-9]{10,}\.jsonl$')
),
headers AS (
    SELECT object, epoch, seq, replace(run, '/+', '') AS prefix FROM segments WHERE kind = 'segment'
)
SELECT
    url_decode(regexp_extract(headers.prefix, '/deployment=([^/]*)', 1)) AS deployment,
    url_decode(regexp_extract(headers.prefix, '/dag=([^/]*)', 1)) AS dag_id,
    url_decode(regexp_extract(headers.prefix, '/run=([^/]*)', 1)) AS run_id,
    url_decode(regexp_extract(headers.prefix, '/group=([^/]*)', 1)) AS task_group,
    CAST(regexp_extract(headers.prefix, '/map=([^/]*)', 1) AS bigint) AS map_index,
    headers.epoch AS attempt_number,
    headers.seq AS segment,
    from_iso8601_timestamp(segments.ts) AS recorded_at,
    segments.*
FROM segments
JOIN headers ON headers.object = segments.object
WHERE segments.kind <> 'segment';

CREATE OR REPLACE VIEW nodes AS
SELECT * FROM (
    SELECT
        records.*,
        row_number() OVER (
            PARTITION BY deployment, dag_id, run_id, task_group, map_index, unique_id
            ORDER BY attempt_number DESC, CASE WHEN outcome IN ('success', 'warn', 'noop', 'reused') THEN 0 ELSE 1 END, segment DESC, recorded_at DESC
        ) AS place
    FROM records
    WHERE kind = 'node_finished'
) AS ranked
WHERE place = 1;
