# Who may do what with a ledger, as data: `statements` are the permissions, `grants` gives them to the kinds of identity, `bucket` is what
# nobody may. No provider is needed here, so `terraform apply` of this folder alone prints the documents; tests read the same two tables.
#
# The requests behind them are those of ledger_watcher/storage: PutObject with If-None-Match (from 100 MB on, an artifact is uploaded in
# parts), GetObject, ListObjectsV2; DeleteObject by `ledger-watcher gc` alone.

locals {
  objects = "${var.bucket_arn}/${var.prefix}*"

  statements = {
    # Without a condition on s3:prefix, for S3 answers a GetObject of a key that is not there with 404 only to those who may list, and such a
    # request has no prefix to fulfil the condition with: it would be a 403, and no ledger can be followed. So names in the whole bucket are seen.
    list = {
      Sid      = "List"
      Effect   = "Allow"
      Action   = ["s3:ListBucket", "s3:GetBucketLocation"]
      Resource = [var.bucket_arn]
    }
    get = {
      Sid      = "Get"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = [local.objects]
    }
    create = {
      Sid       = "Create"
      Effect    = "Allow"
      Action    = ["s3:PutObject"]
      Resource  = [local.objects]
      Condition = { Null = { "s3:if-none-match" = "false" } }
    }
    create_in_parts = {
      Sid       = "CreateInParts"
      Effect    = "Allow"
      Action    = ["s3:PutObject"]
      Resource  = [local.objects]
      Condition = { Bool = { "s3:ObjectCreationOperation" = "false" } }
    }
    give_up_parts = {
      Sid      = "GiveUpParts"
      Effect   = "Allow"
      Action   = ["s3:AbortMultipartUpload"]
      Resource = [local.objects]
    }
    inspect_bucket = {
      Sid    = "InspectBucket"
      Effect = "Allow"
      Action = [
        "s3:GetBucketLogging",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetBucketOwnershipControls",
        "s3:GetBucketPolicy",
        "s3:GetBucketPolicyStatus",
        "s3:GetBucketPublicAccessBlock",
        "s3:GetBucketVersioning",
        "s3:GetEncryptionConfiguration",
        "s3:GetLifecycleConfiguration",
        "s3:ListBucketVersions",
      ]
      Resource = [var.bucket_arn]
    }
    inspect_versions = {
      Sid      = "InspectVersions"
      Effect   = "Allow"
      Action   = ["s3:GetObjectLegalHold", "s3:GetObjectRetention", "s3:GetObjectVersion"]
      Resource = [local.objects]
    }
    read_access_logs = {
      Sid      = "ReadAccessLogs"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:ListBucket"]
      Resource = [var.access_log_arn, "${var.access_log_arn}/*"]
    }
    delete = {
      Sid      = "Delete"
      Effect   = "Allow"
      Action   = ["s3:DeleteObject"]
      Resource = [local.objects]
    }
    decrypt = {
      Sid       = "Decrypt"
      Effect    = "Allow"
      Action    = ["kms:Decrypt"]
      Resource  = [var.kms_key_arn]
      Condition = { StringLike = { "kms:EncryptionContext:aws:s3:arn" = "${var.bucket_arn}*" } }
    }
    encrypt = {
      Sid       = "Encrypt"
      Effect    = "Allow"
      Action    = ["kms:GenerateDataKey"]
      Resource  = [var.kms_key_arn]
      Condition = { StringLike = { "kms:EncryptionContext:aws:s3:arn" = "${var.bucket_arn}*" } }
    }
  }

  grants = {
    producer  = ["list", "get", "create", "create_in_parts", "give_up_parts", "decrypt", "encrypt"]
    reader    = ["list", "get", "decrypt"]
    auditor   = ["list", "get", "inspect_bucket", "inspect_versions", "read_access_logs", "decrypt"]
    retention = ["list", "get", "delete", "decrypt"]
  }

  # Statements about something that is not there are left out.
  absent = concat(
    var.kms_key_arn == "" ? ["decrypt", "encrypt"] : [],
    var.access_log_arn == "" ? ["read_access_logs"] : [],
  )

  # The bucket's own policy. It holds against every identity of the account, the administrator's included, until it is taken away. Lifecycle rules
  # are not requests of anybody: they still delete.
  bucket = {
    tls_only = {
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:*"]
      Resource  = [var.bucket_arn, "${var.bucket_arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }
    new_tls_only = {
      Sid       = "NewTlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:*"]
      Resource  = [var.bucket_arn, "${var.bucket_arn}/*"]
      Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
    }
    # Of an upload in parts only the last request creates an object, and only that one can have the header.
    create_only = {
      Sid       = "CreateOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:PutObject"]
      Resource  = [local.objects]
      Condition = {
        Null = { "s3:if-none-match" = "true" }
        Bool = { "s3:ObjectCreationOperation" = "true" }
      }
    }
    delete_by_retention_only = {
      Sid       = "DeleteByRetentionOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:DeleteObject"]
      Resource  = [local.objects]
      Condition = { ArnNotEquals = { "aws:PrincipalArn" = local.deleters } }
    }
    keep_versions = {
      Sid       = "KeepVersions"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:BypassGovernanceRetention", "s3:DeleteObjectVersion"]
      Resource  = [local.objects]
    }
  }

  # A condition must have a value: this is the ARN of nobody.
  deleters = length(var.retention_arns) > 0 ? var.retention_arns : ["arn:aws:iam::000000000000:role/nobody"]
}
