variable "bucket" {
  description = "Name of the ledger's bucket."
  type        = string
}

variable "prefix" {
  description = "What the identity's object names begin with: empty for the whole bucket, else it ends with a slash."
  type        = string
  default     = ""

  validation {
    condition     = var.prefix == "" || can(regex("^[A-Za-z0-9_.-][A-Za-z0-9_./-]*/$", var.prefix))
    error_message = "prefix is empty, or it ends with a slash and has letters, digits and _ . / - only: it stands in a condition."
  }
}

variable "auditor_role" {
  description = "Id of the custom role with `permissions.auditor`."
  type        = string
  default     = "projects/PROJECT/roles/ledgerAuditor"
}

variable "retention_role" {
  description = "Id of the custom role with `permissions.retention`."
  type        = string
  default     = "projects/PROJECT/roles/ledgerRetention"
}
