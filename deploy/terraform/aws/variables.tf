variable "bucket" {
  description = "Name of the bucket. It is made here and holds ledgers only."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "A bucket's name has 3 to 63 small letters, digits, dots and hyphens, and begins and ends with a letter or digit."
  }
}

variable "identities" {
  description = <<-EOT
    The roles to make, by name. `kind` is producer (dbt's side: create, get, list), reader (Airflow's triggerers and workers, people: get, list), auditor
    (reads all versions, the bucket's settings and the access logs, too) or retention (`ledger-watcher gc`: get, list, delete). `prefix` narrows it to
    keys that begin so. `trust` is the JSON of the role's trust policy: who may assume it.
  EOT
  type = map(object({
    kind   = string
    prefix = optional(string, "")
    trust  = string
  }))
  default = {}

  validation {
    condition     = alltrue([for identity in var.identities : contains(["producer", "reader", "auditor", "retention"], identity.kind)])
    error_message = "The kind of an identity is producer, reader, auditor or retention."
  }

  validation {
    condition     = alltrue([for identity in var.identities : can(jsondecode(identity.trust).Statement)])
    error_message = "The trust of an identity is the JSON of a trust policy: data.aws_iam_policy_document.NAME.json, or jsonencode({...})."
  }
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the roles."
  type        = string
  default     = null
}

variable "retention_days" {
  description = "Days after which an object is deleted; null keeps all. Count from a run's beginning: longer than a run may still be retried or cleared."
  type        = number
  default     = null

  validation {
    condition     = var.retention_days == null || try(var.retention_days >= 7 && floor(var.retention_days) == var.retention_days, false)
    error_message = "retention_days is a whole number, 7 or more: a slot that is empty again could be written again by a writer that still wants it."
  }
}

variable "noncurrent_days" {
  description = "Days for which a version that was deleted is kept."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days is a whole number, 1 or more."
  }
}

variable "kms_key_arn" {
  description = "ARN of a KMS key to encrypt with; without it, S3 encrypts with keys of its own (AES-256). Its key policy must let IAM policies of the account count."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = "kms_key_arn is the ARN of a key (not of an alias): arn:aws:kms:REGION:ACCOUNT:key/ID."
  }
}

variable "object_lock" {
  description = "For audit: no object can be deleted or overwritten for so many days. COMPLIANCE binds everybody, GOVERNANCE all but those who may bypass it. Only for a new bucket."
  type = object({
    mode = string
    days = number
  })
  default = null

  validation {
    condition     = var.object_lock == null || try(contains(["GOVERNANCE", "COMPLIANCE"], var.object_lock.mode) && var.object_lock.days >= 1, false)
    error_message = "object_lock is { mode = \"GOVERNANCE\" or \"COMPLIANCE\", days = 1 or more }."
  }

  validation {
    condition     = var.object_lock == null || var.retention_days == null || try(var.object_lock.days <= var.retention_days, false)
    error_message = "object_lock.days is at most retention_days: what is locked cannot expire."
  }
}

variable "access_log_bucket" {
  description = "Name of an existing bucket that takes the access logs; without it, one is made: `<bucket>-access-logs`."
  type        = string
  default     = null
}

variable "access_log_days" {
  description = "Days for which access logs are kept in the bucket that is made for them."
  type        = number
  default     = 400

  validation {
    condition     = var.access_log_days >= 1 && floor(var.access_log_days) == var.access_log_days
    error_message = "access_log_days is a whole number, 1 or more."
  }
}

variable "sql_database" {
  description = "Name of a Glue database to make, with a table over the ledgers for Athena; null makes none."
  type        = string
  default     = null

  validation {
    condition     = var.sql_database == null || can(regex("^[a-z0-9_]{1,252}$", var.sql_database))
    error_message = "sql_database has small letters, digits and underscores only."
  }
}

variable "sql_prefix" {
  description = "The ledger's root in the bucket that the table reads: empty, or it ends with a slash."
  type        = string
  default     = ""

  validation {
    condition     = var.sql_prefix == "" || can(regex("^[^/].*/$", var.sql_prefix))
    error_message = "sql_prefix is empty, or it ends with a slash and does not begin with one."
  }
}

variable "notify_ends" {
  description = "Whether an SNS topic is told of each end of an attempt (its checkpoint, `ckpt/<seq>.end.jsonl`)."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of all that is made."
  type        = map(string)
  default     = {}
}
