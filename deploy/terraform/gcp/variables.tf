variable "project" {
  description = "Id of the project."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project's id has 6 to 30 small letters, digits and hyphens, and begins with a letter."
  }
}

variable "bucket" {
  description = "Name of the bucket. It is made here and holds ledgers only."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "A bucket's name has 3 to 63 small letters, digits, dots, hyphens and underscores, and begins and ends with a letter or digit."
  }
}

variable "location" {
  description = "Location of the bucket, such as EU or europe-west3; BigQuery's dataset is there, too."
  type        = string
}

variable "identities" {
  description = <<-EOT
    Who may do what, by a name of your own. `kind` is producer (dbt's side: create, get, list), reader (Airflow's triggerers and workers, people: get, list),
    auditor (reads the bucket's settings, its policy and the usage logs, too) or retention (`ledger-watcher gc`: get, list, delete). `prefix` narrows it
    to objects whose names begin so. `members` are IAM's: serviceAccount:..., group:..., principalSet://...
  EOT
  type = map(object({
    kind    = string
    prefix  = optional(string, "")
    members = list(string)
  }))
  default = {}

  validation {
    condition     = alltrue([for identity in var.identities : contains(["producer", "reader", "auditor", "retention"], identity.kind)])
    error_message = "The kind of an identity is producer, reader, auditor or retention."
  }

  validation {
    condition     = !anytrue([for identity in var.identities : contains(identity.members, "allUsers") || contains(identity.members, "allAuthenticatedUsers")])
    error_message = "A ledger is not for allUsers or allAuthenticatedUsers."
  }
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

variable "retention_lock" {
  description = "For audit: no object can be deleted or replaced for so many days. `locked` makes that irrevocable, for everybody. It takes the place of versions."
  type = object({
    days   = number
    locked = optional(bool, false)
  })
  default = null

  validation {
    condition     = var.retention_lock == null || var.retention_days == null || try(var.retention_lock.days <= var.retention_days, false)
    error_message = "retention_lock.days is at most retention_days: what is locked cannot expire."
  }
}

variable "kms_key" {
  description = "Id of a Cloud KMS key to encrypt with (projects/.../cryptoKeys/...); without it, Google encrypts with keys of its own."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/.+/locations/.+/keyRings/.+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key is projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY."
  }
}

variable "access_log_bucket" {
  description = "Name of an existing bucket that takes the usage logs; without it, one is made: `<bucket>-access-logs`."
  type        = string
  default     = null
}

variable "access_log_days" {
  description = "Days for which usage logs are kept in the bucket that is made for them."
  type        = number
  default     = 400

  validation {
    condition     = var.access_log_days >= 1 && floor(var.access_log_days) == var.access_log_days
    error_message = "access_log_days is a whole number, 1 or more."
  }
}

variable "sql_dataset" {
  description = "Id of a BigQuery dataset to make, with an external table over the ledgers and a view of their nodes; null makes none."
  type        = string
  default     = null

  validation {
    condition     = var.sql_dataset == null || can(regex("^[A-Za-z0-9_]{1,1024}$", var.sql_dataset))
    error_message = "sql_dataset has letters, digits and underscores only."
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

variable "notify_creates" {
  description = "Whether a Pub/Sub topic is told of each object that is created. Cloud Storage cannot choose by the end of a name: a subscriber looks for `.end.jsonl`."
  type        = bool
  default     = false
}

variable "labels" {
  description = "Labels of all that is made."
  type        = map(string)
  default     = {}
}
