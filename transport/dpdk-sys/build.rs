//! Builds the shim as a shared object of its own, for `include_bytes!`. Where DPDK's development
//! files are missing, an empty file stands for it: building never fails for want of DPDK.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=src/shim.c");
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("shim.so");
    if let Err(why) = build(&out) {
        println!("cargo::warning=built without DPDK: {why}");
        // Who installs it and builds again must not be left with what was built without it.
        for packages in [
            "/var/lib/dpkg/status",
            "/usr/lib/sysimage/rpm",
            "/var/lib/rpm",
        ] {
            if Path::new(packages).exists() {
                println!("cargo::rerun-if-changed={packages}");
            }
        }
        fs::write(&out, []).expect("cargo's output directory is writable");
    }
}

fn build(out: &Path) -> Result<(), String> {
    if env::var("HOST") != env::var("TARGET") {
        return Err("it is not looked for when cross-compiling".into());
    }
    let pkg_config = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    // The library crate for pkg-config keeps neither `-include` nor `-march`, and both are needed.
    // The libraries come with `--as-needed`, so only those that the shim calls are linked.
    let flags = output(Command::new(pkg_config).args(["--cflags", "--libs", "libdpdk"]))?;
    let mut compiler = cc::Build::new()
        .opt_level(2)
        .debug(false)
        .get_compiler()
        .to_command();
    compiler
        .args(["-Wall", "-Wextra", "-Werror=implicit", "-shared", "-fPIC"])
        .arg("-o")
        .arg(out)
        .arg("src/shim.c")
        .args(flags.split_whitespace());
    output(&mut compiler).map(drop)
}

/// What `command` writes to its standard output.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    for line in complaint.lines() {
        println!("cargo::warning={line}");
    }
    if !output.status.success() {
        return Err(format!("{name}: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
