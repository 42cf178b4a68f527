//! [`Backend`] for [`Universe`].

use crate::error::{Named, refused};
use crate::load::ProgObject;
use crate::map_object::MapObject;
use crate::objects::{Object, StatsOn};
use crate::state::{Entry, Mode};
use crate::universe::Universe;
use skep_abi::Errno;
use skep_bpf::{
    Backend, BackendKind, BatchCursor, BtfInfo, EventReader, Handle, LinkCreate, LinkInfo,
    MapAccess, MapCreate, MapInfo, MapMemory, ObjKind, ProgInfo, ProgLoad, Result, SampleWriter,
    TestRun, TestRunResult,
};
use skep_btf::Btf;
use std::path::Path;
use std::sync::Arc;

impl Universe {
    pub(crate) fn entry(&self, handle: Handle, what: &str) -> Result<Entry> {
        self.shared.state().entry(handle).named(what)
    }

    pub(crate) fn map(&self, handle: Handle, what: &str) -> Result<(Arc<MapObject>, Mode)> {
        let entry = self.entry(handle, what)?;
        match entry.object {
            Object::Map(map) => Ok((map, entry.mode)),
            _ => Err(refused(Errno::EINVAL, what, "the handle is not of a map")),
        }
    }

    pub(crate) fn prog(&self, handle: Handle, what: &str) -> Result<Arc<ProgObject>> {
        match self.entry(handle, what)?.object {
            Object::Prog(prog) => Ok(prog),
            _ => Err(refused(
                Errno::EINVAL,
                what,
                "the handle is not of a program",
            )),
        }
    }

    fn open(&self, object: Object, what: &str) -> Result<Handle> {
        self.shared.open(object, Mode::FULL).named(what)
    }

    /// The map of a handle, for what goes beyond the commands.
    ///
    /// # Errors
    /// `EBADF`, `EINVAL`.
    pub fn live_map(&self, handle: Handle) -> Result<skep_maps::Map> {
        self.map(handle, "map").map(|(map, _)| map.map.clone())
    }
}

impl Backend for Universe {
    fn kind(&self) -> BackendKind {
        BackendKind::User
    }

    fn possible_cpus(&self) -> usize {
        self.shared.options.cpus as usize
    }

    fn map_create(&self, spec: &MapCreate) -> Result<Handle> {
        self.shared.map_create(spec)
    }

    fn map_lookup(&self, map: Handle, key: &[u8], value: &mut [u8], flags: u64) -> Result<()> {
        const WHAT: &str = "BPF_MAP_LOOKUP_ELEM";
        let (map, mode) = self.map(map, WHAT)?;
        map.lookup(&self.shared, mode, key, value, flags)
            .named(WHAT)
    }

    fn map_update(&self, map: Handle, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        const WHAT: &str = "BPF_MAP_UPDATE_ELEM";
        let (map, mode) = self.map(map, WHAT)?;
        map.update(&self.shared, mode, key, value, flags)
            .named(WHAT)
    }

    fn arena_init(&self, map: Handle, bytes: &[u8]) -> Result<()> {
        const WHAT: &str = "variables in an arena";
        let (map, _) = self.map(map, WHAT)?;
        map.arena_init(&self.shared, bytes).named(WHAT)
    }

    fn map_delete(&self, map: Handle, key: &[u8]) -> Result<()> {
        const WHAT: &str = "BPF_MAP_DELETE_ELEM";
        let (map, mode) = self.map(map, WHAT)?;
        map.delete(&self.shared, mode, key).named(WHAT)
    }

    fn map_next_key(&self, map: Handle, key: Option<&[u8]>, next: &mut [u8]) -> Result<()> {
        const WHAT: &str = "BPF_MAP_GET_NEXT_KEY";
        let (map, mode) = self.map(map, WHAT)?;
        map.next_key(&self.shared, mode, key, next).named(WHAT)
    }

    fn map_lookup_and_delete(
        &self,
        map: Handle,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
    ) -> Result<()> {
        const WHAT: &str = "BPF_MAP_LOOKUP_AND_DELETE_ELEM";
        let (map, mode) = self.map(map, WHAT)?;
        map.lookup_and_delete(&self.shared, mode, key, value, flags)
            .named(WHAT)
    }

    fn map_lookup_batch(
        &self,
        map: Handle,
        cursor: &mut BatchCursor,
        keys: &mut [u8],
        values: &mut [u8],
        delete: bool,
        flags: u64,
    ) -> Result<u32> {
        let what = if delete {
            "BPF_MAP_LOOKUP_AND_DELETE_BATCH"
        } else {
            "BPF_MAP_LOOKUP_BATCH"
        };
        let (map, mode) = self.map(map, what)?;
        map.lookup_batch(&self.shared, mode, cursor, keys, values, delete, flags)
            .named(what)
    }

    fn map_update_batch(
        &self,
        map: Handle,
        keys: &[u8],
        values: &[u8],
        flags: u64,
    ) -> (u32, Result<()>) {
        const WHAT: &str = "BPF_MAP_UPDATE_BATCH";
        match self.map(map, WHAT) {
            Ok((map, mode)) => {
                let (done, result) = map.update_batch(&self.shared, mode, keys, values, flags);
                (done, result.named(WHAT))
            }
            Err(e) => (0, Err(e)),
        }
    }

