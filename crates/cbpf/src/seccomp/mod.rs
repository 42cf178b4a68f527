//! System call policies as classic programs.
