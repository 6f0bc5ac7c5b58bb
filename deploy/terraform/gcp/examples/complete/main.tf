# Two teams, each below a prefix of its own; a key of your own, a locked retention for audit, an auditor, retention by `ledger-watcher gc`, SQL, messages.

provider "google" {
  project = "example-project"
}

resource "google_kms_key_ring" "ledger" {
  name     = "ledgers"
  location = "europe"
}

resource "google_kms_crypto_key" "ledger" {
  name            = "ledgers"
  key_ring        = google_kms_key_ring.ledger.id
  rotation_period = "7776000s"

  lifecycle {
    prevent_destroy = true
  }
}

module "ledger" {
  source = "../.."

  project        = "example-project"
  bucket         = "example-audited-ledgers"
  location       = "EU"
  retention_days = 2555
  retention_lock = { days = 365 }
  kms_key        = google_kms_crypto_key.ledger.id
  sql_dataset    = "dbt_ledgers"
  sql_prefix     = "shop/"
  notify_creates = true

  identities = {
    shop-dbt     = { kind = "producer", prefix = "shop/", members = ["group:shop-dbt@example.com"] }
    shop-airflow = { kind = "reader", prefix = "shop/", members = ["group:airflow@example.com"] }
    bank-dbt     = { kind = "producer", prefix = "bank/", members = ["group:bank-dbt@example.com"] }
    bank-airflow = { kind = "reader", prefix = "bank/", members = ["group:airflow@example.com"] }
    auditors     = { kind = "auditor", members = ["group:audit@example.com"] }
    gc           = { kind = "retention", members = ["group:operations@example.com"] }
  }

  labels = { service = "dbt" }
}

output "sql_table" {
  value = module.ledger.sql_table
}
