# An external table over all records, for BigQuery, and a view of nodes. Rows of checkpoints repeat those of segments: ask for files of seg/ only, as the
# view does.

locals {
  sql_columns = {
    adapter_response    = "JSON"
    attempt             = "INTEGER"
    by_choice           = "STRING"
    clear_number        = "INTEGER"
    dbt_version         = "STRING"
    dropped             = "INTEGER"
    ended_by            = "STRING"
    epoch               = "INTEGER"
    execution_time      = "FLOAT"
    exit_code           = "INTEGER"
    failures            = "INTEGER"
    finished_at         = "STRING"
    host                = "STRING"
    incomplete          = "STRING"
    index               = "INTEGER"
    invocation          = "STRING"
    invocation_id       = "STRING"
    kind                = "STRING"
    manifest_sha256     = "STRING"
    materialized        = "STRING"
    message             = "STRING"
    name                = "STRING"
    outcome             = "STRING"
    path                = "STRING"
    pid                 = "INTEGER"
    producer_started_at = "STRING"
    query_id            = "STRING"
    relation            = "STRING"
    resource_type       = "STRING"
    rows_affected       = "INTEGER"
    scope               = "STRING"
    seq                 = "INTEGER"
    sha256              = "STRING"
    size                = "INTEGER"
    source              = "STRING"
    started_at          = "STRING"
    status              = "STRING"
    target              = "STRING"
    task_id             = "STRING"
    thread              = "STRING"
    threads             = "INTEGER"
    total               = "INTEGER"
    try_number          = "INTEGER"
    ts                  = "STRING"
    unique_id           = "STRING"
    version             = "STRING"
    will_retry          = "BOOLEAN"
  }

  sql_lists = ["command", "lines", "skip_cause", "unique_ids"]
}

resource "google_bigquery_dataset" "ledger" {
  # checkov:skip=CKV_GCP_81:The tables are external: nothing is stored in the dataset
  count       = var.sql_dataset == null ? 0 : 1
  project     = var.project
  dataset_id  = var.sql_dataset
  location    = var.location
  description = "Runs of dbt: gs://${var.bucket}/${var.sql_prefix}"
  labels      = var.labels
}

resource "google_bigquery_table" "records" {
  # checkov:skip=CKV_GCP_80:The table is external: nothing is stored in it
  # checkov:skip=CKV_GCP_121:It can be made again at any time
  count               = length(google_bigquery_dataset.ledger)
  project             = var.project
  dataset_id          = google_bigquery_dataset.ledger[0].dataset_id
  table_id            = "records"
  description         = "One row for each line of the ledger; docs/format.md says what the columns mean."
  deletion_protection = false
  labels              = var.labels

  external_data_configuration {
    autodetect            = false
    ignore_unknown_values = true
    source_format         = "NEWLINE_DELIMITED_JSON"
    source_uris           = ["gs://${google_storage_bucket.ledger.name}/${var.sql_prefix}v1/*.jsonl"]

    schema = jsonencode(concat(
      [for name, type in local.sql_columns : { name = name, type = type, mode = "NULLABLE" }],
      [for name in local.sql_lists : { name = name, type = "STRING", mode = "REPEATED" }],
    ))
  }
}

resource "google_bigquery_table" "nodes" {
  # checkov:skip=CKV_GCP_80:A view stores nothing
  # checkov:skip=CKV_GCP_121:It can be made again at any time
  count               = length(google_bigquery_table.records)
  project             = var.project
  dataset_id          = google_bigquery_dataset.ledger[0].dataset_id
  table_id            = "nodes"
  description         = "The last word on each node of each run. Ids are as in the path, percent-encoded."
  deletion_protection = false
  labels              = var.labels

  view {
    use_legacy_sql = false
    query          = <<-SQL
      SELECT
        REGEXP_EXTRACT(_FILE_NAME, r'/dag=([^/]*)/') AS dag_id,
        REGEXP_EXTRACT(_FILE_NAME, r'/run=([^/]*)/') AS run_id,
        unique_id, outcome, execution_time, rows_affected, message, started_at, finished_at
      FROM `${var.project}.${var.sql_dataset}.${google_bigquery_table.records[0].table_id}`
      WHERE kind = 'node_finished' AND REGEXP_CONTAINS(_FILE_NAME, r'/seg/[0-9]+[.]jsonl$')
      QUALIFY ROW_NUMBER() OVER (
        PARTITION BY REGEXP_EXTRACT(_FILE_NAME, r'^(.*)/seg/'), unique_id
        ORDER BY outcome IN ('success', 'warn', 'noop', 'reused') DESC, _FILE_NAME DESC
      ) = 1
    SQL
  }
}
