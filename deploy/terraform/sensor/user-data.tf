# What the instance is given. Nothing here asks AWS but for the volume, so that a test can look at it.
locals {
  configuration = <<-TOML
    [sessions]
    from = ["${var.mirror_source_cidr}"]

    [receive]
    buffer = "32MiB"

    [output.captures]
    kind = "pcap"
    directory = "/var/lib/vxtap/captures"
    rotate_time = "${var.rotate_time}"
    compress = "zstd"
    sync = "publish"
    min_free = "${var.min_free}"
  TOML

  # JSON is YAML, too.
  user_data = "#cloud-config\n${jsonencode({
    write_files = [
      { path = "/etc/vxtap/vxtap.toml", content = local.configuration },
      { path = "/usr/local/sbin/vxtap-setup", permissions = "0755", content = file("${path.module}/../../host/vxtap-setup") },
    ]
    runcmd = [[
      "/usr/local/sbin/vxtap-setup",
      "--package", var.package_url,
      "--sha256", var.package_sha256,
      "--volume", "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${local.volume_serial}",
    ]]
  })}\n"
}
