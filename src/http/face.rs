//! A face is what one door shows: a table of routes, and what a request must have.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;

use hyper::http::request::Parts;
use hyper::{Method, Version, header};

use super::answer::Answer;
use super::query::Query;

/// An answer that comes later. Nobody waits for it any more where the client has gone.
pub type Later = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The way to an answer.
enum Answers {
    Now(Box<dyn Fn(&Query) -> Answer + Send + Sync>),
    Later(Box<dyn Fn(&Query) -> Later + Send + Sync>),
}

/// A path with what answers there.
pub struct Route {
    path: &'static str,
    /// True for an order, which is a POST; false for a question, which is a GET.
    is_order: bool,
    answers: Answers,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.is_order { "POST" } else { "GET" }, self.path)
    }
}

impl Route {
    /// Answers the question at `path`, at once.
    pub fn get(path: &'static str, answer: impl Fn(&Query) -> Answer + Send + Sync + 'static) -> Self {
        Self { path, is_order: false, answers: Answers::Now(Box::new(answer)) }
    }

    /// Answers the question at `path` later.
    pub fn get_later(path: &'static str, answer: impl Fn(&Query) -> Later + Send + Sync + 'static) -> Self {
        Self { path, is_order: false, answers: Answers::Later(Box::new(answer)) }
    }

    /// Takes the order at `path`, and answers when it is done.
    pub fn order(path: &'static str, answer: impl Fn(&Query) -> Later + Send + Sync + 'static) -> Self {
        Self { path, is_order: true, answers: Answers::Later(Box::new(answer)) }
    }
}

/// The names of this host that a request may be sent to.
#[derive(Debug)]
pub enum Hosts {
    /// All: a balancer has a name of its own for each of its targets, and a socket file has none.
    Any,
    /// Addresses as numbers, `localhost`, and these. A page of another site that has its name lead
    /// here sends that name, and is refused.
    Ours(Vec<String>),
}

/// What one door shows.
#[derive(Debug)]
pub struct Face {
    /// The name of the face in the log.
    pub name: &'static str,
    hosts: Hosts,
    routes: BTreeMap<&'static str, Route>,
    /// Bytes of answers that clients have not taken yet.
    pub(super) held: AtomicUsize,
}

impl Face {
    /// Makes a face of these routes.
    pub fn new(name: &'static str, hosts: Hosts, routes: impl IntoIterator<Item = Route>) -> Self {
        let routes = routes.into_iter().map(|route| (route.path, route)).collect();
        Self { name, hosts, routes, held: AtomicUsize::new(0) }
    }

    /// Answers a request.
    pub(super) async fn answer(&self, parts: &Parts) -> Answer {
        if let Err(refused) = self.check_host(parts) {
            return refused;
        }
        let is_question = matches!(parts.method, Method::GET | Method::HEAD);
        if !is_question && !self.routes.values().any(|route| route.is_order) {
            return other_method("GET, HEAD");
        }
        let route = match self.routes.get(parts.uri.path()) {
            None => return Answer::refused(404, format!("there is {} here", self.paths())),
            Some(route) if route.is_order && parts.method != Method::POST => return other_method("POST"),
            Some(route) if !route.is_order && !is_question => return other_method("GET, HEAD"),
            Some(route) => route,
        };
        let query = Query::of(parts);
        match &route.answers {
            Answers::Now(answer) => answer(&query),
            Answers::Later(answer) => answer(&query).await,
        }
    }

    /// Lists the routes in words.
    fn paths(&self) -> String {
        self.routes.values().map(|route| format!("{route:?}")).collect::<Vec<_>>().join(", ")
    }

    fn check_host(&self, parts: &Parts) -> Result<(), Answer> {
        let Hosts::Ours(names) = &self.hosts else { return Ok(()) };
        let mut said: Vec<&str> = parts.uri.host().into_iter().collect();
        for host in parts.headers.get_all(header::HOST) {
            said.push(without_port(host.to_str().unwrap_or("?")));
        }
        if said.is_empty() && parts.version >= Version::HTTP_11 {
            return Err(Answer::refused(400, "the request has no Host"));
        }
        match said.into_iter().find(|host| !is_ours(host, names)) {
            Some(_) => Err(Answer::refused(
                421,
                "the request is for a name that is not this sensor's; [http] names lists more",
            )),
            None => Ok(()),
        }
    }
}

fn other_method(allowed: &'static str) -> Answer {
    Answer::refused(405, format!("this takes {allowed}")).with(header::ALLOW, allowed)
}

/// Takes the port away from the value of `Host`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Says whether a host, with brackets where it is of IPv6, is this one.
fn is_ours(host: &str, names: &[String]) -> bool {
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().is_ok();
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    name.parse::<Ipv4Addr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_ours_or_not() {
        let names = ["Sensor.example".to_owned()];
        for ours in
            ["127.0.0.1", "127.0.0.1:9479", "[::1]:9479", "[fe80::1]", "localhost", "LOCALHOST:80", "sensor.example.:1"]
        {
            assert!(is_ours(without_port(ours), &names), "{ours}");
        }
        for other in [
            "",
            "?",
            "evil.example",
            "evil.example:9479",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "::1",
            "[x]",
            "1",
        ] {
            assert!(!is_ours(without_port(other), &names), "{other}");
        }
    }
}
