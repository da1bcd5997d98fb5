//! Each kind of value is read from TOML and written as TOML in one place: here.
//!
//! A text stands in the file as it is typed on the command line, and the same functions read both.

use std::ffi::OsStr;
use std::fmt::Display;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::super::entry::Name;
use super::super::hashing::Hashing;
use super::super::kept::{Duplicates, Tls};
use super::super::listener::Listener;
use super::super::near;
use super::super::port::Port;
use super::super::rules::{Network, PortRange, Protocol, RuleAction, RuleDirection};
use super::super::sessions::Item;
use super::super::settings::{LedgerFormat, TapMode, TapTag};
use super::super::units::{Free, Size, Span, Wait};
use crate::archive::Sync;
use crate::pipeline::decap::{ReservedBits, Timestamps};
use crate::record::bare_ip::BareIp;
use crate::record::compress::Compression;
use crate::record::format::Format;
use crate::route::slice::Slice;
use crate::sandbox::Mode;
use crate::session::Scope;
use crate::source::bpf::Attach;
use crate::source::{FILE, Steering, Way};
use crate::storage::Direct;
use crate::wire::{VniMask, VniRange};

/// A value that cannot be taken.
#[derive(Debug)]
pub(super) struct Wrong {
    /// The bytes of the value.
    pub span: Range<usize>,
    /// What is wrong with it.
    pub fault: String,
    /// What to write instead.
    pub advice: Option<String>,
}

/// A visitor of the keys of a table: one reads them, one writes them.
pub(super) trait Keys {
    /// Visits the key `name`, whose value is or becomes `value`.
    fn key(&mut self, name: &'static str, value: &mut dyn Value);
}

/// A table of the file.
pub(super) trait Table {
    /// Shows all keys of the table to a visitor.
    fn keys(&mut self, keys: &mut dyn Keys);
}

/// What a key can have: a single value, one that can be left out, or a list.
pub(super) trait Value {
    /// Takes over what the file says.
    ///
    /// # Errors
    /// That cannot be taken; of a list, all items that cannot are named.
    fn read(&mut self, item: &Spanned<DeValue<'_>>) -> Result<(), Vec<Wrong>>;

    /// Returns the value in TOML; `None` where there is none.
    ///
    /// # Errors
    /// The value cannot be written; the text says why.
    fn write(&self) -> Result<Option<String>, String>;
}

/// A single value.
pub(super) trait Leaf: Sized {
    /// Reads what the file says.
    ///
    /// # Errors
    /// It is none of these: the fault, with advice behind `"; "`.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;

    /// Returns the value in TOML.
    ///
    /// # Errors
    /// The value cannot be written; the text says why.
    fn write(&self) -> Result<String, String>;
}

/// Reads a single value, and says where it is not one.
fn one<T: Leaf>(item: &Spanned<DeValue<'_>>) -> Result<T, Wrong> {
    T::read(item.get_ref()).map_err(|said| {
        let (fault, advice) = match said.split_once("; ") {
            Some((fault, advice)) => (fault.to_owned(), Some(advice.to_owned())),
            None => (said, None),
        };
        Wrong { span: item.span(), fault, advice }
    })
}

impl<T: Leaf> Value for T {
    fn read(&mut self, item: &Spanned<DeValue<'_>>) -> Result<(), Vec<Wrong>> {
        *self = one(item).map_err(|wrong| vec![wrong])?;
        Ok(())
    }

    fn write(&self) -> Result<Option<String>, String> {
        Leaf::write(self).map(Some)
    }
}

impl<T: Leaf> Value for Option<T> {
    fn read(&mut self, item: &Spanned<DeValue<'_>>) -> Result<(), Vec<Wrong>> {
        *self = Some(one(item).map_err(|wrong| vec![wrong])?);
        Ok(())
    }

