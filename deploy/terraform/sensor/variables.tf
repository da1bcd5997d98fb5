variable "name" {
  type        = string
  default     = "vxtap"
  description = "Name of the sensor and of all that belongs to it."
}

variable "subnet_id" {
  type        = string
  description = "A private subnet. Its route to package_url is needed once, at the first start."
}

variable "image_id" {
  type        = string
  description = "Amazon Linux 2023 or Debian 12, x86_64. Another one later makes a new instance."
}

variable "instance_type" {
  type        = string
  default     = "m6i.large"
  description = "Small sizes take 10 mirror sources, the largest of a family 100."
}

variable "package_url" {
  type        = string
  description = "Where the package is, as s3://bucket/vxtap.rpm. The instance may read this object then, and no other."
  validation {
    condition     = can(regex("^(https|s3)://.+\\.(rpm|deb)$", var.package_url))
    error_message = "It is https://... or s3://..., and ends in .rpm or .deb."
  }
}

variable "package_sha256" {
  type        = string
  description = "The package's SHA-256. Another package is not installed."
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.package_sha256))
    error_message = "It has 64 digits, 0 to 9 and a to f."
  }
}

variable "source_interfaces" {
  type        = set(string)
  description = "Interfaces to mirror; ten at most on small instances."
}

variable "mirror_source_cidr" {
  type        = string
  description = "Where these interfaces have their addresses. Nobody else may send, by the security group and by vxtap."
}

variable "virtual_network_id" {
  type        = number
  default     = 7
  description = "The VNI of all sessions. Sources are told apart by their addresses."
}

variable "session_number" {
  type        = number
  default     = 1
  description = "Which session of an interface comes first, where it has several."
}

variable "volume_gib" {
  type    = number
  default = 200
}

variable "rotate_time" {
  type        = string
  default     = "15m"
  description = "A capture is complete at multiples of this."
}

variable "min_free" {
  type        = string
  default     = "10%"
  description = "The oldest captures go where less is free."
}
