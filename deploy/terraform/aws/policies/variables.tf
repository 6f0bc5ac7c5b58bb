variable "bucket_arn" {
  description = "ARN of the ledger's bucket."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:s3:::[a-z0-9.-]+$", var.bucket_arn))
    error_message = "bucket_arn is the ARN of a bucket, such as arn:aws:s3:::ledgers."
  }
}

variable "prefix" {
  description = "What the identity's keys begin with: empty for the whole bucket, else it ends with a slash."
  type        = string
  default     = ""

  validation {
    condition     = var.prefix == "" || can(regex("^[^/*?][^*?]*/$", var.prefix))
    error_message = "prefix is empty, or it ends with a slash, does not begin with one, and has neither * nor ?."
  }
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the bucket, if there is one."
  type        = string
  default     = ""
  nullable    = false
}

variable "access_log_arn" {
  description = "ARN of the bucket with the access logs, if the auditor may read it."
  type        = string
  default     = ""
  nullable    = false
}

variable "retention_arns" {
  description = "ARNs of the roles that may delete. With none, only lifecycle rules do."
  type        = list(string)
  default     = []
}
