# One vxtap sensor: an instance with its mirror target, filter and sessions. Captures are on an encrypted volume that
# Terraform refuses to destroy. ../../../docs/deploy.md says what it may and costs.

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

data "aws_subnet" "sensor" {
  id = var.subnet_id
}

data "aws_partition" "this" {}

locals {
  tags              = { Name = var.name }
  package_in_bucket = startswith(var.package_url, "s3://")
  # vol-0123 is vol0123 on the device.
  volume_serial = replace(aws_ebs_volume.captures.id, "-", "")
}

# What the instance may: read the package. Where that is not in a bucket it has no role at all.
data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "package" {
  statement {
    actions   = ["s3:GetObject"]
    resources = ["arn:${data.aws_partition.this.partition}:s3:::${trimprefix(var.package_url, "s3://")}"]
  }
}

resource "aws_iam_role" "sensor" {
  count              = local.package_in_bucket ? 1 : 0
  name_prefix        = var.name
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "package" {
  count  = local.package_in_bucket ? 1 : 0
  name   = "package"
  role   = aws_iam_role.sensor[0].id
  policy = data.aws_iam_policy_document.package.json
}

resource "aws_iam_instance_profile" "sensor" {
  count       = local.package_in_bucket ? 1 : 0
  name_prefix = var.name
  role        = aws_iam_role.sensor[0].name
}

resource "aws_security_group" "sensor" {
  name_prefix = var.name
  description = "vxtap, mirror traffic from the mirrored interfaces and nothing else"
  vpc_id      = data.aws_subnet.sensor.vpc_id
  tags        = local.tags

  ingress {
    description = "mirror traffic"
    protocol    = "udp"
    from_port   = 4789
    to_port     = 4789
    cidr_blocks = [var.mirror_source_cidr]
  }

  egress {
    description = "the package"
    protocol    = "tcp"
    from_port   = 443
    to_port     = 443
    cidr_blocks = ["0.0.0.0/0"]
  }
}

# An interface of its own: the mirror target stays when the instance is replaced.
resource "aws_network_interface" "sensor" {
  description     = "${var.name}, mirror target"
  subnet_id       = var.subnet_id
  security_groups = [aws_security_group.sensor.id]
  tags            = local.tags
}

resource "aws_ebs_volume" "captures" {
  availability_zone = data.aws_subnet.sensor.availability_zone
  size              = var.volume_gib
  type              = "gp3"
  encrypted         = true
  tags              = { Name = "${var.name} captures" }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_volume_attachment" "captures" {
  device_name = "/dev/sdf"
  instance_id = aws_instance.sensor.id
  volume_id   = aws_ebs_volume.captures.id
  # So that the sensor has completed its files before the volume goes.
  stop_instance_before_detaching = true
}

resource "aws_instance" "sensor" {
  ami                  = var.image_id
  instance_type        = var.instance_type
  iam_instance_profile = one(aws_iam_instance_profile.sensor[*].name)
  user_data            = local.user_data
  tags                 = local.tags

  network_interface {
    device_index         = 0
    network_interface_id = aws_network_interface.sensor.id
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    encrypted   = true
    volume_type = "gp3"
  }
}

resource "aws_ec2_traffic_mirror_target" "sensor" {
  description          = var.name
  network_interface_id = aws_network_interface.sensor.id
  tags                 = local.tags
}

resource "aws_ec2_traffic_mirror_filter" "all" {
  description = "${var.name}, everything"
  # Without this the resolver's answers are left out.
  network_services = ["amazon-dns"]
  tags             = local.tags
}

resource "aws_ec2_traffic_mirror_filter_rule" "all" {
  for_each                 = toset(["ingress", "egress"])
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.all.id
  traffic_direction        = each.key
  rule_number              = 100
  rule_action              = "accept"
  source_cidr_block        = "0.0.0.0/0"
  destination_cidr_block   = "0.0.0.0/0"
}

resource "aws_ec2_traffic_mirror_session" "source" {
  for_each                 = var.source_interfaces
  description              = "${var.name}, ${each.key}"
  network_interface_id     = each.key
  traffic_mirror_target_id = aws_ec2_traffic_mirror_target.sensor.id
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.all.id
  session_number           = var.session_number
  virtual_network_id       = var.virtual_network_id
  tags                     = { Name = each.key }
}
