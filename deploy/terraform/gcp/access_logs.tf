# Who asked what of the bucket, in a bucket of its own.

resource "google_storage_bucket" "access_logs" {
  # checkov:skip=CKV_GCP_62:A bucket does not log its own logging
  count                       = var.access_log_bucket == null ? 1 : 0
  project                     = var.project
  name                        = "${var.bucket}-access-logs"
  location                    = var.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false
  labels                      = var.labels

  versioning {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      age = var.access_log_days
    }
  }
}

# Google's own group, which delivers usage logs.
resource "google_storage_bucket_iam_member" "access_logs" {
  count  = length(google_storage_bucket.access_logs)
  bucket = google_storage_bucket.access_logs[count.index].name
  role   = "roles/storage.objectCreator"
  member = "group:cloud-storage-analytics@google.com"
}
