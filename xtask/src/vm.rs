//! `cargo xtask vm`: tests on Debian's kernel in a small virtual machine, for what the kernel of this
//! machine may lack, and for what must not be tried on it, such as loading modules.
//!
//! qemu and the kernel are unpacked below `target/vm`; nothing of them is installed. The virtual
//! machine sees the files of this one below a layer in memory, so that the same test binaries run in
//! it, and nothing that it does reaches a file here.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{self, cargo, find, output, run as start};
use crate::test::{self, BUSYBOX};

/// What is called to make the virtual machine, and the Debian package that brings it.
const NEEDS: &[(&str, &str)] = &[("cpio", "cpio"), ("depmod", "kmod"), (BUSYBOX, "busybox-static")];

/// The emulator, and the package that brings it.
const QEMU: (&str, &str) = ("qemu-system-x86_64", "qemu-system-x86");

/// The package that depends on the kernel that Debian gives to everybody.
const KERNEL: &str = "linux-image-amd64";

/// What the first root file system needs to find the second.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// How a test says that it needs the virtual machine.
const MARK: &str = "#[ignore = \"needs the virtual machine\"]";

/// Tests without a mark that are worth a run on another kernel: the backend that asks most of it, from
/// the first object to packets and the source that their receivers see.
const CHOSEN: [&str; 1] = ["agent::joining::gpe_dual"];

/// How long all of it may take, in seconds.
const LONGEST: &str = "900";

/// How the script in the virtual machine says how many tests failed.
const RESULT: &str = "test result: ";

/// Runs the tests with the mark and [`CHOSEN`] ones, or those whose name contains one of `filters`.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    test::install(&[test::NEEDS, NEEDS].concat())?;
    let machine = Machine::unpacked(command::target()?.join("vm"))?;
    let tests = tests(filters)?;
    if tests.is_empty() {
        bail!("no test has such a name");
    }
    let script = machine.directory.join("job.sh");
    fs::write(&script, job(&tests)).with_context(|| format!("write {}", script.display()))?;
    machine.boot()
}

/// One test.
#[derive(Debug)]
struct Test {
    /// The program that has it.
    binary: PathBuf,
    /// The directory of its package, from which test runners start it.
    package: PathBuf,
    name: String,
}

/// Builds all tests and selects.
fn tests(filters: &[String]) -> Result<Vec<Test>> {
    let marked = test::marked(command::root(), MARK)?;
    let is_wanted = |name: &str| match filters {
        [] => marked.iter().map(String::as_str).chain(CHOSEN).any(|it| {
            name.strip_suffix(it).is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
        }),
        filters => filters.iter().any(|part| name.contains(part.as_str())),
    };
    let mut build = cargo(["test", "--no-run", "--message-format", "json"]);
    let told = output(build.args(test::ROOMS).arg("--locked"))?;
    let mut tests = Vec::new();
    for line in told.lines() {
        let message: Value = serde_json::from_str(line).context("read what cargo tells")?;
        let (Some(binary), Some(true)) =
            (message["executable"].as_str(), message["profile"]["test"].as_bool())
        else {
            continue;
        };
        let manifest = message["manifest_path"].as_str().context("cargo names no manifest")?;
        let package = Path::new(manifest).parent().context("a manifest is in a directory")?;
        let list = output(Command::new(binary).args(["--list", "--format", "terse"]))?;
        let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
        tests.extend(names.filter(|name| is_wanted(name)).map(|name| Test {
            binary: binary.into(),
            package: package.to_owned(),
            name: name.to_owned(),
        }));
    }
    Ok(tests)
}

/// What the virtual machine does: each test by itself, whose output is shown if it fails.
fn job(tests: &[Test]) -> String {
    let mut script = "passed=0 failed=0\n".to_owned();
    for Test { binary, package, name } in tests {
        let quote = |path: &Path| net::quote(&path.display().to_string());
        let (package, binary) = (quote(package), quote(binary));
        let _ = writeln!(
            script,
            "cd {package}; before=$(cut -d. -f1 /proc/uptime)
             if {binary} --exact {name} --include-ignored >/run/output 2>&1
             then told=PASS passed=$((passed + 1)); else told=FAIL failed=$((failed + 1)); fi
             echo \"        $told [$(($(cut -d. -f1 /proc/uptime) - before)) s] {name}\"
             [ $told = PASS ] || cat /run/output",
        );
    }
    script
        + &format!(
            "[ $failed -eq 0 ] && told=ok || told=FAILED\n\
             echo \"{RESULT}$told. $passed passed; $failed failed, on Linux $(uname -r)\"\n"
        )
}

/// What a virtual machine is made of.
struct Machine {
    directory: PathBuf,
}

