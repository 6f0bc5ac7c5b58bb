output "ledger_uri" {
  description = "The ledger's root for `ledger_uri` and `ledger-watcher --ledger`; append the identity's prefix."
  value       = "gs://${google_storage_bucket.ledger.name}"
}

output "access_log_bucket" {
  description = "Name of the bucket with the usage logs."
  value       = google_storage_bucket.ledger.logging[0].log_bucket
}

output "creates_topic" {
  description = "Id of the Pub/Sub topic of creates; null without notify_creates."
  value       = one(google_pubsub_topic.creates[*].id)
}

output "sql_table" {
  description = "BigQuery's name of the table; null without sql_dataset."
  value       = one([for table in google_bigquery_table.records : "${table.project}.${table.dataset_id}.${table.table_id}"])
}
