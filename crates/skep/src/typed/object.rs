//! Opening and loading the object of a binding.

use super::Plain;
use crate::load::{LoadError, LoadOptions, Loaded};
use crate::target;
use skep_bpf::Backend;
use skep_object::{MapSpec, Object, ObjectError, Options};
use std::fmt;
use std::sync::Arc;

/// An object of bindings cannot be opened or loaded.
///
/// ```
/// use skep::typed::{BindingError, open};
///
/// let error = open(b"not an object", "x.bpf.o").unwrap_err();
/// assert!(matches!(error, BindingError::Object(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum BindingError {
    /// The embedded object is damaged, or does not fit the target.
    Object(ObjectError),
    /// What the kernel says of itself cannot be read.
    Target(std::io::Error),
    /// The object has no such data section.
    Section(String),
    /// The backend refused.
    Load(LoadError),
}

impl fmt::Display for BindingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(error) => error.fmt(f),
            Self::Target(error) => write!(f, "the kernel's BTF: {error}"),
            Self::Section(name) => write!(
                f,
                "the object has no section {name}: its bindings are of another version"
            ),
            Self::Load(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BindingError {}

/// Parses an embedded object.
///
/// # Errors
/// [`BindingError::Object`]
pub fn open(bytes: &[u8], file: &str) -> Result<Object, BindingError> {
    let options = Options {
        name: file.to_owned(),
    };
    Object::parse(bytes, &options).map_err(BindingError::Object)
}

/// The variables of a data section as they will be loaded.
///
/// # Errors
/// [`BindingError::Section`]
pub fn section<T: Plain>(object: &Object, name: &str) -> Result<T, BindingError> {
    let map = object.maps().iter().find(|m| is_section(m, name));
    let map = map.ok_or_else(|| BindingError::Section(name.to_owned()))?;
    let mut value = T::new_zeroed();
    let to = value.as_mut_bytes();
    let len = to.len().min(map.contents.len());
    to[..len].copy_from_slice(&map.contents[..len]);
    Ok(value)
}

/// Sets the variables of a data section before loading.
///
/// # Errors
/// [`BindingError::Section`]
pub fn set_section<T: Plain>(
    object: &mut Object,
    name: &str,
    value: &T,
) -> Result<(), BindingError> {
    let map = object.maps_mut().iter_mut().find(|m| is_section(m, name));
    let map = map.ok_or_else(|| BindingError::Section(name.to_owned()))?;
    let bytes = value.as_bytes();
    let len = bytes.len().min(map.value_size as usize);
    map.contents.clear();
    map.contents.extend_from_slice(&bytes[..len]);
    Ok(())
}

fn is_section(map: &MapSpec, name: &str) -> bool {
    map.is_data() && map.name == name
}

/// Links an object for the kernel behind a backend and loads it.
///
/// # Errors
/// [`BindingError`]
pub fn load(object: &Object, backend: &Arc<dyn Backend>) -> Result<Loaded, BindingError> {
    let target = target::of(backend.as_ref(), &object.needs()).map_err(BindingError::Target)?;
    let linked = object.relocate(&target).map_err(BindingError::Object)?;
    crate::load::load(&linked, backend, &LoadOptions::default()).map_err(BindingError::Load)
}
