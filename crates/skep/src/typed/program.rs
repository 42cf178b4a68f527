//! A loaded program.

use crate::attach::{Link, Where, attach, hook};
use crate::load::{Loaded, LoadedProgram};
use crate::test_run::{self, Input};
use skep_bpf::{Handle, ProgInfo, TestRunResult};
use std::fmt;

/// A program was not attached.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::attach::Where;
/// use skep::typed::{AttachError, Program};
///
/// let program = Program::of(&loaded, "packets").ok_or("no such program")?;
/// // Nobody said which device.
/// assert!(matches!(program.attach(&Where::default()), Err(AttachError::Unclear(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum AttachError {
    /// Its section name does not say where, and the caller did not either.
    Unclear(String),
    /// The backend refused.
    Backend(skep_bpf::Error),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclear(why) => f.write_str(why),
            Self::Backend(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AttachError {}

/// A program of a loaded object.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::attach::Where;
/// use skep::typed::Program;
///
/// let program = Program::of(&loaded, "packets").ok_or("no such program")?;
/// let place = Where { ifindex: Some(universe.add_device("eth0")?), ..Where::default() };
/// let link = program.attach(&place)?;
/// println!("{:?} runs {}", link, program.info()?.name);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    loaded: &'a Loaded,
    program: &'a LoadedProgram,
}

impl<'a> Program<'a> {
    /// The program of this name; `None` if it was not loaded.
    #[must_use]
    pub fn of(loaded: &'a Loaded, name: &str) -> Option<Self> {
        let program = loaded.program(name)?;
        Some(Self { loaded, program })
    }

    /// Its handle in the backend.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.program.handle
    }

    /// Its tag, sizes and, while statistics are enabled, its runs and their time.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn info(&self) -> skep_bpf::Result<ProgInfo> {
        self.loaded.backend().prog_info(self.program.handle)
    }

    /// Attaches it to the hook that its section name means; dropping the link detaches it.
    ///
    /// # Errors
    /// [`AttachError`]
    pub fn attach(&self, place: &Where) -> Result<Link, AttachError> {
        let hook = hook(&self.program.spec, place).map_err(AttachError::Unclear)?;
        attach(self.loaded.backend(), self.program.handle, &hook).map_err(AttachError::Backend)
    }

    /// Runs it on one input (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    /// Those of the backend.
    pub fn test_run(&self, input: &Input) -> skep_bpf::Result<TestRunResult> {
        let prog_type = self.program.spec.prog_type;
        test_run::run(
            self.loaded.backend().as_ref(),
            self.program.handle,
            prog_type,
            input,
            1,
        )
    }
}
