# Who may do what with a ledger, as data: `roles` are lists of permissions, `grants` gives roles to the kinds of identity. No provider is needed
# here, so `terraform apply` of this folder alone prints the bindings; tests read the same tables.
#
# objectCreator has no storage.objects.delete, and to replace an object takes that: so a producer can neither overwrite nor delete.

locals {
  # A listing is asked of the bucket, not of an object: it is allowed for the whole bucket, so names in it are seen; contents are not. Without it a
  # missing object is a 403, and a claim cannot tell whether the bucket is there.
  below = var.prefix == "" ? null : {
    title       = "below ${trimsuffix(var.prefix, "/")}"
    description = "Objects below ${var.prefix}, and listings of the bucket"
    expression  = "resource.type != 'storage.googleapis.com/Object' || resource.name.startsWith('projects/_/buckets/${var.bucket}/objects/${var.prefix}')"
  }

  roles = {
    create  = "roles/storage.objectCreator"
    view    = "roles/storage.objectViewer"
    inspect = var.auditor_role
    delete  = var.retention_role
  }

  grants = {
    producer  = ["create", "view"]
    reader    = ["view"]
    auditor   = ["view", "inspect"]
    retention = ["view", "delete"]
  }

  # What the two custom roles may, beside view.
  permissions = {
    auditor   = ["storage.buckets.get", "storage.buckets.getIamPolicy"]
    retention = ["storage.objects.delete"]
  }
}
