//! Loom's atomics for models, with a step of the whole model before each access.
//!
//! Loom tries another order of two accesses only if it sees that they meet, and there it knows the last access of a word
//! alone: what a thread loads itself before it stores hides the load of another one. Whoever changes something under a lock
//! does just that, and of such models loom would try a single order. Steps all meet each other: with them it tries every
//! order with so many switches as the model allows.

use loom::sync::atomic;
use std::sync::atomic::Ordering;

loom::lazy_static! {
    /// What every step changes.
    static ref STEPS: atomic::AtomicU32 = atomic::AtomicU32::new(0);
}

fn step() {
    STEPS.fetch_add(1, Ordering::Relaxed);
}

macro_rules! stepped {
    ($($name:ident of $value:ty;)*) => {$(
        /// As the standard library's.
        #[derive(Debug, Default)]
        pub(crate) struct $name(atomic::$name);

        #[expect(dead_code, reason = "not every width is used in every way")]
        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self(atomic::$name::new(value))
            }

            pub(crate) fn into_inner(self) -> $value {
                self.0.into_inner()
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                step();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                step();
                self.0.store(value, order);
            }

            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.swap(value, order)
            }

            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.fetch_add(value, order)
            }

            pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.fetch_sub(value, order)
            }

            pub(crate) fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.fetch_and(value, order)
            }

            pub(crate) fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.fetch_or(value, order)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                step();
                self.0.compare_exchange(current, new, success, failure)
            }

            pub(crate) fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }
        }
    )*};
}

stepped! {
    AtomicU8 of u8;
    AtomicU32 of u32;
    AtomicU64 of u64;
}
