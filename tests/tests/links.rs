//! Links of a universe's devices live by the rules of the kernel's: random commands on a device of each.

use skep::Kernel;
use skep_abi::{AttachType, ProgType};
use skep_bpf::{Backend, Handle, LinkCreate, LinkTarget, ObjKind, ProgLoad};
use skep_isa::Slot;
use skep_sys::namespace::enter_new_network;
use skep_sys::netlink::Socket;
use skep_tests::need::{Need, met};
use skep_tests::random::Random;
use skep_user::{Options, Universe};
use std::collections::BTreeMap;

const SEED: u64 = 11;
/// Sequences of commands, each on a new device, and their length.
const ROUNDS: u32 = 60;
const COMMANDS: u32 = 60;
/// Programs with a type and an attach type: enough of tcx that rows get long.
#[rustfmt::skip] // one program a line
const PROGRAMS: &[(ProgType, Option<AttachType>)] = &[
    (ProgType::Xdp, None),
    (ProgType::Xdp, Some(AttachType::Xdp)),
    (ProgType::Xdp, Some(AttachType::XdpDevmap)),
    (ProgType::SchedCls, None),
    (ProgType::SchedCls, None),
    (ProgType::SchedCls, None),
    (ProgType::SchedCls, None),
    (ProgType::SocketFilter, None),
];
const HOOKS: &[AttachType] = &[
    AttachType::Xdp,
    AttachType::TcxIngress,
    AttachType::TcxIngress,
    AttachType::TcxEgress,
];
/// `BPF_F_BEFORE`, `BPF_F_AFTER`, `BPF_F_ID`, `BPF_F_LINK`
const ORDER_FLAGS: &[u32] = &[1 << 3, 1 << 4, 1 << 5, 1 << 13];
/// `XDP_FLAGS_*`
const XDP_FLAGS: &[u32] = &[0, 0, 0, 1, 2, 4, 8, 6, 16];

/// What a command names; the same in both backends.
#[derive(Clone, Copy, Debug)]
enum Command {
    Create {
        hook: AttachType,
        prog: usize,
        flags: u32,
        relative: Number,
        revision: u64,
        device: bool,
    },
    Update {
        link: usize,
        prog: usize,
        expect: Option<usize>,
    },
    Detach(usize),
    Close(usize),
    Reopen(usize),
}

/// A number that places a link.
#[derive(Clone, Copy, Debug)]
enum Number {
    Plain(u32),
    Program(usize),
    ProgramId(usize),
    Link(usize),
    LinkId(usize),
}

fn command(random: &mut Random, links: usize) -> Command {
    let prog = |random: &mut Random| random.below(PROGRAMS.len() as u64) as usize;
    let link = random.below(links as u64 + 1) as usize;
    match random.below(10) {
        0 => Command::Detach(link),
        1 => Command::Close(link),
        2 => Command::Reopen(link),
        3 | 4 => Command::Update {
            link,
            prog: prog(random),
            expect: (random.below(2) == 0).then(|| prog(random)),
        },
        _ => {
            let hook = *random.of(HOOKS);
            let relative = match random.below(8) {
                0 => Number::Program(prog(random)),
                1 => Number::ProgramId(prog(random)),
                2 => Number::Link(link),
                3 => Number::LinkId(link),
                4 => Number::Plain(0x00ff_ffff),
                _ => Number::Plain(0),
            };
            let mut flags = match (hook, relative) {
                (AttachType::Xdp, _) => *random.of(XDP_FLAGS),
                (_, Number::ProgramId(_)) => 1 << 5,
                (_, Number::Link(_)) => 1 << 13,
                (_, Number::LinkId(_)) => 1 << 5 | 1 << 13,
                _ => 0,
            };
            if hook != AttachType::Xdp {
                for flag in ORDER_FLAGS {
                    let rarely = if *flag > 1 << 4 { 12 } else { 2 };
                    flags |= if random.below(rarely) == 0 { *flag } else { 0 };
                }
            }
            if matches!(relative, Number::Plain(0)) && flags & 1 << 5 == 0 {
                // Descriptor 0 is something in a process, and nothing in a universe.
                flags &= !(1 << 13);
            }
            Command::Create {
                hook,
                prog: prog(random),
                flags,
                relative,
                revision: [0, 0, 0, 0, 1, 2, 3][random.below(7) as usize],
                device: random.below(20) != 0,
            }
        }
    }
}

/// A backend with a device.
struct World<'a> {
    backend: &'a dyn Backend,
    ifindex: u32,
    progs: Vec<Handle>,
    prog_ids: Vec<u32>,
    links: Vec<(Handle, u32)>,
}

impl<'a> World<'a> {
    fn new(backend: &'a dyn Backend, ifindex: u32) -> Self {
        let progs: Vec<Handle> = PROGRAMS
            .iter()
            .map(|(prog_type, attach)| {
                let code = vec![Slot::new(0xb7, 0, 0, 0, 0), Slot::new(0x95, 0, 0, 0, 0)];
                let load = ProgLoad {
                    expected_attach_type: *attach,
                    ..ProgLoad::plain(*prog_type, code)
                };
                backend.prog_load(&load).unwrap()
            })
            .collect();
        let id = |handle: &Handle| backend.prog_info(*handle).unwrap().id;
        Self {
            backend,
            ifindex,
            prog_ids: progs.iter().map(id).collect(),
            progs,
            links: Vec::new(),
        }
    }

