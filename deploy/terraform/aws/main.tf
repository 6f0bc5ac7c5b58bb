# The bucket: private, encrypted, versioned, create-only.

resource "aws_s3_bucket" "ledger" {
  # checkov:skip=CKV_AWS_144:A second region doubles the cost of a log of runs; replicate it where your rules ask for that
  # checkov:skip=CKV_AWS_145:Encrypted with S3's own keys unless kms_key_arn is given
  # checkov:skip=CKV2_AWS_62:Notifications are for those who want them (notify_ends)
  # checkov:skip=CKV2_AWS_61:Lifecycle is in aws_s3_bucket_lifecycle_configuration.ledger
  bucket              = var.bucket
  object_lock_enabled = var.object_lock != null
  tags                = var.tags
}

resource "aws_s3_bucket_public_access_block" "ledger" {
  bucket                  = aws_s3_bucket.ledger.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "ledger" {
  bucket = aws_s3_bucket.ledger.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "ledger" {
  bucket = aws_s3_bucket.ledger.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_versioning" "ledger" {
  bucket = aws_s3_bucket.ledger.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "ledger" {
  count  = var.object_lock == null ? 0 : 1
  bucket = aws_s3_bucket.ledger.id

  rule {
    default_retention {
      mode = var.object_lock.mode
      days = var.object_lock.days
    }
  }

  depends_on = [aws_s3_bucket_versioning.ledger]
}

resource "aws_s3_bucket_lifecycle_configuration" "ledger" {
  # checkov:skip=CKV_AWS_300:The first rule has it; where the second one is there, checkov looks at that one only
  bucket = aws_s3_bucket.ledger.id

  rule {
    id     = "leftovers"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  dynamic "rule" {
    for_each = var.retention_days == null ? [] : [var.retention_days]

    content {
      id     = "retention"
      status = "Enabled"
      filter {}

      expiration {
        days = rule.value
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.ledger]
}

resource "aws_s3_bucket_policy" "ledger" {
  bucket = aws_s3_bucket.ledger.id
  policy = module.bucket_policy.bucket

  depends_on = [aws_s3_bucket_public_access_block.ledger]
}
