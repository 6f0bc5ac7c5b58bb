# Two teams, each below a prefix of its own; a key of your own, objects locked for audit, an auditor, retention by `ledger-watcher gc`, SQL, messages.

provider "aws" {
  region = "eu-central-1"
}

data "aws_caller_identity" "current" {}

data "aws_iam_policy_document" "account" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = [data.aws_caller_identity.current.account_id]
    }
  }
}

data "aws_iam_policy_document" "key" {
  # checkov:skip=CKV_AWS_109:A key's policy gives the account's IAM policies their effect; the resource is the key itself
  # checkov:skip=CKV_AWS_111:For the reason of CKV_AWS_109
  # checkov:skip=CKV_AWS_356:For the reason of CKV_AWS_109
  statement {
    sid       = "PoliciesOfTheAccountCount"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = [data.aws_caller_identity.current.account_id]
    }
  }

  statement {
    sid       = "S3PublishesToTheTopic"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_kms_key" "ledger" {
  description         = "dbt ledgers"
  enable_key_rotation = true
  policy              = data.aws_iam_policy_document.key.json
}

module "ledger" {
  source = "../.."

  bucket         = "example-audited-ledgers"
  retention_days = 2555
  kms_key_arn    = aws_kms_key.ledger.arn
  object_lock    = { mode = "GOVERNANCE", days = 365 }
  sql_database   = "dbt_ledgers"
  sql_prefix     = "shop/"
  notify_ends    = true

  identities = {
    shop-dbt       = { kind = "producer", prefix = "shop/", trust = data.aws_iam_policy_document.account.json }
    shop-airflow   = { kind = "reader", prefix = "shop/", trust = data.aws_iam_policy_document.account.json }
    bank-dbt       = { kind = "producer", prefix = "bank/", trust = data.aws_iam_policy_document.account.json }
    bank-airflow   = { kind = "reader", prefix = "bank/", trust = data.aws_iam_policy_document.account.json }
    ledger-auditor = { kind = "auditor", trust = data.aws_iam_policy_document.account.json }
    ledger-gc      = { kind = "retention", trust = data.aws_iam_policy_document.account.json }
  }

  tags = { service = "dbt" }
}

output "role_arns" {
  value = module.ledger.role_arns
}

output "ends_topic_arn" {
  value = module.ledger.ends_topic_arn
}
