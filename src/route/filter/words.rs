//! The words of an expression are looked at before libpcap sees them.
//!
//! libpcap asks the resolver for the address of a word that it does not know, so that a slip of the
//! pen is a query, and what is filtered depends on what a server answers. Words of that kind are
//! refused.

use std::net::Ipv6Addr;

/// The words of the language, but for the fields of frames, which have a `-` or end in `type`,
/// `code` or `flags`: scanner.l of libpcap 1.10.
const KEYWORDS: &[&str] = &[
    "dst",
    "src",
    "link",
    "ether",
    "ppp",
    "slip",
    "fddi",
    "tr",
    "wlan",
    "arp",
    "rarp",
    "ip",
    "sctp",
    "tcp",
    "udp",
    "icmp",
    "igmp",
    "igrp",
    "pim",
    "vrrp",
    "carp",
    "radio",
    "ip6",
    "icmp6",
    "ah",
    "esp",
    "atalk",
    "aarp",
    "decnet",
    "lat",
    "sca",
    "moprc",
    "mopdl",
    "iso",
    "esis",
    "es-is",
    "isis",
    "is-is",
    "l1",
    "l2",
    "iih",
    "lsp",
    "snp",
    "csnp",
    "psnp",
    "clnp",
    "stp",
    "ipx",
    "netbeui",
    "host",
    "net",
    "mask",
    "port",
    "portrange",
    "proto",
    "protochain",
    "gateway",
    "type",
    "subtype",
    "direction",
    "dir",
    "address1",
    "addr1",
    "address2",
    "addr2",
    "address3",
    "addr3",
    "address4",
    "addr4",
    "ra",
    "ta",
    "less",
    "greater",
    "byte",
    "broadcast",
    "multicast",
    "and",
    "or",
    "not",
    "len",
    "length",
    "inbound",
    "outbound",
    "ifindex",
    "vlan",
    "mpls",
    "pppoed",
    "pppoes",
    "geneve",
    "lane",
    "llc",
    "metac",
    "bcc",
    "oam",
    "oamf4",
    "oamf4ec",
    "oamf4sc",
    "sc",
    "ilmic",
    "vpi",
    "vci",
    "connectmsg",
    "metaconnect",
    "on",
    "ifname",
    "rset",
    "ruleset",
    "rnr",
    "rulenum",
    "srnr",
    "subrulenum",
    "reason",
    "action",
    "fisu",
    "lssu",
    "lsu",
    "msu",
    "hfisu",
    "hlssu",
    "hmsu",
    "sio",
    "opc",
    "dpc",
    "sls",
    "hsio",
    "hopc",
    "hdpc",
    "hsls",
    "icmptype",
    "icmpcode",
    "icmp6type",
    "icmp6code",
    "tcpflags",
];

/// The protocols that display filters of Wireshark begin with.
const DISPLAYED: &[&str] =
    &["eth", "ip", "ipv6", "tcp", "udp", "arp", "icmp", "icmpv6", "vlan", "frame", "http", "dns", "tls", "ssl", "sctp"];

/// A word that libpcap must not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unwanted {
    /// The resolver would be asked for the address of this name. The other is the word of the
    /// language that looks like it.
    Name(String, Option<&'static str>),
    /// The word is of a display filter of Wireshark.
    Display(String),
    /// The word makes a loop, which a program here cannot have.
    Protochain,
}

/// Returns the first word of `expression` that libpcap must not see.
pub(super) fn unwanted(expression: &str) -> Option<Unwanted> {
    // A word names what the qualifier before it says, as all of a list do: `port http or ssh`.
    let mut is_looked_up_here = false;
    // Where bytes of a frame are named, as in tcp[0:4].
    let mut brackets = 0_usize;
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first == '\\' {
            // A keyword that is meant as a name, as in `ip proto \tcp`.
            let name: &str = rest[1..].split([' ', '!', '(', ')', '\n', '\t']).next().unwrap_or_default();
            if !is_looked_up_here && !name.is_empty() {
                return Some(Unwanted::Name(name.to_owned(), None));
            }
            rest = &rest[1 + name.len()..];
            continue;
        }
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.:".contains(c))).unwrap_or(rest.len());
        if length == 0 {
            match first {
                '[' => brackets += 1,
                ']' => brackets = brackets.saturating_sub(1),
                _ => {}
            }
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, behind) = rest.split_at(length);
        rest = behind;
        match word {
            "protochain" => return Some(Unwanted::Protochain),
            // Ports and protocols are read from files of the host.
            "port" | "portrange" | "proto" | "type" | "subtype" | "direction" | "dir" | "on" | "ifname" | "reason"
            | "action" | "rset" | "ruleset" => is_looked_up_here = true,
            // These join words of one kind.
            "and" | "or" | "not" => {}
            _ if is_keyword(word) => is_looked_up_here = false,
            _ if brackets > 0 && word.split(':').all(|part| is_keyword(part) || is_number(part)) => {}
            _ if is_number(word) || is_looked_up_here => {}
            _ => {
                let displayed = word.split_once('.').is_some_and(|(protocol, _)| DISPLAYED.contains(&protocol));
                if displayed {
                    return Some(Unwanted::Display(word.to_owned()));
                }
                return Some(Unwanted::Name(word.to_owned(), nearest(word)));
            }
        }
    }
    None
}

