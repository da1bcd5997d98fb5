use std::fs;

use super::*;
use crate::config::file::Config;
use crate::host::HostFacts;

/// Returns a document as AWS prints it, with identifiers and addresses of examples.
fn fixture(name: &str) -> PathBuf {
    Path::new("fixtures/aws").join(name).with_extension("json")
}

fn converted(filters: bool) -> Converted {
    let filters = filters.then(|| fixture("filters"));
    convert(&fixture("sessions"), &fixture("interfaces"), filters.as_deref()).unwrap()
}

/// Reads what was written with the reader of the sensor, as a file that is included.
fn entries(text: &str) -> Vec<SessionEntry> {
    let config =
        Config::parse(Path::new("aws.toml"), text.to_owned()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    config.plan(&HostFacts::unknown()).unwrap_or_else(|error| panic!("{error}\n{text}")).0.session
}

#[test]
fn sessions_become_entries_that_the_sensor_reads() {
    let Converted { text, entries: count, warnings } = converted(false);
    let read = entries(&text);
    assert_eq!(read.len(), count, "{text}");
    let rows: Vec<(&str, String, String)> = read
        .iter()
        .map(|entry| {
            let name = entry.name.as_ref().map_or("", |name| name.as_str());
            (name, entry.source[0].to_string(), entry.vni[0].to_string())
        })
        .collect();
    let rows: Vec<(&str, &str, &str)> = rows.iter().map(|(a, b, c)| (*a, b.as_str(), c.as_str())).collect();
    assert_eq!(
        rows,
        [
            ("web-eth0", "10.0.1.17/32", "99"),
            ("shop-web", "10.0.1.17/32", "7159709"),
            ("worker-tms-0f1b2c3d4eEXAMPLE", "10.0.2.20/32", "4242"),
            ("worker-tms-0f9e8d7c6bEXAMPLE", "10.0.2.21/32", "4242"),
            ("s-vni-6", "2600:1f18:1234:5600::17/128", "16777215"),
        ]
    );
    let descriptions: Vec<&str> = read.iter().filter_map(|entry| entry.description.as_deref()).collect();
    assert_eq!(descriptions[0], "eni-0d5ed5e6b6EXAMPLE of i-0598c7d356EXAMPLE: headers of all");
    assert_eq!(descriptions[4], "eni-0v6onlyaaaEXAMPLE");
    let comments: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# ")).collect();
    assert_eq!(
        comments[0],
        "tms-0a5de4c4e5EXAMPLE, target tmt-0dabe9b0a6EXAMPLE, filter tmf-0293f26e86EXAMPLE, account 111122223333; \
         PacketLength 100: longer frames come cut"
    );
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    for (warning, piece) in [
        "fixtures/aws/sessions.json ends with a NextToken",
        "tms-0aaaaaaaaaEXAMPLE is left out: its interface eni-0goneaaaaaEXAMPLE is not among the interfaces",
        "tms-0bbbbbbbbbEXAMPLE is left out: tms-0a5de4c4e5EXAMPLE also sends VNI 99 from 10.0.1.17",
    ]
    .iter()
    .enumerate()
    {
        assert!(warnings[warning].starts_with(piece), "{warnings:#?}");
    }
    assert_eq!(converted(false).text, text, "the same each time");
}

#[test]
fn filters_become_rules() {
    let Converted { text, warnings, .. } = converted(true);
    let read = entries(&text);
    let rules: Vec<usize> = read.iter().map(|entry| entry.rules.len()).collect();
    assert_eq!(rules, [2, 3, 3, 3, 0], "{text}");
    for line in [
        r#"{ number = 100, action = "reject", direction = "ingress", protocol = "tcp", source = "0.0.0.0/0", destination = "10.0.0.0/16", ports = 22 },"#,
        r#"{ number = 200, action = "accept", direction = "ingress", protocol = "tcp", source = "0.0.0.0/0", destination = "10.0.0.0/16" },"#,
        r#"{ number = 100, action = "accept", direction = "egress", protocol = "tcp", source = "10.0.0.0/16", destination = "0.0.0.0/0", source_ports = "1024-65535" },"#,
        r#"{ number = 2, action = "accept", direction = "ingress", source = "::/0", destination = "::/0" },"#,
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    let reject = text.find("\"reject\"").unwrap();
    assert!(reject < text[reject..].find("number = 200").unwrap() + reject, "in the order of their numbers");
    for piece in [
        "tmf-04812ff784EXAMPLE also mirrors amazon-dns",
        "tms-0ccccccccc0EXAMPLE has no rules: its filter tmf-0nosuchfiltEXAMPLE is not among the filters",
    ] {
        assert!(warnings.iter().any(|warning| warning.starts_with(piece)), "{warnings:#?}");
    }
}

#[test]
fn a_rule_that_lacks_something_costs_its_filter_alone() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let rule = |more: &str| format!(r#"{{"RuleAction": "accept"{more}}}"#);
    let filter = |id: u32, rule: String| {
        format!(r#"{{"TrafficMirrorFilterId": "tmf-{id}", "IngressFilterRules": [{rule}], "EgressFilterRules": []}}"#)
    };
    let filters = [
        filter(1, rule(r#", "RuleNumber": 1, "DestinationPortRange": {"FromPort": 1, "ToPort": 2}"#)),
        filter(2, rule(r#", "RuleNumber": 1, "DestinationPortRange": {"FromPort": 1}"#)),
        filter(3, rule("")),
    ];
    let session = |n: u32| {
        format!(
            r#"{{"TrafficMirrorSessionId": "tms-{n}", "NetworkInterfaceId": "eni-1", "VirtualNetworkId": {n}, "TrafficMirrorFilterId": "tmf-{n}"}}"#
        )
    };
    let filters = write("f", format!(r#"{{"TrafficMirrorFilters": [{}]}}"#, filters.join(",")));
    let sessions =
        write("s", format!(r#"{{"TrafficMirrorSessions": [{}]}}"#, (1..=3).map(session).collect::<Vec<_>>().join(",")));
    let interface = r#"{"NetworkInterfaces": [{"NetworkInterfaceId": "eni-1", "PrivateIpAddress": "10.0.0.1"}]}"#;
    let interfaces = write("i", interface.into());
    let Converted { text, warnings, .. } = convert(&sessions, &interfaces, Some(&filters)).unwrap();
    let rules: Vec<usize> = entries(&text).iter().map(|entry| entry.rules.len()).collect();
    assert_eq!(rules, [1, 0, 0], "{text}");
    for piece in ["its rule 1 has ports with one end", "a rule has no number"] {
        assert!(warnings.iter().any(|warning| warning.contains(piece)), "{piece}: {warnings:#?}");
    }
}

#[test]
fn pages_can_follow_each_other_and_other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let session = |id: &str, vni: u32| {
        format!(r#"{{"TrafficMirrorSessionId": "{id}", "NetworkInterfaceId": "eni-1", "VirtualNetworkId": {vni}}}"#)
    };
    let pages = write(
        "pages",
        &format!(
            "{{\"TrafficMirrorSessions\": [{}], \"NextToken\": \"x\"}}\n{{\"TrafficMirrorSessions\": [{}]}}\n",
            session("tms-1", 1),
            session("tms-2", 2)
        ),
    );
    let interfaces =
        write("i", r#"{"NetworkInterfaces": [{"NetworkInterfaceId": "eni-1", "PrivateIpAddress": "10.0.0.1"}]}"#);
    let Converted { text, entries: count, warnings } = convert(&pages, &interfaces, None).unwrap();
    assert_eq!((count, warnings.len(), entries(&text).len()), (2, 0, 2), "{warnings:?}");
    let none = write("none", r#"{"TrafficMirrorSessions": []}"#);
    let Converted { text, warnings, .. } = convert(&none, &interfaces, None).unwrap();
    assert!(text.is_empty() && warnings[0].starts_with("there is no entry"), "{warnings:?}");
    for (text, fault) in [
        ("", "it is empty"),
        ("An error occurred (UnauthorizedOperation)", "expected value"),
        (r#"{"NetworkInterfaces": []}"#, "it has no TrafficMirrorSessions"),
        (r#"{"TrafficMirrorSessions": [{"VirtualNetworkId": "7"}]}"#, "invalid type"),
    ] {
        let said = convert(&write("wrong", text), &interfaces, None).unwrap_err().to_string();
        assert!(
            said.contains("is not what aws ec2 describe-traffic-mirror-sessions prints") && said.contains(fault),
            "{said}"
        );
    }
    for (session, why) in [
        (r#"{"TrafficMirrorSessionId": "tms-1"}"#, "it names no interface"),
        (r#"{"TrafficMirrorSessionId": "tms-1", "NetworkInterfaceId": "eni-1"}"#, "it has no VNI"),
        (&session("tms-1", 16_777_216), "16777216 is no VNI"),
    ] {
        let one = write("one", &format!("{{\"TrafficMirrorSessions\": [{session}]}}"));
        let warnings = convert(&one, &interfaces, None).unwrap().warnings;
        assert_eq!(warnings[0], format!("tms-1 is left out: {why}"));
    }
    let gone = convert(Path::new("/nonexistent"), &interfaces, None).unwrap_err();
    assert!(gone.to_string().starts_with("cannot read /nonexistent: "), "{gone}");
}
