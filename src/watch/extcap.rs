//! `vxtap extcap` speaks the protocol by which Wireshark finds and reads interfaces that are
//! programs (extcap).
//!
//! There is an interface for each name that sessions have, and one for all sessions. What is said
//! here is text that Wireshark reads, a sentence in a line:
//! <https://www.wireshark.org/docs/wsdg_html_chunked/ChCaptureExtcap.html>.

use std::fmt::Write;

use serde::Deserialize;

use super::Asked;
use crate::control::{Client, ClientError};
use crate::record::pcap::WHOLE;
use crate::route::Expression;
use crate::wire::LinkType;

/// The interface of all sessions, and how the names of the others begin.
const ALL: &str = "vxtap";

/// The names of the sessions that a sensor has.
#[derive(Deserialize)]
struct Sessions {
    sessions: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

/// Returns the names that sessions have, each once and in order.
///
/// # Errors
/// There is no sensor, or it refuses.
pub fn names(client: &Client) -> Result<Vec<String>, ClientError> {
    Ok(read_names(&client.get("/sessions")?))
}

fn read_names(answer: &str) -> Vec<String> {
    let sessions = serde_json::from_str(answer).map_or_else(|_| Vec::new(), |Sessions { sessions }| sessions);
    let mut names: Vec<String> = sessions.into_iter().filter_map(|session| session.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Says which interfaces there are.
#[must_use]
pub fn interfaces(names: &[String]) -> String {
    let mut text = format!("extcap {{version={}}}{{display=vxtap}}\n", env!("CARGO_PKG_VERSION"));
    text += &format!("interface {{value={ALL}}}{{display=vxtap: all mirror sessions}}\n");
    for name in names {
        // Writing to a string does not fail.
        let _ = writeln!(text, "interface {{value={ALL}-{name}}}{{display=vxtap: {name}}}");
    }
    text
}

/// Says of which kind the frames are.
#[must_use]
pub fn link_types() -> String {
    let number = LinkType::Ethernet.number();
    format!("dlt {{number={number}}}{{name=EN10MB}}{{display=Ethernet}}\n")
}

/// Says what can be set for an interface.
#[must_use]
pub fn settings(interface: &str) -> String {
    let mut text = String::new();
    if session_of(interface).is_none() {
        text += "arg {number=0}{call=--session}{display=Session}{type=string}\
                 {tooltip=A name, or VNI@SOURCE as 7@192.0.2.1; all sessions if there is none}\n";
    }
    text += &format!(
        "arg {{number=1}}{{call=--snaplen}}{{display=Bytes of a frame}}{{type=unsigned}}{{range=1,{WHOLE}}}\
         {{default={WHOLE}}}{{tooltip=What is beyond is cut off}}\n"
    );
    text += "arg {number=2}{call=--control}{display=Control socket}{type=string}\
             {tooltip=The socket of the sensor; the usual one if there is none}\n";
    text
}

/// Says what is wrong with a filter expression: nothing where it can be used.
#[must_use]
pub fn fault_of_filter(filter: &str) -> String {
    if filter.trim().is_empty() {
        return String::new();
    }
    Expression::new(filter).err().map(|error| format!("{error}\n")).unwrap_or_default()
}

/// Returns the name of the session that an interface is for; none where it is for all.
#[must_use]
pub fn session_of(interface: &str) -> Option<&str> {
    interface.strip_prefix(ALL)?.strip_prefix('-').filter(|name| !name.is_empty())
}

/// Returns what is watched on an interface. A session that is typed is for the interface of all.
#[must_use]
pub fn asked(interface: &str, session: Option<&str>, filter: Option<&str>, snaplen: Option<u32>) -> Asked {
    let typed = |text: Option<&str>| text.filter(|text| !text.trim().is_empty()).map(str::to_owned);
    Asked {
        session: session_of(interface).map(str::to_owned).or_else(|| typed(session)),
        filter: typed(filter),
        snaplen,
        ..Asked::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_interface_for_each_name() {
        let answer = r#"{"schema":1,"count":4,"sessions":[{"source":"192.0.2.1","vni":7,"name":"web","frames":1},
            {"source":"192.0.2.2","vni":7,"name":"web"},{"source":"192.0.2.3","vni":9},{"name":"db.1","vni":1}]}"#;
        let names = read_names(answer);
        assert_eq!(names, ["db.1", "web"]);
        let text = interfaces(&names);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "interface {value=vxtap}{display=vxtap: all mirror sessions}",
                "interface {value=vxtap-db.1}{display=vxtap: db.1}",
                "interface {value=vxtap-web}{display=vxtap: web}",
            ]
        );
        assert!(read_names("nonsense").is_empty());
    }

    #[test]
    fn an_interface_is_for_its_session() {
        assert_eq!(session_of("vxtap"), None);
        assert_eq!(session_of("vxtap-"), None);
        assert_eq!(session_of("vxtap-web-1"), Some("web-1"));
        assert_eq!(session_of("eth0"), None);
        let web = asked("vxtap-web", Some("db"), Some(" "), Some(96));
        assert_eq!(web, Asked { session: Some("web".into()), snaplen: Some(96), ..Asked::default() });
        let all = asked("vxtap", Some("7@192.0.2.1"), Some("tcp"), None);
        assert_eq!((all.session.as_deref(), all.filter.as_deref()), (Some("7@192.0.2.1"), Some("tcp")));
    }

    #[test]
    fn every_line_is_a_sentence_of_the_protocol() {
        let all = [interfaces(&["web".into()]), link_types(), settings("vxtap"), settings("vxtap-web")].concat();
        for line in all.lines() {
            let (word, values) = line.split_once(' ').unwrap();
            assert!(["extcap", "interface", "dlt", "arg"].contains(&word), "{line}");
            assert!(values.starts_with('{') && values.ends_with('}'), "{line}");
            assert!(values[1..values.len() - 1].split("}{").all(|value| value.contains('=')), "{line}");
        }
        assert!(settings("vxtap").contains("--session") && !settings("vxtap-web").contains("--session"));
    }
}