    fn write(&self) -> Result<Option<String>, String> {
        self.as_ref().map(Leaf::write).transpose()
    }
}

/// A list of one item is written with brackets or without.
impl<T: Leaf> Value for Vec<T> {
    fn read(&mut self, item: &Spanned<DeValue<'_>>) -> Result<(), Vec<Wrong>> {
        let DeValue::Array(items) = item.get_ref() else {
            *self = vec![one(item).map_err(|wrong| vec![several::<T>(item, wrong)])?];
            return Ok(());
        };
        // It would stand for all, which is not what a list of nobody says.
        if items.is_empty() {
            return Err(vec![Wrong {
                span: item.span(),
                fault: "an empty list".into(),
                advice: Some("leave the line out, or list something".into()),
            }]);
        }
        let (mut read, mut wrong) = (Vec::new(), Vec::new());
        for item in items.iter() {
            match one(item) {
                Ok(value) => read.push(value),
                Err(fault) => wrong.push(several::<T>(item, fault)),
            }
        }
        *self = read;
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn write(&self) -> Result<Option<String>, String> {
        if self.is_empty() {
            return Ok(None);
        }
        let items = self.iter().map(Leaf::write).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(format!("[{}]", items.join(", "))))
    }
}

/// A list that is there and empty is not the same as none.
impl<T: Leaf> Value for Option<Vec<T>> {
    fn read(&mut self, item: &Spanned<DeValue<'_>>) -> Result<(), Vec<Wrong>> {
        let items = self.insert(Vec::new());
        if matches!(item.get_ref(), DeValue::Array(none) if none.is_empty()) { Ok(()) } else { items.read(item) }
    }

    fn write(&self) -> Result<Option<String>, String> {
        match self {
            Some(items) if items.is_empty() => Ok(Some("[]".into())),
            Some(items) => items.write(),
            None => Ok(None),
        }
    }
}

/// Advises on several items in one text, as the command line has them.
fn several<T: Leaf>(item: &Spanned<DeValue<'_>>, wrong: Wrong) -> Wrong {
    let DeValue::String(text) = item.get_ref() else { return wrong };
    let parts: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
    let values = parts.iter().map(|part| T::read(&DeValue::String(part.as_str().into())).ok()?.write().ok());
    match values.collect::<Option<Vec<_>>>() {
        Some(values) if values.len() > 1 => Wrong {
            span: wrong.span,
            fault: "several in one text".into(),
            advice: Some(format!("write a list: [{}]", values.join(", "))),
        },
        _ => wrong,
    }
}

/// Returns what a value is, in words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Returns a whole number in decimal digits.
fn digits(value: &DeValue<'_>) -> Option<String> {
    let DeValue::Integer(number) = value else { return None };
    if number.radix() == 10 {
        return Some(number.as_str().trim_start_matches('+').to_owned());
    }
    u64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
}

/// Reads a value that is typed as a text or a number.
fn typed<T: FromStr<Err: Display>>(value: &DeValue<'_>, wanted: &str) -> Result<T, String> {
    let number = digits(value);
    let text = match (value, &number) {
        (DeValue::String(text), _) => text.as_ref(),
        (_, Some(number)) => number,
        _ => return Err(format!("{} where {wanted} is to be", kind(value))),
    };
    text.parse().map_err(|fault: T::Err| fault.to_string())
}

/// Writes a value that is typed as a text or a number. A number needs no quotes.
fn untyped(value: impl Display) -> String {
    let text = value.to_string();
    let plain = (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = plain && (text == "0" || !text.starts_with('0'));
    if plain { text } else { quoted(&text) }
}

/// Returns a text in the quotes of TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

macro_rules! typed {
    ($($type:ty: $wanted:literal)*) => { $(
        impl Leaf for $type {
            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                typed(value, $wanted)
            }

            fn write(&self) -> Result<String, String> {
                Ok(untyped(self))
            }
        }
    )* };
}

typed! {
    Listener: "an address and port, as \"0.0.0.0:4789\","
    Port: "an address and port, as \"127.0.0.1:9479\","
    Size: "a size, as \"100MiB\","
    Span: "a duration, as \"10s\","
    Wait: "a duration, as \"10s\","
    Free: "a size or a share, as \"5%\","
    VniMask: "a mask of VNIs, as \"0x0fffff\","
    Item<VniRange>: "a VNI, as 7 or \"100-199\","
    Slice: "a slice, as \"l4+64\","
    Tls: "a part of TLS, as \"handshake+64KiB\","
    Name: "a name, as \"web-1\","
    Item<IpNet>: "an address or network, as \"10.0.0.0/8\","
    Network: "a network, as \"10.0.0.0/8\","
    Protocol: "a protocol, as \"tcp\","
    PortRange: "a port or a range of ports, as 443 or \"1024-65535\","
}

/// A scope is a number, or the text that everything shows, which one beyond the numbers of TOML is.
impl Leaf for Scope {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(text) => text.parse::<Scope>().map_err(|fault| fault.to_string()),
            number => Leaf::read(number).map(Scope),
        }
    }

