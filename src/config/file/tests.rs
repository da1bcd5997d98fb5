use super::*;
use crate::config::origin::Origin;
use crate::config::settings::Output;
use crate::host::Interface;
use crate::setting::Wording;

fn host() -> HostFacts {
    let interfaces = vec![Interface { name: "lo".into(), index: 1 }];
    HostFacts { memory: Some(16 << 30), cpus: 4, interfaces: Some(interfaces), ..HostFacts::unknown() }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("vxtap.toml"), text.to_owned())
}

fn plan(text: &str) -> Result<(Settings, RunPlan), ConfigError> {
    parse(text)?.plan(&host())
}

/// Returns the faults of a file, a line each.
fn faults(text: &str) -> Vec<String> {
    match plan(text) {
        Err(ConfigError::Faults { faults, .. }) => faults.lines().collect(),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_file_is_read_with_the_place_of_each_value() {
    let text = "[receive]\nlisten = [\n  4789,\n  \"10.0.0.7:8472\"]\n\n[output.ids]\nkind = \"tap\"\ninterface = \"mirror0\"\n\
                [output.evidence]\nkind = \"pcap\"\ndirectory = \"/data\"\n";
    let (settings, plan) = plan(text).unwrap();
    let line = |path: &str| match settings.origins.of(path) {
        Origin::File(place) => Some((place.line, text[place.span].to_owned())),
        _ => None,
    };
    assert_eq!(line("receive.listen[1]"), Some((4, "\"10.0.0.7:8472\"".into())));
    assert_eq!(line("receive"), Some((1, "receive".into())));
    assert_eq!(line("output.evidence"), Some((9, "evidence".into())));
    assert_eq!(line("output.evidence.directory"), Some((11, "\"/data\"".into())));
    assert_eq!(line("delivery.queue"), None);
    let names: Vec<&str> = settings.output.0.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ids", "evidence"], "in the order of the file");
    assert!(matches!(&settings.output.0[0].1, Output::Tap(tap) if tap.interface.as_deref() == Some("mirror0")));
    let names: Vec<&str> = plan.pipeline.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["ids", "evidence"], "the ledger has the names of the file");
}

#[test]
fn an_empty_file_is_as_no_flags() {
    let (settings, plan) = plan("# nothing\n").unwrap();
    assert_eq!(settings, Settings::default());
    // Texts have the words of a file.
    assert_eq!(plan.wording, Wording::Keys);
    assert_eq!(Ok(plan.worded(Wording::Flags)), RunPlan::new(&Settings::default(), &host()));
}

#[test]
fn one_item_needs_no_brackets() {
    let one = parse("[receive]\nlisten = 8472\ninterface = \"eth0\"\n[sessions]\nvni = \"5-7\"\n").unwrap();
    let list = parse("[receive]\nlisten = [8472]\ninterface = [\"eth0\"]\n[sessions]\nvni = [\"5-7\"]\n").unwrap();
    assert!(one.faults().is_none());
    assert_eq!((one.settings.receive, one.settings.sessions), (list.settings.receive, list.settings.sessions));
}

#[test]
fn what_follows_from_a_value_that_cannot_be_taken_is_not_said() {
    let file = |rotate: &str| {
        let keys = "[output.a]\nkind = \"pcap\"\nkeep_bytes = \"500MiB\"\nkeep_files = 0\n";
        faults(&format!("{keys}{rotate}"))
    };
    assert_eq!(file("").len(), 2, "less than one file, and no files");
    let said = file("rotate_size = \"lots\"\n");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].starts_with("vxtap.toml:5: output.a.rotate_size: not a size; "), "{said:?}");
}

#[test]
fn a_host_that_nobody_looked_at_refuses_nothing() {
    let text = "[receive]\nlisten = \"[fe80::1%nosuch0]:4789\"\n[delivery]\nqueue = \"10TiB\"\n";
    let Err(ConfigError::Faults { may_pass: false, .. }) = plan(text) else { panic!("there is no such memory") };
    let late = "[receive]\nlisten = \"[fe80::1%nosuch0]:4789\"\n";
    let Err(ConfigError::Faults { may_pass: true, faults }) = plan(late) else { panic!("the interface may come") };
    assert!(
        faults.to_string().starts_with("vxtap.toml:2: receive.listen: cannot listen on [fe80::1%nosuch0]"),
        "{faults}"
    );
    assert!(parse(text).unwrap().plan(&HostFacts::unknown()).is_ok());
}

#[test]
fn a_flood_of_faults_is_bounded() {
    let text: String = (0..1000).map(|n| format!("x{n} = 1\n")).collect();
    let said = faults(&text);
    assert_eq!((said.len(), said[20].as_str()), (21, "and 980 more"));
}

#[test]
fn nothing_of_the_command_line_is_named() {
    let text = "[receive]\nlisten = [\"10.0.0.0/8\", \"0.0.0.0\", \"127.0.0.1,127.0.0.2\"]\nattach = \"tc\"\nbuffer = \"2GiB\"\n\
                [delivery]\nqueue = 64\nflush = \"1us\"\n[output.a]\nkind = \"pcap\"\ndirectory = \"-\"\non_publish = \"\"\n\
                rotate_time = \"1ms\"\nkeep_bytes = \"1MiB\"\n[output.m]\nkind = \"tap\"\nmode = \"redirect\"\ncount = 5\n";
    let said = faults(text);
    assert!(said.len() > 9, "{said:#?}");
    for line in said {
        assert!(!line.contains("--"), "{line}");
    }
}

