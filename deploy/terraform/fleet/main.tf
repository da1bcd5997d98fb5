# A fleet of vxtap sensors: a Network Load Balancer as mirror target, an autoscaling group behind it, captures in a
# bucket. A sensor that goes is drained. ../../../docs/deploy.md says what it may and costs.

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.32"
    }
  }
}

data "aws_partition" "this" {}

locals {
  tags              = { Name = var.name }
  package_in_bucket = startswith(var.package_url, "s3://")
  arn_of_s3         = "arn:${data.aws_partition.this.partition}:s3:::"
}

# What the instances may: write captures, and read the package where it is in a bucket.
data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "sensor" {
  statement {
    actions   = ["s3:PutObject"]
    resources = ["${local.arn_of_s3}${var.bucket_name}/${var.name}/*"]
  }

  dynamic "statement" {
    for_each = local.package_in_bucket ? [trimprefix(var.package_url, "s3://")] : []
    content {
      actions   = ["s3:GetObject"]
      resources = ["${local.arn_of_s3}${statement.value}"]
    }
  }
}

resource "aws_iam_role" "sensor" {
  name_prefix        = var.name
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "sensor" {
  name   = "captures"
  role   = aws_iam_role.sensor.id
  policy = data.aws_iam_policy_document.sensor.json
}

resource "aws_iam_instance_profile" "sensor" {
  name_prefix = var.name
  role        = aws_iam_role.sensor.name
}

resource "aws_security_group" "sensor" {
  name_prefix = var.name
  description = "vxtap fleet, mirror traffic and health checks"
  vpc_id      = var.vpc_id
  tags        = local.tags

  # The balancer keeps the sender's address.
  ingress {
    description = "mirror traffic"
    protocol    = "udp"
    from_port   = 4789
    to_port     = 4789
    cidr_blocks = [var.mirror_source_cidr]
  }

  ingress {
    description = "health checks of the balancer"
    protocol    = "tcp"
    from_port   = 8080
    to_port     = 8080
    cidr_blocks = [var.vpc_cidr]
  }

  egress {
    description = "the package, and uploads"
    protocol    = "tcp"
    from_port   = 443
    to_port     = 443
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_lb" "fleet" {
  load_balancer_type = "network"
  internal           = true
  subnets            = var.subnet_ids
  # A zone without a sensor has its traffic go to the others.
  enable_cross_zone_load_balancing = true
  tags                             = local.tags
}

resource "aws_lb_target_group" "sensors" {
  vpc_id               = var.vpc_id
  target_type          = "instance"
  protocol             = "UDP"
  port                 = 4789
  deregistration_delay = 30
  tags                 = local.tags

  # Nothing answers on the UDP port. These are the settings of docs/health.md: a sensor is out after 10 s.
  health_check {
    protocol            = "HTTP"
    port                = "8080"
    path                = "/healthz"
    interval            = 5
    timeout             = 2
    healthy_threshold   = 2
    unhealthy_threshold = 2
    matcher             = "200"
  }

  # All flows of a mirrored interface go to one sensor, both directions of a conversation, too.
  stickiness {
    enabled = true
    type    = "source_ip"
  }
}

resource "aws_lb_listener" "mirror" {
  load_balancer_arn = aws_lb.fleet.arn
  protocol          = "UDP"
  port              = 4789

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.sensors.arn
  }
}

resource "aws_launch_template" "sensor" {
  name_prefix            = var.name
  image_id               = var.image_id
  instance_type          = var.instance_type
  vpc_security_group_ids = [aws_security_group.sensor.id]
  user_data              = base64encode(local.user_data)

  iam_instance_profile {
    arn = aws_iam_instance_profile.sensor.arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      encrypted   = true
      volume_type = "gp3"
      volume_size = var.volume_gib
    }
  }
}

resource "aws_autoscaling_group" "sensors" {
  name_prefix         = var.name
  min_size            = var.min_sensors
  max_size            = var.max_sensors
  vpc_zone_identifier = var.subnet_ids
  target_group_arns   = [aws_lb_target_group.sensors.arn]
  # Not ELB: /healthz says where traffic may go. A disk that is full is full on the next instance, too.
  health_check_type = "EC2"

  launch_template {
    id      = aws_launch_template.sensor.id
    version = aws_launch_template.sensor.latest_version
  }

  # Time for vxtap-drain: health.drain, files, uploads. It runs out by itself, so that no sensor needs a right to the
  # group.
  initial_lifecycle_hook {
    name                 = "drain"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_TERMINATING"
    heartbeat_timeout    = 300
    default_result       = "CONTINUE"
  }

  # A sensor is replaced after another is there.
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 100
      max_healthy_percentage = 110
      instance_warmup        = 180
    }
  }

  tag {
    key                 = "Name"
    value               = var.name
    propagate_at_launch = true
  }
}

resource "aws_autoscaling_policy" "cpu" {
  name                   = "${var.name}-cpu"
  autoscaling_group_name = aws_autoscaling_group.sensors.name
  policy_type            = "TargetTrackingScaling"

  target_tracking_configuration {
    target_value = var.cpu_target
    predefined_metric_specification {
      predefined_metric_type = "ASGAverageCPUUtilization"
    }
  }
}

# Where all targets are unhealthy the balancer sends to all, so somebody should hear of one.
resource "aws_cloudwatch_metric_alarm" "unhealthy" {
  alarm_name          = "${var.name}-unhealthy"
  alarm_description   = "A vxtap sensor says that it may not be sent traffic"
  namespace           = "AWS/NetworkELB"
  metric_name         = "UnHealthyHostCount"
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"

  dimensions = {
    LoadBalancer = aws_lb.fleet.arn_suffix
    TargetGroup  = aws_lb_target_group.sensors.arn_suffix
  }
}

resource "aws_ec2_traffic_mirror_target" "fleet" {
  description               = var.name
  network_load_balancer_arn = aws_lb.fleet.arn
  tags                      = local.tags
  depends_on                = [aws_lb_listener.mirror]
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
  traffic_mirror_target_id = aws_ec2_traffic_mirror_target.fleet.id
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.all.id
  session_number           = var.session_number
  virtual_network_id       = var.virtual_network_id
  tags                     = { Name = each.key }
}
