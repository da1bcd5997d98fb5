//! The arguments of `vxtap decap`.

use std::mem::discriminant;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::archive::ArchivePlan;
use crate::decap::{DecapPlan, Input, Others, Timestamps, To};
use crate::lane::CHUNK_MEMORY;
use crate::record::bare_ip::BareIp;
use crate::record::compress::Compression;
use crate::record::format::Format;
use crate::setting::Wording;
use crate::sink::file::{Clock, FilePlan};
use crate::sink::interface::{DEFAULT_MTU, InterfacePlan, Kind, fault_of_name};
use crate::sink::stream::StreamPlan;
use crate::wire::captured::Ports;
use crate::wire::{Encapsulation, VniMask};

/// `vxtap decap`.
#[derive(Debug, Args)]
pub struct DecapArgs {
    /// Captures, in this order: pcap or pcapng, also compressed with gzip, zstd or lz4; - is
    /// standard input.
    #[arg(required = true, value_name = "IN")]
    pub inputs: Vec<PathBuf>,
    /// Write all frames to this file, in their order; - is standard output. The ending says the
    /// form: .pcapng, and .zst or .lz4 behind it.
    #[arg(short, long, value_name = "OUT", conflicts_with = "into")]
    pub output: Option<PathBuf>,
    /// Write a directory for each session below this one, as the sensor does, with a manifest that
    /// `vxtap verify` checks.
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// Put all frames into this tap interface, in their order, as tap:mirror0. It must be there,
    /// with a sniffer on it. Needs root, or an interface that is this user's.
    #[arg(long, value_name = "tap:NAME", value_parser = tap, conflicts_with_all = ["output", "into", "format", "compress", "bare_ip"])]
    pub to: Option<String>,
    /// What becomes of frames that are not of a mirror: left out, kept as they are, or the first of
    /// them is the end.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Others::Drop)]
    pub others: Others,
    /// Take off at most this many wraps. The mirror's own is one; that of a mirror's endpoint of a
    /// gateway load balancer, which has another in it, counts as one, too.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub depth: u32,
    /// Another UDP port that mirrors send to, with the encapsulation, as vxlan:5000.
    #[arg(long = "port", value_name = "ENCAPSULATION:PORT", value_parser = port)]
    pub ports: Vec<(u16, Encapsulation)>,
    /// The bits of a VNI that name the network, for senders that put something else, as the
    /// direction of a frame, into the others: 0x0fffff.
    #[arg(long, value_name = "MASK", default_value_t = VniMask::ALL)]
    pub vni_mask: VniMask,
    /// The clock that frames have their times of: the capture's, or the switch's where ERSPAN III
    /// tells a time within a second of that.
    #[arg(long, value_enum, value_name = "CLOCK", default_value_t)]
    pub timestamps: Timestamps,
    /// Format of what is written. [default: by the ending of OUT, else pcap]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Form of IP packets that came without an Ethernet header, as of GENEVE. One file has both
    /// kinds of frames only as pcapng.
    /// [default: ethernet]
    #[arg(long, value_enum)]
    pub bare_ip: Option<BareIp>,
    /// Compression of what is written: lz4, zstd, or zstd:LEVEL. [default: by the ending of OUT]
    #[arg(long, value_name = "HOW")]
    pub compress: Option<Compression>,
    /// Print the summary as JSON.
    #[arg(long)]
    pub json: bool,
}

impl DecapArgs {
    /// Returns the plan that the command line asks for.
    ///
    /// # Errors
    /// It makes no sense; the text says why, and what to type.
    pub fn plan(&self) -> Result<DecapPlan, &'static str> {
        let mut ports = Ports::default();
        for (at, (port, encapsulation)) in self.ports.iter().enumerate() {
            if self.ports[..at].iter().any(|(other, before)| other == port && before != encapsulation) {
                return Err("--port gives one port two encapsulations, and the port alone tells what comes there: \
                     leave one of them out");
            }
            ports.add(*port, *encapsulation);
        }
        let standard = self.inputs.iter().filter(|input| is_standard(input)).count();
        if standard > 1 {
            return Err("standard input can be read only once: give - once");
        }
        if self.into.is_some() && self.others == Others::Pass {
            return Err("frames that are not of a mirror have no session, so --into has no directory for them: \
                 write -o OUT, or leave out --others pass");
        }
        if self.output.as_deref().is_some_and(|path| path.extension().is_some_and(|ending| ending == "gz")) {
            return Err("gzip is not written: end OUT with .zst or .lz4, or compress it afterwards");
        }
        if self.into.as_deref().is_some_and(is_standard) {
            return Err("--into needs a directory: for a stream write -o -");
        }
        let has_form = self.format.is_some() || self.compress.is_some() || self.bare_ip.is_some();
        if has_form && self.output.is_none() && self.into.is_none() {
            return Err("nothing is written without -o OUT or --into DIR, so it has no form: leave out --format, \
                 --compress and --bare-ip, or say where the frames go");
        }
        if let (Some(path), Some(compress)) = (&self.output, self.compress)
            && let (_, Some(ending)) = form(path)
            && discriminant(&ending) != discriminant(&compress)
        {
            return Err("the ending of OUT says another compression than --compress: leave one of them out");
        }
        let to = self.to();
        if let To::Stream(StreamPlan { bare_ip: BareIp::Raw, format: Format::Pcap | Format::PcapUs, .. }) = to {
            return Err("--bare-ip raw needs pcapng with -o: classic pcap has one link type, and one file gets \
                 the frames of all sessions; end OUT with .pcapng, give --format pcapng, or write --into DIR");
        }
        Ok(DecapPlan {
            inputs: self.inputs.iter().map(|path| input(path)).collect(),
            to,
            others: self.others,
            depth: self.depth,
            ports,
            vni_mask: self.vni_mask,
            timestamps: self.timestamps,
        })
    }

    /// Returns where the frames go.
    fn to(&self) -> To {
        if let Some(name) = &self.to {
            let (name, kind) = (name.clone(), Kind::Tap);
            return To::Interface(InterfacePlan { name, kind, mtu: DEFAULT_MTU, tags: None });
        }
        if let Some(directory) = &self.into {
            let plan = FilePlan::new(directory);
            return To::Directory(Box::new(FilePlan {
                clock: Clock::Frames,
                buffer_memory: 16 * CHUNK_MEMORY,
                format: self.format.unwrap_or(plan.format),
                bare_ip: self.bare_ip.unwrap_or(plan.bare_ip),
                compression: self.compress,
                archive: ArchivePlan { wording: Wording::Decap, ..plan.archive },
                ..plan
            }));
        }
        let Some(path) = &self.output else { return To::Nowhere };
        let (format, compression) = form(path);
        To::Stream(StreamPlan {
            path: (!is_standard_output(path)).then(|| path.clone()),
            format: self.format.unwrap_or(format),
            bare_ip: self.bare_ip.unwrap_or(BareIp::Ethernet),
            compression: self.compress.or(compression),
        })
    }

    /// Says whether the frames go to standard output.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.output.as_deref().is_some_and(is_standard_output)
    }
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Says whether frames that are written there go to standard output, so that the summary may not.
fn is_standard_output(path: &Path) -> bool {
    is_standard(path) || path == Path::new("/dev/stdout")
}

