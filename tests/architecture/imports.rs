//! Which file imports what of which other file, read from the tokens of the sources.
//!
//! A path that begins with `crate`, `super` or `self`, with a module that the file declares, or
//! with one that it imports, is followed to the file that defines the name: a re-export is followed
//! further. So the file that stands before a folder is imported only for what it defines itself.
//! Declaring a module is no import, re-exporting its names is. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The path of a module from the root of the crate.
type Module = Vec<String>;

/// A name that a `use` binds, and the path that it stands for.
#[derive(Debug)]
struct Binding {
    /// Empty where everything is imported, by `*`.
    name: String,
    path: Vec<String>,
}

/// What the tokens of one file say.
#[derive(Debug, Default)]
struct Source {
    file: String,
    children: BTreeSet<String>,
    bindings: Vec<Binding>,
    /// Other paths of two or more segments.
    paths: Vec<Vec<String>>,
}

/// All files of a crate.
#[derive(Debug)]
pub(crate) struct Imports {
    modules: BTreeMap<Module, Source>,
}

impl Imports {
    /// Reads files, each of which is given with its path below `src/`.
    pub(crate) fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let modules = files.into_iter().map(|(file, text)| {
            let tokens = TokenStream::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
            let mut source = Source { file: file.to_owned(), ..Source::default() };
            source.take(&without_tests(tokens));
            (module_of(file), source)
        });
        Self { modules: modules.collect() }
    }

    /// The files that each file imports from, itself left out.
    pub(crate) fn edges(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut edges = BTreeMap::new();
        for (module, source) in self.modules.iter().filter(|(module, _)| self.is_declared(module)) {
            let paths = source.bindings.iter().map(|binding| &binding.path).chain(&source.paths);
            let found = paths.filter_map(|path| self.file(module, path)).filter(|file| *file != source.file);
            edges.insert(source.file.as_str(), found.collect());
        }
        edges
    }

    /// Says whether the crate has this module when it is not compiled for tests.
    fn is_declared(&self, module: &[String]) -> bool {
        let declares =
            |parent: &[String], name| self.modules.get(parent).is_some_and(|source| source.children.contains(name));
        module.split_last().is_none_or(|(name, parent)| declares(parent, name) && self.is_declared(parent))
    }

    /// The file that defines what `path` names in `module`.
    fn file(&self, module: &[String], path: &[String]) -> Option<&str> {
        self.resolve(module, path, 0)
    }

    /// Follows a path, and re-exports on its way, `depth` of which were followed before.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<&str> {
        let (first, mut rest) = path.split_first()?;
        let source = self.modules.get(module)?;
        let mut at = match first.as_str() {
            _ if depth > 16 => return None,
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => parent(module)?,
            name if source.children.contains(name) => child(module, name),
            name => {
                let binding = source.bindings.iter().find(|binding| binding.name == *name)?;
                let known = matches!(binding.path[0].as_str(), "crate" | "self" | "super")
                    || source.children.contains(&binding.path[0]);
                if !known {
                    return None;
                }
                let path = [&binding.path, rest].concat();
                return self.resolve(module, &path, depth + 1);
            }
        };
        while let Some((next, after)) = rest.split_first() {
            let source = self.modules.get(&at)?;
            if next == "super" {
                at = parent(&at)?;
            } else if source.children.contains(next) {
                at = child(&at, next);
            } else if let Some(binding) = source.bindings.iter().find(|binding| binding.name == *next) {
                let path = [&binding.path, after].concat();
                // What a file passes on of another crate counts as its own.
                return self.resolve(&at, &path, depth + 1).or(Some(&source.file));
            } else {
                return Some(&source.file);
            }
            rest = after;
        }
        // A module by itself: what is used of it is found where it is used.
        None
    }
}

