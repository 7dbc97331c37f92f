# SPDX-License-Identifier: Apache-2.0
terraform {
  required_providers {
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "~> 3.0"
    }
  }
}

provider "kubernetes" {
  config_path = "~/.kube/config"
}

resource "kubernetes_manifest" "web" {
  manifest = {
    apiVersion = "nacre.dev/v1alpha1"
    kind       = "Instance"
    metadata = {
      name      = "web"
      namespace = "default"
    }
    spec = {
      type  = "small"
      image = "debian"
      ingress = [{
        protocol = "tcp"
        port     = 443
      }]
    }
  }
  wait {
    condition {
      type   = "Ready"
      status = "True"
    }
  }
}
