# A message for each object. Ends are those whose name ends with .end.jsonl.

resource "google_pubsub_topic" "creates" {
  # checkov:skip=CKV_GCP_83:A message has names of objects; kms_key is used where it is given
  count        = var.notify_creates ? 1 : 0
  project      = var.project
  name         = "${var.bucket}-creates"
  kms_key_name = var.kms_key
  labels       = var.labels
}

resource "google_pubsub_topic_iam_member" "creates" {
  count   = length(google_pubsub_topic.creates)
  project = var.project
  topic   = google_pubsub_topic.creates[0].name
  role    = "roles/pubsub.publisher"
  member  = data.google_storage_project_service_account.agent.member
}

resource "google_storage_notification" "creates" {
  count          = length(google_pubsub_topic.creates)
  bucket         = google_storage_bucket.ledger.name
  topic          = google_pubsub_topic.creates[0].id
  event_types    = ["OBJECT_FINALIZE"]
  payload_format = "NONE"

  depends_on = [google_pubsub_topic_iam_member.creates]
}
