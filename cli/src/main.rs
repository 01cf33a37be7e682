//! The operator's command line: everything is in the library.

fn main() -> std::process::ExitCode {
    gantry_ctl::main()
}
