//!
/// VNIs that frames take turns in: `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VniRange {
    /// The first VNI.
    pub first: crate::wire::Vni,
    /// The last VNI, not below the first.
    pub last: crate::wire::Vni,
}
