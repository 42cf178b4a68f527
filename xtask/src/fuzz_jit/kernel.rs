//! The kernel's side.

use super::generate::{ARENA, Generated, TARGETS, targets};
use super::state::{
    ARENA_ADDRESS, ARENA_BYTES, ARENA_START, CTX_BYTES, Elements, End, MAPS, Maps, Named, Start,
    extra, flags, name_operands,
};
use super::{FUNC_TYPE, function_btf};
use crate::TaskError;
use skep::Kernel;
use skep_abi::ProgType;
use skep_bpf::{Backend, Handle, MapCreate, ProgLoad, TestRun};
use skep_isa::{Slot, opcode as op};
use std::sync::Arc;

/// The kernel with the maps of the programs.
pub(super) struct KernelSide {
    kernel: Arc<Kernel>,
    handles: Vec<Handle>,
    maps: Maps<KernelMaps>,
    /// Names of functions: callbacks must have one.
    btf: Handle,
    /// BTF id of `bpf_throw`.
    throw: u32,
}

struct KernelMaps {
    kernel: Arc<Kernel>,
    handles: Vec<Handle>,
}

impl KernelSide {
    /// Makes maps and BTF.
    pub(super) fn new(throw: u32) -> Result<Self, TaskError> {
        let kernel = Arc::new(Kernel::new());
        let create = |&(map_type, key, value, entries): &_| {
            let spec = MapCreate {
                map_flags: flags(map_type),
                map_extra: extra(map_type),
                ..MapCreate::new(map_type, key, value, entries)
            };
            kernel.map_create(&spec).map_err(|e| e.to_string())
        };
        let handles: Vec<Handle> = MAPS.iter().map(create).collect::<Result<_, _>>()?;
        let btf = kernel
            .btf_load(&function_btf())
            .map_err(|e| e.to_string())?;
        // The backend maps an arena where `map_extra` says; this also makes it writable.
        let page = [0; ARENA_START + ARENA_BYTES];
        let filled = kernel.arena_init(handles[ARENA as usize], &page);
        filled.map_err(|e| e.to_string())?;
        let elements = KernelMaps {
            kernel: Arc::clone(&kernel),
            handles: handles.clone(),
        };
        let cpus = kernel.possible_cpus();
        let side = Self {
            kernel,
            handles,
            maps: Maps::new(elements, cpus),
            btf,
            throw,
        };
        for (key, target) in (0u32..).zip(targets()) {
            let program = side.load(&target)?;
            let (array, value) = (side.handles[TARGETS as usize], program.0.to_ne_bytes());
            let set = side.kernel.map_update(array, &key.to_ne_bytes(), &value, 0);
            set.map_err(|e| e.to_string())?;
        }
        Ok(side)
    }

    pub(super) fn cpus(&self) -> usize {
        self.kernel.possible_cpus()
    }

    /// Loads a program; the kernel's answer.
    pub(super) fn load(&self, program: &Generated) -> Result<Handle, String> {
        let mut insns = program.insns.clone();
        name_operands(&mut insns, self.throw, |map| {
            let fd = self.handles[map as usize].0;
            Slot::new(0, 0, op::PSEUDO_MAP_FD, 0, fd)
        });
        let spec = ProgLoad {
            name: "fuzz".to_owned(),
            btf: Some(self.btf),
            func_info: func_info(&program.starts),
            func_info_rec_size: 8,
            ..ProgLoad::plain(ProgType::SchedCls, insns)
        };
        self.kernel.prog_load(&spec).map_err(|e| e.to_string())
    }

    /// Runs a program once.
    pub(super) fn run(
        &mut self,
        program: Handle,
        start: &Start,
        named: Named,
    ) -> Result<End, TaskError> {
        self.maps.reset(&start.maps, named)?;
        let run = TestRun {
            data_in: Some(start.packet.clone()),
            data_size_out: 256,
            ctx_size_out: CTX_BYTES,
            ..TestRun::default()
        };
        let result = self
            .kernel
            .prog_test_run(program, &run)
            .map_err(|e| e.to_string())?;
        Ok(End {
            retval: result.retval,
            packet: result.data_out,
            ctx: result.ctx_out,
            maps: self.maps.read(named)?,
        })
    }

    pub(super) fn close(&self, program: Handle) {
        self.kernel.close(program);
    }
}

impl Elements for KernelMaps {
    fn lookup(&self, map: i32, key: &[u8], value: &mut [u8]) -> Result<(), String> {
        let done = self
            .kernel
            .map_lookup(self.handles[map as usize], key, value, 0);
        done.map_err(|e| e.to_string())
    }

    fn update(&self, map: i32, key: &[u8], value: &[u8]) -> Result<(), String> {
        let done = self
            .kernel
            .map_update(self.handles[map as usize], key, value, 0);
        done.map_err(|e| e.to_string())
    }

    fn delete(&self, map: i32, key: &[u8]) -> Result<(), String> {
        let done = self.kernel.map_delete(self.handles[map as usize], key);
        done.map_err(|e| e.to_string())
    }

    fn arena(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(ARENA_ADDRESS as usize)
    }
}

/// `func_info`: every function has the first name.
fn func_info(starts: &[u32]) -> Vec<u8> {
    let record = |&start: &u32| [start.to_ne_bytes(), FUNC_TYPE.to_ne_bytes()].concat();
    starts.iter().flat_map(record).collect()
}
