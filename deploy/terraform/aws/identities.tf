# A role for each identity, with the permissions of its kind below its prefix; see policies/.

module "bucket_policy" {
  source         = "./policies"
  bucket_arn     = aws_s3_bucket.ledger.arn
  retention_arns = [for name, identity in var.identities : aws_iam_role.identity[name].arn if identity.kind == "retention"]
}

module "policies" {
  source         = "./policies"
  for_each       = var.identities
  bucket_arn     = aws_s3_bucket.ledger.arn
  prefix         = each.value.prefix
  kms_key_arn    = var.kms_key_arn
  access_log_arn = var.access_log_bucket == null ? aws_s3_bucket.access_logs[0].arn : null
}

resource "aws_iam_role" "identity" {
  for_each             = var.identities
  name                 = each.key
  description          = "Ledger ${var.bucket}/${each.value.prefix}: ${each.value.kind}"
  assume_role_policy   = each.value.trust
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

resource "aws_iam_role_policy" "identity" {
  for_each = var.identities
  name     = "ledger-${each.value.kind}"
  role     = aws_iam_role.identity[each.key].id
  policy   = module.policies[each.key].identities[each.value.kind]
}