#[test]
fn included_entries_come_first_in_the_order_of_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vxtap.toml");
    std::fs::create_dir(dir.path().join("sessions.d")).unwrap();
    for (file, name) in [("20-b", "second"), ("10-a", "first")] {
        let text = format!("# by a program\n[[session]]\nname = \"{name}\"\nvni = {}\n", name.len());
        std::fs::write(dir.path().join("sessions.d").join(file).with_extension("toml"), text).unwrap();
    }
    let text = "include = \"sessions.d/*.toml\"\n[[session]]\nname = \"rest\"\ndrop = true\n";
    std::fs::write(&path, text).unwrap();
    let (settings, plan) = Config::read(&path).unwrap().plan(&host()).unwrap();
    let names: Vec<&str> = settings.session.iter().filter_map(|entry| Some(entry.name.as_ref()?.as_str())).collect();
    assert_eq!(names, ["first", "second", "rest"]);
    let Origin::File(place) = settings.origins.of("session[1].name") else { panic!() };
    assert_eq!((place.path.file_name().unwrap().to_str(), place.line), (Some("20-b.toml"), 3));
    // What is printed includes nothing, and says the same.
    let printed = write(&settings).unwrap();
    let (again, same) = Config::parse(&path, printed.clone()).unwrap().plan(&host()).unwrap();
    assert_eq!((&again.session, &same), (&settings.session, &plan), "{printed}");
    assert_eq!(write(&again).unwrap(), printed);
}

#[test]
fn one_file_can_overrule_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vxtap.toml");
    let entry = |name: &str| format!("[[session]]\nname = \"{name}\"\nsource = \"10.0.0.7\"\nvni = 7\n");
    std::fs::write(dir.path().join("by-hand"), entry("by-hand")).unwrap();
    std::fs::write(dir.path().join("by-aws"), entry("by-aws")).unwrap();
    let config = Config::parse(&path, "include = [\"by-hand\", \"by-aws\"]\n".into()).unwrap();
    let (settings, plan) = config.plan(&host()).unwrap();
    assert_eq!(plan.pipeline.policy.entries().len(), 2);
    let printed = write(&settings).unwrap();
    assert!(printed.contains("by-hand") && !printed.contains("by-aws"), "{printed}");
    assert!(Config::parse(&path, printed).unwrap().plan(&host()).is_ok());
    let both = entry("a") + &entry("b");
    assert_eq!(faults(&both).len(), 1, "in one file it is a slip");
}

#[test]
fn all_that_an_entry_can_say_is_printed_and_read_again() {
    let text = "[[session]]\nname = \"web-1\"\ndescription = \"\\\"a\\\"\\n\"\nsource = [\"10.0.0.0/8\", \"2001:db8::1/128\"]\nvni = [7, \"9-11\"]\n\
                scope = 5\nport = 8472\noutputs = [\"pcap\"]\nsnaplen = 200\nslice = \"l4+64\"\nfilter = \"tcp port 443\"\n\
                dedup = \"drop\"\ndedup_group = \"tenant-a\"\nflow_limit = \"5MiB\"\ntls = \"handshake+64KiB\"\n\
                rules = [\n  { number = 100, action = \"accept\", direction = \"ingress\", protocol = \"tcp\", \
                source = \"0.0.0.0/0\", destination = \"10.0.0.0/8\", source_ports = \"1024-65535\", ports = 443 },\n  \
                { number = 200, action = \"reject\" },\n]\n\n[[session]]\nvni = [3]\ndrop = true\n";
    let (settings, _) = plan(text).unwrap();
    let printed = changed(&settings).unwrap();
    assert_eq!(printed, text);
    let entries = text.split("[[session]]").count() - 1;
    assert_eq!(settings.session.len(), entries);
    let keys = schema::names(&mut crate::config::entry::SessionEntry::default());
    for key in keys {
        assert!(text.contains(&format!("\n{key} = ")), "a sample of {key} is to be here");
    }
}

#[test]
fn a_scope_is_a_number_or_as_it_is_shown() {
    let scope = |text: &str| {
        let (settings, _) = plan(&format!("[[session]]\nname = \"a\"\nscope = {text}\n")).unwrap();
        let printed = changed(&settings).unwrap();
        let (again, _) = plan(&printed).unwrap();
        assert_eq!(again.session, settings.session, "{printed}");
        settings.session[0].scope.unwrap().to_string()
    };
    for (text, shown) in
        [("100", "0x64"), ("0x64", "0x64"), ("\"0x64\"", "0x64"), ("\"0xffffffffffffffff\"", "0xffffffffffffffff")]
    {
        assert_eq!(scope(text), shown);
    }
    for text in ["\"100\"", "\"0x064\"", "\"0X64\"", "-1", "true"] {
        assert_eq!(faults(&format!("[[session]]\nname = \"a\"\nscope = {text}\n")).len(), 1, "{text}");
    }
}

#[test]
fn every_key_is_in_the_documents() {
    let page = include_str!("../../../docs/configure.md");
    for (table, names) in schema::all() {
        for name in names {
            let row = match table.strip_prefix("[output.") {
                Some(_) => format!("| `{name}` |"),
                None => format!("| `{}.{name}` |", table.trim_matches(['[', ']'])),
            };
            assert!(page.contains(&row), "{row} is to be in docs/configure.md, for {table}");
        }
    }
}

#[test]
fn the_error_of_the_documents_is_that_of_the_program() {
    let page = include_str!("../../../docs/configure.md");
    let wanted = page.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let text = "[output.evidence]\nkind = \"pcap\"\nrotate_size = \"1GiB\"\nkeep_bytes = \"500MiB\"\n";
    match plan(text) {
        Err(ConfigError::Faults { faults, .. }) => assert_eq!(faults.render(false).trim(), wanted.trim()),
        other => panic!("{other:?}"),
    }
}