impl Machine {
    /// Unpacks what is not there yet in the version that Debian has today.
    fn unpacked(directory: PathBuf) -> Result<Self> {
        start(Command::new("apt-get").args(["update", "-qq"]))?;
        let depends = output(Command::new("apt-cache").args(["depends", KERNEL]))?;
        let kernel = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        let mut packages = vec![kernel.context("Debian has no kernel")?.to_owned()];
        if find(QEMU.0).is_none() {
            // Beside what is installed: it may want to take away a newer part of itself.
            let mut simulate = Command::new("apt-get");
            simulate.args(["install", "--simulate", "--no-install-recommends", QEMU.1]);
            let told = output(&mut simulate)?;
            let wanted = told.lines().filter_map(|line| line.strip_prefix("Inst "));
            packages.extend(wanted.filter_map(|it| Some(it.split(' ').next()?.to_owned())));
        }
        let machine = Self { directory };
        let list = machine.directory.join("packages");
        let wanted = packages.join("\n");
        if fs::read_to_string(&list).is_ok_and(|there| there == wanted) {
            return Ok(machine);
        }
        let _ = fs::remove_dir_all(&machine.directory);
        let archives = machine.directory.join("archives");
        fs::create_dir_all(&archives).with_context(|| format!("make {}", archives.display()))?;
        start(
            Command::new("apt-get")
                .args(["download", "-qq"])
                .args(&packages)
                .current_dir(&archives),
        )?;
        for archive in fs::read_dir(&archives)? {
            start(Command::new("dpkg").arg("-x").arg(archive?.path()).arg(machine.root()))?;
        }
        fs::remove_dir_all(&archives)?;
        machine.make_initrd()?;
        fs::write(&list, wanted).with_context(|| format!("write {}", list.display()))?;
        Ok(machine)
    }

    /// Where the packages are unpacked.
    fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    fn modules(&self) -> PathBuf {
        self.root().join("lib/modules")
    }

    /// The kernel's version, as `uname -r` tells it.
    fn release(&self) -> Result<String> {
        let mut all = fs::read_dir(self.modules())?;
        let only = all.next().context("the kernel's package has no modules")??;
        Ok(only.file_name().to_string_lossy().into_owned())
    }

    /// The first root file system: a shell, and the modules that lead to the second.
    fn make_initrd(&self) -> Result<()> {
        let release = self.release()?;
        start(Command::new(find("depmod").context("there is no depmod")?).args([
            "-b".as_ref(),
            self.root().as_os_str(),
            release.as_ref(),
        ]))?;
        let initrd = self.directory.join("initrd");
        fs::create_dir_all(initrd.join("modules"))?;
        fs::copy(find("busybox").context("there is no busybox")?, initrd.join("busybox"))?;
        let modules = self.modules().join(release);
        let known = fs::read_to_string(modules.join("modules.dep"))?;
        let mut order: Vec<&str> = Vec::new();
        for name in MODULES {
            let file = format!("/{name}.ko");
            let line = known.lines().find(|line| {
                line.split(':')
                    .next()
                    .is_some_and(|path| path.trim_end_matches(".xz").ends_with(&file))
            });
            let (path, needs) = line
                .and_then(|line| line.split_once(':'))
                .with_context(|| format!("the kernel's package has no module {name}"))?;
            for path in needs.split_whitespace().rev().chain([path]) {
                if !order.contains(&path) {
                    fs::copy(
                        modules.join(path),
                        initrd.join(format!("modules/{:02}", order.len())),
                    )?;
                    order.push(path);
                }
            }
        }
        let init = initrd.join("init");
        fs::write(&init, include_str!("vm/init.sh"))?;
        start(Command::new("chmod").arg("+x").arg(init))?;
        let pack = "find . | cpio --quiet --create --format newc > ../initrd.cpio";
        start(Command::new("sh").args(["-c", pack]).current_dir(initrd))
    }

    /// Runs the script and ends. What it prints is shown; its last line decides.
    fn boot(&self) -> Result<()> {
        let root = self.root();
        let share = |path: &Path, tag: &str| {
            let path = path.display();
            format!(
                "local,path={path},mount_tag={tag},security_model=none,readonly=on,multidevs=remap"
            )
        };
        // Hardware acceleration is not asked for: where this machine is itself a virtual one, it may
        // be there and not work.
        let mut qemu = Command::new("timeout");
        qemu.args(["--foreground", LONGEST]);
        if find(QEMU.0).is_none() {
            let library = "lib/x86_64-linux-gnu";
            let libraries = [root.join("usr").join(library), root.join(library)];
            qemu.env("LD_LIBRARY_PATH", env::join_paths(libraries)?);
            qemu.arg(root.join("usr/bin").join(QEMU.0));
            for directory in ["qemu", "seabios"] {
                qemu.arg("-L").arg(root.join("usr/share").join(directory));
            }
        } else {
            qemu.arg(QEMU.0);
        }
        qemu.args(["-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
            .args(["-m", "3072", "-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio"])
            .arg("-kernel")
            .arg(root.join("boot").join(format!("vmlinuz-{}", self.release()?)))
            .arg("-initrd")
            .arg(self.directory.join("initrd.cpio"))
            .args(["-virtfs", &share(Path::new("/"), "root")])
            .args(["-virtfs", &share(&self.directory, "vm")])
            .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
        eprintln!("+ {} …", QEMU.0);
        let mut child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let console = BufReader::new(child.stdout.take().context("qemu has no output")?);
        let mut result = None;
        for line in console.split(b'\n') {
            let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
            println!("{line}");
            result = line.strip_prefix(RESULT).map(str::to_owned).or(result);
        }
        child.wait()?;
        match result {
            Some(result) if result.starts_with("ok.") => Ok(()),
            Some(_) => bail!("tests failed in the virtual machine"),
            None => {
                bail!("the virtual machine ended before its tests, or took more than {LONGEST} s")
            }
        }
    }
}
