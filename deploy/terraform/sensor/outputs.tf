output "volume" {
  description = "The captures."
  value       = aws_ebs_volume.captures.id
}

output "target" {
  description = "For mirror sessions that are made elsewhere."
  value       = aws_ec2_traffic_mirror_target.sensor.id
}

output "filter" {
  value = aws_ec2_traffic_mirror_filter.all.id
}

output "address" {
  value = aws_network_interface.sensor.private_ip
}
