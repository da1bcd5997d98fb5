//! What AWS says of its mirror sessions becomes entries of a configuration file.
//!
//! The sensor speaks to no cloud. It reads what the `aws` program printed, and knows a mirror
//! session by what its datagrams carry: the primary address of the mirrored interface, and the VNI.

mod document;
mod names;
mod rules;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use self::document::{Filter, Interface, Interfaces, MirrorSession, Pages, Sessions};
use super::entry::SessionEntry;
use super::file::write_sessions;
use super::rules::RuleEntry;
use super::sessions::Item;
use crate::console::printable;
use crate::storage::read_small;
use crate::wire::{Vni, VniRange};

/// The most bytes of a document. A session and its interface have a few thousand.
const MOST: usize = 256 << 20;

/// The reasons why what AWS says cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error that the kernel returned.
        error: io::Error,
    },
    /// A file is not what AWS prints.
    #[error("{path} is not what aws ec2 {command} prints: {fault}")]
    Document {
        /// The file.
        path: PathBuf,
        /// The command whose output it is to be.
        command: &'static str,
        /// What is wrong with it.
        fault: String,
    },
}

/// Entries for sessions, and what could not be made of the documents.
#[derive(Debug)]
pub struct Converted {
    /// The entries, as a file that others include.
    pub text: String,
    /// How many entries there are.
    pub entries: usize,
    /// What is not in them, a line each.
    pub warnings: Vec<String>,
}

/// Reads the output of `aws ec2 describe-traffic-mirror-sessions`, of `describe-network-interfaces`
/// and, where it is given, of `describe-traffic-mirror-filters`.
///
/// # Errors
/// A file cannot be read, or is none of these outputs.
pub fn convert(sessions: &Path, interfaces: &Path, filters: Option<&Path>) -> Result<Converted, AwsError> {
    let mut warnings = Vec::new();
    let sessions: Vec<MirrorSession> = read::<Sessions>(sessions, &mut warnings)?;
    let interfaces: Vec<Interface> = read::<Interfaces>(interfaces, &mut warnings)?;
    let with_rules = filters.is_some();
    let filters: Vec<Filter> = match filters {
        Some(path) => read::<document::Filters>(path, &mut warnings)?,
        None => Vec::new(),
    };
    let interfaces: HashMap<&str, &Interface> =
        interfaces.iter().map(|one| (one.network_interface_id.as_str(), one)).collect();
    let filters: HashMap<&str, &Filter> =
        filters.iter().map(|one| (one.traffic_mirror_filter_id.as_str(), one)).collect();
    let mut found = Vec::new();
    for session in &sessions {
        match Found::of(session, &interfaces) {
            Ok(one) => found.push(one),
            Err(why) => warnings.push(format!("{} is left out: {why}", session.id())),
        }
    }
    // Of sessions that cannot be told apart, AWS asks the one with the lowest number first.
    found.sort_by_key(|one| (one.source, one.vni, one.session.session_number));
    let mut seen = HashMap::new();
    found.retain(|one| match seen.insert((one.source, one.vni), one.session.id()) {
        None => true,
        Some(other) => {
            let what = format!("{} also sends VNI {} from {}", other, one.vni.get(), one.source);
            warnings.push(format!("{} is left out: {what}, and the sensor cannot tell them apart", one.session.id()));
            seen.insert((one.source, one.vni), other);
            false
        }
    });
    let wanted: Vec<(Vec<&str>, &str)> = found.iter().map(|one| (one.names(), one.session.id())).collect();
    let names = names::unique(&wanted);
    let mut entries = Vec::new();
    for (one, name) in found.iter().zip(names) {
        let mut entry = one.entry();
        entry.name = name;
        if with_rules {
            entry.rules = one.rules(&filters, &mut warnings);
        }
        entries.push((one.comment(), entry));
    }
    if entries.is_empty() {
        warnings.push("there is no entry: no mirror session has its interface in these documents".into());
    }
    let mut known = HashSet::new();
    warnings.retain(|warning| known.insert(warning.clone()));
    Ok(Converted { text: write_sessions(&entries), entries: entries.len(), warnings })
}

