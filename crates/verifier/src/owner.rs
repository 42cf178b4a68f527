//! Maps that hold programs belong to one kind of programs: that of the first one that was put into them or names them.

use crate::request::{MapDesc, Request};
use skep_abi::prog::load_attach;
use skep_abi::prog_flags::BPF_F_XDP_HAS_FRAGS;
use skep_abi::{AttachType, MapType, ProgType};

/// What all programs of one map have in common.
///
/// ```
/// use skep_abi::{AttachType, MapType, ProgType};
/// use skep_verifier::MapOwner;
///
/// let of = |prog_type, attach| MapOwner::of(prog_type, attach, 0, 0, &[]);
/// let xdp = of(ProgType::Xdp, Some(AttachType::Xdp));
/// assert!(xdp.admits(&xdp, MapType::ProgArray));
/// assert!(!xdp.admits(&of(ProgType::SchedCls, None), MapType::ProgArray));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapOwner {
    /// Their program type.
    prog_type: ProgType,
    /// Number of their expected attach type.
    attach: u32,
    /// BTF id of what they attach to, for the types that have such a target.
    target: u32,
    /// They accept packets in fragments.
    xdp_has_frags: bool,
    /// Ids of their cgroup storages, shared and per CPU; 0 for none.
    storage: [u32; 2],
}

/// The cgroup storages that a program can have one of each.
pub(crate) const STORAGES: [MapType; 2] = [MapType::CgroupStorage, MapType::PercpuCgroupStorage];

/// Do such maps belong to a kind of programs? The kernel leaves out hashes of devices, though their elements may hold programs.
#[must_use]
pub const fn has_owner(map_type: MapType) -> bool {
    matches!(
        map_type,
        MapType::ProgArray | MapType::Devmap | MapType::Cpumap
    )
}

impl MapOwner {
    /// The kind of a program, of which these are the parts; `maps` are those that it names.
    #[must_use]
    pub fn of(
        prog_type: ProgType,
        attach: Option<AttachType>,
        attach_btf_id: u32,
        prog_flags: u32,
        maps: &[MapDesc],
    ) -> Self {
        let number = attach.map_or(0, AttachType::id);
        let has_target = matches!(
            prog_type,
            ProgType::Tracing | ProgType::Lsm | ProgType::Ext | ProgType::StructOps
        );
        let storage = |map_type| maps.iter().find(|m| m.map_type == map_type);
        Self {
            prog_type,
            attach: load_attach(prog_type, number).unwrap_or(number),
            target: if has_target { attach_btf_id } else { 0 },
            xdp_has_frags: prog_flags & BPF_F_XDP_HAS_FRAGS != 0,
            storage: STORAGES.map(|t| storage(t).map_or(0, |m| m.id)),
        }
    }

    /// May a program of kind `program` be put into, or name, a map of this type that belongs to this kind?
    ///
    /// Source: `bpf_prog_map_compatible`. A program without cgroup storage goes with any; whether programs may sleep does not
    /// count.
    #[must_use]
    pub fn admits(&self, program: &Self, map_type: MapType) -> bool {
        let mut storages = self.storage.iter().zip(&program.storage);
        self.prog_type == program.prog_type
            && (map_type != MapType::ProgArray || self.attach == program.attach)
            && self.target == program.target
            && self.xdp_has_frags == program.xdp_has_frags
            && storages.all(|(mine, other)| mine == other || *other == 0)
    }
}

/// The first map of the request that belongs to another kind of programs.
pub(crate) fn foreign<'a>(req: &Request<'a>) -> Option<&'a MapDesc> {
    let class = MapOwner::of(
        req.prog_type,
        req.attach,
        req.attach_btf_id,
        req.prog_flags,
        req.maps,
    );
    req.maps
        .iter()
        .filter(|m| has_owner(m.map_type))
        .find(|m| m.owner.is_some_and(|o| !o.admits(&class, m.map_type)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(attach: AttachType, flags: u32) -> MapOwner {
        MapOwner::of(ProgType::Xdp, Some(attach), 0, flags, &[])
    }

    #[test]
    fn the_attach_type_counts_in_arrays_of_programs_alone() {
        let (xdp, devmap) = (kind(AttachType::Xdp, 0), kind(AttachType::XdpDevmap, 0));
        assert!(!xdp.admits(&devmap, MapType::ProgArray));
        assert!(xdp.admits(&devmap, MapType::Devmap));
    }

    #[test]
    fn fragments_count_everywhere() {
        let frags = kind(AttachType::Xdp, BPF_F_XDP_HAS_FRAGS);
        for map_type in [MapType::ProgArray, MapType::Cpumap] {
            assert!(!frags.admits(&kind(AttachType::Xdp, 0), map_type));
        }
    }
}