    fn map_delete_batch(&self, map: Handle, keys: &[u8], flags: u64) -> (u32, Result<()>) {
        const WHAT: &str = "BPF_MAP_DELETE_BATCH";
        match self.map(map, WHAT) {
            Ok((map, mode)) => {
                let (done, result) = map.delete_batch(&self.shared, mode, keys, flags);
                (done, result.named(WHAT))
            }
            Err(e) => (0, Err(e)),
        }
    }

    fn map_freeze(&self, map: Handle) -> Result<()> {
        const WHAT: &str = "BPF_MAP_FREEZE";
        let (map, mode) = self.map(map, WHAT)?;
        map.freeze(mode).named(WHAT)
    }

    fn map_memory(&self, map: Handle, access: MapAccess) -> Result<Box<dyn MapMemory>> {
        const WHAT: &str = "mmap of a map";
        let (map, mode) = self.map(map, WHAT)?;
        crate::memory::map_values(&map, mode, access).named(WHAT)
    }

    fn btf_load(&self, data: &[u8]) -> Result<Handle> {
        const WHAT: &str = "BPF_BTF_LOAD";
        let btf = Btf::load(data).map_err(|e| refused(e.errno(), WHAT, &e.to_string()))?;
        let object = self.shared.register_btf(Arc::new(btf)).named(WHAT)?;
        self.open(Object::Btf(object), WHAT)
    }

    fn prog_load(&self, spec: &ProgLoad) -> Result<Handle> {
        self.shared.prog_load(spec)
    }

    fn prog_test_run(&self, prog: Handle, run: &TestRun) -> Result<TestRunResult> {
        let prog = self.prog(prog, "BPF_PROG_TEST_RUN")?;
        self.shared.prog_test_run(&prog, run)
    }

    fn prog_bind_map(&self, prog: Handle, map: Handle) -> Result<()> {
        const WHAT: &str = "BPF_PROG_BIND_MAP";
        let (prog, (map, _)) = (self.prog(prog, WHAT)?, self.map(map, WHAT)?);
        let mut maps = crate::universe::lock(&prog.maps);
        if !maps.iter().any(|m| m.id == map.id) {
            maps.push(map);
        }
        Ok(())
    }

    fn link_create(&self, link: &LinkCreate) -> Result<Handle> {
        self.create_link(link)
    }

    fn link_update(&self, link: Handle, new: Handle, expect: Option<Handle>) -> Result<()> {
        self.update_link(link, new, expect)
    }

    fn link_detach(&self, link: Handle) -> Result<()> {
        self.detach_link(link)
    }

    fn obj_pin(&self, object: Handle, path: &Path) -> Result<()> {
        const WHAT: &str = "BPF_OBJ_PIN";
        match self.entry(object, WHAT)?.object {
            Object::Map(map) => self.shared.pin_map(&map, path),
            _ => Err(refused(
                Errno::EOPNOTSUPP,
                WHAT,
                "programs and links live in this process: only maps outlive it by pinning",
            )),
        }
    }

    fn obj_get(&self, path: &Path) -> Result<Handle> {
        let map = self.shared.pinned_map(path)?;
        self.open(Object::Map(map), "BPF_OBJ_GET")
    }

    fn next_id(&self, kind: ObjKind, after: u32) -> Result<Option<u32>> {
        Ok(self.shared.state().next_id(kind, after))
    }

    fn by_id(&self, kind: ObjKind, id: u32) -> Result<Handle> {
        const WHAT: &str = "BPF_OBJ_GET_FD_BY_ID";
        let object = self.shared.state().by_id(kind, id);
        self.open(
            object.ok_or_else(|| refused(Errno::ENOENT, WHAT, ""))?,
            WHAT,
        )
    }

    fn map_info(&self, map: Handle) -> Result<MapInfo> {
        self.map(map, "BPF_OBJ_GET_INFO_BY_FD")
            .map(|(map, _)| map.info())
    }

    fn prog_info(&self, prog: Handle) -> Result<ProgInfo> {
        self.prog(prog, "BPF_OBJ_GET_INFO_BY_FD")
            .map(|prog| prog.info())
    }

    fn link_info(&self, link: Handle) -> Result<LinkInfo> {
        self.info_of_link(link)
    }

    fn btf_info(&self, btf: Handle) -> Result<BtfInfo> {
        const WHAT: &str = "BPF_OBJ_GET_INFO_BY_FD";
        match self.entry(btf, WHAT)?.object {
            Object::Btf(object) => Ok(BtfInfo {
                id: object.id,
                name: String::new(),
                kernel_btf: false,
                data: object.btf.bytes().to_vec(),
            }),
            _ => Err(refused(Errno::EINVAL, WHAT, "the handle is not of BTF")),
        }
    }

    fn enable_stats(&self) -> Result<Handle> {
        let on = Object::Stats(Arc::new(StatsOn::new(&self.shared)));
        self.open(on, "BPF_ENABLE_STATS")
    }

    fn events_open(&self, map: Handle) -> Result<Box<dyn EventReader>> {
        let (map, _) = self.map(map, "events of a map")?;
        self.shared.events_open(&map)
    }

    fn samples_open(&self, map: Handle) -> Result<Box<dyn SampleWriter>> {
        let (map, _) = self.map(map, "samples for a map")?;
        self.shared.samples_open(&map)
    }

    fn trace_open(&self) -> Result<Box<dyn EventReader>> {
        Ok(self.shared.trace_open())
    }

    fn close(&self, handle: Handle) {
        let object = self.shared.state().close(handle);
        if let Some(object) = object {
            object.lose_user();
        }
    }
}
