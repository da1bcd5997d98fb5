variable "name" {
  type        = string
  default     = "vxtap"
  description = "Name of the fleet and of all that belongs to it, and the prefix of its captures in the bucket."
}

variable "vpc_id" {
  type = string
}

variable "subnet_ids" {
  type        = list(string)
  description = "Private subnets, one in each zone with mirrored interfaces, with a route to S3 and package_url."
}

variable "vpc_cidr" {
  type        = string
  description = "The addresses of these subnets, from which the balancer checks the sensors."
}

variable "image_id" {
  type        = string
  description = "Amazon Linux 2023, x86_64, which has the aws program."
}

variable "instance_type" {
  type    = string
  default = "m6i.large"
}

variable "min_sensors" {
  type    = number
  default = 2
}

variable "max_sensors" {
  type    = number
  default = 6
}

variable "cpu_target" {
  type        = number
  default     = 50
  description = "There are as many sensors as keep the processors this busy, in percent."
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
  description = "Interfaces to mirror. A load balancer takes any number."
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

variable "bucket_name" {
  type        = string
  description = "An existing bucket for captures. Sensors may write there, and not read, list or delete."
}

variable "volume_gib" {
  type        = number
  default     = 100
  description = "Room on each sensor, for what the bucket does not have yet."
}

variable "rotate_time" {
  type        = string
  default     = "5m"
  description = "A capture is complete, and uploaded, at multiples of this."
}
