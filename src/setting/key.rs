//! All settings have names: in the tree of [`Settings`](crate::config::Settings), and on the
//! command line.

/// The name of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// The setting's place in the tree. For an output, `pcap` or `interface` stands for the name of
    /// the output, or `each` where the flag is for all outputs.
    pub path: &'static str,
    /// The flag that gives its value.
    pub flag: &'static str,
}

impl Key {
    /// Returns the place of this setting of the output `name` in the tree. A setting of no output
    /// has one place.
    #[must_use]
    pub(crate) fn of(&self, name: &str) -> String {
        let Some(field) = self.path.strip_prefix("output.") else { return self.path.to_owned() };
        match field.split_once('.') {
            Some((_, field)) => format!("{}.{field}", output(name)),
            None => output(name),
        }
    }
}

/// The place of all outputs in the tree.
pub(crate) const OUTPUT: &str = "output";

/// Returns the place of the output `name` in the tree.
#[must_use]
pub(crate) fn output(name: &str) -> String {
    format!("{OUTPUT}.{name}")
}

macro_rules! keys {
    ($($name:ident $path:literal $flag:literal)*) => {
        $(
            #[doc = concat!("`", $path, "`, on the command line `", $flag, "`.")]
            pub(crate) const $name: Key = Key { path: $path, flag: $flag };
        )*
        /// All settings that have a flag.
        pub(crate) const ALL: &[Key] = &[$($name),*];
    };
}

keys! {
    LISTEN "receive.listen" "--listen"
    SOURCE "receive.source" "--source"
    INTERFACE "receive.interface" "--interface"
    ATTACH "receive.attach" "--attach"
    RING "receive.ring" "--ring"
    ANY_ADDRESS "receive.any_address" "--any-address"
    VERIFY_CHECKSUM "receive.verify_checksum" "--verify-checksum"
    WORKERS "receive.workers" "--workers"
    STEER "receive.steer" "--steer"
    RECEIVE_BUFFER "receive.buffer" "--receive-buffer"
    RESERVED_BITS "receive.reserved_bits" "--reserved-bits"
    VNI_MASK "receive.vni_mask" "--vni-mask"
    TIMESTAMPS "receive.timestamps" "--timestamps"
    MAX_SESSIONS "sessions.max" "--max-sessions"
    SESSION_IDLE "sessions.idle" "--session-idle"
    VNI "sessions.vni" "--vni"
    FROM "sessions.from" "--from"
    ALLOW "sessions.allow" "--allow"
    TAG_MAP "sessions.tag_map" "--tag-map"
    QUEUE "delivery.queue" "--queue"
    FLUSH "delivery.flush" "--flush"
    NO_WRITE "output.pcap" "--no-write"
    WRITE "output.pcap.directory" "--write"
    FORMAT "output.pcap.format" "--format"
    BARE_IP "output.pcap.bare_ip" "--bare-ip"
    COMPRESS "output.pcap.compress" "--compress"
    ROTATE_SIZE "output.pcap.rotate_size" "--rotate-size"
    ROTATE_FRAMES "output.pcap.rotate_frames" "--rotate-frames"
    ROTATE_TIME "output.pcap.rotate_time" "--rotate-time"
    DIRECT "output.pcap.direct" "--direct"
    SYNC "output.pcap.sync" "--sync"
    HASH "output.pcap.hash" "--hash"
    KEEP_BYTES "output.pcap.keep_bytes" "--keep-bytes"
    KEEP_FILES "output.pcap.keep_files" "--keep-files"
    KEEP_AGE "output.pcap.keep_age" "--keep-age"
    MIN_FREE "output.pcap.min_free" "--min-free"
    ON_PUBLISH "output.pcap.on_publish" "--on-publish"
    SNAPLEN "output.pcap.snaplen" "--snaplen"
    TAP "output.interface.interface" "--tap"
    TUN "output.interface.interface" "--tun"
    TAP_MODE "output.interface.mode" "--tap-mode"
    TAP_MTU "output.interface.mtu" "--tap-mtu"
    TAP_COUNT "output.interface.count" "--tap-count"
    TAP_TAG "output.interface.tag" "--tap-tag"
    FILTER "output.each.filter" "--filter"
    CONTROL "control.socket" "--control"
    NO_CONTROL "control.enabled" "--no-control"
    HTTP "http.listen" "--http"
    SANDBOX "sandbox.mode" "--sandbox"
    DURATION "run.duration" "--duration"
    COUNT "run.count" "--count"
    LEDGER "run.ledger" "--ledger"
}

/// Whether a sensor without an output may be sent traffic, which the file alone says.
pub(crate) const ESSENTIAL: Key = Key { path: "output.each.essential", flag: "essential" };

/// The clients that may ask over HTTP, which the file alone says.
pub(crate) const HTTP_ALLOW: Key = Key { path: "http.allow", flag: "http.allow" };

/// The names that requests over HTTP may be sent to, which the file alone says.
pub(crate) const HTTP_NAMES: Key = Key { path: "http.names", flag: "http.names" };

/// The ports for checks, which the file alone says.
pub(crate) const HEALTH: Key = Key { path: "health.listen", flag: "health.listen" };

/// The clients that may check, which the file alone says.
pub(crate) const HEALTH_ALLOW: Key = Key { path: "health.allow", flag: "health.allow" };

/// How long a sensor receives that is to end, which the file alone says.
pub(crate) const HEALTH_DRAIN: Key = Key { path: "health.drain", flag: "health.drain" };

/// Directories that captures may come to be written to, which the file alone says.
pub(crate) const SANDBOX_DIRECTORIES: Key = Key { path: "sandbox.directories", flag: "sandbox.directories" };

/// The VNIs of one interface, which are part of the value of its flag.
pub(crate) const INTERFACE_VNI: Key = Key { path: "output.interface.vni", flag: "--tap NAME:vni=N" };
