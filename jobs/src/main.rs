//! The `atomflow` program. Everything it does is in the library, where tests can reach it.

fn main() -> std::process::ExitCode {
    atomflow_workers::memory::share_arenas();
    atomflow::cli::main()
}
