variable "project" {
  description = "Google Cloud project of this environment; production-live has one of its own."
  type        = string
}

variable "environment" {
  description = "Which of the environments whose store is BigQuery."
  type        = string
  validation {
    condition     = contains(["central-dev", "staging", "production-paper", "production-live"], var.environment)
    error_message = "Expected central-dev, staging, production-paper or production-live."
  }
}

variable "location" {
  description = "Region of the datasets, MDP_BIGQUERY__LOCATION. It cannot be changed later."
  type        = string
  default     = "EU"
}

variable "region" {
  description = "Region of everything else, near the exchanges' servers and the location."
  type        = string
  default     = "europe-west1"
}

variable "namespace" {
  description = "Kubernetes namespace whose service accounts may act as the ones made here. Empty: mdp-<environment>."
  type        = string
  default     = ""
}

variable "uses_kubernetes" {
  description = "Whether processes run in a GKE cluster of this project with workload identity."
  type        = bool
  default     = true
}

variable "readers" {
  description = "Who else may read the candles: group:research@example.com, serviceAccount:…"
  type        = set(string)
  default     = []
}
