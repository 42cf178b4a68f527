//! Running programs on live hooks until something ends it.

use super::Args;
use super::emit::Streams;
use super::scope::Scope;
use crate::error::{CliError, io_text};
use crate::output::Output;
use skep::attach::{self, Link, UsdtSpecs, Where};
use skep::load::Loaded;
use skep::wait::{Epoll, Interrupts};
use skep_object::{Program, SlotInit};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// What a wait can report beside events.
const INTERRUPTED: u64 = 0;
const EXITED: u64 = 1;
const EVENTS: u64 = 2;

/// Attaches every program, prints what they emit, and detaches when interrupted, when time is over, or with the command.
pub(super) fn run(
    args: &Args,
    loaded: &Loaded,
    mut scope: Scope,
    streams: &mut Streams<'_>,
    out: &mut Output,
) -> Result<(), CliError> {
    let system = |e: std::io::Error| CliError::environment(io_text(&e));
    let interrupts = Interrupts::open().map_err(system)?;
    let epoll = Epoll::new().map_err(system)?;
    let watch = |fd: RawFd, token| epoll.add(fd, token).map_err(system);
    watch(interrupts.descriptor(), INTERRUPTED)?;
    for fd in streams.descriptors() {
        watch(fd, EVENTS)?;
    }
    let links = attach_all(args, loaded, &scope)?;
    if let Some(child) = &mut scope.child {
        watch(child.descriptor(), EXITED)?;
        child.release().map_err(system)?;
    } else {
        let count = links.len();
        eprintln!(
            "skep: {count} program{} attached; end with Ctrl-C",
            if count == 1 { "" } else { "s" }
        );
    }
    let deadline = args.duration.map(|d| Instant::now() + d);
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            break;
        }
        let ready = epoll.wait(left).map_err(system)?;
        streams.print(out)?;
        out.flush()?;
        if ready.iter().any(|token| *token != EVENTS) {
            break;
        }
    }
    if let Some(child) = &mut scope.child
        && deadline.is_none_or(|d| Instant::now() < d)
    {
        let code = child.wait().map_err(system)?;
        if code != 0 {
            eprintln!("skep: the command ended with exit code {code}");
        }
    }
    drop(links);
    streams.print(out)
}

/// Attaches every program that is not merely a target of tail calls. If one fails, those before it are detached.
fn attach_all(args: &Args, loaded: &Loaded, scope: &Scope) -> Result<Vec<Link>, CliError> {
    let is_target = |name: &str| {
        let mut slots = loaded.maps.iter().flat_map(|m| &m.spec.slots);
        slots.any(|(_, slot)| matches!(slot, SlotInit::Program(p) if p == name))
    };
    let programs: Vec<_> = loaded
        .programs
        .iter()
        .filter(|p| !is_target(&p.spec.name))
        .collect();
    let specs: Vec<&Program> = programs.iter().map(|p| &p.spec).collect();
    scope.check(args, &specs)?;
    let mut links = Vec::with_capacity(programs.len());
    let specs = loaded.map(UsdtSpecs::MAP);
    let place = Where {
        usdt: specs.map(|m| UsdtSpecs::new(m.handle, m.spec.value_size)),
        ..scope.place.clone()
    };
    for map in &loaded.maps {
        if let Some(hook) = loaded.struct_ops(&map.spec.name) {
            let link = attach::attach(loaded.backend(), map.handle, &hook);
            links.push(link.map_err(CliError::environment)?);
        }
    }
    for program in programs {
        let hook = attach::hook(&program.spec, &place).map_err(CliError::usage)?;
        let link = attach::attach(loaded.backend(), program.handle, &hook);
        links.push(link.map_err(CliError::environment)?);
    }
    Ok(links)
}
