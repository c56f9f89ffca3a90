# One state for each environment: `terraform workspace` or a backend of its own; production's belongs into a bucket that
# only its deployment may read.
terraform {
  required_version = ">= 1.6"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}