fn input(path: &Path) -> Input {
    if is_standard(path) { Input::Standard } else { Input::File(path.to_owned()) }
}

/// Returns format and compression of a file of this name.
fn form(path: &Path) -> (Format, Option<Compression>) {
    let ending = |path: &Path| path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let (compression, inner) = match ending(path).as_deref() {
        Some("zst") => ("zstd".parse().ok(), path.with_extension("")),
        Some("lz4") => (Some(Compression::Lz4), path.with_extension("")),
        _ => (None, path.to_owned()),
    };
    let format = match ending(&inner).as_deref() {
        Some("pcapng" | "ntar") => Format::PcapNg,
        _ => Format::Pcap,
    };
    (format, compression)
}

/// Reads the name of a tap interface.
fn tap(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("tap:").ok_or("it is a tap interface, as tap:mirror0")?;
    match fault_of_name(name) {
        None => Ok(name.to_owned()),
        Some(fault) => Err(format!("an interface cannot be named {name:?}, for {fault}; write tap:mirror0")),
    }
}

/// Reads an encapsulation with a port.
fn port(text: &str) -> Result<(u16, Encapsulation), String> {
    let advice = || format!("it is an encapsulation and a UDP port, as vxlan:5000; this vxtap knows {}", known());
    let (encapsulation, port) = text.split_once(':').ok_or_else(advice)?;
    let encapsulation = over_udp().find(|(word, _)| *word == encapsulation).map(|(_, of)| of).ok_or_else(advice)?;
    match port.parse() {
        // A number is read with a sign, too.
        Ok(number @ 1..) if !port.starts_with('+') => Ok((number, encapsulation)),
        _ => Err(advice()),
    }
}

/// Returns what comes over UDP, with the word for each.
fn over_udp() -> impl Iterator<Item = (&'static str, Encapsulation)> {
    Encapsulation::ALL.into_iter().filter_map(|of| Some((of.over_udp()?.0, of)))
}

fn known() -> String {
    over_udp().map(|(word, _)| word).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_the_form() {
        let zstd = "zstd".parse().ok();
        for (name, wanted) in [
            ("x", (Format::Pcap, None)),
            ("x.pcap", (Format::Pcap, None)),
            ("x.pcapng", (Format::PcapNg, None)),
            ("x.PCAPNG.zst", (Format::PcapNg, zstd)),
            ("x.pcap.lz4", (Format::Pcap, Some(Compression::Lz4))),
            ("-", (Format::Pcap, None)),
        ] {
            assert_eq!(form(Path::new(name)), wanted, "{name}");
        }
    }

    #[test]
    fn a_tap_has_a_name() {
        assert_eq!(tap("tap:mirror0"), Ok("mirror0".into()));
        for wrong in ["mirror0", "tun:mirror0", "tap:", "tap:a/b", "tap:longer_than_names"] {
            assert!(tap(wrong).unwrap_err().contains("tap:mirror0"), "{wrong}");
        }
    }

    #[test]
    fn a_port_has_its_encapsulation() {
        assert_eq!(port("vxlan:5000"), Ok((5000, Encapsulation::Vxlan)));
        assert_eq!(port("gre-udp:1"), Ok((1, Encapsulation::Gre)));
        for wrong in ["5000", "erspan:1", "vxlan", "vxlan:", "vxlan:0", "vxlan:65536", "vxlan:+1", "nothing:1"] {
            assert!(port(wrong).unwrap_err().contains("vxlan:5000"), "{wrong}");
        }
    }
}
