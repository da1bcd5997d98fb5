//! A plan says where the sensor answers questions, and whom.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

/// The places where the sensor answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlPlan {
    /// The socket for questions and orders; none where nobody asks for one and there is no
    /// directory for it.
    pub socket: Option<SocketPlan>,
    /// The ports for questions.
    pub http: Ports,
    /// The ports for checks of its health.
    pub health: Ports,
}

/// The control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPlan {
    /// Its path.
    pub path: PathBuf,
    /// True where somebody asked for it. Else the sensor does without where it cannot be.
    pub is_asked: bool,
}

/// Ports that answer questions alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// The addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// The clients that may ask.
    pub allow: Vec<IpNet>,
    /// The names that requests may be sent to, beside addresses and `localhost`.
    pub names: Vec<String>,
}
