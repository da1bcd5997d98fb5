output "target" {
  description = "For mirror sessions that are made elsewhere."
  value       = aws_ec2_traffic_mirror_target.fleet.id
}

output "filter" {
  value = aws_ec2_traffic_mirror_filter.all.id
}

output "group" {
  value = aws_autoscaling_group.sensors.name
}

output "captures" {
  value = "s3://${var.bucket_name}/${var.name}/"
}
