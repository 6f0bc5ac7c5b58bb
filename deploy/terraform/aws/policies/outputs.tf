output "identities" {
  description = "Policy documents (JSON) by kind of identity: producer, reader, auditor, retention."
  value = {
    for kind, names in local.grants : kind => jsonencode({
      Version   = "2012-10-17"
      Statement = [for name in names : local.statements[name] if !contains(local.absent, name)]
    })
  }
}

output "bucket" {
  description = "The policy (JSON) of the bucket."
  value       = jsonencode({ Version = "2012-10-17", Statement = values(local.bucket) })
}
