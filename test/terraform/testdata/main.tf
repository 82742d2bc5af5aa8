terraform {
  required_providers {
    azapi = {
      source  = "azure/azapi"
      version = "1.15.0"
    }
  }
}

variable "service" {
  description = "The service's address."
  type        = string
}

variable "subscription" {
  description = "The subscription's identifier."
  type        = string
}

variable "mark" {
  description = "What the image definition and the image say of themselves."
  type        = string
  default     = "made-by-terraform"
}

locals {
  images   = [for a in ["read", "write", "delete"] : "Microsoft.Compute/images/${a}"]
  gallery  = ["Microsoft.Compute/galleries/read", "Microsoft.Compute/galleries/images/read"]
  versions = [for a in ["read", "write"] : "Microsoft.Compute/galleries/images/versions/${a}"]
}

# The client, its secret and the tenant "adfs" come from the environment.
provider "azapi" {
  subscription_id = var.subscription
  use_cli         = false
  endpoint = [{
    resource_manager_endpoint       = var.service
    resource_manager_audience       = "${var.service}/"
    active_directory_authority_host = "${var.service}/"
  }]
}

resource "azapi_resource" "group" {
  type      = "Microsoft.Resources/resourceGroups@2024-03-01"
  parent_id = "/subscriptions/${var.subscription}"
  name      = "terraform"
  location  = "westus2"
  tags      = { purpose = "golden images" }
}

resource "azapi_resource" "identity" {
  type                   = "Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31"
  parent_id              = azapi_resource.group.id
  name                   = "builder"
  location               = azapi_resource.group.location
  response_export_values = ["properties.principalId"]
}

resource "azapi_resource" "role" {
  type      = "Microsoft.Authorization/roleDefinitions@2022-04-01"
  parent_id = "/subscriptions/${var.subscription}"
  name      = "6d1a6d2e-8d0c-4c5c-9e37-51d2b60f3c10"
  body = {
    properties = {
      roleName         = "Image builder"
      description      = "Puts images into groups and galleries"
      type             = "CustomRole"
      assignableScopes = [azapi_resource.group.id]
      permissions = [{
        actions        = concat(local.images, local.gallery, local.versions)
        notActions     = []
        dataActions    = []
        notDataActions = []
      }]
    }
  }
}

resource "azapi_resource" "assignment" {
  type      = "Microsoft.Authorization/roleAssignments@2022-04-01"
  parent_id = azapi_resource.group.id
  name      = "b0a1d7a4-2d2f-4b0e-8f5a-0d2f3b7c9e11"
  body = {
    properties = {
      principalId      = jsondecode(azapi_resource.identity.output).properties.principalId
      principalType    = "ServicePrincipal"
      roleDefinitionId = azapi_resource.role.id
    }
  }
}

resource "azapi_resource" "gallery" {
  type      = "Microsoft.Compute/galleries@2023-07-03"
  parent_id = azapi_resource.group.id
  name      = "golden"
  location  = azapi_resource.group.location
  body = {
    properties = { description = "golden images" }
  }
}

resource "azapi_resource" "definition" {
  type      = "Microsoft.Compute/galleries/images@2023-07-03"
  parent_id = azapi_resource.gallery.id
  name      = "debian"
  location  = azapi_resource.group.location
  body = {
    properties = {
      description      = var.mark
      osType           = "Linux"
      osState          = "Generalized"
      hyperVGeneration = "V2"
      architecture     = "x64"
      identifier       = { publisher = "example", offer = "debian", sku = "12" }
    }
  }
}

resource "azapi_resource" "template" {
  type      = "Microsoft.VirtualMachineImages/imageTemplates@2024-02-01"
  parent_id = azapi_resource.group.id
  name      = "debian"
  location  = azapi_resource.group.location
  # Without this tag a template cannot be changed, as in Azure.
  tags = { "goldsmith.update" = "in-place" }
  identity {
    type         = "UserAssigned"
    identity_ids = [azapi_resource.identity.id]
  }
  body = {
    properties = {
      buildTimeoutInMinutes = 60
      vmProfile             = { vmSize = "Standard_B1ms", osDiskSizeGB = 0 }
      source = {
        type      = "PlatformImage"
        publisher = "Debian"
        offer     = "debian-12"
        sku       = "12-gen2"
        version   = "latest"
      }
      customize = [{
        type   = "Shell"
        name   = "leave a mark"
        inline = ["echo ${var.mark} | sudo tee /etc/golden"]
      }]
      distribute = [{
        type              = "SharedImage"
        runOutputName     = "debian"
        galleryImageId    = azapi_resource.definition.id
        artifactTags      = { made = "terraform" }
        excludeFromLatest = false
        targetRegions     = [{ name = "westus2", replicaCount = 1, storageAccountType = "Standard_LRS" }]
      }]
    }
  }
  depends_on = [azapi_resource.assignment]
}

output "template" {
  value = azapi_resource.template.id
}
