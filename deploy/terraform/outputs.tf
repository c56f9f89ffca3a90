output "datasets" {
  description = "MDP_BIGQUERY__DATASET and those that are called after it; the environment's file names the same."
  value = {
    data      = google_bigquery_dataset.data.dataset_id
    staging   = google_bigquery_dataset.staging.dataset_id
    snapshots = google_bigquery_dataset.snapshots.dataset_id
  }
}

output "accounts" {
  description = "For the annotations of deploy/kubernetes/overlays."
  value = {
    writer = google_service_account.writer.email
    reader = google_service_account.reader.email
  }
}