    fn link(&self, index: usize) -> Handle {
        self.links
            .get(index)
            .map_or(Handle(-1), |(handle, _)| *handle)
    }

    fn number(&self, number: Number) -> u32 {
        let handle = |handle: Handle| handle.0.cast_unsigned();
        match number {
            Number::Plain(number) => number,
            Number::Program(index) => handle(self.progs[index]),
            Number::ProgramId(index) => self.prog_ids[index],
            Number::Link(index) => handle(self.link(index)),
            // An id that nobody has.
            Number::LinkId(index) => self.links.get(index).map_or(0x00ff_ffff, |(_, id)| *id),
        }
    }

    /// Carries a command out and tells how it went.
    fn run(&mut self, command: Command) -> String {
        let done = match command {
            Command::Create {
                hook,
                prog,
                flags,
                relative,
                revision,
                device,
            } => {
                let target = if device { self.ifindex } else { 0x00ff_ffff };
                let create = LinkCreate {
                    prog: self.progs[prog],
                    attach_type: hook,
                    target: LinkTarget::Ordered {
                        target,
                        relative: self.number(relative),
                        revision,
                    },
                    flags,
                };
                self.backend.link_create(&create).map(|link| {
                    let id = self.backend.link_info(link).unwrap().id;
                    self.links.push((link, id));
                })
            }
            Command::Update { link, prog, expect } => {
                let expect = expect.map(|index| self.progs[index]);
                self.backend
                    .link_update(self.link(link), self.progs[prog], expect)
            }
            Command::Detach(link) => self.backend.link_detach(self.link(link)),
            Command::Close(link) => {
                self.backend.close(self.link(link));
                // The number may come to mean something else.
                if let Some((handle, _)) = self.links.get_mut(link) {
                    *handle = Handle(-1);
                }
                Ok(())
            }
            Command::Reopen(link) => {
                let id = self.number(Number::LinkId(link));
                let opened = self.backend.by_id(ObjKind::Link, id);
                opened.map(|handle| self.backend.close(handle))
            }
        };
        match done {
            Ok(()) => "done".to_owned(),
            Err(e) => e.errno.name().to_owned(),
        }
    }

    /// What there is, with programs and the device by their place.
    fn links(&self) -> Vec<String> {
        let links = self.links.iter().map(|(handle, _)| {
            let Ok(info) = self.backend.link_info(*handle) else {
                return "closed".to_owned();
            };
            let prog = self.prog_ids.iter().position(|id| *id == info.prog_id);
            format!(
                "{} {:?} program {prog:?} attached {}",
                info.link_type,
                info.attach_type,
                info.ifindex == self.ifindex
            )
        });
        links.collect()
    }

    /// The programs of a row, by their place.
    fn row(&self, ids: &[u32]) -> Vec<Option<usize>> {
        let place = |id: &u32| self.prog_ids.iter().position(|known| known == id);
        ids.iter().map(place).collect()
    }

    fn close(&self) {
        for handle in self.links.iter().map(|(h, _)| h).chain(&self.progs) {
            self.backend.close(*handle);
        }
    }
}

#[test]
fn links_are_made_changed_and_detached_as_in_the_kernel() {
    if !met(&[Need::Bpf, Need::Netns]) {
        return;
    }
    // The namespace is this thread's, and goes with it.
    enter_new_network().unwrap();
    let mut socket = Socket::open().unwrap();
    let (kernel, universe) = (Kernel::new(), Universe::new(Options::default()).unwrap());
    let mut random = Random::new(SEED);
    let mut answers: BTreeMap<String, u32> = BTreeMap::new();
    for round in 0..ROUNDS {
        let name = format!("v{round}");
        socket.device_add("veth", &name).unwrap();
        let number = skep::net::ifindex(&name).unwrap();
        let mut theirs = World::new(&kernel, number);
        let mut ours = World::new(&universe, universe.add_device(&name).unwrap());
        let mut said = Vec::new();
        for _ in 0..COMMANDS {
            let command = command(&mut random, theirs.links.len());
            let expected = theirs.run(command);
            let found = ours.run(command);
            said.push(format!("{command:?}: {expected}"));
            assert_eq!(found, expected, "round {round}:\n{}", said.join("\n"));
            assert_eq!(ours.links(), theirs.links(), "{}", said.join("\n"));
            for hook in [AttachType::TcxIngress, AttachType::TcxEgress] {
                let (ids, _) = skep_sys::bpf_prog::query(number, hook.id(), 0).unwrap();
                let links = universe.links_at(ours.ifindex, hook).into_iter();
                let own: Vec<u32> = links
                    .map(|id| {
                        let link = universe.by_id(ObjKind::Link, id).unwrap();
                        let info = universe.link_info(link).unwrap();
                        universe.close(link);
                        info.prog_id
                    })
                    .collect();
                assert_eq!(ours.row(&own), theirs.row(&ids), "{}", said.join("\n"));
            }
            *answers.entry(expected).or_default() += 1;
        }
        socket.device_delete(number).unwrap();
        universe.remove_device(ours.ifindex).unwrap();
        assert_eq!(ours.links(), theirs.links(), "without the device");
        ours.close();
        theirs.close();
    }
    println!("{answers:?}");
    for errno in [
        "done", "EBUSY", "EEXIST", "EINVAL", "ENODEV", "ENOENT", "ENOLINK", "EPERM", "ESTALE",
    ] {
        assert!(answers.contains_key(errno), "never {errno}");
    }
}
