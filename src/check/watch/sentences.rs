//! Each fault has one sentence: what is so and why, and the command that mends it.
//!
//! A word in braces stands for what was seen. `docs/troubleshooting.md` has each sentence with more
//! about its cause and its cure, and a test compares the two.

use crate::check::finding::{Finding, Level};

/// A sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sentence {
    /// The stable name.
    pub name: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What is so, and why.
    pub reason: &'static str,
    /// What mends it; empty where all is well.
    pub remedy: &'static str,
}

impl Sentence {
    /// Says it of what was seen: each word in braces with its meaning.
    pub(super) fn of(&self, words: &[(&str, String)]) -> Finding {
        let say = |text: &str| {
            words.iter().fold(text.to_owned(), |text, (word, meaning)| text.replace(&format!("{{{word}}}"), meaning))
        };
        let remedy = (!self.remedy.is_empty()).then(|| say(self.remedy));
        Finding { level: self.level, name: self.name, reason: say(self.reason), remedy }
    }
}

/// Declares sentences, and [`SENTENCES`] with all of them.
macro_rules! sentences {
    ($($CONST:ident = $level:ident $name:literal: $reason:literal => $remedy:literal;)+) => {
        $(
            pub(super) const $CONST: Sentence = Sentence {
                name: $name,
                level: Level::$level,
                reason: $reason,
                remedy: $remedy,
            };
        )+

        /// All sentences of `vxtap check --watch`.
        pub const SENTENCES: [Sentence; [$($name),+].len()] = [$($CONST),+];
    };
}

