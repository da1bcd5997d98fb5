//! Lists of any length are put into log lines of bounded length.

/// The most bytes of a line that a list is cut into, its beginning not counted. A log that travels
/// by syslog cuts a line beyond some of these.
const LONGEST: usize = 4000;

/// Writes the items, with commas between them, in as few lines as hold them. None is cut, none is
/// left out.
pub(super) fn of(items: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if line.len() + 2 + item.len() <= LONGEST => {
                line.push_str(", ");
                line.push_str(&item);
            }
            _ => lines.push(item),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_there_and_no_line_is_too_long() {
        assert!(of([]).is_empty());
        assert_eq!(of(["a".to_owned(), "b".to_owned()]), ["a, b"]);
        let items: Vec<String> = (0..65_536).map(|n| format!("2001:db8:{n:x}::/48")).collect();
        let lines = of(items.clone());
        assert!(lines.len() > 100 && lines.len() < 1000, "{}", lines.len());
        assert!(lines.iter().all(|line| line.len() <= LONGEST));
        let again: Vec<&str> = lines.iter().flat_map(|line| line.split(", ")).collect();
        assert_eq!(again, items);
    }
}
