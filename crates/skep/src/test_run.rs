//! Test runs (`BPF_PROG_TEST_RUN`) of any program type: which inputs and outputs each type has.
//!
//! ```
//! use skep::test_run::{Input, load_one, run};
//!
//! # let bytes = std::fs::read("../../examples/packets.bpf.o")?;
//! # let options = skep_object::Options { name: "packets.bpf.o".to_owned() };
//! # let object = skep_object::Object::parse(&bytes, &options)?;
//! # let backend: std::sync::Arc<dyn skep_bpf::Backend> =
//! #     std::sync::Arc::new(skep_user::Universe::new(skep_user::Options::default())?);
//! # let target = skep::target::of(backend.as_ref(), &object.needs())?;
//! # let linked = object.relocate(&target)?;
//! let loaded = load_one(&linked, &backend, "packets", None)?;
//! let program = &loaded.programs[0];
//! let input = Input { data: Some(vec![0; 64]), ..Input::default() };
//! let result = run(backend.as_ref(), program.handle, program.spec.prog_type, &input, 1)?;
//! assert_eq!(result.data_out.len(), 64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::load::{LoadError, LoadOptions, Loaded};
use skep_abi::{MapType, ProgType};
use skep_bpf::{Backend, Handle, TestRun, TestRunResult};
use skep_object::Linked;
use std::sync::Arc;

/// Room for a packet afterwards.
const PACKET_OUT_BYTES: u32 = 1 << 17;

/// What a test run of a program type reads and gives.
///
/// ```
/// use skep::test_run::{Shape, shape};
/// use skep_abi::ProgType;
///
/// assert_eq!(shape(ProgType::Xdp), Shape::Packet);
/// assert_eq!(shape(ProgType::Syscall), Shape::Memory);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// A packet, and a context if one is given.
    Packet,
    /// A context, which comes back.
    Context,
    /// A context that the program writes in place.
    Memory,
    /// Arguments that do not come back.
    Arguments,
}

/// The shape of a program type.
#[must_use]
pub fn shape(prog_type: ProgType) -> Shape {
    match prog_type {
        ProgType::SkLookup => Shape::Context,
        ProgType::Syscall => Shape::Memory,
        ProgType::RawTracepoint | ProgType::RawTracepointWritable | ProgType::Tracing => {
            Shape::Arguments
        }
        _ => Shape::Packet,
    }
}

/// One input.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::test_run::{Input, run};
///
/// let input = Input { data: Some(vec![0; 64]), ctx: None };
/// let program = &loaded.programs[0];
/// let result = run(backend.as_ref(), program.handle, program.spec.prog_type, &input, 1)?;
/// assert_eq!(result.retval, 2, "XDP_PASS");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Input {
    /// The packet.
    pub data: Option<Vec<u8>>,
    /// The context.
    pub ctx: Option<Vec<u8>>,
}

/// The command for one input.
#[must_use]
pub fn command(prog_type: ProgType, input: &Input, repeat: u32) -> TestRun {
    let shape = shape(prog_type);
    let ctx_bytes = input
        .ctx
        .as_ref()
        .map_or(0, |c| u32::try_from(c.len()).unwrap_or(u32::MAX));
    TestRun {
        data_in: input.data.clone(),
        ctx_in: input.ctx.clone(),
        data_size_out: if shape == Shape::Packet {
            PACKET_OUT_BYTES
        } else {
            0
        },
        ctx_size_out: if matches!(shape, Shape::Packet | Shape::Context) {
            ctx_bytes
        } else {
            0
        },
        // The kernel refuses a count for the others.
        repeat: if matches!(shape, Shape::Packet | Shape::Context) {
            repeat
        } else {
            0
        },
        ..TestRun::default()
    }
}

/// Runs a program on one input.
///
/// # Errors
/// Those of the backend.
pub fn run(
    backend: &dyn Backend,
    prog: Handle,
    prog_type: ProgType,
    input: &Input,
    repeat: u32,
) -> skep_bpf::Result<TestRunResult> {
    backend.prog_test_run(prog, &command(prog_type, input, repeat))
}

/// The map whose places are filled by name: `tail0_parse` goes to place 0.
const TAIL_MAP: &str = "jmp";

/// The place that a program's name asks for in the map `jmp`.
fn tail_index(name: &str) -> Option<u32> {
    name.strip_prefix("tail")?.split('_').next()?.parse().ok()
}

/// Loads one program of an object with what it needs to run as a test: all maps, and the programs of its prog arrays -
/// those the object enters itself, and those called `tailN_…` into place N of a prog array named `jmp`.
///
/// # Errors
/// [`LoadError`]
pub fn load_one(
    linked: &Linked,
    backend: &Arc<dyn Backend>,
    program: &str,
    prog_type: Option<ProgType>,
) -> Result<Loaded, LoadError> {
    let is_tail_map =
        |m: &skep_object::MapSpec| m.map_type == MapType::ProgArray && m.name == TAIL_MAP;
    let mut linked = linked.clone();
    let mut wanted = vec![program.to_owned()];
    for map in linked
        .maps
        .iter_mut()
        .filter(|m| is_tail_map(m) && m.slots.is_empty())
    {
        let tails = linked
            .programs
            .iter()
            .filter_map(|p| Some((tail_index(&p.name)?, p.name.clone())));
        map.slots = tails
            .map(|(i, name)| (i, skep_object::SlotInit::Program(name)))
            .collect();
    }
    for map in &linked.maps {
        wanted.extend(map.slots.iter().filter_map(|(_, slot)| match slot {
            skep_object::SlotInit::Program(name) => Some(name.clone()),
            skep_object::SlotInit::Map(_) => None,
        }));
    }
    for program in &mut linked.programs {
        program.autoload = wanted.contains(&program.name);
    }
    crate::load::load(
        &linked,
        backend,
        &LoadOptions {
            prog_type,
            ..LoadOptions::default()
        },
    )
}
