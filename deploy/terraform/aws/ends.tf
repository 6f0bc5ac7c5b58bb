# A message for each attempt that ended. The checkpoint of an end is the last object that its writer creates.

resource "aws_sns_topic" "ends" {
  # checkov:skip=CKV_AWS_26:A message has names of objects, and S3 may publish to an encrypted topic only with a key whose policy names it: give kms_key_arn
  count             = var.notify_ends ? 1 : 0
  name              = "${replace(var.bucket, ".", "-")}-ends"
  kms_master_key_id = var.kms_key_arn
  tags              = var.tags
}

data "aws_iam_policy_document" "ends" {
  count = length(aws_sns_topic.ends)

  statement {
    sid       = "TheBucketPublishes"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.ends[0].arn]

    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_s3_bucket.ledger.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_sns_topic_policy" "ends" {
  count  = length(aws_sns_topic.ends)
  arn    = aws_sns_topic.ends[0].arn
  policy = data.aws_iam_policy_document.ends[0].json
}

resource "aws_s3_bucket_notification" "ends" {
  count  = length(aws_sns_topic.ends)
  bucket = aws_s3_bucket.ledger.id

  topic {
    id            = "ends"
    topic_arn     = aws_sns_topic.ends[0].arn
    events        = ["s3:ObjectCreated:*"]
    filter_suffix = ".end.jsonl"
  }

  depends_on = [aws_sns_topic_policy.ends]
}
