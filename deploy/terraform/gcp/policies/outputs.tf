output "bindings" {
  description = "By kind of identity: the roles on the bucket, each with its condition (null for none)."
  value = {
    for kind, names in local.grants : kind => {
      for name in names : name => { role = local.roles[name], condition = local.below }
    }
  }
}

output "permissions" {
  description = "Permissions of the custom roles."
  value       = local.permissions
}