sentences! {
    ARRIVING = Ok "arriving":
        "mirror traffic arrives, whole and in order: {frames} of {sessions} in {seconds} s"
        => "";
    NOTHING_ARRIVES = Error "nothing_arrives":
        "nothing came to UDP port {ports} in {seconds} s, so it is stopped before this host: by a security group, a network ACL, a route, or because no mirror session leads here"
        => "aws ec2 authorize-security-group-ingress --group-id sg-TARGET --protocol udp --port {port} --cidr 10.0.0.0/16";
    TAKEN_BY_XDP = Warning "taken_by_xdp":
        "a program at XDP on {interface} takes packets before anybody can watch them, so nothing can be said of what it takes"
        => "vxtap status";
    OTHER_HOST = Error "other_host":
        "{datagrams} from {source} are for {address}, which is no address of this host, so the kernel drops them: the mirror's target is another interface, or a route with the source/destination check off leads here"
        => "ip addr add {address}/32 dev {interface}";
    WRONG_PORT = Error "wrong_port":
        "{datagrams} of VXLAN from {source}, first of VNI {vni}, come to {address} port {port}, where nobody listens"
        => "vxtap run --listen {listen}";
    GENEVE = Error "geneve":
        "{datagrams} of GENEVE come from {source} to port 6081, where nobody listens: the mirror's target is an endpoint of a Gateway Load Balancer, or the sender is of Google Cloud"
        => "vxtap run --listen geneve:6081";
    NO_SENSOR = Warning "no_sensor":
        "{datagrams} come to port {port}, and no program listens there: the kernel answers with ICMP port unreachable"
        => "systemctl start vxtap";
    NOT_VXLAN = Warning "not_vxlan":
        "{share} of the datagrams to port {port} are no VXLAN ({why}), the last from {source}: somebody else than the mirror reaches the port"
        => "vxtap run --from {from}";
    FRAGMENTS = Warning "fragments":
        "{share} of the datagrams come in fragments of at most {mtu} bytes, which is the path's MTU: each costs the kernel a reassembly, and each lost fragment a frame"
        => "aws ec2 modify-traffic-mirror-session --traffic-mirror-session-id tms-SESSION --packet-length {length}";
    FRAGMENTS_LOST = Error "fragments_lost":
        "{lost} of {fragmented} that came in fragments of at most {mtu} bytes lack a fragment, so their frames are lost: the path drops fragments (the kernel counts {failed} failed reassemblies)"
        => "aws ec2 modify-traffic-mirror-session --traffic-mirror-session-id tms-SESSION --packet-length {length}";
    ONE_DIRECTION = Warning "one_direction":
        "of {session} only one direction comes ({seen}), although the other side answers: the mirror's filter has no {missing} rule that accepts it"
        => "aws ec2 create-traffic-mirror-filter-rule --traffic-mirror-filter-id tmf-FILTER --traffic-direction {missing} --rule-number 100 --rule-action accept --source-cidr-block 0.0.0.0/0 --destination-cidr-block 0.0.0.0/0";
    CUT_AT_8947 = Warning "cut_at_8947":
        "{frames} of {session} are cut at {length} bytes: a target's MTU of 9001 has room for packets of 8947 bytes, and the mirrored host sends larger ones"
        => "ip link set dev eth0 mtu 8947    # on the mirrored host";
    CUT_AT_8500 = Warning "cut_at_8500":
        "{frames} of {session} are cut at {length} bytes: the target is a load balancer, which carries 8500 bytes of a frame"
        => "ip link set dev eth0 mtu 8486    # on the mirrored host";
    CUT_AT_1450 = Warning "cut_at_1450":
        "{frames} of {session} are cut at {length} bytes: an MTU of 1500 at the target or on the way has room for packets of 1450 bytes"
        => "ip link set dev {interface} mtu 9001";
    CUT_AT_PACKET_LENGTH = Warning "cut_at_packet_length":
        "{frames} of {session} are cut at {length} bytes, which is the PacketLength of its mirror session"
        => "aws ec2 modify-traffic-mirror-session --traffic-mirror-session-id tms-SESSION --remove-fields packet-length";
    CUT = Warning "cut":
        "{frames} of {session} are cut at {length} bytes: its mirror session has that PacketLength, or a smaller MTU is on the way"
        => "aws ec2 modify-traffic-mirror-session --traffic-mirror-session-id tms-SESSION --remove-fields packet-length";
    DUPLICATES = Warning "duplicates":
        "{share} of the frames come twice, most of them of {session}: both ends of their conversations are mirrored"
        => "dedup = \"drop\"    # in the [[session]] of both";
    DUPLICATES_WITHIN = Warning "duplicates_within":
        "{share} of the frames come twice within their session, most of them of {session}: two mirror sessions of one interface lead here by the same VNI, or something on the way doubles packets"
        => "aws ec2 describe-traffic-mirror-sessions --filters Name=virtual-network-id,Values=VNI";
    DISORDER = Warning "disorder":
        "{share} of the segments of TCP come behind later ones, most of them of {session}: a load balancer or several paths lie between the mirror and this host"
        => "aws ec2 create-traffic-mirror-target --network-interface-id eni-TARGET";
    NOT_LET_IN = Warning "not_let_in":
        "{frames} of {sessions} that come are not let in, most of them of {session}: the lists of --vni, --from or --allow do not have it"
        => "vxtap run --from {source} --vni {vni}";
    FIREWALL = Error "firewall":
        "{lost} of {datagrams} that come over {interface} to port {port} reach no socket: a firewall of this host (nftables, iptables) drops them"
        => "nft insert rule inet filter input udp dport {port} accept    # or: iptables -I INPUT -p udp --dport {port} -j ACCEPT";
    RP_FILTER = Error "rp_filter":
        "{lost} of {datagrams} that come over {interface} reach no socket: no route to {source} leads back over it, and rp_filter drops them"
        => "sysctl -w net.ipv4.conf.{interface}.rp_filter=2";
    RECEIVE_BUFFER = Error "receive_buffer":
        "{lost} to port {port} were dropped at the socket, whose receive buffer was full"
        => "sysctl -w net.core.rmem_max=33554432    # and restart the sensor";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_what_is_amiss_has_a_cure() {
        let mut names: Vec<&str> = SENTENCES.iter().map(|sentence| sentence.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SENTENCES.len());
        assert!(SENTENCES.iter().all(|sentence| (sentence.level == Level::Ok) == sentence.remedy.is_empty()));
        let said = NO_SENSOR.of(&[("datagrams", "7 datagrams".into()), ("port", "4789".into())]);
        assert!(said.reason.starts_with("7 datagrams come to port 4789, and"), "{said}");
    }
}
