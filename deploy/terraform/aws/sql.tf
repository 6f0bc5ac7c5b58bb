# A table over all records, for Athena. It has no partitions, so nobody has to register new runs; its path says which run a row is of. Rows of
# checkpoints repeat those of segments: ask for '%/seg/%' only, as the saved query does.

locals {
  sql_columns = {
    adapter_response    = "string"
    attempt             = "bigint"
    by_choice           = "string"
    clear_number        = "bigint"
    command             = "array<string>"
    dbt_version         = "string"
    dropped             = "bigint"
    ended_by            = "string"
    epoch               = "bigint"
    execution_time      = "double"
    exit_code           = "bigint"
    failures            = "bigint"
    finished_at         = "string"
    host                = "string"
    incomplete          = "string"
    index               = "bigint"
    invocation          = "string"
    invocation_id       = "string"
    kind                = "string"
    lines               = "array<string>"
    manifest_sha256     = "string"
    materialized        = "string"
    message             = "string"
    name                = "string"
    outcome             = "string"
    path                = "string"
    pid                 = "bigint"
    producer_started_at = "string"
    query_id            = "string"
    relation            = "string"
    resource_type       = "string"
    rows_affected       = "bigint"
    scope               = "string"
    seq                 = "bigint"
    sha256              = "string"
    size                = "bigint"
    skip_cause          = "array<string>"
    source              = "string"
    started_at          = "string"
    status              = "string"
    target              = "string"
    task_id             = "string"
    thread              = "string"
    threads             = "bigint"
    total               = "bigint"
    try_number          = "bigint"
    ts                  = "string"
    unique_id           = "string"
    unique_ids          = "array<string>"
    version             = "string"
    will_retry          = "boolean"
  }
}

resource "aws_glue_catalog_database" "ledger" {
  count       = var.sql_database == null ? 0 : 1
  name        = var.sql_database
  description = "Runs of dbt: s3://${var.bucket}/${var.sql_prefix}"
  tags        = var.tags
}

resource "aws_glue_catalog_table" "records" {
  count         = length(aws_glue_catalog_database.ledger)
  name          = "records"
  database_name = aws_glue_catalog_database.ledger[0].name
  description   = "One row for each line of the ledger; docs/format.md says what the columns mean."
  table_type    = "EXTERNAL_TABLE"
  parameters    = { EXTERNAL = "TRUE", classification = "json" }

  storage_descriptor {
    location      = "s3://${aws_s3_bucket.ledger.id}/${var.sql_prefix}v1/"
    input_format  = "org.apache.hadoop.mapred.TextInputFormat"
    output_format = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"

    ser_de_info {
      serialization_library = "org.openx.data.jsonserde.JsonSerDe"
      parameters            = { "ignore.malformed.json" = "true" }
    }

    dynamic "columns" {
      for_each = local.sql_columns

      content {
        name = columns.key
        type = columns.value
      }
    }
  }
}

resource "aws_athena_named_query" "nodes" {
  count       = length(aws_glue_catalog_table.records)
  name        = "${var.sql_database}: nodes"
  description = "The last word on each node of each run, slowest first."
  database    = aws_glue_catalog_database.ledger[0].name
  query       = <<-SQL
    WITH finished AS (
      SELECT
        url_decode(regexp_extract("$path", '/dag=([^/]*)/', 1)) AS dag_id,
        url_decode(regexp_extract("$path", '/run=([^/]*)/', 1)) AS run_id,
        records.*,
        row_number() OVER (
          PARTITION BY regexp_extract("$path", '^(.*)/seg/', 1), unique_id
          ORDER BY outcome IN ('success', 'warn', 'noop', 'reused') DESC, "$path" DESC
        ) AS newest
      FROM records
      WHERE "$path" LIKE '%/seg/%' AND kind = 'node_finished'
    )
    SELECT dag_id, run_id, unique_id, outcome, execution_time, rows_affected, message
    FROM finished
    WHERE newest = 1
    ORDER BY execution_time DESC
  SQL
}
