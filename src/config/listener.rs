//! A listener is an address to receive on, and what comes there.

use std::fmt;

use super::address::{self, Listen, VXLAN_PORT};
use super::near::nearest;
use super::over_ip;
use super::typed::as_typed;
use crate::wire::Encapsulation;

/// The word for a listener whose port says what comes there.
const AUTO: &str = "auto";

/// An address to receive on, and what comes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// What comes there.
    pub carries: Carries,
    /// The address.
    pub at: Listen,
}

/// The encapsulation that comes to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// VXLAN, for nothing else was asked for.
    Usual,
    /// This one.
    Said(Encapsulation),
    /// GRE over IP, of which people have this.
    OverIp(Encapsulation),
    /// The one that the port is usual for.
    Auto,
}

impl From<Listen> for Listener {
    fn from(at: Listen) -> Self {
        Self { carries: Carries::Usual, at }
    }
}

impl Listener {
    /// Says whether it has no port.
    pub(super) fn is_over_ip(&self) -> bool {
        matches!(self.carries, Carries::OverIp(_))
    }

    /// Returns the encapsulation that comes there over UDP; none where it comes over IP, and where
    /// none is usual for the port.
    pub(super) fn encapsulation(&self) -> Option<Encapsulation> {
        match self.carries {
            Carries::Usual => Some(Encapsulation::Vxlan),
            Carries::Said(encapsulation) => Some(encapsulation),
            Carries::Auto => Encapsulation::of_port(self.at.port()),
            Carries::OverIp(_) => None,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.carries {
            Carries::Usual => {}
            Carries::Said(encapsulation) => write!(f, "{}:", word(encapsulation))?,
            Carries::Auto => write!(f, "{AUTO}:")?,
            Carries::OverIp(encapsulation) => return over_ip::write(f, encapsulation.label(), &self.at),
        }
        self.at.fmt(f)
    }
}

as_typed!(Listener, listener);

/// Returns the word for a listener that takes this encapsulation.
pub(super) fn word(encapsulation: Encapsulation) -> &'static str {
    encapsulation.over_udp().map_or(encapsulation.label(), |(word, _)| word)
}

/// Reads an address as [`address::listen`] does, with or without a word in front that says what
/// comes there, as `geneve:0.0.0.0:6081`. The word alone stands for its usual port. What comes over
/// IP has no port: `gre:10.0.0.7`.
///
/// # Errors
/// The text is no address, or one that cannot be listened on; the error says what to type.
fn listener(text: &str) -> Result<Listener, String> {
    let text = text.trim();
    let (front, rest) = text.split_once(':').unwrap_or((text, ""));
    let said = Encapsulation::ALL.into_iter().find(|encapsulation| word(*encapsulation) == front);
    let (carries, port) = match said {
        Some(encapsulation) => match encapsulation.usual_port() {
            Some(port) => (Carries::Said(encapsulation), port),
            None => return over_ip(encapsulation, rest),
        },
        None if front == AUTO => (Carries::Auto, VXLAN_PORT),
        None if front == Encapsulation::Gre.label() => return over_ip(Encapsulation::Gre, rest),
        None => return address::listen(text).map(Listener::from).map_err(|fault| misspelt(text, fault)),
    };
    let rest = if rest.is_empty() { "*" } else { rest };
    // What is advised has this word in front of it.
    let advise = |fault: String| format!("behind {front}: {fault}");
    Ok(Listener { carries, at: address::listen_on(rest, port).map_err(advise)? })
}

/// Returns the fault of a text that is no address, with the words where letters stand in front of a
/// colon: one of them may be meant.
fn misspelt(text: &str, fault: String) -> String {
    let is_word = |front: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        front.bytes().all(is_part) && front.bytes().any(|byte| byte.is_ascii_alphabetic() && !byte.is_ascii_hexdigit())
    };
    let Some((front, rest)) = text.split_once(':') else { return fault };
    if !is_word(front) || rest.starts_with("//") {
        return fault;
    }
    let others = Encapsulation::ALL.into_iter().filter(|encapsulation| *encapsulation != Encapsulation::Gre);
    let gre = [Encapsulation::Gre.label(), word(Encapsulation::Gre)];
    let words: Vec<&str> = [AUTO].into_iter().chain(others.map(word)).chain(gre).collect();
    let all = words.join(", ");
    match nearest(front, words) {
        Some(near) => format!("there is no {front:?}; write {near}:{rest} (what can stand there is {all})"),
        None => format!("{fault}; what can stand in front of an address is {all}"),
    }
}