impl Source {
    /// Takes the declarations, imports and paths out of `tokens`.
    fn take(&mut self, tokens: &[TokenTree]) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Ident(word) if word == "mod" && is_punct(tokens.get(at + 2), ';') => {
                    self.children.extend(tokens.get(at + 1).map(ToString::to_string));
                    at += 3;
                }
                TokenTree::Ident(word) if word == "use" => {
                    let end =
                        tokens[at..].iter().position(|token| is_punct(Some(token), ';')).unwrap_or(tokens.len() - at);
                    self.bind(&[], &tokens[at + 1..at + end]);
                    at += end + 1;
                }
                // The place to which a visibility is limited is no import.
                TokenTree::Ident(word) if word == "pub" => {
                    at += 1 + usize::from(is_group(tokens.get(at + 1), Delimiter::Parenthesis));
                }
                TokenTree::Ident(_) => {
                    let (path, next) = path(tokens, at);
                    if path.len() > 1 {
                        self.paths.push(path);
                    }
                    at = next;
                }
                TokenTree::Group(group) => {
                    self.take(&group.stream().into_iter().collect::<Vec<_>>());
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// Binds the names of a tree of imports, which stands behind `prefix`.
    fn bind(&mut self, prefix: &[String], tree: &[TokenTree]) {
        let (segments, next) = path(tree, 0);
        let mut whole = [prefix, &segments].concat();
        match tree.get(next) {
            Some(TokenTree::Group(group)) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for branch in inner.split(|token| is_punct(Some(token), ',')).filter(|branch| !branch.is_empty()) {
                    self.bind(&whole, branch);
                }
            }
            Some(TokenTree::Punct(_)) => {
                whole.push("*".to_owned());
                self.bindings.push(Binding { name: String::new(), path: whole });
            }
            renamed => {
                if whole.len() > 1 && whole.last().is_some_and(|last| last == "self") {
                    whole.pop();
                }
                let name = match renamed {
                    Some(_) => tree.last().map(ToString::to_string),
                    None => whole.last().cloned(),
                };
                self.bindings.push(Binding { name: name.unwrap_or_default(), path: whole });
            }
        }
    }
}

/// The path of identifiers that begins at `at`, and where it ends.
fn path(tokens: &[TokenTree], at: usize) -> (Vec<String>, usize) {
    let mut segments = Vec::new();
    let mut next = at;
    while let Some(TokenTree::Ident(word)) = tokens.get(next) {
        segments.push(word.to_string());
        next += 1;
        if !(is_punct(tokens.get(next), ':') && is_punct(tokens.get(next + 1), ':')) {
            break;
        }
        next += 2;
    }
    (segments, next)
}

/// The tokens without those items that are compiled for tests only.
fn without_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_test = |attribute: &TokenTree| attribute.to_string().replace(' ', "") == "[cfg(test)]";
        if is_punct(Some(&token), '#') && tokens.peek().is_some_and(is_test) {
            for token in tokens.by_ref() {
                if is_punct(Some(&token), ';') || is_group(Some(&token), Delimiter::Brace) {
                    break;
                }
            }
        } else if let TokenTree::Group(group) = token {
            let inner = without_tests(group.stream()).into_iter().collect();
            kept.push(TokenTree::Group(proc_macro2::Group::new(group.delimiter(), inner)));
        } else {
            kept.push(token);
        }
    }
    kept
}

fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

fn is_group(token: Option<&TokenTree>, delimiter: Delimiter) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.delimiter() == delimiter)
}

fn module_of(file: &str) -> Module {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

fn parent(module: &[String]) -> Option<Module> {
    module.split_last().map(|(_, parent)| parent.to_vec())
}

fn child(module: &[String], name: &str) -> Module {
    [module, &[name.to_owned()]].concat()
}

/// The circles among the nodes of a graph: the largest sets of two or more of which each leads to
/// each.
pub(crate) fn circles<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<BTreeSet<&'a str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|from| (*from, reachable(edges, from))).collect();
    let mut found: BTreeSet<BTreeSet<&str>> = BTreeSet::new();
    for (from, to) in &reached {
        if to.contains(from) {
            found.insert(
                to.iter().filter(|to| reached.get(*to).is_some_and(|back| back.contains(from))).copied().collect(),
            );
        }
    }
    found.into_iter().collect()
}

/// Where one gets from a node by one edge or more.
fn reachable<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut left: Vec<&str> = edges.get(from).into_iter().flatten().copied().collect();
    while let Some(node) = left.pop() {
        if found.insert(node) {
            left.extend(edges.get(node).into_iter().flatten());
        }
    }
    found
}
