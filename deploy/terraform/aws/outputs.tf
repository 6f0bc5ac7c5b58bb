output "ledger_uri" {
  description = "The ledger's root for `ledger_uri` and `ledger-watcher --ledger`; append the identity's prefix."
  value       = "s3://${aws_s3_bucket.ledger.id}"
}

output "bucket_arn" {
  description = "ARN of the ledger's bucket."
  value       = aws_s3_bucket.ledger.arn
}

output "role_arns" {
  description = "ARN of the role of each identity, by its name."
  value       = { for name, role in aws_iam_role.identity : name => role.arn }
}

output "access_log_bucket" {
  description = "Name of the bucket with the access logs."
  value       = aws_s3_bucket_logging.ledger.target_bucket
}

output "ends_topic_arn" {
  description = "ARN of the SNS topic of ends; null without notify_ends."
  value       = one(aws_sns_topic.ends[*].arn)
}

output "sql_table" {
  description = "Athena's name of the table; null without sql_database."
  value       = one([for table in aws_glue_catalog_table.records : "${table.database_name}.${table.name}"])
}
