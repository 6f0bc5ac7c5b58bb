# A bucket, a role for dbt's pods and one for Airflow.

provider "aws" {
  region = "eu-central-1"
}

data "aws_iam_policy_document" "ecs_tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

module "ledger" {
  source = "../.."

  bucket         = "example-dbt-ledgers"
  retention_days = 400

  identities = {
    dbt     = { kind = "producer", trust = data.aws_iam_policy_document.ecs_tasks.json }
    airflow = { kind = "reader", trust = data.aws_iam_policy_document.ecs_tasks.json }
  }
}

output "ledger_uri" {
  value = module.ledger.ledger_uri
}
