//! `fanfare`; the library does the work.

use std::process::ExitCode;

fn main() -> ExitCode {
    fanfare::app::ctl::main()
}
