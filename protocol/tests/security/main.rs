//! Whole connections that authenticate: cephx in both connection modes, between ends of ours, with
//! somebody in between who changes, repeats, or searches what they say.

#![allow(clippy::unwrap_used)]

mod alterations;
mod cast;
mod compression;
mod link;
mod listener;
mod logins;
mod services;
