//! Rules are a list of tables in braces, each of which is read key by key as other tables are.

use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::super::near::nearest;
use super::super::rules::RuleEntry;
use super::value::{Keys, Table, Value, Wrong, kind};

type Fields<'t, 'i> = Vec<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)>;

impl Value for Vec<RuleEntry> {
    fn read(&mut self, item: &Spanned<DeValue<'_>>) -> Result<(), Vec<Wrong>> {
        let DeValue::Array(items) = item.get_ref() else {
            let advice = Some("write [{ number = 100, action = \"accept\" }]".to_owned());
            let fault = format!("{} where a list of rules is to be", kind(item.get_ref()));
            return Err(vec![Wrong { span: item.span(), fault, advice }]);
        };
        let mut wrong = Vec::new();
        *self = items.iter().map(|item| rule(item, &mut wrong)).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn write(&self) -> Result<Option<String>, String> {
        struct Written(Vec<Result<String, String>>);

        impl Keys for Written {
            fn key(&mut self, name: &'static str, value: &mut dyn Value) {
                self.0.extend(value.write().map(|value| Some(format!("{name} = {}", value?))).transpose());
            }
        }

        if self.is_empty() {
            return Ok(None);
        }
        let mut lines = String::from("[\n");
        for rule in self {
            let mut written = Written(Vec::new());
            rule.clone().keys(&mut written);
            let pairs = written.0.into_iter().collect::<Result<Vec<_>, _>>()?;
            lines.push_str(&format!("  {{ {} }},\n", pairs.join(", ")));
        }
        lines.push(']');
        Ok(Some(lines))
    }
}

/// Reads one rule, and adds to `wrong` what cannot be taken of it.
fn rule(item: &Spanned<DeValue<'_>>, wrong: &mut Vec<Wrong>) -> RuleEntry {
    let mut rule = RuleEntry::default();
    let DeValue::Table(table) = item.get_ref() else {
        let fault = format!("{} where a rule is to be", kind(item.get_ref()));
        let advice = Some("write { number = 100, action = \"accept\" }".to_owned());
        wrong.push(Wrong { span: item.span(), fault, advice });
        return rule;
    };
    let mut reading = Reading { open: table.iter().collect(), wrong, names: Vec::new() };
    rule.keys(&mut reading);
    let Reading { mut open, names, .. } = reading;
    open.sort_by_key(|(key, _)| key.span().start);
    for (key, _) in open {
        let advice = match nearest(key.get_ref(), names.iter().copied()) {
            Some(near) => format!("do you mean {near}?"),
            None => format!("it has {}", names.join(", ")),
        };
        let fault = format!("a rule has no key {}", key.get_ref());
        wrong.push(Wrong { span: key.span(), fault, advice: Some(advice) });
    }
    for (name, example) in [("number", "number = 100"), ("action", "action = \"accept\", or \"reject\"")] {
        if !table.keys().any(|key| *key.get_ref() == name) {
            let fault = format!("the rule has no {name}");
            wrong.push(Wrong { span: item.span(), fault, advice: Some(format!("write {example}")) });
        }
    }
    rule
}

/// The keys of a rule that are read one by one.
struct Reading<'w, 't, 'i> {
    /// The keys of the file that nobody asked for yet.
    open: Fields<'t, 'i>,
    wrong: &'w mut Vec<Wrong>,
    /// The keys that were asked for.
    names: Vec<&'static str>,
}

impl Keys for Reading<'_, '_, '_> {
    fn key(&mut self, name: &'static str, value: &mut dyn Value) {
        self.names.push(name);
        let Some(at) = self.open.iter().position(|(key, _)| *key.get_ref() == name) else { return };
        let (_, given) = self.open.swap_remove(at);
        let faults = value.read(given).err().into_iter().flatten();
        self.wrong.extend(faults.map(|wrong| Wrong { fault: format!("{name}: {}", wrong.fault), ..wrong }));
    }
}
