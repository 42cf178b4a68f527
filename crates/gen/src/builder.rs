//! Bindings from a build script.

use crate::{GenError, Options, generate};
use std::path::{Path, PathBuf};

/// Makes bindings into `OUT_DIR` of a build script, where `skep::bindings!` finds them.
///
/// ```
/// let folder = std::env::temp_dir();
/// let file = skep_gen::Builder::new("../../examples/packets.bpf.o")
///     .module("packets_example")
///     .out_dir(folder) // a build script leaves this out
///     .build()?;
/// assert!(std::fs::read_to_string(&file)?.contains("services"));
/// # std::fs::remove_file(file)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    object: PathBuf,
    out_dir: Option<PathBuf>,
    options: Options,
}

impl Builder {
    /// Bindings of the object in this file.
    #[must_use]
    pub fn new(object: impl Into<PathBuf>) -> Self {
        Self {
            object: object.into(),
            out_dir: None,
            options: Options::default(),
        }
    }

    /// Name of the module, instead of the file's name up to its first dot.
    #[must_use]
    pub fn module(mut self, name: &str) -> Self {
        name.clone_into(&mut self.options.module);
        self
    }

    /// Also binds this structure, union or enumeration, which no map or variable mentions.
    #[must_use]
    pub fn with_type(mut self, name: &str) -> Self {
        self.options.types.push(name.to_owned());
        self
    }

    /// Folder of the text, instead of `OUT_DIR`.
    #[must_use]
    pub fn out_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(folder.into());
        self
    }

    /// Makes them; returns the file. Cargo is told to run the script again when the object changes.
    ///
    /// # Errors
    /// [`GenError`]
    pub fn build(mut self) -> Result<PathBuf, GenError> {
        let out_dir = match self.out_dir.take() {
            Some(folder) => folder,
            None => PathBuf::from(std::env::var_os("OUT_DIR").ok_or(GenError::NoOutDir)?),
        };
        let object = located(&self.object, std::fs::canonicalize(&self.object))?;
        let bytes = located(&object, std::fs::read(&object))?;
        println!("cargo::rerun-if-changed={}", object.display());
        let file = object.file_name().unwrap_or_default().to_string_lossy();
        if self.options.module.is_empty() {
            file.split('.')
                .next()
                .unwrap_or_default()
                .clone_into(&mut self.options.module);
        }
        self.options.include = Some(object.to_string_lossy().into_owned());
        let text = generate(&bytes, &file, &self.options)?;
        let to = out_dir.join(format!("{}.rs", self.options.module));
        located(&to, std::fs::write(&to, text))?;
        Ok(to)
    }
}

fn located<T>(path: &Path, result: std::io::Result<T>) -> Result<T, GenError> {
    result.map_err(|error| GenError::Io {
        path: path.to_owned(),
        error,
    })
}
