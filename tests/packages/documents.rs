//! The commands of the documents, run as they stand on machines that know nothing but the packages: an
//! API server and a node with a network between them, and one to try things out on.
//!
//! The first line of a block says where it is for. Only this is not taken literally: `public:…` is the
//! key that the text before it says; what asks a daemon is asked again until the answer is a good one, as
//! one does by hand; `watch` is ended; a daemon in the foreground is another terminal's.

use std::path::Path;
use std::process::Command;

use crate::container::Container;
use crate::packages::{self, output};

const NODE: &str = "192.0.2.20";
const SERVER: &str = "192.0.2.10";

const PRELUDE: &str = r#"
again() {
    local out
    for _ in $(seq 150); do
        if out=$("$@" 2>&1); then echo "$out"; return 0; fi
        sleep 0.2
    done
    echo "$out"
    return 1
}
fanfare() {
    case $1 in
    status | get) again command fanfare "$@" ;;
    publisher) again command fanfare "$@" ;;
    watch)
        local status=0
        timeout --signal=INT 2 fanfare "$@" || status=$?
        # It ran until it was told to end.
        ((status == 124)) ;;
    *) command fanfare "$@" ;;
    esac
}
curl() { again command curl --fail-with-body "$@"; }
"#;

struct Block {
    heading: String,
    line: usize,
    language: String,
    /// The last line of text before it.
    before: String,
    text: String,
}

/// The fenced blocks of a document.
fn blocks(file: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let document = std::fs::read_to_string(path).unwrap();
    let (mut blocks, mut heading, mut before) = (Vec::new(), String::new(), String::new());
    let mut open: Option<Block> = None;
    for (number, line) in document.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, Some(language)) => {
                open = Some(Block {
                    heading: heading.clone(),
                    line: number + 1,
                    language: language.to_owned(),
                    before: before.clone(),
                    text: String::new(),
                });
            }
            (None, None) => {
                if let Some(title) = line.strip_prefix('#') {
                    heading = title.trim_start_matches('#').trim().to_owned();
                }
                if !line.is_empty() {
                    before = line.to_owned();
                }
            }
        }
    }
    assert!(open.is_none(), "{file}: a block is not closed");
    blocks
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Server,
    Node,
    /// Where somebody tries it out.
    Try,
}

impl Block {
    fn place(&self) -> Place {
        let first = self.text.lines().next().unwrap_or_default();
        match first {
            "# On an API server" | "# On the API server" => Place::Server,
            "# On a node" | "# On the node" => Place::Node,
            _ => Place::Try,
        }
    }
}

/// An API server and a node, with nothing installed.
struct Site {
    server: Container,
    node: Container,
}

impl Site {
    fn new(debs: &Path) -> Site {
        let site = Site {
            server: Container::boot(debs),
            node: Container::boot(debs),
        };
        site.server.connect(SERVER, &site.node, NODE);
        site
    }

    /// Runs a block and gives what it printed.
    #[track_caller]
    fn run(&self, block: &Block) -> String {
        let (machine, other, key) = match block.place() {
            Place::Server => (&self.server, &self.node, "compute1"),
            Place::Node => (&self.node, &self.server, "publisher"),
            Place::Try => panic!("line {}: on which machine?\n{}", block.line, block.text),
        };
        let mut text = block.text.clone();
        if text.contains("public:…") {
            let key = other.ok(&format!("cat /etc/fanfare/keys/{key}.key"));
            text = text.replace("public:…", key.trim());
        }
        machine.ok(&format!("{PRELUDE}\n{text}"))
    }
}

fn shell(file: &str) -> Vec<Block> {
    let mut blocks = blocks(file);
    blocks.retain(|block| block.language == "sh");
    blocks
}

