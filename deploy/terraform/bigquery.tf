locals {
  name      = "market_data_${replace(var.environment, "-", "_")}"
  namespace = var.namespace == "" ? "mdp-${var.environment}" : var.namespace
  # Names of accounts have at most 30 characters.
  short     = trimprefix(var.environment, "production-")
}

# Candles and their evidence. Nothing in it expires: the program refuses a dataset in which something would.
resource "google_bigquery_dataset" "data" {
  dataset_id                 = local.name
  location                   = var.location
  description                = "Candles of ${var.environment}"
  delete_contents_on_destroy = false
  # How long a table that was deleted by mistake can be had back.
  max_time_travel_hours      = 168
  labels                     = { environment = var.environment, part_of = "mdp" }

  lifecycle {
    prevent_destroy = true
  }
}

# What is being written. What is left in it of writers that were cut off expires after a day: the program refuses one in
# which it would not.
resource "google_bigquery_dataset" "staging" {
  dataset_id                  = "${local.name}_writing"
  location                    = var.location
  description                 = "What is being written into ${local.name}"
  default_table_expiration_ms = 86400000
  delete_contents_on_destroy  = true
  max_time_travel_hours       = 48
  labels                      = { environment = var.environment, part_of = "mdp" }
}

# Snapshots that backtests name: they stay until somebody removes them.
resource "google_bigquery_dataset" "snapshots" {
  dataset_id                 = "${local.name}_snapshots"
  location                   = var.location
  description                = "Snapshots of ${local.name}"
  delete_contents_on_destroy = false
  max_time_travel_hours      = 168
  labels                     = { environment = var.environment, part_of = "mdp" }

  lifecycle {
    prevent_destroy = true
  }
}
