# Two accounts: one that writes candles (runs, `mdp init`), one that reads them (feeds, the service, backups). Neither may
# do anything else in the project than run queries; what they may do to data is said dataset by dataset.
resource "google_service_account" "writer" {
  account_id   = "mdp-${local.short}-writer"
  display_name = "mdp ${var.environment}: writes candles"
}

resource "google_service_account" "reader" {
  account_id   = "mdp-${local.short}-reader"
  display_name = "mdp ${var.environment}: reads candles"
}

resource "google_project_iam_member" "jobs" {
  for_each = { writer = google_service_account.writer.member, reader = google_service_account.reader.member }
  project  = var.project
  role     = "roles/bigquery.jobUser"
  member   = each.value
}

resource "google_bigquery_dataset_iam_member" "writer" {
  for_each = {
    data      = google_bigquery_dataset.data.dataset_id
    staging   = google_bigquery_dataset.staging.dataset_id
    snapshots = google_bigquery_dataset.snapshots.dataset_id
  }
  dataset_id = each.value
  role       = "roles/bigquery.dataEditor"
  member     = google_service_account.writer.member
}

resource "google_bigquery_dataset_iam_member" "reader" {
  for_each = {
    data      = google_bigquery_dataset.data.dataset_id
    snapshots = google_bigquery_dataset.snapshots.dataset_id
  }
  dataset_id = each.value
  role       = "roles/bigquery.dataViewer"
  member     = google_service_account.reader.member
}

resource "google_bigquery_dataset_iam_member" "people" {
  for_each   = var.readers
  dataset_id = google_bigquery_dataset.data.dataset_id
  role       = "roles/bigquery.dataViewer"
  member     = each.value
}

# Whoever is mdp-writer or mdp-reader in the namespace is one of the accounts above; there are no keys in files.
resource "google_service_account_iam_member" "identity" {
  for_each = var.uses_kubernetes ? {
    writer = google_service_account.writer.name
    reader = google_service_account.reader.name
  } : {}
  service_account_id = each.value
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${local.namespace}/mdp-${each.key}]"
}
