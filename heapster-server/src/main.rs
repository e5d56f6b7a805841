//! The binary `heapster`; what it does is in [`heapster_server::program`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

use heapster_server::program;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    ExitCode::from(program::run(arguments))
}