/// Says whether the language has this word.
fn is_keyword(word: &str) -> bool {
    let is_field = |of: &str| word.strip_prefix(of).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric()));
    KEYWORDS.contains(&word) || ["icmp-", "icmp6-", "tcp-"].into_iter().any(is_field)
}

/// Says whether libpcap reads this as a number, or an address of any kind. What only looks like one
/// is a name to it, or a name with something behind: it asks for the name before it finds fault
/// with the rest.
fn is_number(word: &str) -> bool {
    let hex = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = |part: &str| match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
        Some(digits) => hex(digits),
        None => !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()),
    };
    let is_mac = |separator: char, digits: usize| {
        let parts: Vec<&str> = word.split(separator).collect();
        parts.len() == 12 / digits && parts.iter().all(|part| (1..=digits).contains(&part.len()) && hex(part))
    };
    // In `ip[2:2]-20` it is the sign that something is taken away.
    let bare = word.trim_matches('-');
    let parts = bare.split('.').count();
    (parts <= 4 && (bare.is_empty() || bare.split('.').all(number)))
        || word.parse::<Ipv6Addr>().is_ok()
        || is_mac(':', 2)
        || is_mac('-', 2)
        || is_mac('.', 2)
        || (is_mac('.', 4) && word.len() == 14)
        || (word.len() == 12 && hex(word))
}

/// Returns the word of the language that this one most resembles.
fn nearest(word: &str) -> Option<&'static str> {
    let distance = |keyword: &str| strsim::damerau_levenshtein(&word.to_ascii_lowercase(), keyword);
    // Of several, the first, which is the commonest.
    let close = KEYWORDS.iter().map(|keyword| (distance(keyword), *keyword)).min_by_key(|(distance, _)| *distance)?;
    // A word of few letters resembles many.
    (close.0 * 3 <= word.len()).then_some(close.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libpcap_knows_or_reads_from_a_file_is_left_to_it() {
        for expression in [
            "tcp port 443 and host 10.0.0.1",
            "net 10.0.0.0/8 or net 192.168",
            "net 10.0.0.0 mask 255.0.0.0",
            "src net 2001:db8::/32 and ip6",
            "ether host 02:00:00:00:00:01 or ether src 02-00-00-00-00-01 or ether dst 0200.0000.0001",
            "ether host 020000000001 or ether host 2.0.0.0.0.1",
            "port http or https and not port (ssh or domain)",
            "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and tcp[2:2] = 0x1bb",
            "icmp[icmptype] == icmp-echo or icmp6[icmp6type] = icmp6-neighborsolicit",
            r"ip proto \tcp or ether proto \arp",
            "portrange 1000-2000 or portrange ftp-data-ssh",
            "vlan 5 && ip || !arp",
            "tcp[((tcp[12:1]&0xf0)>>2):4]=0x47455420 or tcp[tcpflags:1]=2 or tcp[tcp[0]:0x2] = 5",
            "ip[2:2]-((ip[0]&0xf)<<2)-((tcp[12]&0xf0)>>2) != 0 or ip[2:2]-20 > 5 or 20-(ip[0]) = 3",
            "host ::1 or host 2001:db8:0:0:0:0:0:1 or host ::ffff:192.0.2.1 or ether host 2:0:0:0:0:a",
            "len <= 100 and (greater 60 or less 60) and ip[8]>>1<<1=64",
            "",
        ] {
            assert_eq!(unwanted(expression), None, "{expression}");
        }
    }

    #[test]
    fn what_would_ask_a_resolver_is_found() {
        let name = |word: &str, like| Some(Unwanted::Name(word.into(), like));
        for (expression, found) in [
            ("host www.example.com", name("www.example.com", None)),
            ("tcp port 443 and src localhost", name("localhost", None)),
            ("port http and src server-1", name("server-1", None)),
            ("udp and tpc", name("tpc", Some("tcp"))),
            ("prot 443", name("prot", Some("port"))),
            ("net loopback", name("loopback", None)),
            ("gateway router", name("router", None)),
            (r"host \tcp", name("tcp", None)),
            ("host example.com:443", name("example.com:443", None)),
            ("host foo:bar", name("foo:bar", None)),
            ("host face:book", name("face:book", None)),
            ("host fe:ed:beef", name("fe:ed:beef", None)),
            ("host a:b:c:d:e", name("a:b:c:d:e", None)),
            ("tcp[0:2] = 5 and host 1:2", name("1:2", None)),
            ("tcp[foo:2] = 5", name("foo:2", None)),
            ("host 1-2", name("1-2", None)),
            ("portrange 1-2 and host 1-2", name("1-2", None)),
            ("host 1.2.3.4.5", name("1.2.3.4.5", None)),
            ("host 1.2.3.4.", name("1.2.3.4.", None)),
            ("host 1.", name("1.", None)),
            ("host 0x", name("0x", None)),
            ("ip.addr == 10.0.0.1", Some(Unwanted::Display("ip.addr".into()))),
            ("tcp.port==443", Some(Unwanted::Display("tcp.port".into()))),
            ("ip6 protochain 6", Some(Unwanted::Protochain)),
        ] {
            assert_eq!(unwanted(expression), found, "{expression}");
        }
    }
}
