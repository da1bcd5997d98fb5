//! AWS describes mirror sessions, interfaces and filters in JSON. Here is what of that the sensor
//! needs; all else is passed over.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The output of a command that can come in pages.
pub(super) trait Pages: DeserializeOwned {
    /// What a page lists.
    type Item;
    /// The command.
    const COMMAND: &'static str;
    /// The key of the list.
    const LIST: &'static str;

    /// Returns the list, and the token with which the next page is asked for.
    fn parts(self) -> (Option<Vec<Self::Item>>, Option<String>);
}

macro_rules! pages {
    ($($page:ident of $item:ty: $list:literal from $command:literal;)*) => { $(
        #[doc = concat!("The output of `aws ec2 ", $command, "`.")]
        #[derive(Debug, Deserialize)]
        pub(super) struct $page {
            #[serde(rename = $list)]
            list: Option<Vec<$item>>,
            #[serde(rename = "NextToken")]
            next: Option<String>,
        }

        impl Pages for $page {
            type Item = $item;
            const COMMAND: &'static str = $command;
            const LIST: &'static str = $list;

            fn parts(self) -> (Option<Vec<$item>>, Option<String>) {
                (self.list, self.next)
            }
        }
    )* };
}

pages! {
    Sessions of MirrorSession: "TrafficMirrorSessions" from "describe-traffic-mirror-sessions";
    Interfaces of Interface: "NetworkInterfaces" from "describe-network-interfaces";
    Filters of Filter: "TrafficMirrorFilters" from "describe-traffic-mirror-filters";
}

/// A tag.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

/// Returns the tag that people see as a name.
pub(super) fn name(tags: &[Tag]) -> Option<&str> {
    let name = tags.iter().find(|tag| tag.key == "Name")?;
    Some(name.value.as_str()).filter(|name| !name.is_empty())
}

/// A mirror session.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MirrorSession {
    traffic_mirror_session_id: Option<String>,
    pub traffic_mirror_target_id: Option<String>,
    pub traffic_mirror_filter_id: Option<String>,
    pub network_interface_id: Option<String>,
    pub owner_id: Option<String>,
    pub packet_length: Option<i64>,
    pub session_number: Option<i64>,
    pub virtual_network_id: Option<i64>,
    pub description: Option<String>,
    #[serde(default)]
    pub tags: Vec<Tag>,
}

impl MirrorSession {
    pub(super) fn id(&self) -> &str {
        self.traffic_mirror_session_id.as_deref().unwrap_or("a session without an id")
    }
}

/// A network interface.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Interface {
    pub network_interface_id: String,
    private_ip_address: Option<IpAddr>,
    #[serde(default)]
    private_ip_addresses: Vec<PrivateAddress>,
    #[serde(default)]
    ipv6_addresses: Vec<Ipv6Address>,
    attachment: Option<Attachment>,
    #[serde(default)]
    pub tag_set: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PrivateAddress {
    #[serde(default)]
    primary: bool,
    private_ip_address: Option<IpAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ipv6Address {
    ipv6_address: Option<IpAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attachment {
    instance_id: Option<String>,
}

impl Interface {
    /// Returns the address that mirrored packets come from: the primary one of IPv4, and where
    /// there is none, that of IPv6.
    pub(super) fn primary(&self) -> Option<IpAddr> {
        let listed = || self.private_ip_addresses.iter().find(|address| address.primary)?.private_ip_address;
        let v6 = || self.ipv6_addresses.iter().find_map(|address| address.ipv6_address);
        self.private_ip_address.or_else(listed).or_else(v6)
    }

    pub(super) fn instance(&self) -> Option<&str> {
        self.attachment.as_ref()?.instance_id.as_deref()
    }
}

/// A filter of mirror sessions.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Filter {
    pub traffic_mirror_filter_id: String,
    #[serde(default)]
    pub ingress_filter_rules: Vec<FilterRule>,
    #[serde(default)]
    pub egress_filter_rules: Vec<FilterRule>,
    #[serde(default)]
    pub network_services: Vec<String>,
}

/// A rule of a filter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FilterRule {
    pub rule_number: Option<u32>,
    pub rule_action: String,
    /// The protocol of layer 4; none where the rule is for all.
    pub protocol: Option<i64>,
    pub destination_port_range: Option<PortRange>,
    pub source_port_range: Option<PortRange>,
    pub destination_cidr_block: Option<String>,
    pub source_cidr_block: Option<String>,
}

/// A range of ports, with both ends. AWS requires neither.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PortRange {
    pub from_port: Option<u16>,
    pub to_port: Option<u16>,
}