/// Reads an address for what comes over IP.
fn over_ip(encapsulation: Encapsulation, rest: &str) -> Result<Listener, String> {
    let at = over_ip::address(encapsulation.label(), rest)?;
    Ok(Listener { carries: Carries::OverIp(encapsulation), at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_in_front_says_what_comes() {
        use Carries::{Auto, OverIp, Said, Usual};
        let at = |text: &str| Listen::At(text.parse().unwrap());
        for (text, carries, listen, written) in [
            ("8472", Usual, Listen::Any(8472), "8472"),
            ("[::1]:8472", Usual, at("[::1]:8472"), "[::1]:8472"),
            ("vxlan:0.0.0.0:8472", Said(Encapsulation::Vxlan), at("0.0.0.0:8472"), "vxlan:0.0.0.0:8472"),
            ("geneve:0.0.0.0:6081", Said(Encapsulation::Geneve), at("0.0.0.0:6081"), "geneve:0.0.0.0:6081"),
            ("geneve:16081", Said(Encapsulation::Geneve), Listen::Any(16081), "geneve:16081"),
            ("geneve", Said(Encapsulation::Geneve), Listen::Any(6081), "geneve:6081"),
            ("gpe:", Said(Encapsulation::Gpe), Listen::Any(4790), "gpe:4790"),
            ("tzsp:10.0.0.7", Said(Encapsulation::Tzsp), at("10.0.0.7:37008"), "tzsp:10.0.0.7:37008"),
            (
                "gre-udp:[2001:db8::1]:4754",
                Said(Encapsulation::Gre),
                at("[2001:db8::1]:4754"),
                "gre-udp:[2001:db8::1]:4754",
            ),
            ("auto:::", Auto, at("[::]:4789"), "auto:[::]:4789"),
            ("auto:6081", Auto, Listen::Any(6081), "auto:6081"),
            ("gre", OverIp(Encapsulation::Gre), Listen::Any(0), "gre"),
            ("erspan:*", OverIp(Encapsulation::Erspan), Listen::Any(0), "erspan"),
            ("nvgre:10.0.0.7", OverIp(Encapsulation::Nvgre), at("10.0.0.7:0"), "nvgre:10.0.0.7"),
            ("gre:2001:db8::1", OverIp(Encapsulation::Gre), at("[2001:db8::1]:0"), "gre:[2001:db8::1]"),
            ("erspan:[::ffff:10.0.0.7]", OverIp(Encapsulation::Erspan), at("10.0.0.7:0"), "erspan:10.0.0.7"),
            ("gre:fe80::1%2", OverIp(Encapsulation::Gre), at("[fe80::1%2]:0"), "gre:[fe80::1%2]"),
            (
                "gre:[fe80::1%eth0]",
                OverIp(Encapsulation::Gre),
                Listen::On("fe80::1".parse().unwrap(), "eth0".into(), 0),
                "gre:[fe80::1%eth0]",
            ),
        ] {
            let listener: Listener = text.parse().unwrap();
            assert_eq!(
                (&listener.carries, &listener.at, &*listener.to_string()),
                (&carries, &listen, written),
                "{text}"
            );
            assert_eq!(written.parse(), Ok(listener));
        }
        for (text, answer) in [
            ("geneve:localhost", "behind geneve: names are not looked up; write 127.0.0.1:6081"),
            ("tzsp:10.0.0.7:99999", "write 10.0.0.7:37008"),
            // What was typed is told as it was typed.
            ("tzsp:10.0.0.7:478999", "478999 is not a port, the largest is 65535; write 10.0.0.7:37008"),
            ("geneve:::1:4789", "write [::1]:4789 for the port, [::1:4789]:6081 for the address"),
            (
                "gre:0.0.0.0:4754",
                "gre comes over IP and has no port; write gre:10.0.0.7, or gre-udp:4754 for GRE in UDP",
            ),
            ("erspan:4754", "erspan comes over IP and has no port; write erspan:10.0.0.7"),
            ("gre:[::1]:47", "gre comes over IP and has no port"),
            ("gre:fe80::1%0", "a link-local address needs its interface; write gre:[fe80::1%eth0]"),
            ("erspan:[fe80::1%eth0:9 x]", "write one as erspan:[fe80::1%eth0]"),
            ("gre:10.0.0.7%eth0", "only a link-local address has an interface behind %; write gre:10.0.0.7"),
            ("gre:switch7", "gre comes over IP and has no port; write gre:10.0.0.7"),
            ("gre:fe80::1", "a link-local address needs its interface; write gre:[fe80::1%eth0]"),
            ("bastion:4789", "write one as 192.0.2.10:4789"),
            ("udp://0.0.0.0:4789", "as 0.0.0.0:4789"),
            (
                "genev:6081",
                "there is no \"genev\"; write geneve:6081 (what can stand there is auto, vxlan, gpe, geneve, nvgre, erspan, tzsp, gre, gre-udp)",
            ),
            ("GENEVE:10.0.0.7:6081", "there is no \"GENEVE\"; write geneve:10.0.0.7:6081 ("),
            ("gre_udp:4754", "write gre-udp:4754 ("),
            ("gtp:2152", "; what can stand in front of an address is auto, vxlan, gpe, geneve, "),
        ] {
            let said = text.parse::<Listener>().unwrap_err();
            assert!(said.contains(answer), "{text}: {said}");
        }
    }
}
