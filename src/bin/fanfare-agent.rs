//! `fanfare-agent`; the library does the work.

use std::process::ExitCode;

fn main() -> ExitCode {
    fanfare::app::agent::main()
}
