# The roles of each identity's members on the bucket; see policies/.

module "policies" {
  source         = "./policies"
  for_each       = var.identities
  bucket         = google_storage_bucket.ledger.name
  prefix         = each.value.prefix
  auditor_role   = try(google_project_iam_custom_role.ledger["auditor"].id, "")
  retention_role = try(google_project_iam_custom_role.ledger["retention"].id, "")
}

module "permissions" {
  source = "./policies"
  bucket = var.bucket
}

locals {
  custom_kinds = toset([for identity in var.identities : identity.kind if contains(["auditor", "retention"], identity.kind)])

  bindings = merge([
    for name, identity in var.identities : {
      for pair in setproduct(keys(module.policies[name].bindings[identity.kind]), identity.members) :
      "${name}/${pair[0]}/${pair[1]}" => merge(module.policies[name].bindings[identity.kind][pair[0]], { member = pair[1] })
    }
  ]...)
}

resource "google_project_iam_custom_role" "ledger" {
  for_each    = local.custom_kinds
  project     = var.project
  role_id     = "${replace(var.bucket, "/[^A-Za-z0-9_]/", "_")}_${each.key}"
  title       = "Ledger ${var.bucket}: ${each.key}"
  permissions = module.permissions.permissions[each.key]
}

resource "google_storage_bucket_iam_member" "identity" {
  for_each = local.bindings
  bucket   = google_storage_bucket.ledger.name
  role     = each.value.role
  member   = each.value.member

  dynamic "condition" {
    for_each = each.value.condition == null ? [] : [each.value.condition]

    content {
      title       = condition.value.title
      description = condition.value.description
      expression  = condition.value.expression
    }
  }
}

# Auditors read the usage logs, too.
resource "google_storage_bucket_iam_member" "auditor_access_logs" {
  for_each = var.access_log_bucket == null ? toset(flatten([for identity in var.identities : identity.members if identity.kind == "auditor"])) : toset([])
  bucket   = google_storage_bucket.access_logs[0].name
  role     = "roles/storage.objectViewer"
  member   = each.key
}