/// From packages to rows, by the README and nothing else.
#[test]
fn a_new_operator_gets_rows_by_the_readme() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let site = Site::new(&debs);
    let mut blocks = shell("README.md");
    blocks.retain(|block| block.place() != Place::Try);
    let is_install = |block: &&Block| block.heading == "Install a package";
    let install: Vec<_> = blocks.iter().filter(is_install).collect();
    assert!(install.len() >= 4);
    let told: Vec<_> = install.iter().map(|block| site.run(block)).collect();
    let last = told.last().unwrap();
    assert!(last.contains("\nin step\n"), "{last}");
    assert!(last.trim_end().ends_with(r#"{"ip": "10.0.0.5"}"#), "{last}");
    for (machine, unit) in [
        (&site.server, "fanfare-publisher"),
        (&site.node, "fanfare-agent"),
    ] {
        assert_eq!(machine.property(unit, "ActiveState"), "active");
        assert_eq!(machine.property(unit, "UnitFileState"), "enabled");
    }
    // What it says of running machines besides.
    for block in blocks.iter().filter(|block| !is_install(block)) {
        site.run(block);
    }
}

/// Whoever runs it does what this says and nothing else, to the end.
#[test]
fn the_commands_of_the_operations_work() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let site = Site::new(&debs);
    let blocks = shell("docs/operations.md");
    assert!(blocks.len() > 25, "{}", blocks.len());
    for block in &blocks {
        println!("docs/operations.md:{} {}", block.line, block.heading);
        let told = site.run(block);
        match block.heading.as_str() {
            "Read the status" if block.text.contains("top --count") => {
                for text in ["in step", "PROVED", "fanfare_agent_ready 1", "10.0.0.5"] {
                    assert!(told.contains(text), "{text}:\n{told}");
                }
            }
            "Configure" if block.text.contains("topics list") => {
                assert!(told.contains("tenant-green"), "{told}");
            }
            _ => {}
        }
    }
    site.node
        .ok("test ! -e /var/lib/fanfare && test -d /etc/fanfare/keys");
}

/// The other documents have what one tries on a machine of one's own, from the sources.
#[test]
fn what_the_documents_say_to_try_works() {
    let Some(debs) = packages::folder() else {
        return;
    };
    let machine = Container::boot(&debs);
    // The same programs as `cargo install` makes, and no service.
    machine.ok(
        "for deb in *.deb; do dpkg -x $deb tree; done; cp tree/usr/bin/* tree/usr/libexec/fanfare-agent/fanfare \
         /usr/bin/; mkdir /tmp/here",
    );
    let mut tried = 0;
    for file in ["README.md", "docs/handlers.md", "docs/performance.md"] {
        for block in blocks(file) {
            let place = format!("{file}:{}", block.line);
            if block.language == "toml" && block.before.contains(" as `") {
                let name = block.before.split('`').rev().nth(1).unwrap();
                machine.write(&format!("/tmp/here/{name}"), &block.text);
            }
            if block.language != "sh" || block.place() != Place::Try {
                continue;
            }
            tried += 1;
            let text = block.text.replace("\\\n", " ");
            let mut script = format!("{PRELUDE}\ncd /tmp/here\n");
            for line in text.lines() {
                let command = line.split(" #").next().unwrap().trim_end();
                if command.starts_with("make ") || command.starts_with("cargo ") {
                    in_the_sources(&place, command);
                } else if command.starts_with("fanfare-") && !command.contains("--version") {
                    let command = command.trim_end_matches('&');
                    script.push_str(&format!("{command} >>/tmp/here/log 2>&1 &\nsleep 0.5\n"));
                } else {
                    script.push_str(&format!("{command}\n"));
                }
            }
            let told = machine.ok(&script);
            println!("{place}\n{told}");
        }
    }
    assert!(tried >= 3, "{tried}");
}

/// Building takes minutes: here it is only seen that there is what is named.
fn in_the_sources(place: &str, command: &str) {
    let mut words = command.split_whitespace();
    let checked = match (words.next(), words.next()) {
        (Some("make"), Some(target)) => vec!["make", "--dry-run", target],
        (Some("cargo"), Some("install")) => {
            vec!["cargo", "metadata", "--locked", "--format-version", "1"]
        }
        other => panic!("{place}: {other:?} is not known here"),
    };
    let mut checked_command = Command::new(checked[0]);
    output(
        checked_command
            .args(&checked[1..])
            .current_dir(env!("CARGO_MANIFEST_DIR")),
    );
}
