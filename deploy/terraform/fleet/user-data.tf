# What an instance is given. Nothing here asks AWS, so that a test can look at it.
locals {
  configuration = <<-TOML
    [sessions]
    from = ["${var.mirror_source_cidr}"]

    [receive]
    buffer = "32MiB"

    [health]
    listen = "0.0.0.0:8080"
    allow = ["${var.vpc_cidr}"]
    drain = "20s"

    [output.captures]
    kind = "pcap"
    directory = "/var/lib/vxtap/captures"
    rotate_time = "${var.rotate_time}"
    compress = "zstd"
    min_free = "10%"
    on_publish = '/usr/local/bin/vxtap-upload s3://${var.bucket_name}/${var.name} "$(cat /proc/sys/kernel/hostname)"'
  TOML

  drain_unit = <<-UNIT
    [Unit]
    Description=Drains vxtap before the autoscaling group ends this host
    [Service]
    ExecStart=/usr/local/sbin/vxtap-drain /usr/local/bin/vxtap-upload s3://${var.bucket_name}/${var.name} %H
    # A host that nobody drains would lose what is not uploaded.
    Restart=on-failure
    RestartSec=5
    [Install]
    WantedBy=multi-user.target
  UNIT

  # JSON is YAML, too.
  user_data = "#cloud-config\n${jsonencode({
    write_files = [
      { path = "/etc/vxtap/vxtap.toml", content = local.configuration },
      { path = "/usr/local/bin/vxtap-upload", permissions = "0755", content = file("${path.module}/../../host/vxtap-upload") },
      { path = "/usr/local/sbin/vxtap-drain", permissions = "0755", content = file("${path.module}/../../host/vxtap-drain") },
      { path = "/etc/systemd/system/vxtap-drain.service", content = local.drain_unit },
      { path = "/usr/local/sbin/vxtap-setup", permissions = "0755", content = file("${path.module}/../../host/vxtap-setup") },
    ]
    runcmd = [
      ["/usr/local/sbin/vxtap-setup", "--package", var.package_url, "--sha256", var.package_sha256],
      "systemctl enable --now vxtap-drain",
    ]
  })}\n"
}
