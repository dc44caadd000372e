//! `cargo xtask dist`: what is shipped, side by side in `target/dist`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::command::{self, cargo};

/// The profile of small programs that start quickly.
pub(crate) const PLUGIN: &str = "plugin";

/// Builds `podwire` and the static `podwire-cni`, both with `profile` if one is given.
pub(crate) fn run(profile: Option<&str>) -> Result<()> {
    let target = command::target()?;
    let podwire = profile.unwrap_or("release");
    command::run(&mut cargo(["build", "--package", "podwire", "--profile", podwire, "--locked"]))?;
    let podwire = built(&target, podwire, "podwire");
    let cni = build_static(&target, "plugins", "podwire-cni", profile.unwrap_or(PLUGIN))?;
    let dist = target.join("dist");
    fs::create_dir_all(&dist).with_context(|| format!("make {}", dist.display()))?;
    for program in [podwire, cni] {
        let place = dist.join(program.file_name().context("a program has a name")?);
        // Copied beside and renamed, because a program that runs cannot be written over.
        let beside = place.with_extension("new");
        let size = fs::copy(&program, &beside)
            .with_context(|| format!("copy {} to {}", program.display(), beside.display()))?;
        fs::rename(&beside, &place).with_context(|| format!("rename to {}", place.display()))?;
        println!("{:>8} kB  {}", size / 1000, place.display());
    }
    Ok(())
}

/// Builds one program without a dynamic loader.
///
/// The flag goes to this one call of rustc: in `RUSTFLAGS` it would reach the procedural macros,
/// which the compiler loads and which therefore cannot be static.
pub(crate) fn build_static(
    target: &Path,
    package: &str,
    program: &str,
    profile: &str,
) -> Result<PathBuf> {
    let arguments = ["rustc", "--package", package, "--bin", program, "--profile", profile];
    let rest = ["--locked", "--", "-C", "target-feature=+crt-static"];
    command::run(&mut cargo(arguments.into_iter().chain(rest)))?;
    let path = built(target, profile, program);
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let is_static = is_static(&bytes)
        .with_context(|| format!("{} is no 64-bit program of this machine", path.display()))?;
    ensure!(is_static, "{} asks for a dynamic loader", path.display());
    Ok(path)
}

fn built(target: &Path, profile: &str, program: &str) -> PathBuf {
    // The profile that cargo calls dev has had a directory of another name since ever.
    target.join(if profile == "dev" { "debug" } else { profile }).join(program)
}

/// Whether no program header of an ELF file (elf(5)) names a loader, which is what makes a program
/// dynamic; `None` if it is no 64-bit ELF file.
fn is_static(elf: &[u8]) -> Option<bool> {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, width: usize| {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(elf.get(at..at + width)?);
        Some(u64::from_le_bytes(bytes) as usize)
    };
    if elf.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut headers = (0..count).map(|place| number(start + place * size, 4));
    headers.try_fold(true, |so_far, kind| Some(so_far && kind? as u32 != INTERPRETER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        // Rust's own tests are dynamic on every platform that podwire is built on.
        let own = fs::read("/proc/self/exe").unwrap();
        assert_eq!(is_static(&own), Some(false));
        assert_eq!(is_static(b"#!/bin/sh"), None);
        assert_eq!(is_static(&own[..100]), None);
    }
}