/// Reads all pages of a document.
fn read<P: Pages>(path: &Path, warnings: &mut Vec<String>) -> Result<Vec<P::Item>, AwsError> {
    let text = read_small(path, MOST).map_err(|error| AwsError::Read { path: path.to_owned(), error })?;
    let wrong = |fault: String| AwsError::Document { path: path.to_owned(), command: P::COMMAND, fault };
    let (mut items, mut next) = (Vec::new(), None);
    let mut pages = 0;
    for page in serde_json::Deserializer::from_str(&text).into_iter::<P>() {
        let (page, token) = page.map_err(|error| wrong(error.to_string()))?.parts();
        items.extend(page.ok_or_else(|| wrong(format!("it has no {}", P::LIST)))?);
        next = token;
        pages += 1;
    }
    if pages == 0 {
        return Err(wrong("it is empty".into()));
    }
    if next.is_some_and(|token| !token.is_empty()) {
        warnings.push(format!(
            "{} ends with a NextToken: there is more that it does not have; ask without --max-items or --no-paginate, or \
             append the other pages",
            path.display()
        ));
    }
    Ok(items)
}

/// A mirror session whose interface is known.
struct Found<'a> {
    session: &'a MirrorSession,
    interface: &'a Interface,
    source: IpAddr,
    vni: Vni,
}

impl<'a> Found<'a> {
    fn of(session: &'a MirrorSession, interfaces: &HashMap<&str, &'a Interface>) -> Result<Self, String> {
        let id = session.network_interface_id.as_deref().ok_or("it names no interface")?;
        let interface = interfaces.get(id).ok_or_else(|| format!("its interface {id} is not among the interfaces"))?;
        let source = interface.primary().ok_or_else(|| format!("its interface {id} has no address"))?;
        let vni = session.virtual_network_id.ok_or("it has no VNI")?;
        let vni = u32::try_from(vni).ok().and_then(Vni::new).ok_or_else(|| format!("{vni} is no VNI"))?;
        Ok(Self { session, interface, source, vni })
    }

    /// Returns what the session can be called, the best first.
    fn names(&self) -> Vec<&'a str> {
        let tags = [document::name(&self.session.tags), document::name(&self.interface.tag_set)];
        let texts = [self.session.description.as_deref(), self.interface.instance(), Some(self.session.id())];
        tags.into_iter().chain(texts).flatten().collect()
    }

    fn entry(&self) -> SessionEntry {
        let instance = self.interface.instance().map(|instance| format!(" of {instance}")).unwrap_or_default();
        let description = self.session.description.as_deref().unwrap_or_default().trim();
        let gap = if description.is_empty() { "" } else { ": " };
        SessionEntry {
            description: Some(printable(&format!(
                "{}{instance}{gap}{description}",
                self.interface.network_interface_id
            ))),
            source: vec![Item::One(self.source.into())],
            vni: vec![Item::One(VniRange::from(self.vni))],
            ..SessionEntry::default()
        }
    }

    /// Returns the rules of the session's filter; none where they are not known.
    fn rules(&self, filters: &HashMap<&str, &Filter>, warnings: &mut Vec<String>) -> Vec<RuleEntry> {
        let id = self.session.id();
        let Some(filter) = self.session.traffic_mirror_filter_id.as_deref() else {
            warnings.push(format!("{id} names no filter, and has no rules"));
            return Vec::new();
        };
        let Some(known) = filters.get(filter) else {
            warnings.push(format!("{id} has no rules: its filter {filter} is not among the filters"));
            return Vec::new();
        };
        if !known.network_services.is_empty() {
            let services = known.network_services.join(", ");
            warnings.push(format!(
                "{filter} also mirrors {services}, which no rule says: what the rules do not accept of it is not kept"
            ));
        }
        match rules::of(known) {
            Ok(rules) if rules.is_empty() => {
                warnings
                    .push(format!("{filter} has no rules, so AWS mirrors nothing of {id}; without rules all is kept"));
                rules
            }
            Ok(rules) => rules,
            Err(fault) => {
                warnings.push(format!("{id} has no rules: of its filter {filter}, {fault}"));
                Vec::new()
            }
        }
    }

    /// Returns what people may want to know of the session, and the sensor need not.
    fn comment(&self) -> String {
        let of = |what: &str, id: Option<&str>| id.map(|id| format!(", {what} {id}")).unwrap_or_default();
        let session = self.session;
        let cut = session.packet_length.map(|bytes| format!("; PacketLength {bytes}: longer frames come cut"));
        printable(&format!(
            "{}{}{}{}{}",
            session.id(),
            of("target", session.traffic_mirror_target_id.as_deref()),
            of("filter", session.traffic_mirror_filter_id.as_deref()),
            of("account", session.owner_id.as_deref()),
            cut.unwrap_or_default()
        ))
    }
}

#[cfg(test)]
mod tests;
