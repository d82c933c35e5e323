//! The manual pages and shell completions under packaging/, from the command lines. A test, not a
//! hidden subcommand: the programs need not carry what is needed to describe them.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::{agent, ctl, publisher};

/// What a command line does not tell about a daemon.
const DAEMON: &[(&str, &str)] = &[
    (
        "EXIT STATUS",
        "0 after SIGTERM or SIGINT, 2 when the configuration or the command line must be mended, 1 when \
         something else keeps it from starting, such as an address in use.",
    ),
    (
        "SIGNALS",
        "SIGTERM and SIGINT end it in order, within stop_timeout. SIGHUP has it read its configuration \
         again; one with faults is refused, with all of them in the log, and the old one stays in force.",
    ),
    (
        "ENVIRONMENT",
        "FANFARE_ and a key in capitals sets that key. RUST_LOG sets what is logged, unless --log-level \
         does. NOTIFY_SOCKET and WATCHDOG_USEC are the service manager's.",
    ),
];

fn daemon(command: Command, name: &str) -> String {
    let files = format!(
        "/etc/fanfare/{name}.toml, then /etc/fanfare/conf.d/*.toml by name: the configuration. \
         /var/lib/fanfare: state. /run/fanfare: sockets."
    );
    let see = format!("fanfare(1), fanfare-{name}.toml(5)");
    let mut sections = DAEMON.to_vec();
    sections.extend([("FILES", files.as_str()), ("SEE ALSO", see.as_str())]);
    page(command, "8", &sections)
}

fn tool(command: Command) -> String {
    let see =
        "fanfare-agent(8), fanfare-publisher(8), fanfare-agent.toml(5), fanfare-publisher.toml(5)";
    page(command, "1", &[("SEE ALSO", see)])
}

fn page(command: Command, section: &str, more: &[(&str, &str)]) -> String {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    // The version is that of the package; in here every page would change with it.
    let man = Man::new(command.clone())
        .title(command.get_name().to_uppercase())
        .section(section)
        .source("Fanfare")
        .manual("Fanfare");
    let mut out = render(|out| man.render_title(out));
    out += &render(|out| man.render_name_section(out));
    out += &render(|out| man.render_synopsis_section(out));
    out += &render(|out| man.render_description_section(out));
    out += &render(|out| man.render_options_section(out));
    subcommands(&command, &mut out);
    let after = command.get_after_help().map(ToString::to_string);
    let mut roff = Roff::new();
    for (title, text) in after.iter().map(|text| ("NOTES", text.as_str())) {
        section_of(&mut roff, title, text);
    }
    for (title, text) in more {
        section_of(&mut roff, title, text);
    }
    out + &roff.to_roff()
}

/// One section for each command below `command`; groups of commands have none of their own.
fn subcommands(command: &Command, out: &mut String) {
    for sub in command.get_subcommands() {
        if sub.has_subcommands() {
            subcommands(sub, out);
            continue;
        }
        let name = sub.get_bin_name().unwrap_or(sub.get_name()).to_owned();
        let mut roff = Roff::new();
        roff.control("SH", [name.to_uppercase().as_str()]);
        for paragraph in about(sub).split("\n\n") {
            roff.control("PP", []).text([roman(paragraph)]);
        }
        *out += &roff.to_roff();
        let man = Man::new(sub.clone().bin_name(name));
        *out += &demoted(&render(|out| man.render_synopsis_section(out)));
        *out += &demoted(&render(|out| man.render_options_section(out)));
        if let Some(text) = sub.get_after_help() {
            let mut roff = Roff::new();
            section_of(&mut roff, "NOTES", &text.to_string());
            *out += &demoted(&roff.to_roff());
        }
    }
}

fn about(command: &Command) -> String {
    let about = command.get_long_about().or_else(|| command.get_about());
    format!("{}.", about.map(ToString::to_string).unwrap_or_default())
}

fn section_of(roff: &mut Roff, title: &str, text: &str) {
    roff.control("SH", [title]);
    for paragraph in text.split("\n\n") {
        roff.control("PP", []).text([roman(paragraph)]);
    }
}

/// Sections made subsections, without the preamble that the page has already.
fn demoted(roff: &str) -> String {
    let lines = roff
        .lines()
        .filter(|line| !line.starts_with(".ie") && !line.starts_with(".el"));
    let lines = lines.map(|line| match line.strip_prefix(".SH ") {
        Some(title) => format!(".SS {title}\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

fn render(fill: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    fill(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// `BLESS=1 cargo test --lib manual` writes the files anew.
#[track_caller]
fn as_generated(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging")
        .join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == text,
        "{} is not what the sources say; run: BLESS=1 cargo test --lib manual",
        path.display()
    );
}

fn commands() -> [Command; 3] {
    [
        agent::Args::command(),
        publisher::Args::command(),
        ctl::Args::command(),
    ]
}

#[test]
fn the_manual_pages_are_as_generated() {
    let [agent, publisher, ctl] = commands();
    as_generated("man/fanfare-agent.8", &daemon(agent, "agent"));
    as_generated("man/fanfare-publisher.8", &daemon(publisher, "publisher"));
    as_generated("man/fanfare.1", &tool(ctl));
    for (name, text) in crate::config::manual::pages() {
        as_generated(&format!("man/{name}"), &text);
    }
}

#[test]
fn the_tools_page_tells_of_every_command() {
    let page = tool(ctl::Args::command());
    for name in [
        "STATUS",
        "TOPICS ADD",
        "QUARANTINE RELEASE",
        "PUBLISHER STATUS",
        "PUBLISH",
    ] {
        assert!(
            page.contains(&format!(".SH \"FANFARE {name}\"")),
            "{name}:\n{page}"
        );
    }
}

#[test]
fn the_completions_are_as_generated() {
    for mut command in commands() {
        let name = command.get_name().to_owned();
        for (shell, file) in [
            (Shell::Bash, format!("{name}.bash")),
            (Shell::Zsh, format!("_{name}")),
            (Shell::Fish, format!("{name}.fish")),
        ] {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut command, name.as_str(), &mut out);
            as_generated(
                &format!("completions/{file}"),
                &String::from_utf8(out).unwrap(),
            );
        }
    }
}