    fn write(&self) -> Result<String, String> {
        Ok(i64::try_from(self.0).map_or_else(|_| quoted(&self.to_string()), |number| number.to_string()))
    }
}

impl Leaf for Compression {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let advised = |fault: String| fault.replacen(": ", "; ", 1);
        typed(value, "a compression, as \"zstd\",").map_err(advised)
    }

    fn write(&self) -> Result<String, String> {
        Ok(untyped(self))
    }
}

/// Reads the name of one of a few choices.
fn choice<T: ValueEnum>(value: &DeValue<'_>) -> Result<T, String> {
    let all = T::value_variants();
    let named = |one: &T| one.to_possible_value().map(|value| value.get_name().to_owned());
    let names: Vec<String> = all.iter().filter_map(named).collect();
    let list = names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let DeValue::String(text) = value else {
        return Err(format!("{} where a word is to be; write one of {list}", kind(value)));
    };
    let found = all.iter().find(|one| named(one).as_deref() == Some(text));
    let nearest = || match near::nearest(text, names.iter().map(String::as_str)) {
        Some(near) => format!("do you mean {}? It is one of {list}", quoted(near)),
        None => format!("write one of {list}"),
    };
    found.cloned().ok_or_else(|| format!("there is no {}; {}", quoted(text), nearest()))
}

/// Writes the name of one of a few choices.
fn write_choice<T: ValueEnum>(choice: &T) -> Result<String, String> {
    Ok(choice.to_possible_value().map(|value| quoted(value.get_name())).unwrap_or_default())
}

macro_rules! choices {
    ($($type:ty)*) => { $(
        impl Leaf for $type {
            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                choice(value)
            }

            fn write(&self) -> Result<String, String> {
                write_choice(self)
            }
        }
    )* };
}

choices! {
    Attach Steering ReservedBits Format BareIp Direct Sync Hashing TapMode TapTag LedgerFormat RuleAction RuleDirection
    Duplicates Mode Timestamps
}

impl Leaf for Way {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(text) if text.starts_with(FILE) => Way::of_file(OsStr::new(&**text))
                .ok_or_else(|| format!("{} names no capture; write it as \"{FILE}mirror.pcap\"", quoted(text))),
            _ => choice(value),
        }
    }

    fn write(&self) -> Result<String, String> {
        match self {
            Way::File(path) => {
                let path = path.to_str().ok_or_else(|| format!("{} is not UTF-8, which TOML is", path.display()))?;
                Ok(quoted(&format!("{FILE}{path}")))
            }
            Way::Udp | Way::Bpf | Way::Auto => write_choice(self),
        }
    }
}

macro_rules! numbers {
    ($($type:ty)*) => { $(
        impl Leaf for $type {
            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                let Some(digits) = digits(value) else {
                    let quotes = match value {
                        DeValue::String(text) if text.parse::<u64>().is_ok() => format!("; write {text} without quotes"),
                        _ => String::new(),
                    };
                    return Err(format!("{} where a whole number is to be{quotes}", kind(value)));
                };
                let fault = match digits.starts_with('-') {
                    true => "less than nothing; write a number that is not",
                    false => "far too large; write a smaller number",
                };
                digits.parse().map_err(|_| fault.to_owned())
            }

            fn write(&self) -> Result<String, String> {
                Ok(self.to_string())
            }
        }
    )* };
}

numbers! { u16 u32 u64 }

impl Leaf for bool {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::Boolean(value) => Ok(*value),
            DeValue::String(text) if matches!(&**text, "true" | "false") => {
                Err(format!("a text where true or false is to be; write {text} without quotes"))
            }
            other => Err(format!("{} where true or false is to be; write true or false", kind(other))),
        }
    }

    fn write(&self) -> Result<String, String> {
        Ok(self.to_string())
    }
}

impl Leaf for String {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(text) => Ok(text.clone().into_owned()),
            other => Err(format!("{} where a text is to be; write it in quotes", kind(other))),
        }
    }

    fn write(&self) -> Result<String, String> {
        Ok(quoted(self))
    }
}

impl Leaf for PathBuf {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match <String as Leaf>::read(value)? {
            text if text.is_empty() => Err("empty, and so no path; name one, or leave the key out".into()),
            text => Ok(text.into()),
        }
    }

    fn write(&self) -> Result<String, String> {
        let text = self.to_str().ok_or_else(|| format!("{} is not UTF-8, which TOML is", self.display()))?;
        Ok(quoted(text))
    }
}
