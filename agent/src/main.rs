//! The `holdover` program: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    holdover::main_with_args(std::env::args_os().collect())
}
