# A bucket, and two service accounts: dbt's and Airflow's.

provider "google" {
  project = "example-project"
}

resource "google_service_account" "ledger" {
  for_each   = toset(["dbt", "airflow"])
  account_id = "ledger-${each.key}"
}

module "ledger" {
  source = "../.."

  project        = "example-project"
  bucket         = "example-dbt-ledgers"
  location       = "EU"
  retention_days = 400

  identities = {
    dbt     = { kind = "producer", members = [google_service_account.ledger["dbt"].member] }
    airflow = { kind = "reader", members = [google_service_account.ledger["airflow"].member] }
  }
}

output "ledger_uri" {
  value = module.ledger.ledger_uri
}
