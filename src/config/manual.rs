//! The manual pages of the configuration files, from the declarations of the keys.

use clap_mangen::roff::{Roff, bold, roman};

use super::load::Program;
use super::{agent, publisher};

/// Each page's file name and text.
pub fn pages() -> Vec<(String, String)> {
    let page = |program: &Program| (format!("fanfare-{}.toml.5", program.name), page(program));
    vec![page(&agent::AGENT), page(&publisher::PUBLISHER)]
}

fn page(program: &Program) -> String {
    let name = program.name;
    let title = format!("FANFARE-{}.TOML", name.to_uppercase());
    let mut roff = Roff::new();
    roff.control("TH", [title.as_str(), "5", "", "Fanfare", "Fanfare"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!(
        "fanfare-{name}.toml - the configuration of fanfare-{name}"
    ))]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([roman(format!(
        "/etc/fanfare/{name}.toml, /etc/fanfare/conf.d/*.toml"
    ))]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(format!(
        "TOML. Read in this order, the last one wins: built-in defaults, /etc/fanfare/{name}.toml, \
         /etc/fanfare/conf.d/*.toml by name, the environment (FANFARE_ and the key in capitals), the \
         command line (--set key=value). conf.d is common to the daemons of a host: keys of the other \
         daemon are passed over there. An unknown key is a fault. `fanfare check-config` tells all \
         faults of files at once. Where nothing is said of a reload, a key takes effect at the next start."
    ))]);
    roff.control("SH", ["KEYS"]);
    for key in program.keys {
        roff.control("TP", []);
        roff.text([bold(key.name), roman(format!(" = {}", key.default))]);
        literal(&mut roff, key.doc);
        roff.control("IP", []);
        roff.text([roman(key.value().join(" "))]);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(format!("fanfare-{name}(8), fanfare(1)"))]);
    roff.to_roff()
}

/// Text whose indented lines are an example.
fn literal(roff: &mut Roff, text: &str) {
    let mut in_example = false;
    for line in text.lines() {
        let is_example = line.starts_with("    ") || (in_example && line.is_empty());
        match (in_example, is_example) {
            (false, true) => drop(roff.control("IP", []).control("nf", [])),
            (true, false) => drop(roff.control("fi", []).control("IP", [])),
            _ => {}
        }
        in_example = is_example;
        match (line.trim().is_empty(), in_example) {
            (true, false) => drop(roff.control("IP", [])),
            (true, true) => drop(roff.control("sp", [])),
            _ => drop(roff.text([roman(line)])),
        }
    }
    if in_example {
        roff.control("fi", []);
    }
}
